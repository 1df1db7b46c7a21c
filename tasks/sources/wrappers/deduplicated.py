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
from tasks.sources.wrappers.wrapper import Wrapper, in_texts


@dataclasses.dataclass(frozen=True)
class Deduplicated(Wrapper):
    """The rows of a source that a list of duplicates does not name, in its own shards.

    Attributes:
      source: whose rows these are.
      duplicates: the list, a file of `t5x-like dedup`.
      dropped: counts, since this object was made, the rows that were left out.
    """

    source: source_lib.Source
    duplicates: str
    dropped: Dropped = dataclasses.field(
        default_factory=Dropped, init=False, repr=False, compare=False
    )

    def shards(self, split: str) -> Sequence[str]:
        """The source's."""
        return self.source.shards(split)

    def rows(self, split: str, shards: Sequence[str] | None = None) -> Iterator[source_lib.Row]:
        """The rows that are not on the list.

        Raises:
          TaskError: there is no list, or it is another source's.
        """
        listed, _ = self._list
        names = list(self.source.shards(split))
        for shard in names if shards is None else shards:
            left_out = listed.get((split, names.index(shard)), frozenset())
            for place, row in enumerate(self.source.rows(split, [shard])):
                if place in left_out:
                    text = "\n".join(in_texts(row).values())
                    drop(self.dropped, "document: duplicate", text)
                else:
                    yield row

    def why_empty(self, split: str) -> str:
        """What to change where a split has no rows."""
        inner = getattr(self.source, "why_empty", None)
        return inner(split) if inner else f"all there is is on the list '{self.duplicates}'"

    def fingerprint(self) -> str:
        """Hex digest of the source's fingerprint and the list, wherever the list is.

        Raises:
          TaskError: there is no list, or it is another source's.
        """
        _, digest = self._list
        return hashlib.sha256(f"{self.source.fingerprint()} {digest}".encode()).hexdigest()

    @functools.cached_property
    def _list(self) -> tuple[Mapping[tuple[str, int], frozenset[int]], str]:
        """The rows that are left out, by split and number of the shard, and a digest of them."""
        try:
            content = epath.Path(self.duplicates).expanduser().read_bytes()
        except OSError as error:
            raise TaskError(
                f"the list of duplicates '{self.duplicates}' cannot be read "
                f"({error.strerror or error}): `t5x-like dedup` writes it."
            ) from None
        first, _, rest = content.partition(b"\n")
        try:
            source = json.loads(first)["source"]
            listed = {
                (line["split"], line["shard"]): frozenset(line["rows"])
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
        return listed, hashlib.sha256(rest).hexdigest()
