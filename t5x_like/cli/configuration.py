"""From a command line to gin's configuration, with a word on every name that nothing reads."""

import argparse
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

from t5x_like.errors import UserError

PROGRAM = "t5x-like"

# The function that each command calls. Its flags are for that function alone; its files may be
# for others as well.
_PROGRAMS = {
    "train": "t5x_like.train.train",
    "align": "t5x_like.align.align",
    "eval": "t5x_like.evaluate.evaluate",
    "eval of a suite": "t5x_like.suites.measuring.evaluate_suite",
    "infer": "t5x_like.infer.infer",
    "ngram": "t5x_like.counting.count",
    "sweep": "t5x_like.scaling.sweeps.runner.run_sweep",
}


def configure(options: argparse.Namespace, *gin_files: str) -> ModuleType:
    """Parses the gin files and flags of a command line, and applies XLA's flags among them.

    Args:
      options: the command line, parsed.
      *gin_files: read before those that it names.

    Returns:
      The package `config`, whose state is the configuration.

    Raises:
      UserError: a file or flag cannot be used, or a flag binds what nothing reads.
    """
    from t5x_like import config
    from t5x_like.host import xla_flags

    paths = [path for path in options.gin_search_paths.split(",") if path]
    files = [*gin_files, *options.gin_file]
    config.parse(files, options.bindings, paths, options.module_import)
    # One that another command of ours has started was given what is meant for that one.
    if getattr(options, "parent", None) is None:
        suite = options.command == "eval" and config.has_macro("SUITE")
        own = _PROGRAMS.get("eval of a suite" if suite else options.command)
        for one in config.unread([own] if own else [], _read_here(), whole=own is not None):
            if one.place.line is None:
                raise UserError(one.message)
    bound = [name for name in xla_flags.VARIABLES if config.has_macro(name)]
    xla_flags.apply({name: config.macro(name) for name in bound})
    return config


def check(
    options: argparse.Namespace, program: Callable[..., Any], example: str = "runs/pretrain.gin"
) -> list[str]:
    """Verifies what a program will be called with.

    Args:
      options: the command line, whose configuration was parsed.
      program: what the command calls.
      example: a packaged file that configures it, for the error.

    Returns:
      The warnings: names in files that nothing reads.

    Raises:
      UserError: something that it needs is not bound, or is of another type.
    """
    from t5x_like import config

    config.check(program, example)
    # Where a model is used, files of its training are given too.
    whole = options.command not in ("eval", "infer")
    found = config.unread(_PROGRAMS.values(), _read_here(), whole=whole)
    return [one.message for one in found if one.place.line is not None]


def warn(options: argparse.Namespace, warnings: Sequence[str]) -> None:
    """Prints warnings, once in all processes of a run."""
    for warning in () if options.process_index else warnings:
        print(f"{PROGRAM}: warning: {warning}", file=sys.stderr)


def _read_here() -> tuple[str, ...]:
    """The macros that commands read themselves, whatever their programs do."""
    from t5x_like.host import xla_flags

    named = ("TASK", "CACHE_DIR", "TFDS_DATA_DIR", "FILES_DIR", "EVALUATIONS")
    return (*named, *xla_flags.VARIABLES)
