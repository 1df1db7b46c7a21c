"""`python -m t5x_like.train`, as T5X's users type it, is `t5x-like train`."""

import runpy
import sys


def run(name: str) -> None:
    """Runs `t5x-like NAME` with the arguments of this process, and ends it with the exit code."""
    sys.argv[1:1] = [name]
    runpy.run_module("t5x_like", run_name="__main__")
