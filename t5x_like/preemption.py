"""Ending a run well when the machine is taken away."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from t5x_like import peers

EXIT_CODE = 143  # as a shell reports a process that SIGTERM ended


class Preempted(Exception):
    """The run was asked to stop, and has saved its state."""

    exit_code = EXIT_CODE


class StopRequest:
    """Whether a signal has asked the run to stop."""

    def __init__(self) -> None:
        self.signal_name: str | None = None

    def after(self, step: int) -> bool:
        """Whether the run ends after this step; asked once in each, by every process.

        One process that is asked to stop stops all of them, after the same step.
        """
        watch = peers.watch()
        if watch is not None:
            return watch.stops_after(step)
        return self.signal_name is not None


@contextlib.contextmanager
def stop_on_signal() -> Iterator[StopRequest]:
    """Turns the first SIGTERM or SIGINT into a request; a second one exits at once.

    Outside the main thread, where Python delivers no signals, nothing changes.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if request.signal_name is not None:
            os._exit(EXIT_CODE)
        request.signal_name = signal.Signals(number).name
        if watch := peers.watch():
            watch.request_stop()

    previous = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
