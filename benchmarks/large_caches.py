"""Opening caches of many shards and documents: the time, and the memory of their index.

    python -m benchmarks.large_caches [--documents 200000] [--shards 4000] [--json]

Caches are written as seqio's Beam tool leaves them: TFRecord shards, counts, and no index.
The first has many small shards, and is opened as a whole, a first time and again, and shard by
shard; a time ends with the first batch. The second has documents of 1,000 tokens, of which the
memory that an open stream holds is measured in a process of its own; the index grows with the
documents, and is shown for ten million of them.
"""

import argparse
import json
import multiprocessing
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

LENGTH, BATCH, TOKENS = 1024, 8, 1000
MILLIONS = 10_000_000


def write(folder: Path, documents: int, shards: int) -> None:
    """A cache of the task `stdlib_lm`, whose split is `train`."""
    from t5x_like.data.cache import layout
    from t5x_like.data.cache.example_proto import encode_example
    from t5x_like.data.cache.tfrecord import framed

    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    texts = [
        framed(encode_example({"targets": rng.integers(3, 259, TOKENS).astype(np.int32)}))
        for _ in range(64)
    ]
    for shard in range(shards):
        count = documents * (shard + 1) // shards - documents * shard // shards
        path = layout.shard_path(folder, "train", shard, shards)
        path.write_bytes(b"".join(texts[i % 64] for i in range(count)))
    features = {"targets": {"shape": [None], "dtype": "int32"}}
    layout.write_json(
        layout.info_path(folder, "train"),
        {"num_shards": shards, "features": features, "seqio_version": "0.0.20"},
    )
    layout.write_json(
        layout.stats_path(folder, "train"),
        {"examples": documents, "targets_tokens": documents * TOKENS},
    )
    (folder / layout.COMPLETED).touch()


def first_batch(cache_dir: str, by_shards: bool) -> float:
    """Seconds until a dataset is open and has given a batch."""
    import tasks
    from t5x_like import data

    config = data.DatasetConfig(
        tasks.get_mixture_or_task("stdlib_lm"),
        {"targets": LENGTH},
        cache_dir,
        batch_size=BATCH,
        prefetch=0,
        shard_store=data.ShardStore() if by_shards else None,
    )
    began = time.perf_counter()
    with data.open_dataset(config, batch_format="causal_language_model") as batches:
        next(batches)
        return time.perf_counter() - began


def held_bytes(folder: str, answers: Any) -> None:
    """Memory of this process that an open stream holds, files that it maps included."""
    from t5x_like.data.cache.token_stream import TokenStream

    def resident() -> int:
        status = Path("/proc/self/status").read_text()
        return 1024 * int(status.partition("VmRSS:")[2].split()[0])

    before = resident()
    began = time.perf_counter()
    stream = TokenStream(Path(folder), "train", "targets", 1)
    answers.put((resident() - before, time.perf_counter() - began, len(stream)))


def main() -> None:
    """Prints one line for each figure, or with --json one object."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--documents", type=int, default=200_000)
    parser.add_argument("--shards", type=int, default=4000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as root:
        write(Path(root, "many", "stdlib_text"), 4 * options.shards, options.shards)
        many = str(Path(root, "many"))
        found["shard by shard, s"] = first_batch(many, True)
        found["as a whole, not indexed, s"] = first_batch(many, False)
        found["as a whole, indexed, s"] = first_batch(many, False)
        folder = Path(root, "large")
        write(folder, options.documents, 16)
        context = multiprocessing.get_context("spawn")
        for name in ("indexing, s", "opening, s"):
            answers: Any = context.Queue()
            child = context.Process(target=held_bytes, args=(str(folder), answers))
            child.start()
            held, seconds, _ = answers.get()
            child.join()
            found[name] = seconds
        found["index, MB"] = held / 1e6
        found["index of 10,000,000 documents, MB"] = held / 1e6 * MILLIONS / options.documents
    if options.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name}: {value:,.2f}")


if __name__ == "__main__":
    main()
