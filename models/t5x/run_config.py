"""What the `config.gin` of a run of T5X says, read without gin.

T5X writes there every binding of its run, most of them as macros: `DROPOUT_RATE = 0.1` and
`network.T5Config.dropout_rate = %DROPOUT_RATE`.
"""

import ast
import io
import tokenize
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from models.errors import ModelError

CONFIG = "config.gin"
_LAYOUT = (tokenize.COMMENT, tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)


class RunConfig:
    """The bindings of a `config.gin`.

    Args:
      path: the file; None where there is none, which binds nothing.

    Raises:
      ModelError: it cannot be read as gin.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._bindings: Mapping[str, str] = {}
        if path is None:
            return
        try:
            self._bindings = dict(_bindings(path.read_text("utf-8", errors="replace")))
        except OSError as error:
            raise ModelError(f"{path}: {error.strerror}.") from None
        except (tokenize.TokenError, SyntaxError) as error:
            raise ModelError(f"{path} cannot be read as gin: {error.args[0]}.") from None

    @classmethod
    def beside(cls, directory: Path) -> "RunConfig":
        """That of a checkpoint, or of the run that it is one of.

        Args:
          directory: the checkpoint's.

        Raises:
          ModelError: see the class.
        """
        places = (directory / CONFIG, directory.resolve().parent / CONFIG)
        return cls(next((place for place in places if place.is_file()), None))

    def value(self, parameter: str, owner: str = "") -> Any:
        """The value of a parameter, or None where nothing binds it.

        Args:
          parameter: its name.
          owner: how the name of its class or function ends.

        Raises:
          ModelError: it is no literal, or has several values.
        """
        found = {
            name: self._literal(name)
            for name in self._bindings
            if name.rpartition(".")[2] == parameter
            and name.rpartition(".")[0].endswith(owner)
            and "." in name
        }
        if len(set(map(repr, found.values()))) > 1:
            raise ModelError(f"{self.path} binds {' and '.join(sorted(found))} to several values.")
        return next(iter(found.values()), None)

    def _literal(self, name: str) -> Any:
        text, followed = self._bindings[name], {name}
        while text.startswith("%") and text[1:] in self._bindings.keys() - followed:
            followed.add(text[1:])
            text = self._bindings[text[1:]]
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            raise ModelError(
                f"{self.path}: {name} is {text[:60]}, and a value is needed: write there what it "
                "was."
            ) from None


def _bindings(text: str) -> Iterator[tuple[str, str]]:
    """The full name and the value of each binding, in order."""
    block = ""
    for line in _lines(text):
        words = [token.string for token in line]
        if words[0] == "include":
            raise SyntaxError(f"it includes {''.join(words[1:])}, which is not read")
        if words[-1] == ":":
            block = "".join(words[:-1])
        elif "=" in words:
            end = words.index("=")
            name = "".join(words[:end])
            inside = line[0].start[1] > 0
            # A reference is one word, and of a literal spaces do not matter.
            apart = "" if words[end + 1 : end + 2] in (["%"], ["@"]) else " "
            yield (f"{block}.{name}" if inside else name), apart.join(words[end + 1 :])


def _lines(text: str) -> Iterator[list[tokenize.TokenInfo]]:
    """The words of each statement, wherever its lines end."""
    line: list[tokenize.TokenInfo] = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.NEWLINE:
            if line:
                yield line
            line = []
        elif token.type not in _LAYOUT:
            line.append(token)
