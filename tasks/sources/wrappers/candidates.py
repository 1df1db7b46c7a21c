"""Rows of a query and one candidate each as rows of a query with two, of which one is relevant."""

import dataclasses
from collections.abc import Iterator, Sequence

from tasks.forms.form import text_of
from tasks.sources import source as source_lib
from tasks.sources.wrappers.hold_out import unit_hash
from tasks.sources.wrappers.wrapper import Wrapper


@dataclasses.dataclass(frozen=True)
class Candidates(Wrapper):
    """Each relevant candidate of a query beside each of its others, as MT-DNN ranks QNLI.

    Of a query without both kinds nothing is left; so nothing is of a split without labels. Which of
    the two stands first a hash of the texts decides. Rows come in the order of the queries' first
    appearance; all of a split are held in memory.

    Attributes:
      source: its rows have a query, one candidate, and whether it is relevant.
      query: column of the query.
      candidate: column of the candidate.
      label: column of the label.
      relevant: what the label of a relevant candidate is; of any other whatever is not this or
        `unlabelled`.
      unlabelled: the label of rows without one.
    """

    source: source_lib.Source
    query: str = "question"
    candidate: str = "sentence"
    label: str = "label"
    relevant: str = "0"
    unlabelled: str = "-1"

    @property
    def columns(self) -> tuple[str, ...]:
        """The query, `first`, `second` and `relevant`: 0 where the first is, else 1."""
        return (self.query, "first", "second", "relevant")

    def rows(self, split: str, shards: Sequence[str] | None = None) -> Iterator[source_lib.Row]:
        """A row for each pair of a relevant candidate and another of the same query."""
        if shards is not None and not shards:
            return
        queries: dict[str, tuple[list[str], list[str]]] = {}
        for row in self.source.rows(split):
            query, candidate, label = (
                text_of(row[column]) for column in (self.query, self.candidate, self.label)
            )
            if label != self.unlabelled:
                queries.setdefault(query, ([], []))[label != self.relevant].append(candidate)
        for query, (relevant, others) in queries.items():
            for right in relevant:
                for wrong in others:
                    first = int(unit_hash(f"{query}\0{right}\0{wrong}") < 0.5)
                    pair = (wrong, right) if first else (right, wrong)
                    texts = dict(zip(("first", "second"), pair, strict=True))
                    yield {self.query: query, **texts, "relevant": str(first)}
