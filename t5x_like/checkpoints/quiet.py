"""What Orbax raises it says too, in tracebacks of all its threads and tasks: these are left out."""

import functools
import logging
import os
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from t5x_like.host import unraisable

_PACKAGE = f"{os.sep}orbax{os.sep}"


@functools.cache
def say_once() -> None:
    """Leaves out the errors that Orbax logs, and those of its tasks that nobody waits for.

    Warnings, and what others say, stay.
    """
    for name in ("absl", "asyncio"):
        logging.getLogger(name).addFilter(lambda record: not _is_error_of_orbax(record))
    unraisable.leave_out(_left_by_orbax)


def _is_error_of_orbax(record: logging.LogRecord) -> bool:
    """Whether Orbax logged it, or asyncio of a task whose code is Orbax's."""
    if record.levelno < logging.ERROR:
        return False
    trace = record.exc_info[2] if record.exc_info else None
    # asyncio describes the task, with its file, in the message.
    places = (record.pathname, record.getMessage(), *_files(trace))
    return any(_PACKAGE in place for place in places)


def _files(trace: TracebackType | None) -> Iterator[str]:
    while trace is not None:
        yield trace.tb_frame.f_code.co_filename
        trace = trace.tb_next


def _left_by_orbax(raised: Any) -> bool:
    """Whether this is of the reads beside one that failed, which nobody waits for any more."""
    code = getattr(raised.object, "cr_code", None)  # of a coroutine
    if code is not None:
        return _PACKAGE in code.co_filename
    # tensorstore tells the event loop of a read, from C code and so without an object.
    closed = isinstance(raised.exc_value, RuntimeError) and raised.object is None
    return closed and str(raised.exc_value) == "Event loop is closed"
