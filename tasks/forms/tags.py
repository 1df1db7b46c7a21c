"""Words, each with a tag."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast

from tasks.errors import TaskError
from tasks.forms import entity_tags
from tasks.forms.form import checked_labels, is_unlabelled, text_of


@dataclasses.dataclass(frozen=True)
class Tags:
    """The words of a row as `inputs`, a list, and `tags`, the number of each word's tag.

    A column holds a list, or a text whose words have spaces between them.

    Attributes:
      labels: what a tag may be; its place in this list is its number.
      words: column of the words.
      tags: column of the tags; None where no row has one.
      names: how the tags are called, in the same order; empty takes `labels`.
      scheme: "iob2" where tags are of entities, each of which begins with B, "iob1" where they are
        to be made so, None where they are of another sort.
      unlabelled: what the column of the tags holds where a row has none, as in test sets, or what
        stands there for each word; None where every row has them.
      lists: whether both columns are lists as JSON.
    """

    labels: Sequence[str]
    words: str = "words"
    tags: str | None = "tags"
    names: Sequence[str] = dataclasses.field(default=(), repr=False)  # changes no row
    scheme: str | None = "iob2"
    unlabelled: str | None = None
    lists: bool = False

    features: ClassVar[tuple[str, ...]] = ("inputs",)
    listed: ClassVar[Mapping[str, str]] = {"inputs": "words"}
    kept: ClassVar[Mapping[str, str]] = {"tags": "integers"}
    inputs_begin: ClassVar[str] = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", checked_labels(self, self.names))
        entity_tags.check_scheme(self.scheme, "Tags.scheme")
        if self.scheme is not None:
            # What is in no scheme is found here, and not in the middle of a file.
            for name in self.label_names:
                entity_tags.entities_of([name])

    @property
    def columns(self) -> tuple[str, ...]:
        """The words and the tags."""
        return (self.words,) if self.tags is None else (self.words, self.tags)

    @property
    def input_columns(self) -> tuple[str, ...]:
        """The words."""
        return (self.words,)

    @property
    def label_names(self) -> tuple[str, ...]:
        """Of the tags."""
        return tuple(map(str, self.names or self.labels))

    def inputs_of(self, row: Mapping[str, Any]) -> str:
        """The words with spaces between them.

        Raises:
          TaskError: a word has a space.
        """
        words = self._listed(row[self.words])
        for word in words:
            if len(word.split()) != 1:
                raise TaskError(f"the word '{word}' of column '{self.words}' is not one word.")
        return " ".join(words)

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The words, and the numbers of their tags, -1 where the row has none.

        Raises:
          TaskError: more or fewer tags than words, a tag that is none of `labels`, or one that
            breaks the scheme.
        """
        words = self._listed(row[self.words])
        tags = [] if self.tags is None else self._listed(row[self.tags])
        if self.tags is None or self._has_none(row[self.tags], tags):
            return {"inputs": words, "tags": [-1] * len(words)}
        if len(tags) != len(words):
            raise TaskError(
                f"a row has {len(words)} words in column '{self.words}' and {len(tags)} tags in "
                f"'{self.tags}': as many are needed ('{' '.join(words)[:60]}')."
            )
        return {"inputs": words, "tags": self._numbers(tags)}

    def _has_none(self, value: Any, tags: Sequence[str]) -> bool:
        if isinstance(value, str | bytes) and is_unlabelled(self, text_of(value).strip()):
            return True
        return bool(tags) and all(is_unlabelled(self, tag) for tag in tags)

    def _numbers(self, tags: Sequence[str]) -> list[int]:
        numbers = [self._number(tag, self.labels) for tag in tags]
        if self.scheme is None:
            return numbers
        # Files may have numbers of their own.
        called = [self.label_names[number] for number in numbers]
        one_scheme = entity_tags.to_iob2(called, cast(entity_tags.Scheme, self.scheme))
        return [self._number(tag, self.label_names) for tag in one_scheme]

    def _number(self, tag: str, tags: Sequence[str]) -> int:
        if tag not in tags:
            raise TaskError(
                f"column '{self.tags}' has the tag '{tag}', which is none of the tags: they are "
                f"{', '.join(tags)}."
            )
        return tags.index(tag)

    def _listed(self, value: Any) -> list[str]:
        if not isinstance(value, str | bytes) and hasattr(value, "__iter__"):
            return [text_of(each) for each in value]
        text = text_of(value)
        if self.lists:
            try:
                found = json.loads(text)
            except ValueError:
                found = None
            if isinstance(found, list):
                return [text_of(each) for each in found]
        return text.split()
