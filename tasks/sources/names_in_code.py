"""Statements of Python source as words, each name with a tag that says what it stands for."""

import ast
import builtins
import io
import token
import tokenize
import warnings
from collections.abc import Iterator, Mapping

KINDS = ("module", "class", "function", "parameter")
OTHER = "O"
# What stands for a string, whatever is in it: a word has no spaces.
_STRING = '""'
_SKIPPED = frozenset({token.INDENT, token.DEDENT, token.COMMENT, token.NL, token.ENCODING})
# From Python 3.12 on an f-string is several tokens; before, it is one string.
_BEGINS = getattr(token, "FSTRING_START", None)
_ENDS = getattr(token, "FSTRING_END", None)
_FEWEST_WORDS = 3
_Place = tuple[int, int]


def tagged_statements(source: str) -> Iterator[tuple[list[str], list[str]]]:
    """The words and tags of each statement of a module.

    Words are Python's tokens, a string `""`. Tags are in IOB2: `B-module` and `I-module` of a
    dotted name that is imported; `B-` and a kind of a name that stands for a module, a class or a
    function which the module imports or defines, or Python has built in; and of a parameter of the
    function that the statement is in, which comes before all other. A statement of a few words does
    not say which, so that the name itself and what stands around it must. Everything else is `O`.

    There are none of a module that this interpreter cannot parse, or that is not ASCII; statements
    of fewer than three words are left out.
    """
    if not source.isascii():  # columns of `ast` count bytes, those of `tokenize` characters
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about invalid escapes in the library
            tree = ast.parse(source)
        tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    except (SyntaxError, ValueError, RecursionError, tokenize.TokenError):
        return
    names = _Names(tree)
    words: list[str] = []
    places: list[_Place] = []
    inside = 0  # f-strings that the token is in
    for found in tokens:
        if found.type == _BEGINS:
            inside += 1
        if found.type == _ENDS:
            inside -= 1
            continue
        if inside > 1 or (inside and found.type != _BEGINS) or found.type in _SKIPPED:
            continue
        if found.type in (token.NEWLINE, token.ENDMARKER):
            if len(words) >= _FEWEST_WORDS:
                yield words, _tags(words, places, names.kinds)
            words, places = [], []
            continue
        words.append(_STRING if found.type in (token.STRING, _BEGINS) else found.string)
        places.append(found.start)


def _tags(words: list[str], places: list[_Place], kinds: Mapping[_Place, str]) -> list[str]:
    """A tag for each word of a statement."""
    tags = [OTHER] * len(words)
    for i, place in enumerate(places):
        if place in kinds:
            tags[i] = f"B-{kinds[place]}"
        elif i and words[i - 1] in ("def", "class"):
            tags[i] = "B-function" if words[i - 1] == "def" else "B-class"
    if words[0] in ("import", "from"):
        _tag_imports(words, tags)
    return tags


def _tag_imports(words: list[str], tags: list[str]) -> None:
    """Tags dotted names: all of `import`, and what stands between `from` and `import`."""
    end = words.index("import", 1) if words[0] == "from" else len(words)
    begins = True
    for i in range(1, end):
        if words[i] in (",", "as"):
            begins = True
        else:
            tags[i] = "B-module" if begins else "I-module"
            begins = False


class _Names(ast.NodeVisitor):
    """The kinds of the names of a module, by line and column."""

    def __init__(self, tree: ast.Module) -> None:
        self.kinds: dict[_Place, str] = {}
        self._known = _built_in()
        self._parameters: frozenset[str] = frozenset()
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                self._known[node.name] = "class"
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                self._known[node.name] = "function"
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    self._known[alias.asname or alias.name.partition(".")[0]] = "module"
        self.visit(tree)

    def visit_Name(self, node: ast.Name) -> None:
        kind = "parameter" if node.id in self._parameters else self._known.get(node.id)
        if kind is not None:
            self.kinds[node.lineno, node.col_offset] = kind

    def visit_arg(self, node: ast.arg) -> None:
        self.kinds[node.lineno, node.col_offset] = "parameter"
        self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._visit_function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._visit_function(node)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._visit_function(node)

    def _visit_function(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> None:
        outer = self._parameters
        # Decorators and default values are read outside of the function.
        for name, part in ast.iter_fields(node):
            if name == "body":
                self._parameters = outer | {one.arg for one in _parameters_of(node.args)}
            for one in part if isinstance(part, list) else [part]:
                if isinstance(one, ast.AST):
                    self.visit(one)
            self._parameters = outer


def _parameters_of(written: ast.arguments) -> list[ast.arg]:
    several = [one for one in (written.vararg, written.kwarg) if one is not None]
    return [*written.posonlyargs, *written.args, *written.kwonlyargs, *several]


def _built_in() -> dict[str, str]:
    return {
        name: "class" if isinstance(value, type) else "function"
        for name, value in vars(builtins).items()
        if callable(value) and not name.startswith("_")
    }
