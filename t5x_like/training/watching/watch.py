"""Watches one run: where its time goes, whether it waits for data, and a profile of some steps."""

import socket
from collections.abc import Callable, Mapping
from typing import Any

import jax
from etils import epath

from t5x_like.distributed.startup import gather_json
from t5x_like.protocols import Batch
from t5x_like.training.metrics_log import last_of_training
from t5x_like.training.plan import TrainingPlan
from t5x_like.training.watching.goodput import Goodput
from t5x_like.training.watching.profile import ProfileWindow
from t5x_like.training.watching.starvation import Batches, DataWait, slow_host

# Share of the time of the steps that must be waited before a slow host is named.
_COSTS = 0.1


class Watch:
    """Watches a run; costs it a few looks at the clock in each step.

    Args:
      plan: of the run.

    Attributes:
      time: by phase, since this was made.
    """

    def __init__(self, plan: TrainingPlan) -> None:
        self._plan = plan
        self.time = Goodput()
        self._named_host = False

    def begin(
        self,
        restored: Mapping[str, Any],
        batches: Batches,
        model_dir: epath.Path,
        say: Callable[[str], None],
    ) -> None:
        """Adds the time of earlier starts; before the log is opened, which drops later records.

        Args:
          restored: metadata of the checkpoint, empty without one.
          batches: what makes batches.
          model_dir: of the run.
          say: shows a line.
        """
        primary = jax.process_index() == 0
        self._say, self._batches = say, batches
        if primary:
            self.time.go_on_from(last_of_training(str(model_dir)), restored.get("time", {}))
        window = self._plan.profile_steps if primary else None
        self._profile = ProfileWindow(window, model_dir, say)
        self._wait = DataWait(batches, self.time, say)

    def next_batch(self, devices_idle: Callable[[], bool]) -> Batch:
        """See `DataWait.next`."""
        return self._wait.next(devices_idle)

    def before(self, step: int, drain: Callable[[], None]) -> None:
        """See `ProfileWindow.before`."""
        self._profile.before(step, drain)

    def after(self, step: int, drain: Callable[[], None]) -> None:
        """`step` has been dispatched; where a record is due, tells whether devices waited."""
        self._profile.after(step, drain)
        if step % self._plan.log_period == 0:
            self._wait.look(step)

    def compiled(self) -> None:
        """The first step is done, with which everything was compiled."""
        self._wait.start()
        self.time.enter("steps")

    def compare_hosts(self) -> None:
        """Names, once, the process whose batches all others wait for; called by all together."""
        if jax.process_count() == 1:
            return
        making = self._batches.making
        each = making.seconds / max(making.batches, 1)
        waited = self.time.seconds()
        own = {
            "host": socket.gethostname(),
            "batch_seconds": each,
            "waits": waited["data"] > _COSTS * waited["steps"],
        }
        hosts = gather_json(own)
        line = slow_host(hosts)
        if line and any(host["waits"] for host in hosts) and not self._named_host:
            self._named_host = True
            self._say(f"warning: {line}")

    def close(self) -> None:
        """Ends a profile that is under way, and says where the time went."""
        self._profile.close()
        self._say(self.time.line())
