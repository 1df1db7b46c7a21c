"""Text whose tokens are predicted in an order that is drawn."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from t5x_like.data.formats.batch_format import TaskFacts
from t5x_like.data.formats.rows import Item, ModelBatch, Row, companion, layout, row_continues

_COMPANIONS: Mapping[str, str] = {
    "loss_weights": "encoder_loss_weights",
    "token_types": "encoder_token_types",
    "perm_key_rank": "perm_key_rank",
    "perm_own_rank": "perm_own_rank",
}


@dataclasses.dataclass(frozen=True)
class PermutationLanguageModel:
    """A text, which of its tokens are predicted, and in which order (Yang et al. 2019).

    The objective gives `targets` (the tokens themselves) and, as long as these, `loss_weights` (1
    at what is predicted), `token_types`, and the ranks of each token in the order: a token is
    predicted from those whose `perm_key_rank` is below its own `perm_own_rank`. The batch, int32
    `[rows, length]`: `encoder_input_tokens` and `encoder_target_tokens` (both the text),
    `encoder_loss_weights`, `encoder_token_types`, `encoder_segment_ids` (1 on the tokens),
    `perm_key_rank`, `perm_own_rank`; of contiguous rows also `row_continues` `[rows]`, 0 where a
    text begins.

    Attributes:
      contiguous: whether rows continue those of the batch before.
    """

    contiguous: bool

    task_features: ClassVar[tuple[str, ...]] = ("targets",)
    reads: ClassVar[tuple[str, ...]] = ("targets", *_COMPANIONS)
    may_read: ClassVar[tuple[str, ...]] = ()
    packs: ClassVar[bool] = False
    prompts: ClassVar[None] = None

    def bind(self, facts: TaskFacts) -> "BoundPermutationLanguageModel":
        """See `BatchFormat`."""
        return BoundPermutationLanguageModel(self.contiguous)


@dataclasses.dataclass(frozen=True)
class BoundPermutationLanguageModel:
    """`PermutationLanguageModel` for a task."""

    contiguous: bool

    def capacities(self, lengths: Mapping[str, int]) -> tuple[int, ...]:
        """The encoder's length."""
        return (lengths["targets"],)

    def item(self, example: Mapping[str, np.ndarray]) -> Item:
        """One part, the text; features of each token; whether it continues the row before."""
        companions = {name: example[name] for name in _COMPANIONS}
        labels = {"continues": np.asarray("before" in example, np.int32)}
        return Item((example["targets"],), companions=companions, labels=labels)

    def batch(self, rows: Sequence[Row], lengths: Mapping[str, int], pack: bool) -> ModelBatch:
        """See `PermutationLanguageModel`."""
        laid_out = layout(rows, 0, lengths["targets"])
        batch = {
            "encoder_input_tokens": laid_out.tokens,
            "encoder_target_tokens": laid_out.tokens.copy(),
            "encoder_segment_ids": laid_out.segment_ids,
        }
        for theirs, ours in _COMPANIONS.items():
            batch[ours] = companion(rows, theirs, laid_out.filled)
        if self.contiguous:
            batch["row_continues"] = row_continues(rows)
        return batch
