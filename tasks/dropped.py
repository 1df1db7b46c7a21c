"""What filters leave out of a corpus: how much for which reason, with a few examples of each."""

from collections import Counter
from collections.abc import Mapping

EXAMPLES, CHARACTERS = 3, 400  # of each reason, and of an example


class Dropped(Counter[str]):
    """Counts by reason, `document: REASON` and `line: REASON`, and the first parts of each.

    Attributes:
      examples: by reason, the beginnings of the first `EXAMPLES` parts that were left out.
    """

    def __init__(self, counts: Mapping[str, int] | None = None) -> None:
        super().__init__(counts or {})
        self.examples: dict[str, list[str]] = {}

    def clear(self) -> None:
        """Forgets the counts and the examples."""
        super().clear()
        self.examples.clear()


def drop(reasons: Counter[str], reason: str, part: str) -> None:
    """Counts a document or a line that is left out, and keeps it where it is one of the first.

    Args:
      reasons: what is counted; examples are kept by a `Dropped` alone.
      reason: `document: REASON` or `line: REASON`.
      part: the document or the line.
    """
    reasons[reason] += 1
    if isinstance(reasons, Dropped):
        kept = reasons.examples.setdefault(reason, [])
        if len(kept) < EXAMPLES:
            kept.append(part[:CHARACTERS])
