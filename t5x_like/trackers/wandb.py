"""Weights & Biases."""

import dataclasses
import secrets
from collections.abc import Mapping
from typing import Any

from t5x_like.trackers.tracker import OpenTracker, TrackedRun, package


@dataclasses.dataclass(frozen=True)
class WeightsAndBiases:
    """Logs to a project of Weights & Biases, with its figures of the machine.

    A restart continues the run there, whose id is kept in `MODEL_DIR/wandb.json`.

    Attributes:
      project: the project; the key is taken from Weights & Biases' own login.
      mode: "online"; "offline" keeps everything in `MODEL_DIR/wandb` for `wandb sync`; None is
        what the environment variable WANDB_MODE says.
    """

    project: str
    mode: str | None = None

    def open(self, run: TrackedRun) -> OpenTracker:
        """See `Tracker`."""
        wandb = package("wandb", f"the Weights & Biases project '{self.project}'")
        settings: dict[str, Any] = {} if self.mode is None else {"mode": self.mode}
        if self.mode == "offline":
            settings["dir"] = str(run.directory)
        opened = wandb.init(
            project=self.project,
            id=run.kept_id("wandb", lambda: secrets.token_hex(8)),
            name=run.name,
            config=dict(run.configuration),
            resume="allow",
            **settings,
        )
        return WandbRun(opened)


@dataclasses.dataclass(frozen=True)
class WandbRun:
    """An open run of a package with `wandb`'s interface."""

    run: Any

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """See `OpenTracker`."""
        self.run.log(dict(values), step=step)

    def close(self) -> None:
        """See `OpenTracker`."""
        self.run.finish()
