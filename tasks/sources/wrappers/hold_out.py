"""A validation and a test split for a source that has none."""

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence

from tasks.errors import TaskError
from tasks.sources import source as source_lib
from tasks.sources.wrappers.wrapper import Wrapper


@dataclasses.dataclass(frozen=True)
class HoldOut(Wrapper):
    """Takes validation rows (and test rows) from the `train` split of a source.

    A hash of the row's text decides, so that copies of a row are in the same split, and
    adding files moves no row to another split.

    Attributes:
      source: has a `train` split; its other splits are not used.
      validation: share of the rows, 0 to 1; 0 for no validation split.
      test: share of the rows; 0 for no test split.
      column: rows with the same text in it are in the same split, such as the questions about one
        article; None: the text of all columns decides.
    """

    source: source_lib.Source
    validation: float = 0.01
    test: float = 0.0
    column: str | None = None

    def __post_init__(self) -> None:
        columns = self.source.columns
        if self.column is not None and columns and self.column not in columns:
            raise TaskError(
                f"HoldOut.column is '{self.column}': its source has {', '.join(columns)}."
            )
        if self.validation < 0 or self.test < 0 or not self.validation + self.test < 1:
            raise TaskError(
                f"HoldOut takes validation={self.validation} (HELD_OUT) and test={self.test}: "
                "shares of 0 or more that leave something to train on are needed."
            )

    @property
    def splits(self) -> tuple[str, ...]:
        """`train`, and those of `validation` and `test` that have a share."""
        shares = {"validation": self.validation, "test": self.test}
        return ("train", *(name for name, share in shares.items() if share))

    @property
    def only_trains(self) -> bool:
        """Whether nothing is held out, so that there is nothing to measure during training."""
        return not self.validation + self.test

    def shards(self, split: str) -> Sequence[str]:
        """The shards of the source's `train`, for every split."""
        source_lib.check_split(self, split)
        return self.source.shards("train")

    def check_files(self, splits: Sequence[str] | None = None) -> None:
        """Those of the source's `train`, which all splits are taken from."""
        for split in self.splits if splits is None else splits:
            source_lib.check_split(self, split)
        source_lib.check_files(self.source, ["train"])

    def rows(self, split: str, shards: Sequence[str] | None = None) -> Iterator[source_lib.Row]:
        """The rows that the hash assigns to this split."""
        source_lib.check_split(self, split)
        for row in self.source.rows("train", shards):
            if self._split_of(row) == split:
                yield row

    def _split_of(self, row: source_lib.Row) -> str:
        deciding = self.columns if self.column is None else (self.column,)
        text = "\0".join(str(row[column]) for column in deciding)
        place = unit_hash(text)
        if place < self.validation:
            return "validation"
        return "test" if place < self.validation + self.test else "train"

    def why_empty(self, split: str) -> str:
        """What to change where a split has no rows."""
        if split == "train":
            return "HoldOut left nothing to train on: lower HELD_OUT, or give it more text"
        return (
            f"HoldOut takes {getattr(self, split):.2%} of the rows for it, and of so few it took "
            "none: raise HELD_OUT (0.2 takes a fifth), set it to 0 for no validation, or give it "
            "more text (SEPARATOR divides a file into more rows)"
        )

    def fingerprint(self) -> str:
        """Hex digest of the source's fingerprint and the shares."""
        settings = f"{self.source.fingerprint()} {self.validation} {self.test}"
        if self.column is not None:
            settings = f"{settings} {self.column}"
        return hashlib.sha256(settings.encode()).hexdigest()


def unit_hash(text: str) -> float:
    """A hash of a text as a number in [0, 1)."""
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
