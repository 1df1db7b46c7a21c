"""The text of a flag `--gin.NAME=TEXT` as a value: one literal, one reference, or text as it is.

Nothing in the text can become a statement: a value is parsed as a value, and is bound as one.
"""

import ast
import io
import json
import re
import shlex
import tokenize
from typing import Any

from gin import config_parser

from t5x_like.config import gin_internals
from t5x_like.config.mistakes import TOO_DEEP, shortened
from t5x_like.errors import UserError

_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\"}
_KINDS = (bool, int, float, str, bytes, list, tuple, dict, type(None))


def flag_value(name: str, text: str) -> Any:
    r"""What a flag binds.

    A Python literal is its value. A reference (`@f()`), a macro (`%NAME`) and a container of these
    are gin's. Anything else is text, whatever is in it; in text, `\n`, `\t`, `\r` and `\\` stand
    for a new line, a tab, a carriage return and a backslash, as they would in a gin file.

    Args:
      name: that is bound, for messages.
      text: as the command line has it. References are looked up among what gin has imported.

    Raises:
      UserError: the text begins like a reference and is none, or has another backslash.
      ValueError: brackets are nested too deeply.
    """
    try:
        found = _literal(text)
        if found is not None:
            return found[0]
        if is_gin_value(text) and _python(text) is None:
            return config_parser.ConfigParser(text, gin_internals.ParserDelegate()).parse_value()
    except (RecursionError, MemoryError):
        raise ValueError(TOO_DEEP) from None
    if text[:1] in ("@", "%"):
        kind = "a reference, such as @name()," if text[0] == "@" else "a macro, such as %NAME,"
        raise UserError(
            f"--gin.{name}={shortened(text)}: gin syntax error: begins like {kind} but is none; "
            f"as text it is {_quoted(name, text)}"
        )
    return _unescaped(name, text)


def is_gin_value(text: str) -> bool:
    """Whether a text is one value of gin's, and nothing after it."""
    try:
        tokens = [token.type for token in tokenize.generate_tokens(io.StringIO(text).readline)]
        if tokenize.COMMENT in tokens or tokens.count(tokenize.NEWLINE) > 1:
            return False
        parser = config_parser.ConfigParser(text, _AnyReference())
        parser.parse_value()
    except (SyntaxError, tokenize.TokenError, UnicodeError):
        return False
    return parser.current_token.type in (tokenize.NEWLINE, tokenize.ENDMARKER)


def _literal(text: str) -> tuple[Any] | None:
    """A Python literal that gin can hold and write, in a tuple; None for any other text."""
    found = _python(text)
    # Python passes over comments, gin over what it cannot write: sets, complex numbers, infinity.
    if found is None or not isinstance(found[0], _KINDS) or not gin_internals.is_literal(found[0]):
        return None
    commented = "#" in text and not is_gin_value(text)
    return None if commented else found


def _python(text: str) -> tuple[Any] | None:
    try:
        return (ast.literal_eval(text),)
    except (ValueError, SyntaxError):
        return None


def _unescaped(name: str, text: str) -> str:
    def character(found: re.Match[str]) -> str:
        if found[1] not in _ESCAPES:
            raise UserError(
                f"--gin.{name}={shortened(text)}: '{found[0]}' is no escape: text without quotes "
                "has \\n, \\t, \\r and \\\\; with the backslash as it stands it is "
                f"{_quoted(name, text)}"
            )
        return _ESCAPES[found[1]]

    return re.sub(r"\\(.?)", character, text)


def _quoted(name: str, text: str) -> str:
    """The flag that binds a text as it is, as a shell takes it."""
    return f"--gin.{name}={shlex.quote(json.dumps(text, ensure_ascii=False))}"


class _AnyReference(config_parser.ParserDelegate):
    """Accepts every reference, as text: only the form of a value is in question."""

    def configurable_reference(self, scoped_configurable_name: str, evaluate: bool) -> str:
        """Any will do."""
        return f"@{scoped_configurable_name}{'()' if evaluate else ''}"

    def macro(self, macro_name: str) -> str:
        """Any will do."""
        return f"%{macro_name}"
