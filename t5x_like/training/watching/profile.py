"""A profile of some steps, as `jax.profiler` records it."""

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import jax
from etils import epath

from t5x_like.errors import UserError

FOLDER = "profile"


def check_window(steps: Any, train_steps: int) -> None:
    """Refuses what is no window of a run's steps.

    Raises:
      UserError: it is no pair of whole numbers, or the run has no such steps.
    """
    pair = isinstance(steps, Sequence) and not isinstance(steps, str) and len(steps) == 2
    if not pair or not all(type(n) is int for n in steps) or not 1 <= steps[0] <= steps[1]:
        raise UserError(
            f"PROFILE_STEPS is {steps!r}: give the first and the last step to record, (100, 105)."
        )
    if steps[1] > train_steps:
        raise UserError(f"PROFILE_STEPS {steps!r} end after TRAIN_STEPS {train_steps}.")


class ProfileWindow:
    """Records the steps of a window; does nothing outside of it.

    A directory that is not on this machine gets the profile when it is whole.

    Args:
      steps: the first and the last; None records nothing.
      model_dir: the profile is written to its folder `profile`.
      say: shows a line, where the profile is.
    """

    def __init__(
        self, steps: tuple[int, int] | None, model_dir: epath.Path, say: Callable[[str], None]
    ) -> None:
        self._first, self._last = (0, 0) if steps is None else steps
        self._directory, self._say = model_dir / FOLDER, say
        self._opened = contextlib.ExitStack()
        self._recording = False
        self._step: Any = None

    def before(self, step: int, drain: Callable[[], None]) -> None:
        """`step` is about to be dispatched.

        Args:
          step: its number.
          drain: waits for the steps before.
        """
        if step == self._first:
            drain()
            place = str(self._directory)
            if "://" in place:
                place = self._opened.enter_context(tempfile.TemporaryDirectory())
                self._opened.callback(_copy, place, self._directory)
            jax.profiler.start_trace(place)
            self._opened.callback(jax.profiler.stop_trace)
            self._recording = True
        if self._recording:
            self._step = jax.profiler.StepTraceAnnotation("train", step_num=step)
            self._step.__enter__()

    def after(self, step: int, drain: Callable[[], None]) -> None:
        """`step` has been dispatched; see `before`."""
        if not self._recording:
            return
        self._step.__exit__(None, None, None)
        if step >= self._last:
            drain()
            self.close()
            self._say(
                f"profile of steps {self._first} to {self._last} in {self._directory}: "
                f"pip install xprof, then xprof --logdir={self._directory}"
            )

    def close(self) -> None:
        """Ends a recording that is under way."""
        self._recording = False
        self._opened.close()


def _copy(place: str, directory: epath.Path) -> None:
    for path in epath.Path(place).rglob("*"):
        if path.is_file():
            target = directory / str(path.relative_to(place))
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "rb") as source, target.open("wb") as written:
                shutil.copyfileobj(source, written)
