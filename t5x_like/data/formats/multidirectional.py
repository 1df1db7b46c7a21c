"""Text in which tokens are hidden, where each row says in which directions it is seen."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from t5x_like.data.formats.batch_format import TaskFacts
from t5x_like.data.formats.masked_language_model import (
    BoundMaskedLanguageModel,
    MaskedLanguageModel,
)
from t5x_like.data.formats.prompts import DecoderPrompts
from t5x_like.data.formats.rows import Item, ModelBatch, Row

# How a row is seen, in `row_mask_kind`.
BIDIRECTIONAL, LEFT_TO_RIGHT, RIGHT_TO_LEFT, SEQUENCE_TO_SEQUENCE = range(4)


class MaskedPrompts(DecoderPrompts):
    """Prompts of a model that writes in place of a mask, which needs a position too."""

    def decoder_length(self, prompt_length: int) -> int:
        """All of the prompt, and the first mask."""
        return prompt_length + 1


@dataclasses.dataclass(frozen=True)
class Multidirectional(MaskedLanguageModel):
    """What `MaskedLanguageModel` has, and how each row is seen (Dong et al. 2019, figure 1).

    The batch has two more features, int32 `[rows]`: `row_mask_kind` (0 in both directions, 1 from
    the left, 2 from the right, 3 a first segment in both directions and a second one from the
    left) and `row_prefix_length`, the tokens of that first segment with what stands around it.

    An objective on text gives `mask_kind` and `prefix_length` of rank 0 beside what
    `MaskedLanguageModel` reads; without them a row is seen in both directions. A task with `inputs`
    is one of pairs, all of kind 3: its objective gives `hidden_targets`, in which some of `targets`
    are hidden, and `loss_weights` of these. A row is then the start token, `inputs` and `targets`,
    and takes `inputs + targets + 1` places.
    """

    prompts: ClassVar[MaskedPrompts] = MaskedPrompts(prefix=True)  # type: ignore[assignment]

    @property
    def may_read(self) -> tuple[str, ...]:
        """See `BatchFormat`."""
        return (*super().may_read, "mask_kind", "prefix_length", "hidden_targets")

    def bind(self, facts: TaskFacts) -> "BoundRows":
        """See `BatchFormat`."""
        return BoundPairs((), facts.start_id) if "inputs" in facts.features else BoundRows(())


@dataclasses.dataclass(frozen=True)
class BoundRows(BoundMaskedLanguageModel):
    """`Multidirectional` for a task of rows."""

    def item(self, example: Mapping[str, np.ndarray]) -> Item:
        """As of a masked language model, with the kind of the row among the labels."""
        item = super().item(example)
        kinds = {name: example[name] for name in ("mask_kind", "prefix_length") if name in example}
        return item._replace(labels={**item.labels, **kinds})

    def batch(self, rows: Sequence[Row], lengths: Mapping[str, int], pack: bool) -> ModelBatch:
        """See `Multidirectional`."""
        batch = super().batch(rows, lengths, pack)
        for name in ("mask_kind", "prefix_length"):
            values = [item.labels.get(name, 0) for row in rows for item in row[:1] or (_EMPTY,)]
            batch[f"row_{name}"] = np.array(values, np.int32)
        return batch


_EMPTY = Item(())


@dataclasses.dataclass(frozen=True)
class BoundPairs(BoundRows):
    """`Multidirectional` for a task of inputs and targets.

    Attributes:
      start_id: what every row begins with.
    """

    start_id: int

    def capacities(self, lengths: Mapping[str, int]) -> tuple[int, ...]:
        """The length of a row."""
        return (self._length(lengths),)

    def _length(self, lengths: Mapping[str, int]) -> int:
        return 1 + lengths["inputs"] + lengths["targets"]

    def item(self, example: Mapping[str, np.ndarray]) -> Item:
        """One part, the start token, the inputs and the targets with some of them hidden."""
        inputs, targets = example["inputs"], example["targets"]
        first = np.concatenate([np.array([self.start_id], np.int32), inputs])
        nothing = np.zeros_like(first)
        return super().item(
            {
                "inputs": np.concatenate([first, example["hidden_targets"]]),
                "targets": np.concatenate([first, targets]),
                "loss_weights": np.concatenate([nothing, example["loss_weights"]]),
                "token_types": np.concatenate([nothing, np.ones_like(targets)]),
                "mask_kind": np.array(SEQUENCE_TO_SEQUENCE, np.int32),
                "prefix_length": np.array(first.size, np.int32),
            }
        )

    def batch(self, rows: Sequence[Row], lengths: Mapping[str, int], pack: bool) -> ModelBatch:
        """See `Multidirectional`."""
        return super().batch(rows, {"targets": self._length(lengths)}, pack)
