"""Calling a program with what gin binds for it, or making something else of that."""

from collections.abc import Callable
from typing import Any

import gin

from t5x_like.config import gin_internals
from t5x_like.config.checks import check


def configured(
    program: Callable[..., Any], example: str = "runs/pretrain.gin"
) -> Callable[..., Any]:
    """`program` with its bindings applied, after `check`.

    Raises:
      UserError: no gin file configures the program, something it needs is unbound, or a
        binding is of another type than its parameter.
    """
    check(program, example)
    return gin.get_configurable(program)


def built(program: Callable[..., Any], make: Callable[..., Any]) -> Any:
    """What `make` returns for the arguments that gin binds for `program`, which is not called.

    The arguments are noted in the operative configuration as the program's.

    Args:
      program: as gin files name it; its bindings have been checked.
      make: takes the same arguments.
    """
    return gin_internals.call_with_bindings(gin_internals.inverse_lookup(program), make)
