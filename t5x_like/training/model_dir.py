"""MODEL_DIR while a run has it: locked, compared with what the run was, and described."""

import jax

from t5x_like import inspection
from t5x_like.distributed.startup import gather_json
from t5x_like.errors import UserError
from t5x_like.host import directory_lock, disk_space, files
from t5x_like.training import identity
from t5x_like.training.identity import Changes
from t5x_like.training.plan import TrainingPlan


class ModelDir:
    """The directory of one run, which no other run writes until `close`.

    All processes of the run make one together. The first process takes the lock and compares; the
    others are told.

    Args:
      plan: what the run is to do.

    Attributes:
      path: MODEL_DIR.
      changes: since the run was last started, with a checkpoint or without.

    Raises:
      UserError: it cannot be written, another run has it, or it holds another run.
    """

    def __init__(self, plan: TrainingPlan) -> None:
        self._plan = plan
        self._primary = jax.process_index() == 0
        self._identity = plan.described()
        self._lock: directory_lock.DirectoryLock | None = None
        self.path = files.location(plan.model_dir)
        files.make_writable(self.path, "MODEL_DIR", jax.process_index())
        found = gather_json(self._claim() if self._primary else None)[0]
        if "refusal" in found:
            self.close()
            raise UserError(found["refusal"])
        self.changes = Changes(**found)

    def _claim(self) -> dict[str, object]:
        """What the others are told: the changes, or why the run cannot begin."""
        try:
            self._lock = directory_lock.lock(self.path, "MODEL_DIR", "run")
            changes = identity.check(
                self.path, self._identity, allow_change=self._plan.allow_config_change
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
          DiskFull: there is no room for them.
        """
        if not self._primary:
            return
        plan = self._plan
        with disk_space.explained(self.path):
            identity.write(self.path, self._identity)
            if plan.config_text is not None:
                files.write_whole(self.path / "config.gin", plan.config_text())
            tree = inspection.parameter_tree(plan.model, plan.partitioner)
            text = f"{summary}\n\n{inspection.parameter_table(tree)}\n"
            files.write_whole(self.path / "model-info.txt", text)

    def close(self) -> None:
        """Gives the directory back."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None
