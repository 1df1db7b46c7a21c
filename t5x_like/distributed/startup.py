"""Joins the processes of a run: initialises JAX's distributed service and its checks."""

import contextlib
import importlib.util
import json
import os
import threading
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax._src import cloud_tpu_init
from jax._src import distributed as jax_distributed
from jax.experimental import multihost_utils

from t5x_like.distributed import config_sync, heartbeat, preemption
from t5x_like.errors import UserError

JOIN_SECONDS = 300  # how long processes wait for each other at the start


@contextlib.contextmanager
def joined(
    configuration: str,
    coordinator_address: str | None = None,
    process_count: int | None = None,
    process_index: int | None = None,
) -> Iterator[None]:
    """Joins the other processes of this run, if there are any, for the block.

    Configurations are compared before the block runs. If another process dies during it, this one
    ends with exit code 1 and a message that names the dead one, see `heartbeat`.

    Args:
      configuration: all bindings, as gin text.
      coordinator_address: see `initialize`.
      process_count: see `initialize`.
      process_index: see `initialize`.

    Raises:
      UserError: as `initialize`; or the configurations differ, see `config_sync.check`.
    """
    initialize(coordinator_address, process_count, process_index)
    state = jax_distributed.global_state
    if state.client is None or state.num_processes == 1:
        yield
        return
    assert state.coordinator_address is not None
    watch = heartbeat.Watch(
        state.client, state.process_id, state.num_processes, state.coordinator_address
    )
    with watch:
        config_sync.check(
            state.client, state.process_id, state.num_processes, config_sync.facts(configuration)
        )
        # Again, because JAX's initialisation has installed its own SIGTERM handler.
        with preemption.end_on_signal():
            yield


def initialize(
    coordinator_address: str | None = None,
    process_count: int | None = None,
    process_index: int | None = None,
) -> None:
    """Initialises `jax.distributed`, if the run has several processes.

    Arguments take precedence over the environment (`JAX_COORDINATOR_ADDRESS`, `JAX_PROCESS_COUNT`,
    `JAX_PROCESS_INDEX`), and that over JAX's cluster detection. Without any of these the process
    runs alone.

    Args:
      coordinator_address: `host:port` of process 0.
      process_count: how many processes there are.
      process_index: which one this is.

    Raises:
      UserError: only some of the three are given, or they contradict each other.
    """
    address = coordinator_address or os.environ.get("JAX_COORDINATOR_ADDRESS")
    count = process_count if process_count is not None else _environment("JAX_PROCESS_COUNT")
    index = process_index if process_index is not None else _environment("JAX_PROCESS_INDEX")
    given = (address, count, index)
    timeouts: dict[str, Any] = {
        "heartbeat_timeout_seconds": heartbeat.JAX_TIMEOUT_SECONDS,
        # JAX aborts the process by then, without a word of who was missed.
        "initialization_timeout": JOIN_SECONDS + heartbeat.LEAVE_SECONDS,
    }
    if address is not None and count is not None and index is not None:
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal() or not 0 <= index < count:
            raise UserError(
                f"process {index} of {count} with coordinator '{address}': the index counts "
                "from 0 and is below the count, and the coordinator is host:port."
            )
        missed = f"process {index} of {count} did not find the others at {address}."
        late = threading.Timer(JOIN_SECONDS, heartbeat.end, [missed])
        late.daemon = True
        late.start()
        try:
            jax.distributed.initialize(address, count, index, _visible_devices(), **timeouts)
        finally:
            late.cancel()
    elif any(value is not None for value in given):
        raise UserError(
            "several processes need coordinator_address, process_count and process_index; "
            f"found {address}, {count} and {index}."
        )
    elif in_cluster():
        try:
            jax.distributed.initialize(**timeouts)
        except ValueError as error:
            if "should be defined" not in str(error) and "must be defined" not in str(error):
                raise
            # TPU chips without a metadata service: a single host.


def in_cluster() -> bool:
    """Whether JAX can detect a cluster of several processes around this one.

    JAX would wait for the others, so this is checked first: a TPU host, a Slurm step or an Open MPI
    job of several tasks, or an indexed Kubernetes Job if the package `kubernetes` is installed.
    """
    environment = os.environ
    tasks = (_environment("SLURM_STEP_NUM_TASKS"), _environment("OMPI_COMM_WORLD_SIZE"))
    indexed = {"KUBERNETES_SERVICE_HOST", "JOB_COMPLETION_INDEX"} <= environment.keys()
    return (
        cloud_tpu_init.running_in_cloud_tpu_vm
        or any(count is not None and count > 1 for count in tasks)
        or (indexed and importlib.util.find_spec("kubernetes") is not None)
    )


def gather_json(value: Any) -> list[Any]:
    """Gathers one JSON value from each process, in the order of processes; a collective."""
    if jax.process_count() == 1:
        return [value]
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.array(text.size)).reshape(-1)
    padded = np.pad(text, (0, int(sizes.max()) - text.size))
    rows = multihost_utils.process_allgather(padded).reshape(len(sizes), -1)
    return [json.loads(bytes(row[:size])) for row, size in zip(rows, sizes, strict=True)]


def _visible_devices() -> list[int] | None:
    """Which GPUs of the host this process uses; under Slurm, JAX would take only one."""
    if os.environ.get("JAX_LOCAL_DEVICE_IDS"):
        return None  # JAX reads it
    return []


def _environment(name: str) -> int | None:
    value = os.environ.get(name)
    if value is None:
        return None
    if not value.isdecimal():
        raise UserError(f"environment variable {name} is '{value}': it must be a number.")
    return int(value)
