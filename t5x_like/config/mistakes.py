"""What gin raises while it parses, in one line that says where and what would do."""

import re
import sys
import tokenize
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from t5x_like.config import binding_types
from t5x_like.config.gin_files import nearest
from t5x_like.config.macro_help import PURPOSES
from t5x_like.errors import UserError

_SHOWN = 100  # characters of a value
_IMPORT = re.compile(r"\s*(?:from ([\w.]+) )?import ([\w.]+)(?: as (\w+))?\s*")


class Names(Protocol):
    """What can be named where a mistake was made."""

    def modules(self) -> Mapping[str, str]:
        """Bound name to module, of every import so far."""

    def configurables(self) -> Iterable[str]:
        """Everything that can be configured, by the names that gin gives it."""

    def parameters(self, selector: str) -> list[str]:
        """The parameters of one of them."""


def explanation(error: BaseException, origin: str, names: Names) -> UserError:
    """A one-line error for one met while parsing `origin`, a file or a flag."""
    message = str(error)
    place = origin
    if found := re.search(r'In file "([^"]+)", line (\d+)', message):
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
        return UserError(f"{place}: import failed: {first_line(message)}.")
    module = _imported_at(place) or _imported_by_flag(origin)
    if module or isinstance(error, SystemExit):
        reason = f"{type(error).__name__}: {first_line(message)}".removesuffix(".")
        raiser = f"module '{module}'" if module else "a module"
        return UserError(f"{place}: import failed: {raiser} raises {reason}.")
    if found := re.search(r"'([\w.]+)' was not provided by an import", message):
        known = _modules(place, names)
        return UserError(
            f"{place}: '{found[1]}' is not imported in this gin file.{nearest(found[1], known)}"
        )
    if found := re.search(r"resolve selector ([\w.]+); .* has no attribute (\w+)", message):
        offered = _public_names(found[1], place, names)
        return UserError(f"{place}: nothing is called '{found[1]}'.{nearest(found[2], offered)}")
    if found := re.search(
        r"Configurable '([\w.]+)' doesn't have a parameter named '(\w+)'", message
    ):
        near = nearest(found[2], names.parameters(found[1]))
        return UserError(f"{place}: '{found[1]}' has no parameter '{found[2]}'.{near}")
    if found := re.search(r"No configurable matching (?:reference )?'@?([\w.]+)", message):
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
    shown = repr(value)
    shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."
    return UserError(f"{name} is {shown}, but {taker} takes {binding_types.described(annotation)}.")


def check_contradictions(path: str, bindings: Iterable[tuple[str, Any, int]]) -> None:
    """Raises `UserError` for a name that one file binds to two values.

    Args:
      path: of the file.
      bindings: name, value and line of each binding.
    """
    found: dict[str, tuple[Any, int]] = {}
    for name, value, line in bindings:
        first, first_line_number = found.setdefault(name, (value, line))
        if first != value:
            raise UserError(
                f"{path}:{line}: {name} is bound to {value!r}, and to {first!r} in line "
                f"{first_line_number} of the same file: keep one."
            )


def first_line(text: str) -> str:
    """The first line that is not empty; "" where there is none."""
    return text.strip().split("\n", 1)[0]


def _imported_at(place: str) -> str | None:
    """The module that the line of a `FILE:LINE` imports, if it imports one."""
    name, _, line = place.rpartition(":")
    path = Path(name)
    if not line.isdecimal() or not path.is_file():
        return None
    lines = path.read_text("utf-8", "replace").splitlines()
    found = _IMPORT.fullmatch(lines[int(line) - 1]) if 0 < int(line) <= len(lines) else None
    return found and ".".join(filter(None, found.groups()[:2]))


def _imported_by_flag(origin: str) -> str | None:
    flag, _, module = origin.partition("=")
    return module if flag == "--module_import" else None


def _modules(place: str, names: Names) -> dict[str, str]:
    """Bound name to module, of the file in `place` (`FILE:LINE`) too."""
    modules = dict(names.modules())
    path = Path(place.rpartition(":")[0])
    if path.is_file():
        for line in path.read_text("utf-8", "replace").splitlines():
            if found := _IMPORT.fullmatch(line):
                package, name, alias = found.groups()
                bound = alias or name.split(".")[0]
                modules[bound] = f"{package}.{name}" if package else name
    return modules


def _public_names(selector: str, place: str, names: Names) -> list[str]:
    """What the module at the head of `selector` offers, for suggestions."""
    module = sys.modules.get(_modules(place, names).get(selector.split(".", 1)[0], ""))
    return [name for name in vars(module) if not name.startswith("_")] if module else []
