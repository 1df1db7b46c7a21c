"""The objects that gin files configure: parameters with types, defaults and what they mean."""

import dataclasses
import functools
import importlib
import inspect
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from t5x_like.config.gin_files import packaged_gin_configs

_IMPORT = re.compile(r"^(?:from ([\w.]+) )?import (\w+)\s*$", re.MULTILINE)
_PACKAGES = ("t5x_like", "models", "tasks")
# What packaged files leave to the user's own.
_FURTHER = ("t5x_like.trackers", "tasks")
# A section of a docstring, and an entry of one.
_SECTION = re.compile(r"^(Args|Attributes):$")
_ENTRY = re.compile(r"^  \*{0,2}(\w+): (.*)$")
# Linen's own fields of a module, which nobody binds.
_OWN = ("parent", "name")


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One parameter of an object.

    Attributes:
      name: by which gin binds it.
      type: the annotation, as text.
      default: as text; None where one must be given.
      text: what it means, a sentence or more; "" where nothing says it.
    """

    name: str
    type: str
    default: str | None
    text: str


@dataclasses.dataclass(frozen=True)
class Described:
    """One function or class.

    Attributes:
      selector: by which gin files name it, `optimizers.muon`.
      module: where it is.
      summary: the first line of its docstring.
      text: the rest of it, before its sections.
      parameters: in the order of its signature.
    """

    selector: str
    module: str
    summary: str
    text: str
    parameters: tuple[Parameter, ...]


@functools.cache
def modules() -> Mapping[str, tuple[str, ...]]:
    """The modules from which gin files take objects: short name to dotted names, mostly one."""
    found: dict[str, set[str]] = {}
    for path in gin_files():
        for package, name in _IMPORT.findall(path.read_text("utf-8")):
            whole = f"{package}.{name}" if package else name
            if whole.partition(".")[0] in _PACKAGES:
                found.setdefault(name, set()).add(whole)
    for whole in _FURTHER:
        found.setdefault(whole.rpartition(".")[2], set()).add(whole)
    return {name: tuple(sorted(homes)) for name, homes in sorted(found.items())}


def gin_files() -> list[Path]:
    """All packaged gin files."""
    return sorted(packaged_gin_configs().rglob("*.gin"))


def names_of(module: str) -> list[str]:
    """The selectors of a module's functions and classes, by its short name."""
    homes = [importlib.import_module(whole) for whole in modules()[module]]
    return [f"{module}.{name}" for home in homes for name in _public(home)]


def _public(module: ModuleType) -> Iterator[str]:
    listed = getattr(module, "__all__", None)
    for name in listed or sorted(vars(module)):
        value = getattr(module, name, None)
        # A protocol says what an object must be, and makes none.
        if name.startswith("_") or not _is_object(value) or getattr(value, "_is_protocol", False):
            continue
        if inspect.isclass(value) and issubclass(value, BaseException):
            continue
        if listed or value.__module__.startswith(module.__name__):
            yield name


def _is_object(value: Any) -> bool:
    """Whether it is a function or a class, and not the name of a type with its parts."""
    return inspect.isclass(value) or inspect.isfunction(value)


def find(selector: str) -> Any:
    """The object of a selector; None if there is none."""
    module, _, name = selector.rpartition(".")
    for whole in modules().get(module, ()):
        value = getattr(importlib.import_module(whole), name, None)
        if _is_object(value):
            return value
    return None


def described(selector: str) -> Described:
    """An object, from its types and docstrings.

    Args:
      selector: of one that `find` finds.
    """
    value = find(selector)
    summary, text, said = _read(inspect.getdoc(value) or "")
    said = {**_said_of_bases(value), **said}
    signature = inspect.signature(value)
    parameters = [
        Parameter(one.name, _type(one.annotation), _default(one.default), said.get(one.name, ""))
        for one in signature.parameters.values()
        if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
        and not (inspect.isclass(value) and one.name in _OWN)
    ]
    return Described(selector, value.__module__, summary, text, tuple(parameters))


def _said_of_bases(value: Any) -> dict[str, str]:
    """What base classes say of parameters, and of a program the class that has its settings."""
    if inspect.isclass(value):
        bases = [base for base in reversed(value.__mro__) if base.__module__.startswith(_PACKAGES)]
    else:
        wanted = list(inspect.signature(value).parameters)
        around = getattr(inspect.unwrap(value), "__globals__", {}).values()
        bases = [
            one
            for one in around
            if dataclasses.is_dataclass(one)
            and inspect.isclass(one)
            and list(inspect.signature(one).parameters) == wanted
        ]
    said: dict[str, str] = {}
    for base in bases:
        said |= _read(inspect.cleandoc(base.__doc__ or ""))[2]
    return said


def _read(doc: str) -> tuple[str, str, dict[str, str]]:
    """First line, the text before sections, and what is said of each parameter."""
    summary, _, rest = doc.partition("\n")
    text: list[str] = []
    said: dict[str, list[str]] = {}
    section, entry = "", ""
    for line in rest.split("\n"):
        if re.match(r"^[A-Z]\w+:$", line):
            section, entry = line, ""
        elif not section:
            text.append(line)
        elif _SECTION.match(section) and (found := _ENTRY.match(line)):
            entry = found[1]
            said[entry] = [found[2]]
        elif entry and line.startswith("    "):
            said[entry].append(line.strip())
    return summary, "\n".join(text).strip(), {name: " ".join(x) for name, x in said.items()}


def _type(annotation: Any) -> str:
    if annotation is inspect.Parameter.empty:
        return ""
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return re.sub(r"\b(?:[a-z_]\w*\.)+(?=[A-Za-z_])", "", text)


def _default(value: Any) -> str | None:
    if value is inspect.Parameter.empty:
        return None
    if inspect.isclass(value) or inspect.isroutine(value):
        return str(value.__name__)
    text = repr(value)
    # The address of an object says nothing.
    return f"{type(value).__name__}()" if " at 0x" in text else text
