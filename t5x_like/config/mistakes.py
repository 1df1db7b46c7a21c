"""One-line errors for what gin raises while it parses: where, what is wrong, what would work."""

import math
import re
import sys
import tokenize
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from t5x_like.config import binding_types
from t5x_like.config.gin_files import nearest
from t5x_like.config.macro_help import PURPOSES, T5X_OBJECTS
from t5x_like.errors import UserError, on_one_line
from t5x_like.host.own_packages import own_name_hint

_SHOWN = 100  # characters of a value
_DEPTH = 50  # of brackets in brackets; Python's recursion would end at some hundred
TOO_DEEP = f"brackets are nested more than {_DEPTH} deep"


class Names(Protocol):
    """What can be named where a mistake was made."""

    def modules(self) -> Mapping[str, str]:
        """Bound name to module, of every import so far."""

    def configurables(self) -> Iterable[str]:
        """Everything that can be configured, by the names that gin gives it."""

    def parameters(self, selector: str) -> list[str]:
        """The parameters of one of them."""


def explanation(error: BaseException, place: str, names: Names, importing: str = "") -> UserError:
    """A one-line error for one met while parsing.

    Args:
      error: of gin, or of a module that a file imports.
      place: a file, `FILE:LINE`, or a flag.
      names: what is known there.
      importing: the module that is imported there; "" elsewhere.
    """
    message = str(error)
    if isinstance(error, RecursionError | MemoryError) or message == TOO_DEEP:
        return UserError(f"{place}: {TOO_DEEP}.")
    # What a value refers to is looked up before its statement ends; gin tells the line.
    if not importing and (found := re.search(r'In file "([^"]+)", line (\d+)', message)):
        place = f"{found[1]}:{found[2]}"
    if isinstance(error, SyntaxError) and str(error.filename).endswith(".py"):
        where = f"{error.filename}:{error.lineno}"
        return UserError(f"{place}: import failed: {where}: {first_line(error.msg)}.")
    if isinstance(error, SyntaxError):
        if error.filename and error.lineno:
            place = f"{error.filename}:{error.lineno}"
        return UserError(f"{place}: gin syntax error: {first_line(error.msg)}")
    if isinstance(error, tokenize.TokenError):
        reason, (line, _) = error.args
        place += "" if place.startswith("--") else f":{line}"
        return UserError(f"{place}: gin syntax error: {reason}")
    if isinstance(error, UnicodeDecodeError):
        return UserError(f"{place}: not UTF-8 text (byte {error.start}).")
    if isinstance(error, ImportError):
        missing = error.name or ""
        if missing.partition(".")[0] == "t5x":
            return UserError(
                f"{place}: a gin file of T5X, which names T5X's objects: there is a file here for "
                "most (models/t5_1_1/base.gin, runs/pretrain.gin); `t5x-like help NAME` says what "
                "does the same as NAME."
            )
        hint = own_name_hint(missing)
        return UserError(f"{place}: import failed: {first_line(message)}.{hint}")
    if importing:
        reason = f"{type(error).__name__}: {first_line(message)}".removesuffix(".")
        return UserError(f"{place}: import failed: module '{importing}' raises {reason}.")
    if found := re.search(r"'([\w.]+)' was not provided by an import", message):
        near = nearest(found[1], names.modules())
        return UserError(f"{place}: '{found[1]}' is not imported in this gin file.{near}")
    if found := re.search(r"'([\w.]+)' is the module ([\w.]+)", message):
        inside = f"{found[1]}.{_principal(found[2])}"
        return UserError(
            f"{place}: '{found[1]}' is a module: name what is in it, such as '{inside}'."
        )
    if found := re.search(r"resolve selector ([\w.]+); .* has no attribute (\w+)", message):
        if ours := T5X_OBJECTS.get(found[1]):
            return UserError(f"{place}: {found[1]} is T5X's; here {ours}.")
        offered = _public_names(found[1], names)
        return UserError(f"{place}: nothing is called '{found[1]}'.{nearest(found[2], offered)}")
    if found := re.search(
        r"Configurable '([\w.]+)' doesn't have a parameter named '(\w+)'", message
    ):
        near = nearest(found[2], names.parameters(found[1]))
        return UserError(f"{place}: '{found[1]}' has no parameter '{found[2]}'.{near}")
    if found := re.search(r"No configurable matching (?:reference )?'@?([\w.]+)", message):
        if ours := T5X_OBJECTS.get(found[1]):
            return UserError(f"{place}: {found[1]} is T5X's; here {ours}.")
        short = {name.split(".", 1)[-1] for name in names.configurables()}
        return UserError(
            f"{place}: nothing configurable is called '{found[1]}'.{nearest(found[1], short)}"
        )
    return UserError(f"{place}: {type(error).__name__}: {first_line(message)}")


def missing_macro(name: str, needed_by: str, known: Iterable[str]) -> UserError:
    """The error about a macro that is not bound: its purpose, or names that are near."""
    purpose = PURPOSES.get(name, "")
    described = f" ({purpose})" if purpose else ""
    user = f", needed by {needed_by}" if needed_by else ""
    near = "" if name in PURPOSES else nearest(name, known)
    return UserError(f"{name}{described} is not set{user}: give --gin.{name}=VALUE.{near}")


def wrong_type(name: str, value: Any, taker: str, annotation: Any) -> UserError:
    """The error about a value that a parameter cannot take.

    Args:
      name: of the binding or macro.
      value: what it is bound to.
      taker: the parameter, "it" where that is `name`.
      annotation: the parameter's.
    """
    taken = binding_types.described(annotation)
    return UserError(f"{name} is {shortened(repr(value))}, but {taker} takes {taken}.")


def check_contradiction(place: str, name: str, value: Any, first: Any, first_at: int) -> None:
    """Raises `UserError` for a name that one file binds to two values.

    Args:
      place: file and line of the binding.
      name: that is bound.
      value: what it is bound to.
      first: what the file has bound it to before.
      first_at: the line of that.
    """
    # By their text: gin takes references in different scopes for equal.
    if repr(first) != repr(value):
        raise UserError(
            f"{place}: {name} is bound to {value!r}, and to {first!r} in line {first_at} of "
            "the same file: keep one."
        )


def check_value(value: Any, depth: int = 0) -> None:
    """Raises `ValueError` for a value that cannot be walked, or that `config.gin` cannot hold."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is not finite, and a gin file can hold finite numbers only.")
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list | tuple):
        if depth == _DEPTH:
            raise ValueError(TOO_DEEP)
        for item in value:
            check_value(item, depth + 1)


def shortened(text: str) -> str:
    """The beginning of a text, on one line."""
    return on_one_line(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")


def first_line(text: str) -> str:
    """The first line that is not empty; "" where there is none."""
    return text.strip().split("\n", 1)[0]


def _principal(module: str) -> str:
    """The function that a module is called after, or else the first thing that it offers."""
    own = vars(sys.modules[module])
    name = module.rpartition(".")[2]
    offered = (
        key
        for key, value in own.items()
        if getattr(value, "__module__", None) == module and not key.startswith("_")
    )
    return name if name in own else next(offered, "NAME")


def _public_names(selector: str, names: Names) -> list[str]:
    """What the module at the head of `selector` offers, for suggestions."""
    module = sys.modules.get(names.modules().get(selector.split(".", 1)[0], ""))
    return [name for name in vars(module) if not name.startswith("_")] if module else []
