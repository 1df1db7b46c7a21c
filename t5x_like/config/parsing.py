"""Gin files in, checked bindings out.

This is the only module beside the command line that knows gin. Everything it configures
takes plain arguments and works without it.

gin is used with dynamic registration: a file imports the Python it configures, and no
function carries a decorator. Three things are added to what gin does:

* files are found by their short names (`runs/pretrain.gin`) wherever the program starts;
* every macro and argument that the program will need is known to be bound before anything
  runs, and to a value of its type; a missing one is named with its purpose;
* an unknown name is answered with the nearest names that exist.
"""

import ast
import contextlib
import copy
import inspect
import re
import tokenize
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import gin
from gin import config as gin_state
from gin import config_parser

from t5x_like.config import binding_types, mistakes
from t5x_like.config.gin_files import READERS, find_gin_file, packaged_gin_configs
from t5x_like.config.inherited_bindings import inherited
from t5x_like.errors import UserError
from t5x_like.host import files

DEFAULTS_FILE = "runs/defaults.gin"
_DYNAMIC = "from __gin__ import dynamic_registration"


def parse(
    gin_files: Sequence[str],
    bindings: Sequence[tuple[str, str]] = (),
    search_paths: Sequence[str] = (),
    module_imports: Sequence[str] = (),
) -> None:
    """Replaces the current configuration by these files and bindings; the later ones win.

    `runs/defaults.gin` is read before them, so that a file may rely on its macros in any
    order of the command line. A binding on a base class holds for the classes derived from it.

    Args:
      gin_files: names for `find_gin_file`, in order.
      bindings: `(name, value)` pairs as on the command line, `("TRAIN_STEPS", "20")`.
      search_paths: more directories to look for files (and their includes) in.
      module_imports: Python modules to import first (they register tasks, say); kept
        in the saved configuration.

    Raises:
      UserError: anything wrong with a file or binding: what, and the file and line.
    """
    gin.clear_config()
    gin_state._LOCATION_PREFIXES[:] = ["", *search_paths, str(packaged_gin_configs())]
    # gin would also look for files inside Python packages, importing them, and report each
    # place where a file is not.
    gin_state._FILE_READERS[:] = READERS
    import_modules(module_imports)
    for name in (DEFAULTS_FILE, *gin_files):
        path = find_gin_file(name, search_paths)
        with _explained(str(path)):
            gin.parse_config_file(str(files.location(path)))
        with path.open(encoding="utf-8") as file:
            mistakes.check_contradictions(str(path), _bindings_in(file))
    for name, value in bindings:
        _parse_binding(name, value)
    wrapped = {name: item.wrapped for name, item in gin_state._REGISTRY.items()}
    classes = {name: found for name, found in wrapped.items() if inspect.isclass(found)}
    for key, values in inherited(gin_state._CONFIG, classes).items():
        gin_state._CONFIG.setdefault(key, {}).update(values)


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


def import_modules(modules: Iterable[str]) -> None:
    """Imports Python modules, and keeps that they were in the saved configuration.

    Raises:
      UserError: a module cannot be imported.
    """
    for module in modules:
        _parse_text(f"{_DYNAMIC}\nimport {module}", f"--module_import={module}")


def built(program: Callable[..., Any], make: Callable[..., Any]) -> Any:
    """What `make` gives for the arguments that gin binds for `program`, which is not called.

    Args:
      program: as gin files name it; its bindings have been checked.
      make: takes the same arguments.
    """

    def made(**arguments: Any) -> Any:
        return make(**arguments)

    made.__signature__ = inspect.signature(program)  # type: ignore[attr-defined]
    configurable = gin_state._inverse_lookup(program)
    wrapper = gin_state._make_gin_wrapper(
        made,
        program,
        configurable.name,
        configurable.selector,
        configurable.allowlist,
        configurable.denylist,
    )
    return wrapper()


def check(program: Callable[..., Any], example: str = "runs/pretrain.gin") -> None:
    """Verifies that everything `program` will be called with is bound, and to what it can take.

    Follows references and macros from the program's own bindings; what it cannot reach
    may stay unbound.

    Args:
      program: what will be called.
      example: a packaged file that configures it, for the error.

    Raises:
      UserError: the first missing macro or argument, with its purpose; or the first value of
        the wrong type.
    """
    configurable = gin_state._inverse_lookup(program)
    # A name that gin knows from an earlier configuration in this process has no bindings now.
    if configurable is None or all(key[1] != configurable.selector for key in gin_state._CONFIG):
        raise UserError(
            f"no gin file configures {program.__module__}.{program.__name__}: "
            f"add a file that does, such as --gin_file={example}."
        )
    _check_reachable(configurable, (), set())


def reached(program: Callable[..., Any]) -> dict[str, dict[str, Any]]:
    """What each bound argument of `program` is made of: binding or macro to value, unbuilt."""
    found: dict[str, dict[str, Any]] = {}
    for argument, value in _bindings_of(gin_state._inverse_lookup(program), ()).items():
        found[argument] = {f"{program.__name__}.{argument}": value}
        for reference in gin_state.iterate_references(value):
            _collect(reference.configurable, tuple(reference.scopes), found[argument])
    return found


def macro(name: str) -> Any:
    """The value of a macro, built.

    Raises:
      UserError: the macro, or something that its value needs, is not bound, or is of the wrong
        type.
    """
    bound = gin_state._CONFIG.get((name, "gin.macro"))
    if bound is None:
        raise _missing_macro(name)
    for reference in gin_state.iterate_references(bound["value"]):
        _check_reachable(reference.configurable, tuple(reference.scopes), set(), reference.evaluate)
    return copy.deepcopy(bound["value"])


def has_macro(name: str) -> bool:
    """Whether a macro of this name is bound."""
    return (name, "gin.macro") in gin_state._CONFIG


def operative_text() -> str:
    """The configuration that was used so far, as a gin file that reruns as it stands.

    gin records what a macro's value was built with under the macro's name as scope
    (`MODEL/t5.T5.dtype`). Where nothing contradicts it, the scope is taken off again, so that
    a later `--gin.t5.T5.dtype=...` is not overruled by the file.
    """
    macros = {scope for scope, selector in gin_state._CONFIG if selector == "gin.macro"}
    with gin_state._OPERATIVE_CONFIG_LOCK:
        operative = {key: dict(values) for key, values in gin_state._OPERATIVE_CONFIG.items()}
    for (scope, selector), values in list(operative.items()):
        outer = "/".join(part for part in scope.split("/") if part not in macros)
        plain = operative.get((outer, selector), {})
        agrees = all(plain.get(name, value) == value for name, value in values.items())
        if selector != "gin.macro" and outer != scope and agrees:
            operative[outer, selector] = {**plain, **values}
            del operative[scope, selector]
    return gin_state._config_str(operative)


def full_text() -> str:
    """All bindings, used or not, as a gin file."""
    return gin.config_str()


def import_lines() -> list[str]:
    """The import statements of all files parsed so far, as a gin file has them."""
    return list(dict.fromkeys(statement.format() for statement in _imports()))


@contextlib.contextmanager
def isolated() -> Iterator[None]:
    """Lets the body parse and build from other gin files, then restores the present ones."""
    config = dict(gin_state._CONFIG)
    operative = dict(gin_state._OPERATIVE_CONFIG)
    imports = set(gin_state._IMPORTS)
    prefixes = list(gin_state._LOCATION_PREFIXES)
    try:
        yield
    finally:
        gin.clear_config()
        gin_state._CONFIG.update(config)
        gin_state._OPERATIVE_CONFIG.update(operative)
        gin_state._IMPORTS.update(imports)
        gin_state._LOCATION_PREFIXES[:] = prefixes


class _AnyReference(config_parser.ParserDelegate):
    """Accepts every reference, as text: only the form of a value is in question."""

    def configurable_reference(self, scoped_configurable_name: str, evaluate: bool) -> str:
        """Any will do."""
        return f"@{scoped_configurable_name}{'()' if evaluate else ''}"

    def macro(self, macro_name: str) -> str:
        """Any will do."""
        return f"%{macro_name}"


def _bindings_in(file: Any) -> Iterator[tuple[str, Any, int]]:
    """Name, value and line of what a gin file itself binds."""
    for statement in config_parser.ConfigParser(file, _AnyReference()):
        if isinstance(statement, config_parser.BindingStatement):
            scope, selector, argument, value, location = statement
            name = "/".join(filter(None, [scope, selector]))
            yield ".".join(filter(None, [name, argument])), value, location.line_num


def literal(value: str) -> str:
    """A command line value as gin text.

    Python literals, references (`@f()`), macros (`%NAME`) and containers of these stay as
    they are; anything else becomes a quoted string.
    """
    try:
        ast.literal_eval(value)
        return value
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        pass
    if value[:1] in ("@", "%"):
        return value
    try:
        parser = config_parser.ConfigParser(value, _AnyReference())
        parser.parse_value()
        whole = parser.current_token.type in (tokenize.NEWLINE, tokenize.ENDMARKER)
    except (SyntaxError, tokenize.TokenError):
        whole = False
    return value if whole else repr(value)


def _parse_binding(name: str, value: str) -> None:
    """Parses `--gin.NAME=VALUE` in the sight of every import that the files made."""
    origin = f"--gin.{name}={value}"
    if not re.fullmatch(r"[A-Za-z_][\w./]*", name):
        raise UserError(f"{origin}: '{name}' is not a macro or a configurable's parameter.")
    line = f"{name} = {literal(value)}"
    by_name = {statement.bound_name(): statement for statement in _imports()}
    imports = [statement.format() for statement in by_name.values()]
    try:
        gin.parse_config("\n".join([_DYNAMIC, *imports, line]))
        return
    except (NameError, AttributeError):
        pass  # not reachable by an import's name; gin may know it by a shorter one
    except Exception as error:
        raise mistakes.explanation(error, origin, _Names()) from error
    _parse_text(line, origin)


def _parse_text(text: str, origin: str) -> None:
    with _explained(origin):
        gin.parse_config(text)


@contextlib.contextmanager
def _explained(origin: str) -> Iterator[None]:
    """Turns what gin, or a module that a file imports, raises into one line."""
    try:
        yield
    except (Exception, SystemExit) as error:
        raise mistakes.explanation(error, origin, _Names()) from error


def _imports() -> list[Any]:
    """The import statements of all files parsed so far, in a stable order."""
    found = [s for s in gin_state._IMPORTS if not s.module.startswith("__gin__")]
    return sorted(found, key=lambda statement: statement.format())


class _Names:
    """What gin knows at present."""

    def modules(self) -> Mapping[str, str]:
        """See `gin_mistakes.Names`."""
        return {statement.bound_name(): statement.module for statement in _imports()}

    def configurables(self) -> Iterable[str]:
        """See `gin_mistakes.Names`."""
        return [name for name, _ in gin_state._REGISTRY.items()]

    def parameters(self, selector: str) -> list[str]:
        """See `gin_mistakes.Names`."""
        registry = gin_state._REGISTRY
        for name in registry.matching_selectors(selector):
            return [name for name in _signature(registry[name]).parameters if name != "self"]
        return []


def _signature(configurable: Any) -> inspect.Signature:
    return inspect.signature(configurable.wrapped)


def _missing_macro(name: str, needed_by: str = "") -> UserError:
    known = [scope for scope, selector in gin_state._CONFIG if selector == "gin.macro"]
    return mistakes.missing_macro(name, needed_by, known)


def _check_reachable(
    configurable: Any, scopes: tuple[str, ...], seen: set[Any], called: bool = True
) -> None:
    """Walks what a call of `configurable` in `scopes` would evaluate.

    Not `called` means that the function itself is passed on: its caller may give the
    arguments that are not bound.
    """
    if (configurable.selector, scopes, called) in seen:
        return
    seen.add((configurable.selector, scopes, called))
    bound = _bindings_of(configurable, scopes)
    shown = "/".join([*scopes, configurable.selector])
    if called:
        _check_required(configurable, bound, shown)
    for parameter, value in bound.items():
        for reference in gin_state.iterate_references(value):
            inner = tuple(reference.scopes) or scopes
            name, selector = "/".join(inner), reference.configurable.selector
            if selector == "gin.macro" and (name, selector) not in gin_state._CONFIG:
                raise _missing_macro(name, f"{shown}.{parameter}")
            if selector == "gin.constant" and name == "gin.REQUIRED":
                if configurable.selector == "gin.macro":
                    raise _missing_macro("/".join(scopes))
                raise UserError(f"{shown}.{parameter} is required and not set.")
            _check_reachable(reference.configurable, inner, seen, reference.evaluate)
    if not configurable.selector.startswith("gin."):
        _check_types(configurable, bound, shown)


def _check_types(configurable: Any, bound: Mapping[str, Any], shown: str) -> None:
    """Raises for a value that its parameter cannot take."""
    parameters = _signature(configurable).parameters
    for name, value in bound.items():
        settled = _settled(value)
        if name not in parameters or binding_types.fits(settled, parameters[name].annotation):
            continue
        is_macro = _is_reference(value) and value.configurable.selector == "gin.macro"
        bound_name = "/".join(value.scopes) if is_macro else f"{shown}.{name}"
        taker = f"{shown}.{name}" if is_macro else "it"
        raise mistakes.wrong_type(bound_name, settled, taker, parameters[name].annotation)


def _is_reference(value: Any) -> bool:
    return isinstance(value, gin_state.ConfigurableReference)


def _settled(value: Any, within: tuple[str, ...] = ()) -> Any:
    """A bound value with macros replaced by theirs, and with what is yet to be built marked.

    Raises:
      UserError: a macro that stands for itself.
    """
    if isinstance(value, Mapping):
        return {key: _settled(item, within) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_settled(item, within) for item in value)
    if not _is_reference(value):
        return value
    selector, name = value.configurable.selector, "/".join(value.scopes)
    if selector == "gin.macro":
        if name in within:
            raise UserError(f"{name} stands for itself: {' = %'.join([*within, name])}.")
        return _settled(gin_state._CONFIG[name, selector]["value"], (*within, name))
    return binding_types.Reference(value.configurable.wrapped, value.evaluate)


def _bindings_of(configurable: Any, scopes: tuple[str, ...]) -> dict[str, Any]:
    """Parameter to value, as a call in these scopes would find them."""
    bound: dict[str, Any] = {}
    for depth in range(len(scopes) + 1):
        key = ("/".join(scopes[:depth]), configurable.selector)
        bound.update(gin_state._CONFIG.get(key, {}))
    return bound


def _collect(configurable: Any, scopes: tuple[str, ...], found: dict[str, Any]) -> None:
    for parameter, value in _bindings_of(configurable, scopes).items():
        is_macro = configurable.selector == "gin.macro"
        name = "/".join(scopes if is_macro else (*scopes, f"{configurable.selector}.{parameter}"))
        if name not in found:
            found[name] = value
            for reference in gin_state.iterate_references(value):
                _collect(reference.configurable, tuple(reference.scopes) or scopes, found)


def _check_required(configurable: Any, bound: dict[str, Any], shown: str) -> None:
    """Raises for an argument without default that no binding gives."""
    if configurable.selector.startswith("gin."):
        return
    for name, parameter in _signature(configurable).parameters.items():
        named = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        if named and parameter.default is parameter.empty and name not in bound:
            raise UserError(
                f"{shown}.{name} is required and not set: give --gin.{shown}.{name}=VALUE."
            )
