"""Rows of several tasks, each with its label and the number of its task; and ranked candidates."""

import dataclasses
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import numpy as np

from t5x_like.data.formats.batch_format import TaskFacts
from t5x_like.data.formats.labelled.predictions import MeasuredRows
from t5x_like.data.formats.rows import Item, ModelBatch, Row, companion, layout

TASK = "task"
# Of an example with several candidates: all but the first, one after the other, and their sizes.
_FURTHER = ("further_inputs", "further_token_types", "further_sizes")


def task_number(name: str) -> int:
    """What stands for a task in a batch: the CRC-32 of its name without the highest bit."""
    return zlib.crc32(name.encode()) & 0x7FFFFFFF


@dataclasses.dataclass(frozen=True)
class LabelledTasks:
    """Rows of any of several tasks, for a model with a head for each.

    The objective gives `inputs`, `token_types` as long as these, and `label` of rank 0: the number
    of a class (-1 for none), or a number (NaN for none). Of ranked candidates these are the first's
    and `label` is the number of the relevant one; `further_inputs` and `further_token_types` are
    the others' one after the other, `further_sizes` how long each is. The batch:

    * `encoder_input_tokens`, `encoder_token_types`, `encoder_segment_ids` (1 on the tokens), int32
      `[rows, length]`, or `[rows, candidates, length]` where a row has several;
    * `label`, float32 `[rows]`, whichever it is, and `label_weight`, int32 `[rows]`, 1 where there
      is one;
    * `task`, int32 `[rows]`, the `task_number` of each.
    """

    task_features: ClassVar[tuple[str, ...]] = ("inputs",)
    reads: ClassVar[tuple[str, ...]] = ("inputs", "token_types", "label")
    may_read: ClassVar[tuple[str, ...]] = _FURTHER
    packs: ClassVar[bool] = False
    contiguous: ClassVar[bool] = False
    prompts: ClassVar[None] = None
    # Examples come with the number of their task.
    numbers_tasks: ClassVar[bool] = True

    def bind(self, facts: TaskFacts) -> "BoundLabelledTasks":
        """See `BatchFormat`."""
        return BoundLabelledTasks()


@dataclasses.dataclass(frozen=True)
class RankedCandidates:
    """A query with several candidates, one of which is relevant; of a single task.

    As `LabelledTasks` of such rows, without `task`, and `label` int32.
    """

    task_features: ClassVar[tuple[str, ...]] = ("inputs",)
    reads: ClassVar[tuple[str, ...]] = ("inputs", "token_types", "label", *_FURTHER)
    may_read: ClassVar[tuple[str, ...]] = ()
    packs: ClassVar[bool] = False
    contiguous: ClassVar[bool] = False
    prompts: ClassVar[None] = None
    measured: ClassVar[MeasuredRows] = MeasuredRows("label", "label", "label_weight")

    def bind(self, facts: TaskFacts) -> "BoundLabelledTasks":
        """See `BatchFormat`."""
        return BoundLabelledTasks(np.int32)


@dataclasses.dataclass(frozen=True)
class BoundLabelledTasks:
    """Either for a task.

    Attributes:
      of_one: dtype of the labels of a single task; None where there may be several.
    """

    of_one: type[np.generic] | None = None

    def capacities(self, lengths: Mapping[str, int]) -> tuple[int, ...]:
        """The encoder's length."""
        return (lengths["inputs"],)

    def item(self, example: Mapping[str, np.ndarray]) -> Item:
        """One part, the first candidate; its types; the others, the label and the task."""
        companions = {"token_types": example["token_types"]}
        names = ("label", TASK, *_FURTHER)
        labels = {name: example[name] for name in names if name in example}
        return Item((example["inputs"],), companions=companions, labels=labels)

    def blank(self, item: Item) -> Item:
        """An item of the same task, with as many candidates, without tokens and label."""
        labels = dict(item.labels) | {"label": np.array(np.nan, np.float32)}
        for name in _FURTHER[:2]:
            if name in labels:
                labels[name] = labels[name][:0]
        if _FURTHER[2] in labels:
            labels[_FURTHER[2]] = np.zeros_like(labels[_FURTHER[2]])
        companions = {name: value[:0] for name, value in item.companions.items()}
        return Item((item.parts[0][:0],), companions=companions, labels=labels)

    def batch(self, rows: Sequence[Row], lengths: Mapping[str, int], pack: bool) -> ModelBatch:
        """See the formats."""
        candidates: list[Row] = [list(_candidates(row)) for row in rows]
        # A ranking has two at least, also where this process has no row of the batch.
        most = max([len(row) for row in candidates] + [2 if self.of_one else 1])
        flat: list[Row] = []
        for row in candidates:
            flat += [(item,) for item in row]
            flat += [()] * (most - len(row))
        laid_out = layout(flat, 0, lengths["inputs"])
        types = companion(flat, "token_types", laid_out.filled)
        shape = (len(rows), most, -1) if most > 1 else (len(rows), -1)
        label = np.zeros(len(rows), self.of_one or np.float32)
        weight, task = np.zeros(len(rows), np.int32), np.zeros(len(rows), np.int32)
        for i, row in enumerate(rows):
            for item in row:
                value = item.labels["label"]
                # Numbers may be below 0; a class that is none is -1.
                if np.isfinite(value) and (value.dtype.kind == "f" or value >= 0):
                    label[i], weight[i] = value, 1
                task[i] = item.labels.get(TASK, 0)
        batch = {
            "encoder_input_tokens": laid_out.tokens.reshape(shape),
            "encoder_token_types": types.reshape(shape),
            "encoder_segment_ids": laid_out.segment_ids.reshape(shape),
            "label": label,
            "label_weight": weight,
        }
        return batch if self.of_one else {**batch, TASK: task}


def _candidates(row: Row) -> Iterator[Item]:
    """The items of each candidate of a row; one where it has no others; none of an empty row."""
    for item in row:
        yield item
        if "further_sizes" in item.labels:
            tokens, types, sizes = (item.labels[name] for name in _FURTHER)
            ends = np.cumsum(sizes)
            for begin, end in zip(ends - sizes, ends, strict=True):
                companions = {"token_types": types[begin:end]}
                yield Item((tokens[begin:end],), companions=companions)
