"""Where a command prints that is run in a notebook."""

import contextlib
import sys
from collections.abc import Iterator, Sequence


@contextlib.contextmanager
def one_stream(arguments: Sequence[str]) -> Iterator[None]:
    """In a notebook, sends standard error to standard output, so that nothing is shown in red.

    Notebooks show all of standard error as if it were an error: progress and warnings too. With
    `--json`, standard output is for the object alone, and both stay as they are.
    """
    if not type(sys.stderr).__module__.startswith("ipykernel") or "--json" in arguments:
        yield
        return
    with contextlib.redirect_stderr(sys.stdout):
        yield
