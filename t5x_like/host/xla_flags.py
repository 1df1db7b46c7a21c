"""XLA's flags, which a process reads from its environment when it initialises a backend.

A file under `hardware/` binds them as lists, `XLA_FLAGS` for CPUs and GPUs, `LIBTPU_INIT_ARGS`
for TPUs; the command line puts them into the environment before it builds anything.
"""

import os
from collections.abc import Mapping, MutableMapping, Sequence

from t5x_like.errors import UserError

VARIABLES = ("XLA_FLAGS", "LIBTPU_INIT_ARGS")


def apply(
    flags: Mapping[str, Sequence[str]], environment: MutableMapping[str, str] = os.environ
) -> None:
    """Adds flags to the environment; a flag that is already set keeps its value.

    Args:
      flags: variable -> flags, each `--xla_name=value`.
      environment: of this process and its children.

    Raises:
      UserError: a variable is not bound to a list of flags.
    """
    for variable, wanted in flags.items():
        if isinstance(wanted, str) or not all(flag.startswith("--xla") for flag in wanted):
            raise UserError(f"{variable} is {wanted!r}: give a list such as ['--xla_name=value'].")
        present = environment.get(variable, "").split()
        names = {flag.partition("=")[0] for flag in present}
        added = [flag for flag in wanted if flag.partition("=")[0] not in names]
        if added:
            environment[variable] = " ".join([*present, *added])
