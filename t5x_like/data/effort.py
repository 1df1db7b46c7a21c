"""How long batches take to make, how much of it is computing, and what helps against reading."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass
class Effort:
    """What making batches has taken so far.

    Attributes:
      batches: how many.
      seconds: wall time.
      computing: seconds of a core, of the thread that makes them.
      remedy: what to do where most of the time goes into reading.
    """

    batches: int = 0
    seconds: float = 0.0
    computing: float = 0.0
    remedy: str = "copy the cache to a local disk (CACHE_DIR)"

    @contextlib.contextmanager
    def one_batch(self) -> Iterator[None]:
        """One more batch is made in the body."""
        began, computing = time.perf_counter(), time.thread_time()
        yield
        self.batches += 1
        self.seconds += time.perf_counter() - began
        self.computing += time.thread_time() - computing
