"""MODEL_DIR while a run has it: locked, compared with what the run was, and described."""

from typing import Any

import jax

from t5x_like import inspection
from t5x_like.distributed.startup import gather_json
from t5x_like.errors import UserError
from t5x_like.host import directory_lock, disk_space, files
from t5x_like.trackers import TensorBoard, Tracker, WeightsAndBiases
from t5x_like.training import identity
from t5x_like.training.metrics_log import MetricsLog
from t5x_like.training.plan import TrainingPlan


class ModelDir:
    """The directory of one run, which no other run writes until `close`.

    All processes of the run make one together. The first process takes the lock and compares; the
    others are told.

    Args:
      plan: what the run is to do.

    Attributes:
      path: MODEL_DIR.
      identity: what the run is, and how it is started.
      became_another: whether it is another run than at the last start, with a checkpoint or
        without, which the user has allowed.
      notes: lines that say what has changed since the last start.

    Raises:
      UserError: it cannot be written, another run has it, or it holds another run.
    """

    def __init__(self, plan: TrainingPlan) -> None:
        self._plan = plan
        self._primary = jax.process_index() == 0
        self.identity = plan.described()
        self._lock: directory_lock.DirectoryLock | None = None
        self.path = files.location(plan.model_dir)
        files.make_writable(self.path, "MODEL_DIR", jax.process_index())
        found = gather_json(self._claim() if self._primary else None)[0]
        if "refusal" in found:
            self.close()
            raise UserError(found["refusal"])
        self.became_another = bool(found["refused"])
        self.notes = [
            f"{line}: {'; '.join(found[name])}"
            for name, line in (
                ("refused", "warning: resumes as another run"),
                ("harmless", "changed since the last start"),
            )
            if found[name]
        ]

    def _claim(self) -> dict[str, Any]:
        """What the others are told: the changes, or why the run cannot begin."""
        try:
            self._lock = directory_lock.lock(self.path, "MODEL_DIR", "run")
            changes = identity.check(
                self.path, self.identity, allow_change=self._plan.allow_config_change
            )
        except UserError as error:
            return {"refusal": str(error)}
        return {"refused": changes.refused, "harmless": changes.harmless}

    def require(self) -> None:
        """Raises `DataFault` if another run has taken the directory over meanwhile."""
        if self._lock is not None:
            self._lock.require()

    def describe(self, summary: str) -> None:
        """Writes what the run is: `run.json`, `config.gin` and `model-info.txt`.

        Args:
          summary: `summary.text`.

        Raises:
          CannotWrite: they cannot be written.
        """
        if not self._primary:
            return
        plan = self._plan
        with disk_space.explained(self.path):
            identity.write(self.path, self.identity)
            if plan.config_text is not None:
                files.write_whole(self.path / "config.gin", plan.config_text())
            tree = inspection.parameter_tree(plan.model, plan.partitioner)
            text = f"{summary}\n\n{inspection.parameter_table(tree)}\n"
            files.write_whole(self.path / "model-info.txt", text)

    def open_log(self, start: int) -> MetricsLog | None:
        """Opens the metrics of the run, which has made `start` steps; the first process has them.

        Raises:
          UserError: what is there is not a file; a tracker's package is not installed.
          CannotWrite: they cannot be written.
        """
        if not self._primary:
            return None
        plan = self._plan
        trackers: list[Tracker] = [*plan.trackers]
        if plan.tensorboard:
            trackers.append(TensorBoard())
        if plan.wandb_project:
            trackers.append(WeightsAndBiases(plan.wandb_project))
        return MetricsLog(plan.model_dir, start, trackers, self.identity.all())

    def close(self) -> None:
        """Gives the directory back."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None
