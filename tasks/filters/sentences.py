"""How many sentences a text has."""

import re
from collections.abc import Callable

from tasks.errors import TaskError

_END = re.compile(r"[.!?]+[\"'”’)\]]*(?=\s|$)")
# Before a dot that ends no sentence; compared in lower case.
_ABBREVIATIONS = frozenset(
    ["mr", "mrs", "ms", "dr", "prof", "sr", "jr", "st", "vs", "etc", "e.g", "i.e", "cf", "fig",
     "no", "vol", "pp", "al", "inc", "ltd", "co", "corp", "u.s", "u.k"]
)  # fmt: skip


def by_marks(text: str) -> int:
    """Sentences that end in `.`, `!` or `?` before white space, and what is left behind the last.

    A dot after an initial or a common abbreviation of English ends none.
    """
    count, end = 0, 0
    for match in _END.finditer(text):
        if match[0] == "." and _is_abbreviation(text[end : match.start()]):
            continue
        count, end = count + 1, match.end()
    return count + bool(text[end:].strip())


def _is_abbreviation(before: str) -> bool:
    words = before.split()
    last = words[-1].lstrip("\"'“‘([").lower() if words else ""
    return last in _ABBREVIATIONS or (len(last) == 1 and last.isalpha() and last != "i")


def punkt(text: str) -> int:
    """Sentences by NLTK's Punkt; needs its tables of English on this machine.

    Raises:
      TaskError: the tables are missing.
    """
    from nltk.tokenize import sent_tokenize

    try:
        return len(sent_tokenize(text))
    except LookupError:
        raise TaskError(
            "NLTK's tables 'punkt_tab' are not on this machine: install them (python -m "
            "nltk.downloader punkt_tab), or count sentences by 'marks'."
        ) from None


COUNTERS: dict[str, Callable[[str], int]] = {"marks": by_marks, "punkt": punkt}
