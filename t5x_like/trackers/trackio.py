"""Trackio, whose runs are in a database on this machine."""

import dataclasses
import secrets

from t5x_like.trackers.tracker import OpenTracker, TrackedRun, package
from t5x_like.trackers.wandb import WandbRun


@dataclasses.dataclass(frozen=True)
class Trackio:
    """Logs to a project of Trackio; `trackio show` opens it.

    A restart continues the run there, whose name is kept in `MODEL_DIR/trackio.json`.

    Attributes:
      project: the project.
    """

    project: str

    def open(self, run: TrackedRun) -> OpenTracker:
        """See `Tracker`."""
        trackio = package("trackio", f"the Trackio project '{self.project}'")
        # Runs are known by their names there, and two directories may have the same.
        name = run.kept_id("trackio", lambda: f"{run.name}-{secrets.token_hex(4)}")
        configuration = {key: str(value) for key, value in run.configuration.items()}
        opened = trackio.init(project=self.project, name=name, config=configuration, resume="allow")
        # Its interface is that of Weights & Biases.
        return WandbRun(opened)
