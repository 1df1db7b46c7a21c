"""Tokens per second from the cache: this project beside seqio on tf.data, in one run.

    python benchmarks/data.py [--json]

Two tasks on the embedded corpus, read from the same cache on one core: packed span corruption
(512 inputs, 114 targets) for an encoder-decoder, and packed causal language modelling (1,024
tokens). The peer does the same work with TensorFlow's operations, as T5's own preprocessors do
(concatenate documents in groups of 128, split, corrupt, append EOS), and with seqio's feature
converters. Tokens that are not padding are counted, of inputs and targets. A third measurement
starts a fresh program and takes the time to its first batch.
"""

import argparse
import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

LENGTHS = {
    "span_corruption": {"inputs": 512, "targets": 114},
    "causal_lm": {"targets": 1024},
}
PIECE = 568  # tokens of text whose corruption fills 512 inputs and 114 targets
NOISE_DENSITY, MEAN_SPAN_LENGTH = 0.15, 3.0
BATCH = 128
TOKENS = ("encoder_input_tokens", "decoder_target_tokens")


# --- This project ---------------------------------------------------------------------------


def our_tasks() -> dict[str, Any]:
    import tasks

    return {
        "span_corruption": tasks.get_mixture_or_task("stdlib_span_corruption"),
        "causal_lm": tasks.get_mixture_or_task("stdlib_lm"),
    }


def our_batches(task: Any, cache_dir: Path, lengths: Mapping[str, int]) -> Iterator[dict]:
    from t5x_like import data

    batch_format = "encoder_decoder" if "inputs" in lengths else "prefix_language_model"
    config = data.DatasetConfig(task, dict(lengths), cache_dir, batch_size=BATCH, prefetch=0)
    return data.open_dataset(config, batch_format=batch_format)


# --- seqio and tf.data ----------------------------------------------------------------------


def concatenated(dataset: Any) -> Any:
    """The tokens of 128 documents at a time, one after the other."""
    import tensorflow as tf

    def flatten(example: Mapping[str, Any]) -> Any:
        rows = example["targets"]
        return {"targets": tf.boolean_mask(rows, rows != 0)}

    dataset = dataset.map(lambda x: {"targets": x["targets"]}, tf.data.AUTOTUNE)
    return dataset.padded_batch(128, {"targets": [None]}).map(flatten, tf.data.AUTOTUNE)


def split(dataset: Any, length: int) -> Any:
    """Pieces of `length` tokens; the last one of a group is shorter."""
    import tensorflow as tf

    def cut(example: Mapping[str, Any]) -> Any:
        tokens = example["targets"]
        pieces = -(-tf.size(tokens) // length)
        padded = tf.pad(tokens, [[0, pieces * length - tf.size(tokens)]])
        sizes = tf.minimum(tf.size(tokens) - tf.range(pieces) * length, length)
        return {"targets": tf.reshape(padded, [-1, length]), "size": sizes}

    dataset = dataset.map(cut, tf.data.AUTOTUNE).unbatch()
    return dataset.map(lambda x: {"targets": x["targets"][: x["size"]]}, tf.data.AUTOTUNE)


def corrupted(dataset: Any, first_sentinel: int) -> Any:
    """T5's span corruption (Raffel et al. 2020, section 3.1.4) in TensorFlow's operations."""
    import tensorflow as tf

    def segmentation(items: Any, segments: Any, seed: Any) -> Any:
        first = tf.cast(tf.range(items - 1) < segments - 1, tf.int32)
        first = tf.random.experimental.stateless_shuffle(first, seed)
        ids = tf.cumsum(tf.pad(first, [[1, 0]]))
        return tf.math.segment_sum(tf.ones_like(ids), ids)

    def noise_mask(length: Any, seeds: Any) -> Any:
        noise = tf.cast(tf.round(tf.cast(length, tf.float32) * NOISE_DENSITY), tf.int32)
        noise = tf.minimum(tf.maximum(noise, 1), length - 1)
        spans = tf.cast(tf.round(tf.cast(noise, tf.float32) / MEAN_SPAN_LENGTH), tf.int32)
        spans = tf.maximum(spans, 1)
        noise_lengths = segmentation(noise, spans, seeds[0])
        kept_lengths = segmentation(length - noise, spans, seeds[1])
        both = tf.reshape(tf.stack([kept_lengths, noise_lengths], 1), [-1])
        starts = tf.math.unsorted_segment_sum(tf.ones_like(both), tf.cumsum(both), length + 1)
        return (tf.cumsum(starts[:length]) % 2) == 1

    def with_sentinels(tokens: Any, mask: Any) -> Any:
        before = tf.pad(mask[:-1], [[1, 0]])
        begins = tf.logical_and(mask, tf.logical_not(before))
        sentinels = first_sentinel + 1 - tf.cumsum(tf.cast(begins, tokens.dtype))
        tokens = tf.where(begins, sentinels, tokens)
        return tf.boolean_mask(tokens, tf.logical_not(tf.logical_and(mask, before)))

    def corrupt(example: Mapping[str, Any], seeds: Any) -> Any:
        tokens = example["targets"]
        mask = noise_mask(tf.size(tokens), seeds)
        return {
            "inputs": with_sentinels(tokens, mask),
            "targets": with_sentinels(tokens, tf.logical_not(mask)),
        }

    dataset = dataset.filter(lambda x: tf.size(x["targets"]) > 1)
    seeds = tf.data.Dataset.random(1).batch(4).map(lambda x: tf.reshape(x, [2, 2]))
    return tf.data.Dataset.zip(dataset, seeds).map(corrupt, tf.data.AUTOTUNE)


def with_document_eos(dataset: Any) -> Any:
    import tensorflow as tf

    def append(example: Mapping[str, Any]) -> Any:
        return {"targets": tf.concat([example["targets"], [1]], 0)}

    return dataset.map(append, tf.data.AUTOTUNE)


def seqio_batches(kind: str, task: Any, cache_dir: Path) -> Iterator[dict]:
    import seqio
    import tensorflow as tf

    lengths = LENGTHS[kind]
    vocabulary = seqio.ByteVocabulary(extra_ids=100)
    features = {name: seqio.Feature(vocabulary, add_eos=True) for name in lengths}
    placeholder = seqio.CacheDatasetPlaceholder()
    if kind == "span_corruption":
        preprocessors = [
            placeholder,
            concatenated,
            functools.partial(split, length=PIECE),
            functools.partial(corrupted, first_sentinel=vocabulary.vocab_size - 1),
            seqio.preprocessors.append_eos_after_trim,
        ]
        converter = seqio.EncDecFeatureConverter(pack=True)
    else:
        preprocessors = [
            placeholder,
            with_document_eos,
            concatenated,
            functools.partial(split, length=lengths["targets"]),
        ]
        converter = seqio.LMFeatureConverter(pack=True)
    provider = seqio.Task(
        task.cache_name,
        source=seqio.FunctionDataSource(
            lambda split, shuffle_files, seed=None: tf.data.Dataset.range(0), ["train"]
        ),
        preprocessors=preprocessors,
        output_features=features,
    )
    seqio.set_global_cache_dirs([str(cache_dir)])
    dataset = provider.get_dataset(
        lengths, "train", use_cached=True, shuffle=True, seed=0, num_epochs=None
    )
    dataset = converter(dataset, lengths).batch(BATCH, drop_remainder=True)
    return dataset.prefetch(tf.data.AUTOTUNE).as_numpy_iterator()


# --- Measuring ------------------------------------------------------------------------------


def tokens_per_second(batches: Iterator[dict], seconds: float) -> float:
    for _ in range(2):
        next(batches)
    rates = []
    for _ in range(3):  # the median of three windows
        tokens, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds / 3:
            batch = next(batches)
            tokens += sum(int(np.count_nonzero(batch[name])) for name in TOKENS if name in batch)
        rates.append(tokens / (time.perf_counter() - start))
    return sorted(rates)[1]


FIRST_BATCH = """
import sys
from benchmarks.data import LENGTHS, our_batches, our_tasks
import flax.linen, jax, optax, orbax.checkpoint, t5x_like.train
name, cache_dir = sys.argv[1:]
next(our_batches(our_tasks()[name], cache_dir, LENGTHS[name]))
assert "tensorflow" not in sys.modules
"""


def first_batch_seconds(name: str, cache_dir: Path) -> float:
    """From the start of a Python that imports all that training needs to its first batch."""
    root = Path(__file__).resolve().parent.parent
    command = [sys.executable, "-c", FIRST_BATCH, name, str(cache_dir)]
    start = time.perf_counter()
    subprocess.run(command, check=True, cwd=root)
    return time.perf_counter() - start


def measure(cache_dir: Path, seconds: float) -> dict[str, Any]:
    from t5x_like import data

    chosen = our_tasks()
    for task in chosen.values():
        data.cache_task(task, cache_dir, ["train"])
    result: dict[str, Any] = {
        "first_batch_seconds": min(
            first_batch_seconds("span_corruption", cache_dir) for _ in range(2)
        )
    }
    # One core, chosen before TensorFlow sizes its thread pools.
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    for name, task in chosen.items():
        result[name] = {
            "tokens_per_second": tokens_per_second(
                our_batches(task, cache_dir, LENGTHS[name]), seconds
            )
        }
    for name, task in chosen.items():
        peer = tokens_per_second(seqio_batches(name, task, cache_dir), seconds)
        ours = result[name]["tokens_per_second"]
        result[name] |= {"seqio_tokens_per_second": peer, "ratio": ours / peer}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache_dir", type=Path, help="default: a temporary folder")
    parser.add_argument("--seconds", type=float, default=12.0, help="for each measurement")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    with tempfile.TemporaryDirectory() as temporary:
        result = measure(arguments.cache_dir or Path(temporary), arguments.seconds)
    if arguments.json:
        print(json.dumps(result))
        return
    print("packed, one core                 this project   seqio/tf.data   ratio   (bar 2.2)")
    for name in LENGTHS:
        row = result[name]
        print(
            f"{name:28s} {row['tokens_per_second'] / 1e6:10.2f} M/s "
            f"{row['seqio_tokens_per_second'] / 1e6:10.2f} M/s {row['ratio']:9.1f}"
        )
    print(f"start of the program to the first batch: {result['first_batch_seconds']:.2f} s (bar 4)")


if __name__ == "__main__":
    main()
