"""One sequence that a decoder reads and continues: causal, or with inputs seen both ways."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from t5x_like.data.formats.batch_format import TaskFacts
from t5x_like.data.formats.prompts import DecoderPrompts, PromptFormat, left_padded
from t5x_like.data.formats.rows import (
    Item,
    ModelBatch,
    Row,
    companion,
    decoder_features,
    layout,
    row_continues,
)

# What an objective may give of each target, and the feature that it takes the place of.
_LEARNED = {
    "learned_targets": "decoder_target_tokens",
    "learned": "decoder_loss_weights",
}


@dataclasses.dataclass(frozen=True)
class LanguageModel:
    """Targets, each token predicted from those before it; inputs, where a task has them, before.

    Inputs and targets are one sequence, of which the loss counts the targets. In a prefix
    language model the inputs are seen in both directions (Raffel et al. 2020, section 3.2.1):
    `decoder_causal_attention` is 1 on them and on the position after them, which reads the last
    input and predicts the first target. Without inputs the two are the same.

    Of targets alone an objective may say which tokens are learned: `learned`, 1 on these, and
    `learned_targets`, what is to be predicted where that is another token than is read.

    Attributes:
      prefix: whether inputs are seen in both directions.
    """

    prefix: bool

    task_features: ClassVar[tuple[str, ...]] = ("targets",)
    reads: ClassVar[tuple[str, ...]] = ("targets",)
    may_read: ClassVar[tuple[str, ...]] = ("inputs", *_LEARNED)
    packs: ClassVar[bool] = True
    contiguous: ClassVar[bool] = False

    @property
    def prompts(self) -> PromptFormat:
        """Prompts are the beginning of the decoder's row."""
        return DecoderPrompts(self.prefix)

    def bind(self, facts: TaskFacts) -> "BoundLanguageModel":
        """See `BatchFormat`."""
        return BoundLanguageModel(facts, self.prefix)


@dataclasses.dataclass(frozen=True)
class BoundLanguageModel:
    """`LanguageModel` for a task."""

    facts: TaskFacts
    prefix: bool

    @property
    def _has_inputs(self) -> bool:
        return "inputs" in self.facts.features

    def capacities(self, lengths: Mapping[str, int]) -> tuple[int, ...]:
        """The decoder's length: inputs and targets together."""
        return (self._length(lengths),)

    def _length(self, lengths: Mapping[str, int]) -> int:
        return lengths["targets"] + (lengths["inputs"] if self._has_inputs else 0)

    def item(self, example: Mapping[str, np.ndarray]) -> Item:
        """One part: inputs, then targets."""
        if not self._has_inputs:
            targets = example["targets"]
            # The targets may be trimmed; what goes with each of their tokens is not.
            given = {name: example[name][: targets.size] for name in _LEARNED if name in example}
            return Item((targets,), companions=given)
        inputs = example["inputs"]
        return Item((np.concatenate([inputs, example["targets"]]),), inputs.size)

    def batch(self, rows: Sequence[Row], lengths: Mapping[str, int], pack: bool) -> ModelBatch:
        """The decoder's features, int32 `[rows, length]`; see `LanguageModel`."""
        length = self._length(lengths)
        laid_out = layout(rows, 0, length)
        batch = decoder_features(laid_out, pack, self.facts.zero_is_token, self.facts.start_id)
        if not self._has_inputs:
            for name, feature in _LEARNED.items():
                if name in (self.facts.example_features or ()):
                    batch[feature] = companion(rows, name, laid_out.filled)
            return batch
        prefix = np.zeros_like(laid_out.tokens)
        items = [item for row in rows for item in row]
        if items:
            sizes = [min(item.parts[0].size, length) for item in items]
            prefix[laid_out.filled] = np.repeat([item.prefix for item in items], sizes)
        batch["decoder_loss_weights"] *= ~(laid_out.filled & (laid_out.positions < prefix))
        if self.prefix:
            seen = laid_out.filled & (laid_out.positions <= prefix)
            batch["decoder_causal_attention"] = seen.astype(np.int32)
        return batch


@dataclasses.dataclass(frozen=True)
class Contiguous:
    """A text as rows that continue those of the batch before.

    The text of a split is cut into as many tracks as a batch has rows, and row r of every batch
    is the next piece of track r: what a recurrent model or Transformer-XL carries from one batch
    to the next is then of the same text. `row_continues` int32 `[rows]` is 0 where a track
    begins, and 1 elsewhere; the decoder's features are those of a causal language model, but the
    first token that a row reads is the last of the row before.

    Attributes:
      draws_lengths: whether each batch's rows are of a length that is drawn for it, see
        `rows.contiguous.drawn_lengths`; the batch then has `decoder_segment_ids`, 0 on what fills
        its rows up.
    """

    draws_lengths: bool = False

    task_features: ClassVar[tuple[str, ...]] = ("targets",)
    reads: ClassVar[tuple[str, ...]] = ("targets",)
    may_read: ClassVar[tuple[str, ...]] = ()
    packs: ClassVar[bool] = False
    contiguous: ClassVar[bool] = True
    prompts: ClassVar[PromptFormat] = DecoderPrompts(prefix=False)

    def bind(self, facts: TaskFacts) -> "BoundContiguous":
        """See `BatchFormat`."""
        return BoundContiguous(facts, self.draws_lengths)


@dataclasses.dataclass(frozen=True)
class BoundContiguous:
    """`Contiguous` for a task."""

    facts: TaskFacts
    draws_lengths: bool

    def capacities(self, lengths: Mapping[str, int]) -> tuple[int, ...]:
        """The decoder's length."""
        return (lengths["targets"],)

    def item(self, example: Mapping[str, np.ndarray]) -> Item:
        """The targets, and as a label the token `before` them; absent at a track's beginning."""
        before = example.get("before")
        labels = {
            "continues": np.asarray(before is not None, np.int32),
            "before": np.asarray(self.facts.start_id if before is None else before, np.int32),
        }
        return Item((example["targets"],), labels=labels)

    def batch(self, rows: Sequence[Row], lengths: Mapping[str, int], pack: bool) -> ModelBatch:
        """The decoder's features, int32 `[rows, length]`, and `row_continues`."""
        laid_out = layout(rows, 0, lengths["targets"])
        batch = decoder_features(laid_out, False, self.facts.zero_is_token, self.facts.start_id)
        if self.draws_lengths:
            batch["decoder_segment_ids"] = laid_out.segment_ids
        batch["row_continues"] = row_continues(rows)
        for i, row in enumerate(rows):
            for item in row:
                batch["decoder_input_tokens"][i, 0] = item.labels["before"]
        return batch


@dataclasses.dataclass(frozen=True)
class Prompts:
    """What a decoder is to continue: `inputs` after the token that it reads first.

    All prompts end in the same column; the batch is that of `prompts.left_padded`, of one column
    more than the length of `inputs`. A task's targets are left aside.
    """

    task_features: ClassVar[tuple[str, ...]] = ("inputs",)
    reads: ClassVar[tuple[str, ...]] = ("inputs",)
    may_read: ClassVar[tuple[str, ...]] = ("targets",)
    packs: ClassVar[bool] = False
    contiguous: ClassVar[bool] = False
    prompts: ClassVar[None] = None

    def bind(self, facts: TaskFacts) -> "BoundPrompts":
        """See `BatchFormat`."""
        return BoundPrompts(facts.start_id)


@dataclasses.dataclass(frozen=True)
class BoundPrompts:
    """`Prompts` for a task.

    Attributes:
      start_id: what a decoder reads first.
    """

    start_id: int

    def capacities(self, lengths: Mapping[str, int]) -> tuple[int, ...]:
        """The length of `inputs`."""
        return (lengths["inputs"],)

    def item(self, example: Mapping[str, np.ndarray]) -> Item:
        """The inputs."""
        return Item((example["inputs"],))

    def batch(self, rows: Sequence[Row], lengths: Mapping[str, int], pack: bool) -> ModelBatch:
        """See `Prompts`; a row without an item is a prompt without text."""
        prompts = [
            [self.start_id, *(token for item in row for token in item.parts[0].tolist())]
            for row in rows
        ]
        return left_padded(prompts, lengths["inputs"] + 1)
