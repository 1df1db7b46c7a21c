"""Filters by length, by pattern, and by a function of one's own."""

import dataclasses
import functools
import hashlib
import inspect
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

from tasks.dropped import drop
from tasks.errors import TaskError
from tasks.filters.fingerprints import described, without_gin


@dataclasses.dataclass(frozen=True)
class Length:
    """Drops documents that are too short or too long.

    Attributes:
      min_characters: fewest.
      max_characters: most; None for any number.
      min_words: fewest, as white space parts them.
      max_words: most; None for any number.
    """

    min_characters: int = 1
    max_characters: int | None = None
    min_words: int = 0
    max_words: int | None = None

    def __call__(self, text: str, reasons: Counter[str]) -> str | None:
        """The text as it is, or None."""
        words = len(text.split())
        if len(text) < self.min_characters or words < self.min_words:
            drop(reasons, "document: too short", text)
            return None
        sizes = ((len(text), self.max_characters), (words, self.max_words))
        if any(most is not None and size > most for size, most in sizes):
            drop(reasons, "document: too long", text)
            return None
        return text


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise TaskError(
            f"filters.Pattern.pattern {pattern!r} is no regular expression: {error}."
        ) from None


@dataclasses.dataclass(frozen=True)
class Pattern:
    """Drops documents, or lines of them, in which a regular expression is found.

    Attributes:
      pattern: of Python's `re`; `(?i)` in front ignores case.
      keeps: keeps those in which it is found instead.
      lines: looks at each line and cuts it out; what is left without lines is dropped.
      name: what the counts call it.
    """

    pattern: str
    keeps: bool = False
    lines: bool = False
    name: str = "pattern"

    def __post_init__(self) -> None:
        _compiled(self.pattern)

    def __call__(self, text: str, reasons: Counter[str]) -> str | None:
        """What is left of the text."""
        found = _compiled(self.pattern).search
        if not self.lines:
            if (found(text) is not None) == self.keeps:
                return text
            drop(reasons, f"document: {self.name}", text)
            return None
        kept = []
        for line in text.splitlines():
            if (found(line) is not None) == self.keeps:
                kept.append(line)
            else:
                drop(reasons, f"line: {self.name}", line)
        if kept:
            return "\n".join(kept)
        drop(reasons, "document: no line is left", text)
        return None


@dataclasses.dataclass(frozen=True)
class Function:
    """A function of one's own, `@my_module.my_filter` in gin.

    Attributes:
      function: of a text; returns it, changed or not, or None to drop it. True and False keep and
        drop it too.
      name: what the counts call it; the function's own by default.
    """

    function: Callable[[str], str | bool | None]
    name: str = ""

    def __post_init__(self) -> None:
        # It goes to other processes, which know nothing of gin.
        object.__setattr__(self, "function", without_gin(self.function))

    def __call__(self, text: str, reasons: Counter[str]) -> str | None:
        """What the function makes of the text.

        Raises:
          TaskError: the function returns something else than it may.
        """
        found = self.function(text)
        if found is True:
            return text
        if found is None or found is False:
            drop(reasons, f"document: {self._name}", text)
            return None
        if not isinstance(found, str):
            raise TaskError(
                f"filters.Function: {self._name} returned a {type(found).__name__}: a text, True, "
                "False or None is needed."
            )
        return found

    @property
    def _name(self) -> str:
        function: Any = self.function
        while isinstance(function, functools.partial):
            function = function.func
        return self.name or getattr(function, "__name__", type(function).__name__)

    def __repr__(self) -> str:
        """By the function's source and what it is given, so that a changed one is another filter.

        Raises:
          TaskError: see `described`.
        """
        shown = described(self.function)
        # Of a plain function, which is given nothing, the source says all.
        is_plain = inspect.isfunction(self.function) and len(shown) == 2
        text = shown[1] if is_plain else repr(shown)
        return f"Function({self._name}, {hashlib.sha256(text.encode()).hexdigest()})"
