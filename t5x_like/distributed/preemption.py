"""Handles SIGTERM and SIGINT: saves and stops on the first signal, exits on the second.

`stop_on_signal` is for loops of steps: the step is finished and the state saved. `end_on_signal` is
for everything else: nothing has to be saved, and the work is abandoned. Signals within
`ONE_SIGNAL_SECONDS` of the first count as one: `timeout`, and agents of clusters, send one to the
process and one to its group.
"""

import contextlib
import functools
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn

from t5x_like.host import unraisable

EXIT_CODE = 143  # as a shell reports a process that ended by SIGTERM
EXIT_CODE_INTERRUPTED = 130  # and by SIGINT, Ctrl-C
SIGNALS = (signal.SIGTERM, signal.SIGINT)
NOTHING_KEPT = "there was nothing to save."
ONE_SIGNAL_SECONDS = 2.0
_LAST_WORDS_SECONDS = 2.0  # for the last checkpoint to be looked up, before a hard end
_SHOW_CURSOR = "\x1b[?25h"
_ALONE_SECONDS = 0.5  # between two looks at whether the parent is alive
_LEAVING_SECONDS = 10.0  # for the main thread to unwind, before the process exits regardless


class Preempted(Exception):
    """The run was asked to stop, and has saved its state if there was any.

    Args:
      message: one line.
      signal_name: which signal asked; None for one to another process of the run.
    """

    def __init__(self, message: str, signal_name: str | None = None) -> None:
        super().__init__(message)
        self.exit_code = _exit_code(signal_name)


class _Ended(BaseException):
    """Unwinds the main thread; a BaseException, so that no `except Exception` catches it."""


class _Signals:
    """What is known of the signals to this process, by all contexts that are open.

    Attributes:
      open: how many contexts are open; when the first is opened, the other two are reset.
      first_at: when the first signal came; None before.
      handled: whether a context has acted on it.
      kept: what the outermost `end_on_signal` says of work that was abandoned.
    """

    open = 0
    kept = NOTHING_KEPT
    first_at: float | None = None
    handled = False


class StopRequest:
    """Records whether a signal has asked the run to stop.

    Attributes:
      signal_name: the first signal; None before there is one.
      last_words: says what is kept, should a second signal end the process; called by another
        thread.
    """

    def __init__(self) -> None:
        self.signal_name: str | None = None
        self.last_words: Callable[[], str] = str

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

    def preempted(self, step: int) -> Preempted:
        """What to raise when the run has stopped, and has saved `step`."""
        who = self.signal_name or "a signal to another process"
        line = f"{who} received: saved step {step}; the same command resumes from it."
        return Preempted(line, self.signal_name)


@contextlib.contextmanager
def stop_on_signal() -> Iterator[StopRequest]:
    """Turns the first SIGTERM or SIGINT into a request, and says so; a second one exits at once.

    Outside the main thread, where Python delivers no signals, nothing changes.
    """
    request = StopRequest()

    def first(name: str, frame: FrameType | None) -> None:
        request.signal_name = name
        _say(f"{name} received: saves and ends; a second signal ends at once, without saving.")
        # It may be in the middle of being imported.
        watch = getattr(sys.modules.get("t5x_like.distributed.heartbeat"), "watch", lambda: None)()
        if watch is not None:
            watch.request_stop()

    with _on_signal(first, last_words=lambda: request.last_words()):
        yield request


@contextlib.contextmanager
def end_on_signal(kept: str | None = None) -> Iterator[None]:
    """Turns the first SIGTERM or SIGINT into `Preempted`; a second one exits at once.

    For work that can simply be started again. Outside the main thread nothing changes. Sometimes
    Python cannot unwind the main thread: while XLA compiles, or where a callback swallows the
    exception. Then another thread ends the process, with the same message and exit code.

    Args:
      kept: one sentence: what is left of the work, and how it goes on; None says what the context
        around this one does.

    Raises:
      Preempted: a signal has come.
    """
    received: list[str] = []
    _say_nothing_of_what_was_swallowed()

    def first(name: str, frame: FrameType | None) -> None:
        received.append(name)
        if _is_importing(frame) and not _has_workers():
            _exit(name, _abandoned(name))
        raise _Ended

    around = _Signals.kept
    _Signals.kept = kept or around
    try:
        with _on_signal(first, seconds=_LEAVING_SECONDS):
            yield
    except _Ended:
        pass
    finally:
        said, _Signals.kept = _Signals.kept, around
    if received:  # without `_Ended` too: a callback has swallowed it
        raise Preempted(f"{received[0]} received: {said}", received[0])


@functools.cache
def _say_nothing_of_what_was_swallowed() -> None:
    """Keeps Python from printing `_Ended` where a callback, one of the collector's say, met it."""
    unraisable.leave_out(lambda raised: raised.exc_type is _Ended)


def _abandoned(signal_name: str) -> str:
    return f"{signal_name} received: {_Signals.kept}"


def _say(text: str) -> None:
    """Writes a line, in the middle of whatever the process is doing."""
    # Not `print`, which fails where the signal has interrupted another; below a bar of progress.
    line = "\n" if sys.__stderr__ is not None and sys.__stderr__.isatty() else ""
    os.write(2, f"{line}t5x-like: {text}\n".encode())


def _exit_code(signal_name: str | None) -> int:
    return EXIT_CODE_INTERRUPTED if signal_name == "SIGINT" else EXIT_CODE


def _exit(signal_name: str, reason: str) -> NoReturn:
    """Ends the process, with one line on standard error, and leaves a terminal as it was."""
    if sys.__stdout__ is not None and sys.__stdout__.isatty():
        os.write(1, _SHOW_CURSOR.encode())
    _say(f"error: {reason}")
    os._exit(_exit_code(signal_name))


def _end_hard(signal_name: str, last_words: Callable[[], str]) -> NoReturn:
    """Ends the process at a second signal, without saving."""
    kept: list[str] = []

    def ask() -> None:
        with contextlib.suppress(Exception):
            kept.append(last_words())

    # In an object store it may take long, or for ever.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(_LAST_WORDS_SECONDS)
    _exit(
        signal_name, f"second {signal_name} received: ended without saving. {''.join(kept)}".strip()
    )


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
    # While it is being imported itself it has no such function, and no children.
    children = getattr(sys.modules.get("multiprocessing"), "active_children", None)
    return bool(children and children())


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
    first: Callable[[str, FrameType | None], None],
    seconds: float | None = None,
    last_words: Callable[[], str] = str,
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
        name = ""
        try:
            while data := reader.recv(16):
                for number in filter(SIGNALS.__contains__, data):
                    name, now = signal.Signals(number).name, time.monotonic()
                    if _Signals.first_at is None:
                        _Signals.first_at = now
                    elif now - _Signals.first_at >= ONE_SIGNAL_SECONDS:
                        _end_hard(name, last_words)
                    reader.settimeout(seconds)
        except TimeoutError:
            _exit(name, _abandoned(name))

    def handle(number: int, frame: FrameType | None) -> None:
        if not _Signals.handled:
            _Signals.handled = True
            first(signal.Signals(number).name, frame)

    if not _Signals.open:
        _Signals.first_at, _Signals.handled = None, False
    _Signals.open += 1
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
        _Signals.open -= 1


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
