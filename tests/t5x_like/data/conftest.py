"""A small task with real caches, independent of the `tasks` package."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from t5x_like.data.cache import layout
from t5x_like.data.cache.example_proto import encode_example
from t5x_like.data.cache.tfrecord import write_records


class Bytes:
    """UTF-8 bytes shifted by three, and 100 sentinels above them, as in seqio."""

    vocab_size = 3 + 256 + 100
    extra_ids = 100
    eos_id = 1
    unk_id = 2

    def encode(self, text):
        return [b + 3 for b in text.encode()]

    def decode(self, ids):
        return bytes(i - 3 for i in ids if 3 <= i < 259).decode()

    def spec(self):
        return {
            "kind": "bytes",
            "vocab_size": self.vocab_size,
            "extra_ids": 100,
            "pad_id": 0,
            "eos_id": 1,
            "unk_id": 2,
        }


@dataclasses.dataclass
class Feature:
    vocabulary: Bytes
    add_eos: bool = True


@dataclasses.dataclass
class Chunks:
    """Splits a piece of text in a random place; stands for span corruption."""

    length: int | None = 20
    document_eos: bool = False
    reads = ("targets",)
    writes = ("inputs", "targets")

    def chunk_length(self, lengths):
        return self.length

    def __call__(self, example, rng):
        ids = example["targets"]
        cut = int(rng.integers(1, max(2, ids.size)))
        return {"inputs": ids[:cut], "targets": ids[cut:]}


@dataclasses.dataclass
class Causal:
    document_eos: bool = True
    reads = ("targets",)
    writes = ("targets",)
    targets_are_text = True

    def chunk_length(self, lengths):
        return lengths["targets"]

    def __call__(self, example, rng):
        return {"targets": example["targets"]}


@dataclasses.dataclass
class MiniTask:
    name: str
    features: tuple[str, ...] = ("inputs", "targets")
    bound: Any = None
    print_of_source: str = "0" * 64
    cache_name: str = ""
    provider: Callable[[], Any] | None = None
    metric_fns = ()
    source_is_local = True

    def __post_init__(self):
        self.cache_name = self.cache_name or self.name
        self.output_features = {name: Feature(Bytes()) for name in self.features}

    @property
    def tasks(self):
        return ((self, 1.0),)

    @property
    def example_features(self):
        return self.features if self.bound is None else self.bound.writes

    def objective(self, specs):
        return self.bound

    def postprocess(self, text, example, is_target):
        return text

    def fingerprint(self):
        return self.print_of_source

    def seqio(self):
        return self.provider()


@dataclasses.dataclass
class MiniMixture:
    name: str
    tasks: list


@pytest.fixture
def kit():
    """The classes above."""

    class Kit:
        task = MiniTask
        mixture = MiniMixture
        chunks = Chunks
        causal = Causal
        write = staticmethod(write_cache)

    return Kit


def write_cache(
    task: MiniTask, cache_dir: Path, examples: list[dict], split: str = "train", shards: int = 2
) -> Path:
    """A cache as seqio lays it out, written without TensorFlow."""
    folder = layout.cache_path(cache_dir, task.cache_name)
    folder.mkdir(parents=True, exist_ok=True)
    for shard in range(shards):
        write_records(
            layout.shard_path(folder, split, shard, shards),
            [encode_example(example) for example in examples[shard::shards]],
        )
    names = sorted(examples[0]) if examples else ["targets"]
    kinds = {
        name: {"shape": [None], "dtype": "int32"}
        if not examples or isinstance(examples[0][name], np.ndarray)
        else {"shape": [], "dtype": "string"}
        for name in names
    }
    info = {"num_shards": shards, "features": kinds, "seqio_version": "0.0.20"}
    layout.write_json(layout.info_path(folder, split), info)
    layout.write_json(layout.stats_path(folder, split), {"examples": len(examples)})
    features = {
        name: {"dtype": "int32", "rank": 1, "add_eos": True, "vocabulary": Bytes().spec()}
        for name in task.features
    }
    layout.write_json(
        layout.task_path(folder), {"features": features, "fingerprint": task.fingerprint()}
    )
    (folder / layout.COMPLETED).touch()
    return folder


@pytest.fixture
def pairs():
    """240 pairs of inputs and targets of many lengths, with ids that need two bytes."""
    rng = np.random.default_rng(7)
    return [
        {
            "inputs": rng.integers(3, 359, rng.integers(1, 30)).astype(np.int32),
            "targets": rng.integers(3, 359, rng.integers(1, 12)).astype(np.int32),
            "targets_pretokenized": f"target {i}",
        }
        for i in range(240)
    ]


@pytest.fixture
def documents():
    """50 documents of 0 to 2,999 tokens."""
    rng = np.random.default_rng(11)
    return [
        {"targets": rng.integers(3, 359, rng.integers(0, 3000)).astype(np.int32)} for _ in range(50)
    ]
