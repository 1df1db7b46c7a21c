"""Ending a run well when the machine is taken away.

SIGTERM and SIGINT ask a command to end; a second one ends it at once, whatever it is doing.
Where there are steps, `stop_on_signal`: the step is finished and the state saved. Everywhere
else, `end_on_signal`: there is nothing to save, and what was begun is left.
"""

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

EXIT_CODE = 143  # as a shell reports a process that SIGTERM ended
SIGNALS = (signal.SIGTERM, signal.SIGINT)
_ALONE_SECONDS = 0.5  # within which a process ends after its parent


class Preempted(Exception):
    """The run was asked to stop, and has saved what there was to save."""

    exit_code = EXIT_CODE


class _Ended(BaseException):
    """Leaves whatever the main thread is doing; no `except Exception` holds it up."""


class StopRequest:
    """Whether a signal has asked the run to stop."""

    def __init__(self) -> None:
        self.signal_name: str | None = None

    def after(self, step: int) -> bool:
        """Whether the run ends after this step; asked once in each, by every process.

        One process that is asked to stop stops all of them, after the same step.
        """
        from t5x_like import peers  # imports JAX, which a command that begins need not have

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

    def first(name: str) -> None:
        request.signal_name = name
        peers = sys.modules.get("t5x_like.peers")
        if peers is not None and (watch := peers.watch()):
            watch.request_stop()

    with _on_signal(first):
        yield request


@contextlib.contextmanager
def end_on_signal() -> Iterator[None]:
    """Turns the first SIGTERM or SIGINT into `Preempted`; a second one exits at once.

    For what can be begun again. Outside the main thread nothing changes.

    Raises:
      Preempted: a signal has come.
    """
    received: list[str] = []

    def first(name: str) -> None:
        received.append(name)
        raise _Ended

    try:
        with _on_signal(first):
            yield
    except _Ended:
        pass
    # Without `_Ended` too: raised in a callback of the garbage collector, it goes no further.
    if received:
        raise Preempted(f"{received[0]} received: there was nothing to save.")


@contextlib.contextmanager
def _on_signal(first: Callable[[str], None]) -> Iterator[None]:
    """Calls `first` in the main thread with the first signal's name; the second exits.

    Python calls handlers between two of its own instructions, and so not while XLA compiles.
    The byte that it writes at once for each signal is read by a thread, which can exit then.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = socket.socketpair()
    writer.setblocking(False)

    def listen() -> None:
        received = 0
        while data := reader.recv(16):
            received += sum(number in SIGNALS for number in data)
            if received > 1:
                os._exit(EXIT_CODE)

    seen = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal seen
        if not seen:
            seen = True
            first(signal.Signals(number).name)

    thread = threading.Thread(target=listen, name="signals", daemon=True)
    thread.start()
    previous_writer = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    previous = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(previous_writer)
        writer.close()  # at which the thread ends
        thread.join()
        reader.close()


def end_with_parent(parent: int) -> None:
    """Ends this process when its parent has ended, even if by SIGKILL.

    Args:
      parent: the parent's process id; it may be gone already.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_ALONE_SECONDS)
        os._exit(EXIT_CODE)

    threading.Thread(target=watch, name="parent", daemon=True).start()
