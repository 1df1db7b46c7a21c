"""The configuration as a gin file: all bindings, those used so far, and where each is from."""

import pprint
from collections.abc import Iterator, Mapping
from typing import Any

from t5x_like.config import gin_internals, provenance
from t5x_like.config.flag_values import is_gin_value
from t5x_like.config.gin_internals import CONFIG, CONSTANT, MACRO, Key

_WIDTH, _INDENT = 80, 4


def full_text(sources: bool = False) -> str:
    """All bindings, used or not, as a gin file.

    Args:
      sources: whether a comment after each says where it is from, and what it replaces: files
        with their lines, and flags.
    """
    return _text(CONFIG, sources)


def operative_text() -> str:
    """The configuration that was used so far, as a gin file that reruns as it stands.

    gin records what a macro's value was built with under the macro's name as scope
    (`MODEL/t5.T5.dtype`). Where nothing contradicts it, the scope is taken off again, so that
    a later `--gin.t5.T5.dtype=...` is not overruled by the file.
    """
    macros = {scope for scope, selector in CONFIG if selector == MACRO}
    with gin_internals.OPERATIVE_CONFIG_LOCK:
        used = {key: dict(values) for key, values in gin_internals.OPERATIVE_CONFIG.items()}
    for (scope, selector), values in list(used.items()):
        outer = "/".join(part for part in scope.split("/") if part not in macros)
        plain = used.get((outer, selector), {})
        agrees = all(plain.get(name, value) == value for name, value in values.items())
        if selector != MACRO and outer != scope and agrees:
            used[outer, selector] = {**plain, **values}
            del used[scope, selector]
    return _text(used)


def import_lines() -> list[str]:
    """The import statements of all files parsed so far, as a gin file has them."""
    return list(dict.fromkeys(statement.format() for statement in gin_internals.imports()))


def written_value(value: Any) -> str:
    """A value as gin files and flags write it; a text that is a reference or macro stays one."""
    refers = isinstance(value, str) and value[:1] in ("@", "%") and is_gin_value(value)
    return value if refers else repr(value)


def _text(bindings: Mapping[Key, Mapping[str, Any]], sources: bool = False) -> str:
    """Imports, macros, then a block for each function or class."""
    manager = gin_internals.ImportManager(gin_internals.IMPORTS)
    if manager.dynamic_registration:
        for _, selector in bindings:
            manager.require_configurable(gin_internals.REGISTRY[selector])
        for reference in gin_internals.iterate_references(bindings):
            manager.require_configurable(reference.configurable)
    lines = [statement.format() for statement in manager.sorted_imports]
    with gin_internals.parse_scope(manager):
        for title, entries in _blocks(bindings, manager):
            lines += ["", f"# {title}:", "# " + "=" * (_WIDTH - 2)]
            lines += [_entry(*entry, sources) for entry in entries] or ["# None."]
    return "\n".join(lines).lstrip("\n") + "\n"


_Entry = tuple[str, Any, Key, str]


def _blocks(
    bindings: Mapping[Key, Mapping[str, Any]], manager: Any
) -> Iterator[tuple[str, list[_Entry]]]:
    """A title and the written name, value, key and parameter of each binding below it."""
    macros = sorted((key for key in bindings if key[1] == MACRO), key=lambda key: key[0].lower())
    if macros:
        yield "Macros", [(key[0], bindings[key]["value"], key, "value") for key in macros]
    for key in sorted(set(bindings) - set(macros), key=_order):
        scope, selector = key
        if selector == CONSTANT:
            continue
        name = manager.minimal_selector(gin_internals.REGISTRY[selector])
        name = f"{scope}/{name}" if scope else name
        values = sorted(bindings[key].items())
        written = [(f"{name}.{parameter}", value, parameter) for parameter, value in values]
        yield (
            f"Parameters for {name}",
            [(n, v, key, p) for n, v, p in written if gin_internals.is_literal(v)],
        )


def _order(key: Key) -> tuple[list[str], str]:
    """By the function's or class's own name first, ignoring case."""
    scope, selector = key
    return selector.lower().split(".")[::-1], scope.lower()


def _entry(name: str, value: Any, key: Key, parameter: str, sources: bool) -> str:
    """One binding, on several lines where it is long."""
    lines = pprint.pformat(value, width=_WIDTH - _INDENT).split("\n")
    if len(lines) == 1 and len(name + lines[0]) <= _WIDTH:
        text = f"{name} = {lines[0]}"
    else:
        text = "\n".join([f"{name} = \\", *(" " * _INDENT + line for line in lines)])
    found = provenance.places(key, parameter) if sources else []
    places = list(dict.fromkeys(map(str, reversed(found))))  # a file may be included twice
    if places:
        text += f"  # {places[0]}"
    if places[1:]:
        text += f", over {', '.join(places[1:])}"
    return text
