"""Gin files and flags in, gin's configuration out.

gin is used with dynamic registration: a file imports the Python it configures, and no
function carries a decorator. Statements are read one by one here, not by `gin.parse_config`, since
each place must be known: for `--dry_run`, which shows it; for `defaults.gin` files; and for
bindings on base classes. What is added to gin:

* files are found by their short names (`runs/pretrain.gin`) wherever the program starts;
* what a file called `defaults.gin` binds holds only where nothing else binds it, wherever the file
  is included;
* a binding on a base class holds for derived classes;
* a mistake is one line with its place, and an unknown name is answered with the nearest.
"""

import contextlib
import inspect
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import gin
from gin import config_parser

from t5x_like.config import gin_internals, mistakes, provenance
from t5x_like.config.flag_values import flag_value
from t5x_like.config.gin_files import GinText, find_gin_file, is_packaged, shown_name
from t5x_like.config.inherited_bindings import inherited
from t5x_like.config.provenance import Place
from t5x_like.errors import UserError, on_one_line

DEFAULTS_NAME = "defaults.gin"
_RECORDS = ("config.gin", "cell.gin")  # which a run, and a sweep, have written
_DEFAULT, _ORDINARY = 0, 1  # the first part of a rank
_MODULE = r"[^\W\d]\w*(\.[^\W\d]\w*)*"
# A macro or a parameter, in scopes or not.
_BINDABLE = rf"([A-Za-z_]\w*/)*{_MODULE}"


def parse(
    gin_files: Sequence[str | GinText],
    bindings: Sequence[tuple[str, str]] = (),
    search_paths: Sequence[str] = (),
    module_imports: Sequence[str] = (),
) -> None:
    """Replaces the current configuration by these files and bindings; the later ones win.

    A binding on a base class holds for the classes derived from it, unless a later one is on
    the class itself. What a file called `defaults.gin` binds yields to every other file.

    Args:
      gin_files: names for `find_gin_file`, or texts, in order.
      bindings: `(name, value)` pairs as on the command line, `("TRAIN_STEPS", "20")`.
      search_paths: more directories to look for files (and their includes) in.
      module_imports: Python modules to import first (they register tasks, say); kept
        in the saved configuration.

    Raises:
      UserError: anything wrong with a file or binding: what, and the file and line.
    """
    gin.clear_config()
    provenance.clear()
    reader = _Reader(search_paths)
    import_modules(module_imports)
    for file in gin_files:
        if isinstance(file, GinText):
            reader.text(file)
        else:
            reader.file(file)
    reader.flags(bindings)
    _bind_derived_classes()


def import_modules(modules: Iterable[str]) -> None:
    """Imports Python modules, and keeps that they were in the saved configuration.

    Raises:
      UserError: a module cannot be imported.
    """
    reader = _Reader(())
    for name in modules:
        reader.module(name)


@contextlib.contextmanager
def isolated() -> Iterator[None]:
    """Lets the body parse and build from other gin files, then restores the present ones."""
    saved = {key: dict(values) for key, values in gin_internals.CONFIG.items()}
    operative = dict(gin_internals.OPERATIVE_CONFIG)
    imports = set(gin_internals.IMPORTS)
    try:
        with provenance.isolated():
            yield
    finally:
        gin.clear_config()
        gin_internals.CONFIG.update(saved)
        gin_internals.OPERATIVE_CONFIG.update(operative)
        gin_internals.IMPORTS.update(imports)


class _Reader:
    """Reads files and flags into gin's configuration, noting each binding's place."""

    def __init__(self, search_paths: Sequence[str]) -> None:
        self._search_paths = search_paths
        self._stretch = 0  # of a file between two includes; counts up through all files
        self._open: list[str] = []  # the file being read and those that include it

    def module(self, name: str) -> None:
        """Imports a module for `--module_import`."""
        place = on_one_line(f"--module_import={name}")
        if not re.fullmatch(_MODULE, name):
            raise UserError(f"{place}: that is not a module's name.")
        self._statements(io.StringIO(f"import {name}"), place, _ORDINARY)

    def file(self, name: str, strength: int = _ORDINARY) -> None:
        """Reads a file and, where they stand, the files that it includes."""
        path = find_gin_file(name, self._search_paths)
        shown = on_one_line(shown_name(path))
        if shown in self._open:
            circle = " includes ".join([*self._open[self._open.index(shown) :], shown])
            raise UserError(f"gin files include each other in a circle: {circle}.")
        if Path(name).name == DEFAULTS_NAME:
            strength = _DEFAULT
        with _explained(shown):
            text = path.read_text("utf-8")
        self.text(GinText(shown, text), strength, is_packaged(path) or path.name in _RECORDS)

    def text(self, file: GinText, strength: int = _ORDINARY, general: bool = False) -> None:
        """Reads a file's text."""
        self._open.append(file.name)
        stream = io.StringIO(file.text)
        stream.name = file.name  # type: ignore[attr-defined]  # for the parser's messages
        self._statements(stream, file.name, strength, general)
        self._open.pop()

    def flags(self, bindings: Sequence[tuple[str, str]]) -> None:
        """Reads `--gin.NAME=VALUE` flags; they may use every import of the files."""
        self._stretch += 1
        for name, value in bindings:
            origin = f"--gin.{mistakes.shortened(f'{name}={value}')}"
            if not re.fullmatch(_BINDABLE, name):
                raise UserError(f"{origin}: {name!r} is not a macro or a configurable's parameter.")
            place = Place(f"--gin.{name}", None, (_ORDINARY, self._stretch))
            imports = {**_base_class_imports(name), **_by_name()}.values()
            try:
                self._flag(name, value, place, [gin_internals.DYNAMIC_REGISTRATION, *imports])
            except (NameError, AttributeError):
                # Not reachable by an import's name; gin may know it by a shorter one.
                with _explained(origin):
                    self._flag(name, value, place, [])
            except UserError:
                raise
            except Exception as error:
                raise mistakes.explanation(error, origin, _Names(_by_name)) from error

    def _flag(self, name: str, value: str, place: Place, imports: Iterable[Any]) -> None:
        with gin_internals.parse_scope() as scope:
            for statement in imports:
                scope.process_import(statement)
            key = config_parser.parse_binding_key(name)
            bound = flag_value(name, value)
            self._bind(config_parser.BindingStatement(*key, bound, None), place)
            gin_internals.IMPORTS.update(scope.imports)

    def _statements(self, text: Any, shown: str, strength: int, general: bool = False) -> None:
        """Reads a file, or the text of `--module_import`, statement by statement."""
        self._stretch += 1
        bound: dict[Any, tuple[Any, int]] = {}
        with gin_internals.parse_scope() as scope:
            if shown.startswith("--"):
                scope.process_import(gin_internals.DYNAMIC_REGISTRATION)
            known = _Names(lambda: {**_by_name(), **{s.bound_name(): s for s in scope.imports}})
            with _explained(shown, known):
                parser = config_parser.ConfigParser(text, gin_internals.ParserDelegate())
            while True:
                with _explained(shown, known):
                    statement = parser.parse_statement()
                if statement is None:
                    break
                line = statement.location.line_num
                place = shown if shown.startswith("--") else f"{shown}:{line}"
                if isinstance(statement, config_parser.IncludeStatement):
                    self._include(statement.filename, place, strength)
                elif isinstance(statement, config_parser.ImportStatement):
                    with _explained(place, known, importing=statement.module):
                        scope.process_import(statement)
                elif isinstance(statement, config_parser.BlockDeclaration):
                    with _explained(place, known):
                        gin_internals.check_no_module(statement.selector)
                        if not scope.get_configurable(statement.selector):
                            raise ValueError(f"No configurable matching '{statement.selector}'")
                else:
                    with _explained(place, known):
                        rank = strength, self._stretch
                        name = self._bind(statement, Place(shown, line, rank, general=general))
                    first, first_at = bound.setdefault(name, (statement.value, line))
                    written = _written_name(statement)
                    mistakes.check_contradiction(place, written, statement.value, first, first_at)
            gin_internals.IMPORTS.update(scope.imports)

    def _include(self, name: str, place: str, strength: int) -> None:
        try:
            find_gin_file(name, self._search_paths)
        except UserError as error:
            raise UserError(f"{place}: {error}") from error
        self.file(name, strength)
        self._stretch += 1  # what follows in the including file is later than the included one

    def _bind(self, statement: Any, place: Place) -> tuple[Any, ...]:
        """Binds what a statement says, unless what holds is stronger; the bound name."""
        scope, selector, parameter, value, _ = statement
        if not parameter:
            name = "/".join(filter(None, [scope, selector]))
            scope, selector, parameter = name, gin_internals.MACRO, "value"
        gin_internals.check_no_module(selector)
        mistakes.check_value(value)
        key = gin_internals.ParsedBindingKey.parse((scope, selector, parameter))
        if provenance.add(key.config_key, parameter, place):
            gin_internals.CONFIG.setdefault(key.config_key, {})[parameter] = value
        return key.config_key, parameter


def _written_name(statement: Any) -> str:
    name = "/".join(filter(None, [statement.scope, statement.selector]))
    return ".".join(filter(None, [name, statement.arg_name]))


def _base_class_imports(name: str) -> dict[str, Any]:
    """The import that lets a flag bind a base class of a class that is configured.

    A file that configures `llama.LLaMA` does not import the module of its base class.
    """
    config, registry = gin_internals.CONFIG, gin_internals.REGISTRY
    wanted = name.rpartition("/")[2].rpartition(".")[0]
    used = [registry[selector].wrapped for _, selector in config]
    used += [item.configurable.wrapped for item in gin_internals.iterate_references(config)]
    for cls in filter(inspect.isclass, used):
        for base in cls.__mro__:
            package, _, module = base.__module__.rpartition(".")
            if package and wanted == f"{module}.{base.__qualname__}":
                return {module: gin_internals.from_import(base.__module__)}
    return {}


def _bind_derived_classes() -> None:
    wrapped = {name: item.wrapped for name, item in gin_internals.REGISTRY.items()}
    classes = {name: found for name, found in wrapped.items() if inspect.isclass(found)}
    config = gin_internals.CONFIG
    for key, taken in inherited(config, classes, provenance.rank).items():
        for parameter, base in taken.items():
            provenance.take_over(key, base, parameter)
            config.setdefault(key, {})[parameter] = config[base][parameter]


@contextlib.contextmanager
def _explained(place: str, names: "_Names | None" = None, importing: str = "") -> Iterator[None]:
    """Turns what gin, or a module that a file imports, raises into one line.

    Args:
      place: file, file and line, or flag.
      names: what is known there; what all files so far have imported when None.
      importing: the module that is imported there, whose own errors are told as such.
    """
    try:
        yield
    except (Exception, SystemExit) as error:
        if isinstance(error, UserError) and not importing:
            raise
        known = _Names(_by_name) if names is None else names
        raise mistakes.explanation(error, place, known, importing) from error


def _by_name() -> dict[str, Any]:
    """Bound name to import statement; of two with one name, the last in the stable order."""
    return {statement.bound_name(): statement for statement in gin_internals.imports()}


class _Names:
    """What can be named at one place of a file; see `mistakes.Names`."""

    def __init__(self, imports: Callable[[], Mapping[str, Any]]) -> None:
        self._imports = imports

    def modules(self) -> Mapping[str, str]:
        """Bound name to module, of the imports."""
        return {name: statement.module for name, statement in self._imports().items()}

    def configurables(self) -> Iterable[str]:
        """Everything that was registered in this process."""
        return [name for name, _ in gin_internals.REGISTRY.items()]

    def parameters(self, selector: str) -> list[str]:
        """The parameters of the first that the selector matches."""
        registry = gin_internals.REGISTRY
        for name in registry.matching_selectors(selector):
            found = inspect.signature(registry[name].wrapped).parameters
            return [parameter for parameter in found if parameter != "self"]
        return []
