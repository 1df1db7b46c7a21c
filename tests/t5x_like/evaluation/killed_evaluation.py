"""Evaluates a small run, and kills itself after some batches; `test_interrupted.py` starts it.

    python killed_evaluation.py DIRECTORY KILL_AFTER

KILL_AFTER is a number of batches, 0 for none.
"""

import dataclasses
import os
import signal
import sys
from pathlib import Path

import numpy as np

from models.t5 import T5_1_1
from t5x_like.checkpoints import Checkpointer, CheckpointPolicy
from t5x_like.data import DatasetConfig
from t5x_like.data.cache import layout
from t5x_like.data.cache.example_proto import encode_example
from t5x_like.data.cache.tfrecord import write_records
from t5x_like.decoding import Sampling
from t5x_like.evaluate import evaluate
from t5x_like.evaluation import Generation, Loss, Ranking
from t5x_like.host.journal import FileJournal
from t5x_like.optimizers import adamw
from t5x_like.partitioning import Partitioner
from t5x_like.schedules import Constant
from t5x_like.training.state import create_state
from tests.t5x_like.test_evaluate import Copying, Letters, cached

TEXTS = ["abc", "dd", "efghij", "k", "lmno", "pq", "rstuvw", "xy", "za", "b", "cde", "fg"]


def write_options(task, cache_dir):
    """Options beside the inputs and targets of the task's cache."""
    letters = Letters()
    folder = layout.cache_path(Path(cache_dir), task.cache_name)
    examples = [
        {
            "inputs": np.array(letters.encode(text), np.int32),
            "targets": np.array(letters.encode(text[::-1]), np.int32),
            "idx": np.array([i], np.int64),
            "label": np.array([0], np.int32),
            "contexts": [text.encode()],
            "continuations": [text[::-1].encode(), b"q", b"rs"],
        }
        for i, text in enumerate(TEXTS)
    ]
    write_records(layout.shard_path(folder, "validation", 0, 1), map(encode_example, examples))
    ids = {name: {"shape": [None], "dtype": "int32"} for name in ("inputs", "targets")}
    texts = {name: {"shape": [None], "dtype": "string"} for name in ("contexts", "continuations")}
    rest = {
        "label": {"shape": [], "dtype": "int32"},
        "idx": {"shape": [1], "dtype": "int64"},
    }
    info = {"num_shards": 1, "features": ids | texts | rest, "seqio_version": "0.0.20"}
    layout.write_json(layout.info_path(folder, "validation"), info)


def main(directory: Path, kill_after: int) -> None:
    model = T5_1_1(
        vocab_size=32, embed_dim=16, mlp_dim=16, num_heads=2, head_dim=8,
        num_encoder_layers=1, num_decoder_layers=1,
    )  # fmt: skip
    base = directory.parent
    task = Copying("copying")
    if not (base / "run").exists():
        state = create_state(model, adamw(Constant(1e-3)), Partitioner(), seed=5)
        checkpointer = Checkpointer(str(base / "run"), CheckpointPolicy())
        checkpointer.save(state, 5, {}, {"seed": 5})
        checkpointer.close()
        write_options(cached(task, base / "cache", TEXTS), base / "cache")
    kept = FileJournal.put
    counts = []

    def put(journal, key, results):
        kept(journal, key, results)
        counts.append(key)
        if len(counts) == kill_after:
            os.kill(os.getpid(), signal.SIGKILL)

    FileJournal.put = put  # type: ignore[method-assign]
    evaluate(
        model=model,
        model_dir=str(base / "run"),
        output_dir=str(directory),
        dataset=DatasetConfig(
            task=dataclasses.replace(task),
            task_feature_lengths={"inputs": 8, "targets": 8},
            cache_dir=str(base / "cache"),
            split="validation",
            batch_size=2,
        ),
        measurements=[
            Loss(),
            Generation(Sampling(), samples=3, stop_strings=["ab"]),
            Ranking(batch_size=3),
        ],
        tensorboard=False,
    )
    print(f"computed {len(counts)} batches")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
