"""What a tracker of experiments is, and how several are kept from stopping a run."""

import contextlib
import dataclasses
import importlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from etils import epath

from t5x_like.errors import UserError, on_one_line
from t5x_like.host import files


@dataclasses.dataclass(frozen=True)
class TrackedRun:
    """What a tracker is told of a run.

    Attributes:
      directory: MODEL_DIR.
      configuration: what the run is, by name.
    """

    directory: epath.Path
    configuration: Mapping[str, Any]

    @property
    def name(self) -> str:
        """What the run is called: its directory's name."""
        return self.directory.name

    def kept_id(self, tracker: str, make: Callable[[], str]) -> str:
        """The run's id at a tracker: the same at each start, so that restarts continue one run.

        Args:
          tracker: whose; the id is kept in `MODEL_DIR/TRACKER.json`.
          make: makes one, at the first start.
        """
        path = self.directory / f"{tracker}.json"
        if path.exists():
            with contextlib.suppress(ValueError, RecursionError, TypeError, LookupError):
                found = json.loads(files.read_whole(path))["id"]
                if isinstance(found, str) and found:
                    return found
        made = make()
        files.write_whole(path, json.dumps({"id": made}) + "\n")
        return made


class OpenTracker(Protocol):
    """A run at a tracker."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Adds values by tags such as `train/loss`."""

    def close(self) -> None:
        """Ends it; what was logged has arrived then."""


class Tracker(Protocol):
    """Where else the numbers of a run go; a frozen dataclass of its settings."""

    def open(self, run: TrackedRun) -> OpenTracker:
        """Begins, or continues, a run there.

        Raises:
          UserError: its package is not installed.
        """


def package(name: str, tracker: str) -> Any:
    """The package of a tracker.

    Raises:
      UserError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(f"logging to {tracker} needs `pip install {name}`.") from error


class _Guarded:
    """A tracker whose failures end nothing but itself."""

    def __init__(self, tracker: Tracker, run: TrackedRun) -> None:
        self._name = type(tracker).__name__
        self._open: OpenTracker | None = None
        with self._kept_going():
            self._open = tracker.open(run)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        if self._open is not None:
            with self._kept_going():
                self._open.log(step, values)

    def close(self) -> None:
        if self._open is not None:
            with self._kept_going():
                self._open.close()

    @contextlib.contextmanager
    def _kept_going(self) -> Any:
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            self._open = None
            logging.getLogger(__name__).warning(
                "warning: %s failed (%s: %s) and gets no more of this run; metrics.jsonl has all",
                *(self._name, type(error).__name__, on_one_line(str(error))),
            )


def open_trackers(trackers: Sequence[Tracker], run: TrackedRun) -> list[OpenTracker]:
    """Opens trackers; one that fails, now or later, is left out with a warning.

    Raises:
      UserError: the package of one is not installed.
    """
    return [_Guarded(tracker, run) for tracker in trackers]
