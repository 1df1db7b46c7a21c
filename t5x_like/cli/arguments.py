"""The arguments that all subcommands share."""

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from t5x_like.errors import UserError

# T5X's flags that are not ours -> what does the same.
T5X_FLAGS = {
    "gin_bindings": "--gin.NAME=VALUE binds a name",
    "alsologtostderr": "messages are always shown: leave it out",
    "logtostderr": "messages are always shown: leave it out",
    "seqio_additional_cache_dirs": "CACHE_DIR names the directory of the caches",
    "multiprocess_gpu": "--coordinator_address, --process_count and --process_index say it",
    "run_mode": "the command says it: train, eval, infer",
}


class _Once(argparse.Action):
    """Stores an option's value; another value after it is an error, where argparse takes the last.

    A flag may be repeated as it is, like those of gin.
    """

    def __call__(
        self, parser: Any, namespace: Any, values: Any, option_string: str | None = None
    ) -> None:
        given = vars(namespace).setdefault("given_options", {})
        first = given.setdefault(self.dest, values)
        if option_string is not None and first != values:
            parser.error(f"{option_string} is given twice, as {first} and as {values}: give one.")
        setattr(namespace, self.dest, values)


class OneLineParser(argparse.ArgumentParser):
    """Reports a wrong argument in one line, an option that is given twice among them."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.register("action", None, _Once)
        self.register("action", "store", _Once)

    def error(self, message: str) -> NoReturn:
        """Raises `UserError`, where argparse would print its usage and exit."""
        for flag, ours in T5X_FLAGS.items():
            if message.startswith("unrecognized arguments") and f"--{flag}" in message:
                raise UserError(f"--{flag} is T5X's; here {ours}.")
        raise UserError(f"{message} (see {self.prog} --help)")


def common_parser() -> OneLineParser:
    """The arguments of every subcommand, as a parent of its parser."""
    common = OneLineParser(add_help=False)
    gin = common.add_argument_group("configuration")
    gin.add_argument("--gin_file", action="append", default=[], help="repeatable; later ones win")
    gin.add_argument("--gin_search_paths", default="", help="comma-separated directories")
    gin.add_argument("--gin.NAME", metavar="VALUE", help="binds a macro or parameter")
    gin.add_argument("--module_import", action="append", default=[], help="Python module to import")
    gin.add_argument("--dry_run", action="store_true", help="check and print, run nothing")
    gin.add_argument("--tfds_data_dir", help="directory of TensorFlow Datasets")
    gin.add_argument("--debug", action="store_true", help="show tracebacks")
    processes = common.add_argument_group("several processes")
    processes.add_argument("--coordinator_address", help="host:port of process 0")
    processes.add_argument("--process_count", type=int)
    processes.add_argument("--process_index", type=int)
    return common


def split_gin_bindings(arguments: Sequence[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """`--gin.NAME=VALUE` and `--gin.NAME VALUE` as pairs, and everything else."""
    bindings, rest = [], []
    remaining = iter(arguments)
    for argument in remaining:
        if not argument.startswith("--gin."):
            rest.append(argument)
            continue
        name, equals, value = argument.removeprefix("--gin.").partition("=")
        if not equals:
            following = next(remaining, None)
            if following is None:
                raise UserError(f"{argument} needs a value: {argument}=VALUE.")
            value = following
        bindings.append((name, value))
    return bindings, rest


def check_contradictions(bindings: Sequence[tuple[str, str]]) -> None:
    """Raises `UserError` for a name that one command line gives two values.

    A flag may be repeated as it is. Between files, and between a file and a flag, the later one
    wins; of two flags it would be anyone's guess which is meant.
    """
    given: dict[str, str] = {}
    for name, value in bindings:
        first = given.setdefault(name, value)
        if first != value:
            raise UserError(
                f"{name} is given twice on the command line, as {first} and as {value}: give one."
            )
