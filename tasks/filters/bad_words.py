"""Pages with words of a list."""

import codecs
import dataclasses
import functools
import hashlib
import re
from collections import Counter

from tasks.dropped import drop
from tasks.errors import TaskError
from tasks.sources.reading import unavailable


@functools.cache
def _read(path: str) -> tuple[re.Pattern[str], str]:
    """What finds any of a file's words, and the checksum of the file."""
    from etils import epath

    try:
        data = epath.Path(path).expanduser().read_bytes().removeprefix(codecs.BOM_UTF8)
        words = [word.strip().lower() for word in data.decode().splitlines()]
    except OSError as error:
        raise unavailable(path, error) from None
    except UnicodeDecodeError:
        raise TaskError(f"file '{path}' of filters.BadWords is not UTF-8.") from None
    words = [re.escape(word) for word in words if word]
    if not words:
        raise TaskError(f"file '{path}' of filters.BadWords has no word: one a line is needed.")
    found = re.compile(rf"(?:\W|^)(?:{'|'.join(words)})(?:\W|$)")
    return found, hashlib.sha256(data).hexdigest()


@dataclasses.dataclass(frozen=True)
class BadWords:
    """Drops documents that have a word of a list, in any case, between what is no letter or digit.

    C4 took "List of Dirty, Naughty, Obscene or Otherwise Bad Words", which is not packaged.

    Attributes:
      file: a word or phrase a line.
    """

    file: str

    @property
    def files(self) -> tuple[str, ...]:
        """What is read."""
        return (self.file,)

    def __call__(self, text: str, reasons: Counter[str]) -> str | None:
        """The text as it is; None where it has such a word.

        Raises:
          TaskError: the file is missing, empty or not UTF-8.
        """
        if _read(self.file)[0].search(text.lower()) is None:
            return text
        drop(reasons, "document: a bad word", text)
        return None

    def __repr__(self) -> str:
        """By what stands in the file, so that a changed one is another filter."""
        return f"BadWords(sha256={_read(self.file)[1]})"
