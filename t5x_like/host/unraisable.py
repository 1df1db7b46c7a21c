"""Errors that Python prints where nobody can catch them: in callbacks, and of tasks left alone."""

import sys
from collections.abc import Callable
from typing import Any


def leave_out(expected: Callable[[Any], bool]) -> None:
    """Keeps Python from printing some of these errors, for the rest of the process.

    Args:
      expected: says so of one, as `sys.unraisablehook` is given it; others are printed as before.
    """
    before = sys.unraisablehook

    def hook(raised: Any) -> None:
        if not expected(raised):
            before(raised)

    sys.unraisablehook = hook
