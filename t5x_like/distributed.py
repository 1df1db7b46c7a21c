"""Several processes as one program."""

import json
import os
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from t5x_like.errors import UserError


def initialize(
    coordinator_address: str | None = None,
    process_count: int | None = None,
    process_index: int | None = None,
) -> None:
    """Joins the other processes of this run, if there are any.

    Explicit arguments win; then the environment (`JAX_COORDINATOR_ADDRESS`,
    `JAX_PROCESS_COUNT`, `JAX_PROCESS_INDEX`); then, on a TPU pod slice, JAX's own
    detection. Without any of these the process is alone.

    Args:
      coordinator_address: `host:port` of process 0.
      process_count: how many processes there are.
      process_index: which one this is.

    Raises:
      UserError: only some of the three are given.
    """
    address = coordinator_address or os.environ.get("JAX_COORDINATOR_ADDRESS")
    count = process_count if process_count is not None else _environment("JAX_PROCESS_COUNT")
    index = process_index if process_index is not None else _environment("JAX_PROCESS_INDEX")
    given = (address, count, index)
    if all(value is not None for value in given):
        jax.distributed.initialize(address, num_processes=count, process_id=index)
    elif any(value is not None for value in given):
        raise UserError(
            "several processes need coordinator_address, process_count and process_index; "
            f"found {address}, {count} and {index}."
        )
    elif "," in os.environ.get("TPU_WORKER_HOSTNAMES", ""):
        jax.distributed.initialize()


def gather_json(value: Any) -> list[Any]:
    """The JSON values that all processes give, in the order of the processes; a collective."""
    if jax.process_count() == 1:
        return [value]
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.array(text.size)).reshape(-1)
    padded = np.pad(text, (0, int(sizes.max()) - text.size))
    rows = multihost_utils.process_allgather(padded).reshape(len(sizes), -1)
    return [json.loads(bytes(row[:size])) for row, size in zip(rows, sizes, strict=True)]


def _environment(name: str) -> int | None:
    value = os.environ.get(name)
    if value is None:
        return None
    if not value.isdecimal():
        raise UserError(f"environment variable {name} is '{value}': it must be a number.")
    return int(value)
