"""A source without the documents that `t5x-like dedup` has found to be duplicates."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence

from etils import epath

from tasks.dropped import Dropped, drop
from tasks.errors import TaskError
from tasks.sources import source as source_lib
from tasks.sources.values import as_text
from tasks.sources.wrappers.wrapper import Wrapper, in_texts


@dataclasses.dataclass(frozen=True)
class Deduplicated(Wrapper):
    """The rows of a source that a list of duplicates does not name, in its own shards.

    The list may name lines of rows instead, which are cut out; a row without any other is dropped.

    Attributes:
      source: whose rows these are.
      duplicates: the list, a file of `t5x-like dedup`.
      column: of the text whose lines are cut out.
      dropped: counts, since this object was made, the rows that were left out.
    """

    source: source_lib.Source
    duplicates: str
    column: str = "text"
    dropped: Dropped = dataclasses.field(
        default_factory=Dropped, init=False, repr=False, compare=False
    )

    def shards(self, split: str) -> Sequence[str]:
        """The source's."""
        return self.source.shards(split)

    def check_files(self, splits: Sequence[str] | None = None) -> None:
        """The source's, all of which the list is of, and the list.

        Raises:
          TaskError: there is no list.
        """
        source_lib.check_files(self.source)
        try:
            with epath.Path(self.duplicates).expanduser().open("rb"):
                pass
        except OSError as error:
            raise self._unread(error) from None

    def rows(self, split: str, shards: Sequence[str] | None = None) -> Iterator[source_lib.Row]:
        """The rows that are not on the list.

        Raises:
          TaskError: there is no list, it is another source's, or it was cut.
        """
        listed = self._list
        names = list(self.source.shards(split))
        for shard in names if shards is None else shards:
            left_out = listed.left_out.get((split, names.index(shard)), frozenset())
            rows = self.source.rows(split, [shard])
            yield from (self._with_lines if listed.of_lines else self._whole)(rows, left_out)

    def _whole(
        self, rows: Iterator[source_lib.Row], left_out: frozenset[int]
    ) -> Iterator[source_lib.Row]:
        for place, row in enumerate(rows):
            if place in left_out:
                drop(self.dropped, "document: duplicate", "\n".join(in_texts(row).values()))
            else:
                yield row

    def _with_lines(
        self, rows: Iterator[source_lib.Row], left_out: frozenset[int]
    ) -> Iterator[source_lib.Row]:
        begin = 0
        for row in rows:
            text = as_text(row[self.column])
            lines = text.splitlines()
            kept = []
            for place, line in enumerate(lines, begin):
                if place in left_out:
                    drop(self.dropped, "line: duplicate", line)
                else:
                    kept.append(line)
            begin += len(lines)
            if len(kept) == len(lines):
                yield row
            elif any(line.strip() for line in kept):
                yield {**row, self.column: "\n".join(kept)}
            else:
                drop(self.dropped, "document: no line is left", text)

    def why_empty(self, split: str) -> str:
        """What to change where a split has no rows."""
        inner = getattr(self.source, "why_empty", None)
        return inner(split) if inner else f"all there is is on the list '{self.duplicates}'"

    def fingerprint(self) -> str:
        """Hex digest of the source's fingerprint and the list, wherever the list is.

        Raises:
          TaskError: there is no list, it is another source's, or it was cut.
        """
        settings = f"{self.source.fingerprint()} {self._list.digest}"
        if self._list.of_lines:
            settings = f"{settings} {self.column}"
        return hashlib.sha256(settings.encode()).hexdigest()

    def _unread(self, error: OSError) -> TaskError:
        return TaskError(
            f"the list of duplicates '{self.duplicates}' cannot be read "
            f"({error.strerror or error}): `t5x-like dedup` writes it."
        )

    @functools.cached_property
    def _list(self) -> "_List":
        try:
            content = epath.Path(self.duplicates).expanduser().read_bytes()
        except OSError as error:
            raise self._unread(error) from None
        first, _, rest = content.partition(b"\n")
        try:
            head = json.loads(first)
            source, of_lines = head["source"], "lines" in head
            columns = list(map(str, head.get("columns") or [self.column]))
            dropped = head.get("dropped")
            listed = {
                (line["split"], line["shard"]): frozenset(line["lines" if of_lines else "rows"])
                for line in map(json.loads, rest.splitlines())
            }
        except (ValueError, LookupError, TypeError, RecursionError):
            raise TaskError(
                f"'{self.duplicates}' is not a list of duplicates: `t5x-like dedup` writes one."
            ) from None
        if source != self.source.fingerprint():
            raise TaskError(
                f"'{self.duplicates}' lists duplicates of other files, or of files that were read "
                "or filtered otherwise: run `t5x-like dedup` again."
            )
        if of_lines and columns != [self.column]:
            raise TaskError(
                f"'{self.duplicates}' lists lines of the column {', '.join(columns)}, not of "
                f"'{self.column}': run `t5x-like dedup` again."
            )
        named = sum(map(len, listed.values()))
        if isinstance(dropped, int) and named != dropped:
            raise TaskError(
                f"'{self.duplicates}' names {named:,} of {dropped:,} duplicates: it "
                f"{'is cut' if named < dropped else 'was changed'}; write it again with "
                "`t5x-like dedup`."
            )
        return _List(listed, of_lines, hashlib.sha256(rest).hexdigest())


@dataclasses.dataclass(frozen=True)
class _List:
    """Rows or lines that are left out, by split and number of the shard, and a digest of them."""

    left_out: Mapping[tuple[str, int], frozenset[int]]
    of_lines: bool
    digest: str
