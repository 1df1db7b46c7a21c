"""Worked examples before what a model is asked: few-shot prompts (Brown et al. 2020, section 2).

How they stand in the text is the task's (`protocols.FewShot`); how many, and which, is said here.
"""

import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, cast

import numpy as np

from t5x_like.data import DatasetConfig
from t5x_like.data.records import Records, open_records
from t5x_like.errors import UserError
from t5x_like.protocols import FewShot, Task

# What the cache of a task with options has of each row, and that of any other with text.
CONTEXTS, CONTINUATIONS, LABEL, GROUP = "contexts", "continuations", "label", "group"
# What each option says, where the task's metrics compare this.
ANSWERS = "answers_of_options"
INPUTS, TARGETS = "inputs_pretokenized", "targets_pretokenized"
# Of a text that is put before what is asked: how many tokens are left then; None for any number.
Spare = Callable[[str], int | None]


@dataclasses.dataclass(frozen=True)
class Shots:
    """How many examples stand before what is asked, and which.

    Those of a row are drawn by the seed and the row's number in its split, and so are the same
    whatever else is measured; of more examples, the first are those of fewer. Examples that a
    prompt has no room for are left out whole, those first drawn kept.

    Attributes:
      count: how many; "fit" for as many as the model reads.
      seed: of the draws.
      split: of which they are drawn; None takes the task's, as a rule "train".
      cut: whether a prompt that is too long without any example loses its beginning, as it does
        with a count of 0, and is not refused.
    """

    count: int | Literal["fit"] = 0
    seed: int = 0
    split: str | None = None
    cut: bool = False

    def __post_init__(self) -> None:
        whole = isinstance(self.count, int) and not isinstance(self.count, bool)
        if self.count != "fit" and not (whole and int(self.count) >= 0):
            raise UserError(
                f"shots.count (SHOTS) is {self.count!r}: a whole number of 0 or more, or 'fit' for "
                "as many examples as the model has room for."
            )

        if not isinstance(self.seed, int) or self.seed < 0:
            raise UserError(
                f"shots.seed (SHOTS_SEED) is {self.seed!r}: give a whole number of 0 or more."
            )

    def of(self, dataset: DatasetConfig, features: Sequence[str]) -> "Prompts":
        """The prompts of one task's split; reads the examples that are drawn.

        Args:
          dataset: of a task, not of a mixture.
          features: in the cache, which examples are made of.

        Raises:
          UserError: there are fewer examples than are asked for, or none at all.
        """
        return Prompts(self, dataset, features)

    @property
    def file_part(self) -> str:
        """What a file of predictions is called by; "" without examples."""
        return "" if self.count == 0 else f"{self.count}_shots"

    def told(self, form: FewShot | None) -> str:
        """For a record and for a person."""
        count = (
            "as many shots as fit"
            if self.count == "fit"
            else f"{self.count} shot{'s' * (self.count != 1)}"
        )
        if self.count == 0 or form is None:
            return count
        if form.examples:
            return f"{count}, always the same"
        split = f"{count} of '{self.split or form.split}'"
        return f"{split}, its first" if form.order == "first" else f"{split} by seed {self.seed}"


class Prompts:
    """What stands before the contexts of a task's rows; see `Shots`.

    Attributes:
      rows: for how many rows a prompt was made.
      used: how many examples stand in all of them together.
      short: for how many rows there was room for fewer than were asked for.
    """

    def __init__(self, shots: Shots, dataset: DatasetConfig, features: Sequence[str]) -> None:
        self._shots, self._name = shots, cast(Task, dataset.task).name
        self._form, self._dataset = few_shot(cast(Task, dataset.task)), dataset
        self._records: Records | None = None
        self._groups: dict[str, np.ndarray] | None = None
        self._known: dict[int, str | None] = {}
        self._sizes: dict[str, int] = {}  # tokens of examples with their separator
        self.rows = self.used = self.short = 0
        if shots.count == 0:
            return
        form = self._required()
        self._split = shots.split or form.split
        self._own = self._split == dataset.split
        if not form.examples:
            config = dataclasses.replace(dataset, split=self._split)
            self._records = open_records(config, features)
            if self._records is None:
                raise UserError(
                    f"task {self._name!r}: the cached split {self._split!r} has no "
                    f"{' and '.join(features)}, of which examples are made."
                )
            self._groups = _groups(self._records)
            most = self._records.num_examples - self._own
            if shots.count != "fit" and shots.count > most:
                aside = ", the row itself aside" if self._own else ""
                raise self._too_few(most, f"split {self._split!r}{aside}")
        elif shots.count != "fit" and len(form.examples) < shots.count:
            raise self._too_few(len(form.examples), "fixed ones")

    def before(self, index: int, record: Mapping[str, Any], spare: Spare) -> str:
        """The text that stands before what one row asks; "" for none.

        Args:
          index: of the row in its split.
          record: what the cache has of it.
          spare: counts the tokens that are left after a text and what is asked.

        Raises:
          UserError: there are too few examples, or what is asked is too long even without any.
        """
        self.rows += 1
        form, group = self._form, text_of(record.get(GROUP, ""))
        if form is None:
            return ""
        head = [form.description.replace("{group}", group.replace("_", " "))]
        head = head if head[0] else []

        def joined(examples: Sequence[str]) -> str:
            return form.separator.join([*head, *examples, ""])

        if self._shots.count == 0:
            return joined([])
        try:
            left = spare(joined([]))
        except UserError as error:
            raise UserError(f"{place_of(self._dataset, index)}: {error}") from None
        if left is None and self._shots.count == "fit":
            raise UserError(
                f"as many examples as fit is no number for task {self._name!r}: this model reads "
                "texts of any length. Give SHOTS a number."
            )
        if left is not None and left < 0:
            if self._shots.cut:
                return joined([])
            raise UserError(
                f"{place_of(self._dataset, index)}: without any example the prompt is {-left:,} "
                "tokens longer than the model can read. SHOTS=0 or evaluation.Shots.cut=True "
                "leaves its beginning out."
            )
        chosen: list[str] = []
        room = left
        for example in self._examples(index, group):
            if left is not None and room is not None:
                if example not in self._sizes:
                    self._sizes[example] = left - cast(int, spare(joined([example])))
                room -= self._sizes[example]
                if room < 0:
                    break
            chosen.append(example)
        # Tokens at the joints may differ from what each example took by itself.
        while chosen and (spare(joined(chosen)) or 0) < 0:
            chosen.pop()
        self.used += len(chosen)
        self.short += self._shots.count != "fit" and len(chosen) < self._shots.count
        return joined(chosen)

    def tell(self) -> None:
        """Says on standard error for how many rows there was no room for all examples."""
        if self.short:
            print(
                f"{self._name}: {self.short:,} of {self.rows:,} prompts have no room for "
                f"{self._shots.count} examples: {self.mean:.1f} in the mean",
                file=sys.stderr,
                flush=True,
            )

    @property
    def mean(self) -> float:
        """Examples of a prompt, in the mean."""
        return self.used / max(1, self.rows)

    def _required(self) -> FewShot:
        if self._form is None:
            raise UserError(
                f"task {self._name!r} does not say how examples stand in a prompt: give it "
                "few_shot=forms.FewShot(), or SHOTS=0."
            )
        return self._form

    def _examples(self, index: int, group: str) -> Iterator[str]:
        """As many as are asked for, or all there are."""
        form, count = self._required(), self._shots.count
        found = 0
        if form.examples:
            yield from form.examples[: None if count == "fit" else count]
            return
        for number in self._order(index, group):
            if found == count:
                return
            text = self._text(number)
            if text is not None:
                found += 1
                yield text
        if count != "fit" and found < count:
            of = f"split {self._split!r}" + (f", group {group!r}" if group else "")
            raise self._too_few(found, f"{of}, the row itself aside" if self._own else of)

    def _order(self, index: int, group: str) -> Iterator[int]:
        assert self._records is not None
        form = self._required()
        pool = np.arange(self._records.num_examples)
        if self._groups is not None:
            pool = self._groups.get(group, pool[:0])
        own = index if self._own else -1
        if form.order == "first":
            return (int(number) for number in pool if number != own)
        return drawn(self._shots.seed, index, pool, own)

    def _text(self, number: int) -> str | None:
        assert self._records is not None
        if number not in self._known:
            record = self._records.examples.raw(number)
            self._known[number] = example_text(record, self._required().delimiter)
        return self._known[number]

    def _too_few(self, found: int, where: str) -> UserError:
        return UserError(
            f"task {self._name!r}: SHOTS is {self._shots.count}, but there are {found} examples "
            f"({where}): give fewer, or more examples."
        )


def place_of(dataset: DatasetConfig, number: int) -> str:
    """Where a row is, for an error.

    Args:
      dataset: the split of a task.
      number: of the row in it, from 0; people count from 1.
    """
    return f"task {dataset.task.name!r}, row {number + 1:,} of its {dataset.split!r} split"


def few_shot(task: Task) -> FewShot | None:
    """How examples stand in a task's prompts; None where it does not say."""
    return getattr(task, "few_shot", None)


def drawn(seed: int, index: int, pool: np.ndarray, excluded: int = -1) -> Iterator[int]:
    """The numbers of a pool in the order in which one row draws them, each once.

    Args:
      seed: of all rows.
      index: of the row.
      pool: numbers, each once.
      excluded: one that is not drawn.
    """
    rng = np.random.default_rng([seed, index])
    seen: set[int] = set()
    while len(seen) < len(pool):
        place = int(rng.integers(len(pool)))
        if place not in seen:
            seen.add(place)
            if int(pool[place]) != excluded:
                yield int(pool[place])


def example_text(record: Mapping[str, Any], delimiter: str) -> str | None:
    """An example with its answer, as one text; None of a row without one.

    Args:
      record: what the cache has of it: contexts, continuations and the number of the right one, or
        inputs and targets.
      delimiter: between inputs and targets.
    """
    if LABEL not in record:
        return text_of(record[INPUTS]) + delimiter + text_of(record[TARGETS])
    label = int(record[LABEL])
    if label < 0:
        return None
    contexts, continuations = (
        [text_of(text) for text in record[name]] for name in (CONTEXTS, CONTINUATIONS)
    )
    return "".join(texts[label if len(texts) > 1 else 0] for texts in (contexts, continuations))


def text_of(value: Any) -> str:
    """A text of the cache."""
    if isinstance(value, np.ndarray):
        value = value.item()
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def _groups(records: Records) -> dict[str, np.ndarray] | None:
    """The numbers of the rows of each group; None where rows have none."""
    found: dict[str, list[int]] = {}
    for number in range(records.num_examples):
        record = records.examples.raw(number)
        if GROUP not in record:
            return None
        found.setdefault(text_of(record[GROUP]), []).append(number)
    return {group: np.array(numbers) for group, numbers in found.items()}
