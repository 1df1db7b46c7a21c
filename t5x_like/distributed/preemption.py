"""Handles SIGTERM and SIGINT: saves and stops on the first signal, exits on the second.

`stop_on_signal` is for loops of steps: the step is finished and the state saved. `end_on_signal` is
for everything else: there is nothing to save, and the work is abandoned.
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
from typing import NoReturn

EXIT_CODE = 143  # as a shell reports a process that ended by SIGTERM
SIGNALS = (signal.SIGTERM, signal.SIGINT)
_ALONE_SECONDS = 0.5  # between two looks at whether the parent is alive
_LEAVING_SECONDS = 10.0  # for the main thread to unwind, before the process exits regardless


class Preempted(Exception):
    """The run was asked to stop, and has saved its state if there was any."""

    exit_code = EXIT_CODE


class _Ended(BaseException):
    """Unwinds the main thread; a BaseException, so that no `except Exception` catches it."""


class StopRequest:
    """Records whether a signal has asked the run to stop."""

    def __init__(self) -> None:
        self.signal_name: str | None = None

    def after(self, step: int) -> bool:
        """Whether the run stops after this step; every process must ask once in each step.

        A signal to one process stops all of them after the same step.
        """
        from t5x_like.distributed import (
            heartbeat,  # imports JAX, which start-up alone does not need
        )

        watch = heartbeat.watch()
        if watch is not None:
            return watch.stops_after(step)
        return self.signal_name is not None


@contextlib.contextmanager
def stop_on_signal() -> Iterator[StopRequest]:
    """Turns the first SIGTERM or SIGINT into a request; a second one exits at once.

    Outside the main thread, where Python delivers no signals, nothing changes.
    """
    request = StopRequest()

    def first(name: str, frame: FrameType | None) -> None:
        request.signal_name = name
        heartbeat = sys.modules.get("t5x_like.distributed.heartbeat")
        if heartbeat is not None and (watch := heartbeat.watch()):
            watch.request_stop()

    with _on_signal(first):
        yield request


@contextlib.contextmanager
def end_on_signal() -> Iterator[None]:
    """Turns the first SIGTERM or SIGINT into `Preempted`; a second one exits at once.

    For work that can simply be started again. Outside the main thread nothing changes. Sometimes
    Python cannot unwind the main thread: while XLA compiles, or where a callback swallows the
    exception. Then another thread ends the process, with the same message and exit code.

    Raises:
      Preempted: a signal has come.
    """
    received: list[str] = []

    def first(name: str, frame: FrameType | None) -> None:
        received.append(name)
        if _is_importing(frame) and not _has_workers():
            _exit(name)
        raise _Ended

    try:
        with _on_signal(first, seconds=_LEAVING_SECONDS):
            yield
    except _Ended:
        pass
    if received:  # without `_Ended` too: a callback has swallowed it
        raise Preempted(_nothing_to_save(received[0]))


def _nothing_to_save(signal_name: str) -> str:
    return f"{signal_name} received: there was nothing to save."


def _exit(signal_name: str) -> NoReturn:
    os.write(2, f"t5x-like: error: {_nothing_to_save(signal_name)}\n".encode())
    os._exit(EXIT_CODE)


def _is_importing(frame: FrameType | None) -> bool:
    """Whether a module is being imported.

    Extension modules turn an exception there into `ImportError`, which many packages read as a
    missing optional dependency.
    """
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _has_workers() -> bool:
    """Whether there are child processes to end, and semaphores shared with them."""
    multiprocessing = sys.modules.get("multiprocessing")
    return bool(multiprocessing and multiprocessing.active_children())


@contextlib.contextmanager
def interrupts_left_to_parent() -> Iterator[None]:
    """Makes processes that are started in the block ignore SIGINT; their parent ends them.

    A terminal sends SIGINT to the whole process group, and a process that is still starting would
    print a traceback.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _on_signal(
    first: Callable[[str, FrameType | None], None], seconds: float | None = None
) -> Iterator[None]:
    """Calls `first` in the main thread with the first signal's name; the second signal exits.

    Python runs signal handlers between two bytecode instructions, and so not while XLA compiles. A
    thread therefore reads the wake-up file descriptor, to which Python writes at once, and exits on
    a second signal, or if the context is still open after `seconds`.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = socket.socketpair()
    writer.setblocking(False)

    def listen() -> None:
        received: list[int] = []
        try:
            while data := reader.recv(16):
                received += [number for number in data if number in SIGNALS]
                if len(received) > 1:
                    os._exit(EXIT_CODE)
                if received:
                    reader.settimeout(seconds)
        except TimeoutError:
            _exit(signal.Signals(received[0]).name)

    seen = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal seen
        if not seen:
            seen = True
            first(signal.Signals(number).name, frame)

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
    """Ends this process soon after its parent has ended, even by SIGKILL.

    Args:
      parent: the parent's process id; it may be gone already.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_ALONE_SECONDS)
        os._exit(EXIT_CODE)

    threading.Thread(target=watch, name="parent", daemon=True).start()
