"""Work on the parts of a corpus in processes of their own, which end when this one does."""

import concurrent.futures
import itertools
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.reduction import ForkingPickler
from typing import Any, TypeVar

from t5x_like.distributed.preemption import interrupts_left_to_parent
from t5x_like.errors import DataFault

_LOOK_EVERY = 0.2  # seconds
_TELL_EVERY = 64  # documents
_AHEAD = 4  # parts for each process that are begun or wait

Tell = Callable[[int], None]
Part = TypeVar("Part")
Result = TypeVar("Result")


def results(
    function: Callable[[Any, Part, Tell], Result],
    work: Any,
    parts: Iterable[Part],
    num_workers: int,
    progress: Tell | None = None,
) -> Iterator[Result]:
    """What a function makes of each part, in the order in which they are done.

    Args:
      function: of a module, for it goes to other processes, as `work` and `parts` do; is called
        with `work`, a part, and what it calls with the number of documents, or of whatever is
        counted, that it has done.
      work: the same for all parts, and sent once to each process; what cannot be sent is worked
        with in this one.
      parts: are begun in this order, and taken a few for each process before they are begun.
      num_workers: processes beside this one; 0 works in this one.
      progress: called with what was done since the last time.

    Raises:
      DataFault: a process was killed.
    """
    told = progress or (lambda count: None)
    if not num_workers or not can_send(work):
        for part in parts:
            yield function(work, part, told)
        return
    context = multiprocessing.get_context("spawn")
    done = context.Value("q", 0)
    seen = 0
    left = iter(parts)
    with concurrent.futures.ProcessPoolExecutor(
        num_workers, mp_context=context, initializer=_start, initargs=(function, work, done)
    ) as pool:
        try:
            waiting: set[concurrent.futures.Future[Result]] = set()
            while True:
                for part in itertools.islice(left, _AHEAD * num_workers - len(waiting)):
                    with interrupts_left_to_parent():
                        waiting.add(pool.submit(_do, part))
                if not waiting:
                    break
                finished, waiting = concurrent.futures.wait(
                    waiting, _LOOK_EVERY, concurrent.futures.FIRST_COMPLETED
                )
                now = done.value
                if now > seen:
                    told(now - seen)
                seen = now
                for each in finished:
                    yield each.result()
        except BrokenProcessPool:
            raise DataFault(
                "a process that reads documents was killed, maybe for want of memory: give fewer "
                "with --num_workers."
            ) from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def can_send(thing: Any) -> bool:
    """Whether a thing can go to another process; lambdas and TensorFlow objects cannot."""
    try:
        ForkingPickler.dumps(thing)
    except Exception:  # whatever the objects in it raise
        return False
    return True


def beside(num_workers: int, parts: Sequence[Any]) -> int:
    """How many processes `results` needs beside this one, which is one of `num_workers`.

    Where there is but one of these, or of the parts, that is this one.
    """
    needed = min(num_workers, len(parts))
    return 0 if needed <= 1 else needed


class Told:
    """Counts documents, and tells of them a few at a time.

    Args:
      tell: as `results` hands it to its function.
    """

    def __init__(self, tell: Tell) -> None:
        self.count = 0
        self._tell, self._untold = tell, 0

    def add(self) -> None:
        """One more is done."""
        self.count += 1
        self._untold += 1
        if self._untold == _TELL_EVERY:
            self.flush()

    def flush(self) -> None:
        """Tells of those that were not told."""
        self._tell(self._untold)
        self._untold = 0


# -- In the other processes ------------------------------------------------------------------

_function: Callable[[Any, Any, Tell], Any]
_work: Any
_done: Any


def _start(function: Callable[[Any, Any, Tell], Any], work: Any, done: Any) -> None:
    global _function, _work, _done
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _function, _work, _done = function, work, done


def _end_with_parent() -> None:
    """Ends this process when the one that started it is gone, even by SIGKILL."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _do(part: Any) -> Any:
    return _function(_work, part, _tell)


def _tell(count: int) -> None:
    with _done.get_lock():
        _done.value += count
