"""Runs jobs as Ray tasks, on one machine or a cluster."""

import dataclasses
import logging
from collections.abc import Mapping
from typing import Any

from t5x_like.distributed.preemption import EXIT_CODE as PREEMPTED
from t5x_like.errors import UserError
from t5x_like.scaling.sweeps.executors import child
from t5x_like.scaling.sweeps.executors.executor import Executor, Handle, Job, environment


@dataclasses.dataclass
class Ray(Executor):
    """Runs each job as a Ray task; Ray decides where and when.

    The machines share a file system with SWEEP_DIR and the task cache, and have this project
    installed. When the sweep's own process is killed, Ray ends its tasks.

    Attributes:
      address: of a cluster, `auto` for the one this machine belongs to; None starts Ray on this
        machine alone.
      num_cpus: cores of a job.
      num_gpus: GPUs of a job.
      resources: others, such as `{'TPU': 4}` for one host of a v5p slice.
      labels: of the nodes to run on, such as `{'ray.io/accelerator-type': 'TPU-V5P'}`.
      slots: jobs submitted at a time; None for all.
    """

    address: str | None = None
    num_cpus: float = 1
    num_gpus: float = 0
    resources: Mapping[str, float] = dataclasses.field(default_factory=dict)
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    slots: int | None = None

    def submit(self, job: Job) -> Handle:
        """See `Executor`."""
        ray = self._connected()
        options: dict[str, Any] = {
            "num_cpus": self.num_cpus,
            "num_gpus": self.num_gpus,
            "resources": dict(self.resources),
            "max_retries": 0,  # the sweep restarts jobs itself, and reports it
        }
        if self.labels:
            options["label_selector"] = dict(self.labels)
        task = ray.remote(child.run).options(**options)
        return _Task(ray, task.remote(list(job.command), str(job.log), environment()))

    def _connected(self) -> Any:
        try:
            import ray
        except ImportError as error:
            raise UserError(
                "executors.Ray needs Ray: pip install 't5x-like[ray]', or EXECUTOR="
                "@executors.Local()."
            ) from error
        if not ray.is_initialized():
            try:
                ray.init(
                    address=self.address or "local",
                    include_dashboard=False,
                    logging_level=logging.WARNING,
                    log_to_driver=False,
                    # Its workers must find `child`, wherever the sweep was started.
                    runtime_env={"env_vars": {"PYTHONPATH": environment()["PYTHONPATH"]}},
                )
            except ConnectionError as error:
                raise UserError(f"no Ray cluster at '{self.address}': {error}") from error
        return ray


class _Task(Handle):
    def __init__(self, ray: Any, reference: Any) -> None:
        self._ray = ray
        self._reference = reference
        self._stopped = False

    def poll(self) -> int | None:
        ready, _ = self._ray.wait([self._reference], timeout=0)
        if not ready:
            return None
        try:
            return int(self._ray.get(self._reference))
        except self._ray.exceptions.RayError:  # the worker or its machine is gone
            return PREEMPTED if self._stopped else 1

    def stop(self) -> None:
        self._stopped = True
        self._ray.cancel(self._reference)
