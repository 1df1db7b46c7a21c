"""What Orbax raises it says too, in tracebacks of all its threads and tasks: these are left out."""

import functools
import logging
import os
import sys
from typing import Any

_PACKAGE = f"{os.sep}orbax{os.sep}"


@functools.cache
def say_once() -> None:
    """Leaves its log messages out, and what its tasks raise when they are collected."""
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    before = sys.unraisablehook

    def without_orbax(raised: Any) -> None:
        if not _left_by_orbax(raised):
            before(raised)

    sys.unraisablehook = without_orbax


def _left_by_orbax(raised: Any) -> bool:
    """Whether this is of the reads beside one that failed, which nobody waits for any more."""
    code = getattr(raised.object, "cr_code", None)  # of a coroutine
    closed = isinstance(raised.exc_value, RuntimeError) and "loop is closed" in str(
        raised.exc_value
    )
    return closed if code is None else _PACKAGE in code.co_filename
