"""C4's rules for pages of the web (Raffel et al. 2020, section 2.2), in each published version."""

import dataclasses
import re
from collections import Counter

from tasks.dropped import drop
from tasks.errors import TaskError
from tasks.filters.sentences import COUNTERS

_CITATIONS = re.compile(r"\[(?:\d*|edit|citation needed)\]")
_IPSUM = "lorem ipsum"
_POLICIES = (
    "terms of use",
    "privacy policy",
    "cookie policy",
    "uses cookies",
    "use of cookies",
    "use cookies",
)


@dataclasses.dataclass(frozen=True)
class _Version:
    min_words: int  # of a line
    min_sentences: int  # of a page
    ends: tuple[str, ...] = (".", "!", "?", '"')  # of a line
    ellipsis: bool = False  # whether `...` ends one too
    citations: bool = True  # whether `[1]` and the like are cut
    counts_citations: bool = False  # whether they are counted among a line's words
    policy: bool = True  # whether lines about cookies and terms are cut out
    max_word: int | None = 1000  # characters; a line with a longer one is cut out
    # Whether `lorem ipsum` and `{` drop a page wherever they stand, or only in lines that are
    # whole sentences.
    anywhere: bool = False


# The text of the paper changed between its versions, and the released code is another still.
_VERSIONS = {
    "tfds": _Version(5, 3),
    "jmlr": _Version(3, 5, ellipsis=True, citations=False, policy=False, max_word=None,
                     anywhere=True),
    "arxiv": _Version(5, 3, ellipsis=True, max_word=None, anywhere=True),
    "datatrove": _Version(3, 5, ends=(".", "!", "?", '"', "'"), counts_citations=True),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class C4:
    """Keeps lines that are sentences, and pages that have enough of them.

    The published versions disagree, and so each has a name:

    | `version` | words a line | sentences a page | a line ends in | else |
    |---|---|---|---|---|
    | `tfds` | 5 | 3 | `. ! ? "`, not `...` | as `c4/en` of TFDS 3.x was made |
    | `jmlr` | 3 | 5 | `. ! ? "` | no citations, no policies, no long words |
    | `arxiv` | 5 | 3 | `. ! ? "` | no long words |
    | `datatrove` | 3 | 5 | `. ! ? " '`, not `...` | citations count as words |

    Attributes:
      version: one of the above.
      min_words: of a line, instead of the version's.
      min_sentences: of a page, instead of the version's.
      sentences: what counts a line's sentences: `marks`, or `punkt`, with which C4 was made and
        which needs NLTK's tables of English.

    Raises:
      TaskError: no such version, or no such way to count.
    """

    version: str = "tfds"
    min_words: int | None = None
    min_sentences: int | None = None
    sentences: str = "marks"

    def __post_init__(self) -> None:
        if self.version not in _VERSIONS:
            raise TaskError(
                f"filters.C4.version is {self.version!r}: there are {', '.join(_VERSIONS)}."
            )
        if self.sentences not in COUNTERS:
            raise TaskError(
                f"filters.C4.sentences is {self.sentences!r}: there are {', '.join(COUNTERS)}."
            )

    def __call__(self, text: str, reasons: Counter[str]) -> str | None:
        """The lines that are kept, stripped; None where the page is dropped."""
        rules = _VERSIONS[self.version]
        if rules.anywhere and (reason := _placeholder(text)):
            drop(reasons, f"document: {reason}", text)
            return None
        kept, sentences = [], 0
        for line in text.splitlines():
            line, reason = self._line(line.strip(), rules)
            placeholder = None if reason or rules.anywhere else _placeholder(line)
            # A notice of JavaScript is cut out before it is asked for brackets.
            if placeholder == _IPSUM or (placeholder and "javascript" not in line.lower()):
                drop(reasons, f"document: {placeholder}", text)
                return None
            reason = reason or self._notice(line, rules)
            if reason:
                drop(reasons, f"line: {reason}", line)
                continue
            kept.append(line)
            sentences += COUNTERS[self.sentences](line)
        needed = rules.min_sentences if self.min_sentences is None else self.min_sentences
        if sentences < needed:
            drop(reasons, "document: too few sentences", text)
            return None
        return "\n".join(kept).strip()

    def _line(self, line: str, rules: _Version) -> tuple[str, str | None]:
        """The line without citations, and why it is no sentence; None where it may be one."""
        words = line.split()
        if rules.max_word is not None and any(len(word) > rules.max_word for word in words):
            return line, "a word that is too long"
        if rules.citations:
            line = _CITATIONS.sub("", line)
            words = words if rules.counts_citations else line.split()
        ends = line.endswith(rules.ends) and (rules.ellipsis or not line.endswith("..."))
        if not ends:
            return line, "no mark at its end"
        needed = rules.min_words if self.min_words is None else self.min_words
        return line, "too few words" if len(words) < needed else None

    def _notice(self, line: str, rules: _Version) -> str | None:
        lower = line.lower()
        if "javascript" in lower:
            return "javascript"
        if rules.policy and any(policy in lower for policy in _POLICIES):
            return "policy"
        return None


def _placeholder(text: str) -> str | None:
    """What shows that a text is no page of prose."""
    if _IPSUM in text.lower():
        return _IPSUM
    return "curly bracket" if "{" in text else None
