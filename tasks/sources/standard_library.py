"""The source code of the running interpreter's standard library, as a corpus.

Every machine has it without a download: 1,790 modules and 31.5 MB with the test packages on
CPython 3.11.7, 12.6 MB without them.
"""

import ast
import dataclasses
import functools
import hashlib
import inspect
import json
import os
import re
import sysconfig
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from tasks.errors import SourceUnavailable, TaskError
from tasks.sources import source as source_lib
from tasks.sources.names_in_code import tagged_statements
from tasks.sources.wrappers.hold_out import unit_hash

_SPLITS = ("train", "validation", "test")
_NOT_THE_LIBRARY = frozenset({"__pycache__", "site-packages", "dist-packages"})
_TEST_PACKAGES = frozenset({"test", "tests", "idle_test"})
# The first sentence of a docstring: up to a full stop that white space follows.
_SENTENCE = re.compile(r"(.+?[.!?])(?:\s|$)")
# Shards that a cache can be written from in parallel.
_SHARDS = 16


@dataclasses.dataclass(frozen=True)
class _StandardLibrary:
    """The modules, split by a hash of their path: 90% train, 5% validation, 5% test.

    Attributes:
      tests: whether to include the test packages, where they are installed.
    """

    tests: bool = True

    columns: ClassVar[tuple[str, ...]]
    splits: ClassVar[tuple[str, ...]] = _SPLITS
    is_local: ClassVar[bool] = True

    def shards(self, split: str) -> Sequence[str]:
        """Sixteen shards, each of every sixteenth module."""
        source_lib.check_split(self, split)
        return [f"{split}-{i:02d}" for i in range(_SHARDS)]

    def modules(self, split: str, shards: Sequence[str] | None = None) -> Iterator[tuple[str, str]]:
        """The path in the library and the source of each module that is UTF-8 and not empty."""
        names = self.shards(split) if shards is None else shards
        modules = [path for path in _modules(self.tests) if _split_of(path) == split]
        root = _root()
        for name in names:
            for path in modules[int(name.rpartition("-")[2]) :: _SHARDS]:
                try:
                    source = (root / path).read_text(encoding="utf-8")
                except UnicodeDecodeError:
                    continue  # the test packages have files that are broken on purpose
                if source.strip():
                    yield path, source

    def rows(self, split: str, shards: Sequence[str] | None = None) -> Iterator[source_lib.Row]:
        """The rows of the modules; see `source.Source`."""
        raise NotImplementedError

    def fingerprint(self) -> str:
        """Hex digest of the settings and of the modules' paths and contents."""
        digest = hashlib.sha256(repr(self).encode())
        root = _root()
        for path in _modules(self.tests):
            digest.update(path.encode() + b"\0")
            digest.update((root / path).read_bytes())
        return digest.hexdigest()

    def seqio(self) -> Any:
        """The same rows as a `seqio.DataSource`."""
        return source_lib.seqio_source(self)


@dataclasses.dataclass(frozen=True)
class StandardLibraryModules(_StandardLibrary):
    """Every module as a document, with the columns `path` and `text`."""

    columns: ClassVar[tuple[str, ...]] = ("path", "text")

    def rows(self, split: str, shards: Sequence[str] | None = None) -> Iterator[source_lib.Row]:
        """One row per module."""
        for path, source in self.modules(split, shards):
            yield {"path": path, "text": source}


@dataclasses.dataclass(frozen=True)
class StandardLibraryFunctions(_StandardLibrary):
    """Every documented function, with the columns `path`, `name`, `source` and `summary`.

    `source` is the function without its docstring, `summary` the docstring's first
    sentence. Functions that are nothing but a docstring are left out.
    """

    columns: ClassVar[tuple[str, ...]] = ("path", "name", "source", "summary")

    def rows(self, split: str, shards: Sequence[str] | None = None) -> Iterator[source_lib.Row]:
        """One row per documented function, in the order of the source."""
        for path, source in self.modules(split, shards):
            for name, code, summary in documented_functions(source):
                yield {"path": path, "name": name, "source": code, "summary": summary}


@dataclasses.dataclass(frozen=True)
class StandardLibraryNames(_StandardLibrary):
    """Every statement, with the columns `words` and `tags`, lists as JSON.

    The tags say which names are those of modules, classes, functions and parameters; see
    `names_in_code.tagged_statements`.

    Attributes:
      begin: of the modules of `train` those are read whose hash, 0 to 1, is at least this,
      end: and below this, so that two sources may share the modules.
    """

    begin: float = 0.0
    end: float = 1.0

    columns: ClassVar[tuple[str, ...]] = ("words", "tags")

    def __post_init__(self) -> None:
        if not 0 <= self.begin < self.end <= 1:
            raise TaskError(
                f"StandardLibraryNames takes begin={self.begin} and end={self.end}: shares of the "
                "modules, 0 to 1, the first below the second, are needed."
            )

    def rows(self, split: str, shards: Sequence[str] | None = None) -> Iterator[source_lib.Row]:
        """One row per statement of three words or more, in the order of the source."""
        for path, source in self.modules(split, shards):
            # Apart from the hash that divides the splits, of which it would be a part.
            if split == "train" and not self.begin <= unit_hash(f"names {path}") < self.end:
                continue
            for words, tags in tagged_statements(source):
                yield {"words": json.dumps(words), "tags": json.dumps(tags)}


def documented_functions(source: str) -> Iterator[tuple[str, str, str]]:
    """Each function's name, source without docstring, and first sentence of the docstring.

    There are none in a module that this interpreter cannot parse.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about invalid escapes in the library
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return
    lines = source.split("\n")  # `splitlines` also cuts at form feeds, which ast does not
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or len(node.body) < 2:
            continue
        docstring, statement = ast.get_docstring(node), node.body[0]
        summary = first_sentence(docstring or "")
        if not summary or statement.lineno == node.lineno or node.end_lineno is None:
            continue
        first = min([node.lineno, *(d.lineno for d in node.decorator_list)]) - 1
        kept = lines[first : statement.lineno - 1] + lines[statement.end_lineno : node.end_lineno]
        yield node.name, textwrap.dedent("\n".join(kept)).rstrip(), summary


def first_sentence(docstring: str) -> str:
    """The first sentence of the first paragraph, on one line."""
    paragraph = " ".join(inspect.cleandoc(docstring).partition("\n\n")[0].split())
    match = _SENTENCE.match(paragraph)
    return match.group(1) if match else paragraph


def _root() -> Path:
    root = Path(sysconfig.get_paths()["stdlib"])
    if not (root / "os.py").is_file():
        raise SourceUnavailable(f"the standard library's source is not at '{root}'.")
    return root


@functools.lru_cache
def _modules(tests: bool) -> tuple[str, ...]:
    skipped = _NOT_THE_LIBRARY | (frozenset() if tests else _TEST_PACKAGES)
    root = _root()
    found: list[str] = []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in skipped]
        below = Path(folder).relative_to(root)
        found.extend((below / name).as_posix() for name in names if name.endswith(".py"))
    return tuple(sorted(found))


def _split_of(path: str) -> str:
    place = unit_hash(path)
    return "train" if place < 0.9 else "validation" if place < 0.95 else "test"
