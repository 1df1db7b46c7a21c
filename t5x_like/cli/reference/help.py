"""`t5x-like help NAME`: what the code says of an object, a macro, a module or a gin file."""

import re
import shutil
import textwrap
from argparse import Namespace
from collections.abc import Iterator

from t5x_like.cli.reference import objects
from t5x_like.config.gin_files import nearest, packaged_gin_configs
from t5x_like.config.macro_help import PURPOSES, T5X_NAMES, T5X_OBJECTS
from t5x_like.errors import UserError

_WIDEST = 100


def run(options: Namespace) -> None:
    """Prints what is known of each name.

    Raises:
      UserError: nothing has the name.
    """
    print("\n\n".join(map(text_of, options.names)))


def text_of(name: str) -> str:
    """What is known of a name, for a terminal.

    Raises:
      UserError: nothing has it.
    """
    name = name.lstrip("@%").removesuffix("()")
    if name in PURPOSES:
        return _macro(name)
    if name in T5X_NAMES:
        return f"{name} is T5X's; here {T5X_NAMES[name]}."
    if ours := T5X_OBJECTS.get(name) or T5X_OBJECTS.get(name.rpartition(".")[0]):
        return f"{name} is T5X's; here {ours}."
    if (packaged_gin_configs() / name).is_file():
        return _gin_file(name)
    if name in objects.modules():
        return _module(name)
    if objects.find(name) is not None:
        return _object(objects.described(name))
    owner, _, parameter = name.rpartition(".")
    if objects.find(owner) is not None:
        return _parameter(objects.described(owner), parameter)
    raise UserError(f"nothing is called '{name}'.{nearest(name, _known(name))}")


def _known(name: str) -> list[str]:
    """Names that may have been meant: those of the module, or of every module."""
    module = name.partition(".")[0]
    chosen = [module] if module in objects.modules() else list(objects.modules())
    return [*PURPOSES, *(one for each in chosen for one in objects.names_of(each))]


def _macro(name: str) -> str:
    lines = [f"{name}: {PURPOSES[name]}."]
    bound = [
        f"  {path}: {name} = {value}"
        for path, value in _bindings(rf"^{name} = (.+)$")
        if path.rpartition("/")[2] == "defaults.gin" or path.startswith("runs/")
    ]
    if bound:
        lines += ["", "bound by", *dict.fromkeys(bound)]
    lines += ["", f"give --gin.{name}=VALUE"]
    return "\n".join(lines)


def _gin_file(name: str) -> str:
    lines = (packaged_gin_configs() / name).read_text("utf-8").split("\n")
    head = []
    for line in lines:
        if not line.startswith("#"):
            break
        head.append(line.removeprefix("#").removeprefix(" "))
    return "\n".join([name, "", *head]).rstrip()


def _module(name: str) -> str:
    rows = []
    for selector in objects.names_of(name):
        rows.append((selector, objects.described(selector).summary))
    width = max(len(selector) for selector, _ in rows) + 2
    lines = [f"{selector:<{width}}{summary}" for selector, summary in rows]
    homes = ", ".join(objects.modules()[name])
    return "\n".join([f"{homes}, whose objects gin files name:", "", *lines])


def _object(found: objects.Described) -> str:
    lines = [f"{found.selector}  ({found.module})", "", found.summary]
    if found.text:
        lines += ["", found.text]
    for parameter in found.parameters:
        lines += ["", *_lines(parameter)]
    files = sorted({path for path, _ in _bindings(rf"\b{re.escape(found.selector)}\b()")})
    if files:
        shown = ", ".join(files[:5]) + (f" and {len(files) - 5} more" if files[5:] else "")
        lines += ["", *_wrapped(f"in {shown}", "")]
    return "\n".join(lines)


def _parameter(owner: objects.Described, name: str) -> str:
    for parameter in owner.parameters:
        if parameter.name == name:
            return "\n".join([owner.selector, *_lines(parameter)])
    near = nearest(name, [parameter.name for parameter in owner.parameters])
    raise UserError(f"'{owner.selector}' has no parameter '{name}'.{near}")


def _lines(parameter: objects.Parameter) -> Iterator[str]:
    default = "" if parameter.default is None else f" = {parameter.default}"
    kind = f": {parameter.type}" if parameter.type else ""
    needed = "  (must be given)" if parameter.default is None else ""
    yield f"  {parameter.name}{kind}{default}{needed}"
    yield from _wrapped(parameter.text, "      ")


def _wrapped(text: str, indent: str) -> list[str]:
    width = min(shutil.get_terminal_size().columns, _WIDEST)
    return textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent)


def _bindings(pattern: str) -> Iterator[tuple[str, str]]:
    """Where packaged files have what a pattern finds: the file, and its first group."""
    root = packaged_gin_configs()
    for path in objects.gin_files():
        for found in re.findall(pattern, path.read_text("utf-8"), re.MULTILINE):
            yield path.relative_to(root).as_posix(), found
