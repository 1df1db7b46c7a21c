"""The reference of the documentation's site: pages in Markdown, made of types and docstrings."""

import importlib
import re
from collections.abc import Mapping
from pathlib import Path

from t5x_like.cli.reference import errors, objects
from t5x_like.config.gin_files import packaged_gin_configs
from t5x_like.config.macro_help import PURPOSES, T5X_NAMES, T5X_OBJECTS

_PACKAGES = ("t5x_like", "models", "tasks")


def pages() -> Mapping[str, str]:
    """The text of each page by its path below `reference/`."""
    found = {"macros.md": _macros(), "gin_files.md": _gin_files(), "errors.md": _errors()}
    lines = ["# Objects of gin files", "", "What gin files name, by the module that they import."]
    for module, homes in objects.modules().items():
        found[f"objects/{module}.md"] = _objects(module)
        said = " ".join(map(_first_line, homes))
        lines.append(f"- [{module}](objects/{module}.md): {said}")
    found["objects.md"] = _text(lines)
    for package, modules in _python_modules().items():
        name = f"python/{package}.md"
        found[name] = _text([f"# {package}", *(f"\n::: {module}" for module in modules)])
    lines = ["# Python", "", "The public API of the three packages, a page for each folder.", ""]
    lines += [f"- [{package}](python/{package}.md)" for package in _python_modules()]
    found["python.md"] = _text(lines)
    return found


def _text(lines: list[str]) -> str:
    return "\n".join(lines) + "\n"


def _first_line(module: str) -> str:
    return (importlib.import_module(module).__doc__ or "").split("\n")[0]


def _objects(module: str) -> str:
    homes = " or ".join(f"`{_import_of(whole)}`" for whole in objects.modules()[module])
    lines = [f"# {module}", "", f"{homes} in a gin file."]
    for selector in objects.names_of(module):
        found = objects.described(selector)
        lines += ["", f"## {selector}", "", _escaped(found.summary)]
        if found.text:
            lines += ["", _escaped(found.text)]
        if found.parameters:
            lines += ["", "| parameter | type | default | |", "|---|---|---|---|"]
        for one in found.parameters:
            default = "must be given" if one.default is None else _code(one.default)
            lines.append(
                f"| `{one.name}` | {_code(one.type)} | {default} | {_cell(_escaped(one.text))} |"
            )
    return _text(lines)


def _import_of(module: str) -> str:
    package, _, name = module.rpartition(".")
    return f"from {package} import {name}" if package else f"import {name}"


def _macros() -> str:
    lines = ["# Macros", "", "| macro | |", "|---|---|"]
    lines += [f"| `{name}` | {_cell(text)} |" for name, text in sorted(PURPOSES.items())]
    lines += ["", "## Of T5X", "", "| T5X | here |", "|---|---|"]
    others = {**T5X_NAMES, **T5X_OBJECTS}
    lines += [f"| `{name}` | {_cell(text)} |" for name, text in sorted(others.items())]
    return _text(lines)


def _gin_files() -> str:
    root = packaged_gin_configs()
    lines = ["# Gin files", "", "Each by its first line; `t5x-like help NAME` prints the others."]
    folder = None
    for path in objects.gin_files():
        name = path.relative_to(root).as_posix()
        if path.parent != folder:
            folder = path.parent
            lines += ["", f"## {folder.relative_to(root).as_posix()}", ""]
        first = next(iter(path.read_text("utf-8").split("\n")), "")
        said = first.removeprefix("#").strip() if first.startswith("#") else ""
        lines.append(f"- `{name}`: {_escaped(said)}" if said else f"- `{name}`")
    return _text(lines)


def _errors() -> str:
    lines = [
        "# Errors of one line",
        "",
        "A command that cannot do what was asked says in one line what was found, where, and",
        "what would do, and ends with exit code 2; what the machine failed at, such as a full",
        "disk, ends with 1, and is marked so here. `--debug` shows where in the source it was",
        "raised. Names in braces, and dots in them, stand for what differs from case to case.",
    ]
    for subject, found in errors.by_subject().items():
        lines += ["", f"## {subject.title}", "", subject.advice, ""]
        lines += [f"- {_said(one)}" for one in found if one.text]
    return _text(lines)


def _said(message: errors.Message) -> str:
    # Two marks, as the text may have one. Spaces part them from one at an end.
    text = f"`` {_one_line(message.text or '')} ``"
    return text if message.exit_code == 2 else f"{text} (exit code {message.exit_code})"


def _python_modules() -> dict[str, list[str]]:
    """The public modules of each folder."""
    found: dict[str, list[str]] = {}
    for package in _PACKAGES:
        root = Path(str(importlib.import_module(package).__file__)).parent
        for path in sorted(root.rglob("*.py")):
            parts = path.relative_to(root.parent).with_suffix("").parts
            if any(part.startswith("_") and part != "__init__" for part in parts):
                continue
            folder = ".".join(parts[:-1])
            module = folder if parts[-1] == "__init__" else ".".join(parts)
            found.setdefault(folder, []).append(module)
    return dict(sorted(found.items()))


def _code(text: str) -> str:
    # Within code a bar divides no cells, and what escapes it would be shown.
    return f"`{_one_line(text)}`" if text else ""


def _cell(text: str) -> str:
    return _one_line(text).replace("|", "\\|")


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def _escaped(text: str) -> str:
    """Prose in which brackets are no links and angles no HTML."""
    return re.sub(r"([\[\]<>])", r"\\\1", text)
