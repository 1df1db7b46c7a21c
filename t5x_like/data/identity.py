"""What tells the order of a run's examples from any other."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from t5x_like.data.config import DatasetConfig
from t5x_like.data.mixing import Shares
from t5x_like.data.rows.one_task_batches import OneTaskBatches
from t5x_like.data.rows.packed import PACKING_ORDER


def identity(
    config: DatasetConfig,
    batch_format: str,
    sizes: Mapping[str, int],
    shares: Shares,
    pack: bool,
    streams: int,
    open_rows: int,
) -> str:
    """A digest of all that decides the order of the examples; `sizes` are the tasks'."""
    description: dict[str, Any] = {
        "batch_format": batch_format,
        "tasks": [[name, size] for name, size in sizes.items()],
        "weights": list(shares.weights[0]),
        "split": config.split,
        "lengths": dict(config.task_feature_lengths),
        "batch_size": config.batch_size,
        "shuffle": config.shuffle,
        "seed": config.seed,
        "pack": pack,
        "streams": streams,
        "open_rows": open_rows,
    }
    if streams:
        description["order"] = PACKING_ORDER
    if len(shares.begins) > 1:
        description["shares"] = [shares.begins, shares.weights]
    if config.shard_store is not None:
        description["shards_together"] = config.shard_store.shards_together
    if config.first_tokens is not None:
        description["first_tokens"] = config.first_tokens
    if isinstance(config.mixing, OneTaskBatches):
        description["batches"] = "of one task"
    if config.batch_schedule is not None:
        description["batch_schedule"] = [list(pair) for pair in config.batch_schedule.sizes]
    text = json.dumps(description, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
