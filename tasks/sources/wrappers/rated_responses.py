"""Dialogues with a rated response as rows for a generator and for its discriminators."""

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence

from tasks.errors import TaskError
from tasks.forms.form import text_of, texts_of
from tasks.sources import source as source_lib
from tasks.sources.wrappers.wrapper import Wrapper, as_tuples, in_texts

# Who is written to, and who has answered (Thoppilan et al. 2022, section 6.2).
TOOLSET, USER = "TS", "User"


@dataclasses.dataclass(frozen=True)
class RatedResponses(Wrapper):
    """For each response a row to write it, one for each of its ratings, and its research.

    `pieces` is added, a list of texts: the last is learned after the context and the others, see
    `forms.Rated`. Of `{"response": "not much.", "ratings": {"SENSIBLE": 1}}` come `["RESPONSE",
    "not much."]` and `["RESPONSE", "not much.", "SENSIBLE", "1"]`. White space around texts is left
    out.

    Attributes:
      source: has the columns.
      response: column of the response.
      ratings: column of an object, attribute to rating; "" for none.
      research: column of what was looked up after the response, a list of texts: a query and what
        was found, once or more often, and at last the response as it should have been; an empty
        list where nothing was. "" for no such column.
      sentinel: what a response is asked for by.
      research_sentinel: what a query, or the better response, is asked for by.
      rows_of: "generator" and "discriminators", or one of them.
      written_if: the ratings that a response must have for it, and its research, to be learned; the
        others are only judged. Of an attribute that it lacks nothing is asked.
    """

    source: source_lib.Source
    response: str = "response"
    ratings: str = "ratings"
    research: str = ""
    sentinel: str = "RESPONSE"
    research_sentinel: str = "RESEARCH"
    rows_of: tuple[str, ...] = ("generator", "discriminators")
    written_if: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        as_tuples(self, "rows_of")
        known = ("generator", "discriminators")
        if not self.rows_of or isinstance(self.rows_of, str) or set(self.rows_of) - set(known):
            raise TaskError(
                f"RatedResponses.rows_of is {self.rows_of!r}: give a list of {' and '.join(known)},"
                " or of one of them."
            )
        columns = self.source.columns
        for name in (self.response, self.ratings, self.research):
            if name and columns and name not in columns:
                raise TaskError(
                    f"RatedResponses names the column '{name}': its source has "
                    f"{', '.join(columns)}."
                )

    @property
    def columns(self) -> tuple[str, ...]:
        """The source's and that of the pieces."""
        known = self.source.columns
        return (*known, "pieces") if known else ()

    def rows(self, split: str, shards: Sequence[str] | None = None) -> Iterator[source_lib.Row]:
        """The rows, each value as text.

        Raises:
          TaskError: a response without text, ratings that are no object, or research that does not
            end with a response.
        """
        if shards is not None and not shards:
            return
        for row in self.source.rows(split):
            texts = in_texts(row)
            try:
                for pieces in self._each(texts):
                    added = {**texts, "pieces": json.dumps(pieces, ensure_ascii=False)}
                    yield source_lib.PlacedRow.like(row, added)
            except TaskError as error:
                place = getattr(row, "place", f"split '{split}'")
                raise TaskError(f"{place}: {error}") from None

    def _each(self, row: source_lib.Row) -> Iterator[list[str]]:
        """The pieces of every row that is made of one."""
        response = text_of(row[self.response]).strip()
        if not response:
            raise TaskError(f"column '{self.response}' has no text: a response is needed.")
        begun = [self.sentinel, response]
        ratings = self._ratings(row)
        wanted = {name: str(value) for name, value in self.written_if.items()}
        good = all(ratings.get(name, value) == value for name, value in wanted.items())
        if "generator" in self.rows_of and good:
            yield begun
            yield from self._research(row, begun)
        if "discriminators" in self.rows_of:
            for attribute, rating in ratings.items():
                yield [*begun, attribute, rating]

    def _ratings(self, row: source_lib.Row) -> dict[str, str]:
        if not self.ratings:
            return {}
        try:
            found = json.loads(text_of(row[self.ratings]))
        except ValueError:
            found = None
        plain = isinstance(found, dict) and all(
            isinstance(value, int | float | str) for value in found.values()
        )
        if not plain:
            raise TaskError(
                f"column '{self.ratings}' is no object of ratings, such as "
                '{"SENSIBLE": 1, "UNSAFE": 0}.'
            )
        # 1, true and "1" are one rating.
        values = {name: int(x) if isinstance(x, bool) else x for name, x in found.items()}
        return {name: str(value).strip() for name, value in values.items()}

    def _research(self, row: source_lib.Row, begun: list[str]) -> Iterator[list[str]]:
        """The rows of each query, and of the response that what was found led to."""
        texts = texts_of(row[self.research], self.research) if self.research else []
        texts = [text.strip() for text in texts]
        if not texts:
            return
        if len(texts) % 2 == 0 or not texts[-1]:
            raise TaskError(
                f"column '{self.research}' has {len(texts)} texts: queries, what was found for "
                "each, and a response at the end are needed."
            )
        written = begun
        for query, found in zip(texts[:-1:2], texts[1::2], strict=True):
            written = [*written, self.research_sentinel, f"{TOOLSET}, {query}"]
            yield written
            # Nothing found is an empty place, which is not written.
            written = [*written, TOOLSET, *[found] * bool(found)]
        yield [*written, self.research_sentinel, f"{USER}, {texts[-1]}"]
