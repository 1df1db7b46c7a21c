"""From a task's features to a model's batch, equal to seqio's converters on the same rows.

A converter first makes an example into an `Item`, the parts that fill a row; then it lays whole
batches out at once, because NumPy's cost is in the call and not in the token. The feature names
and conventions (token 0 pads, decoder inputs are the targets shifted right, segments count from
1) are those of seqio's `feature_converters.py`, whose `bos_id` is `start_id` here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol

import numpy as np

from t5x_like.errors import UserError
from t5x_like.protocols import Architecture

ModelBatch = dict[str, np.ndarray]


class Item(NamedTuple):
    """One example on its way into a row.

    Attributes:
      parts: int32 `[length]` for each run of tokens that a row has.
      prefix: how many of the last part's tokens are inputs, seen in both directions.
      positions: int32 `[length]`, those of the last part's tokens; None for 0, 1, 2, …
    """

    parts: tuple[np.ndarray, ...]
    prefix: int = 0
    positions: np.ndarray | None = None

    def before_padding(self) -> "Item":
        """Each part up to where padding begins, which is where seqio takes it to end."""
        parts = tuple(part[: np.count_nonzero(part)] for part in self.parts)
        return self._replace(parts=parts)


Row = Sequence[Item]


class FeatureConverter(Protocol):
    """How an architecture is given a task's features.

    Attributes:
      task_features: what it needs.
      zero_is_token: whether id 0 is a token of the vocabulary like any other, so that only
        lengths tell tokens from padding.
      start_id: what the decoder reads first, in every row and every segment of it.
    """

    task_features: ClassVar[tuple[str, ...]]

    @property
    def zero_is_token(self) -> bool:
        """See above."""

    @property
    def start_id(self) -> int:
        """See above."""

    def capacities(self, lengths: Mapping[str, int]) -> tuple[int, ...]:
        """Length of each part of a row, for these lengths of the task's features."""

    def item(self, example: Mapping[str, np.ndarray]) -> Item:
        """The parts of one example, trimmed to the task's lengths and with EOS."""

    def batch(self, rows: Sequence[Row], lengths: Mapping[str, int], pack: bool) -> ModelBatch:
        """Lays rows out.

        Args:
          rows: the items of each row; without `pack`, one or none.
          lengths: of the task's features.
          pack: whether to add segment ids and positions.

        Returns:
          int32 `[len(rows), length]` for each of the model's features.
        """


class _Layout(NamedTuple):
    tokens: np.ndarray  # all int32 [rows, length]
    segment_ids: np.ndarray
    positions: np.ndarray
    filled: np.ndarray  # bool [rows, length]


def _layout(rows: Sequence[Row], part: int, length: int) -> _Layout:
    items = [item.parts[part][:length] for row in rows for item in row]
    sizes = np.array([piece.size for piece in items], np.int64)
    counts = np.array([len(row) for row in rows], np.int64)
    used = np.zeros(len(rows), np.int64)
    np.add.at(used, np.repeat(np.arange(len(rows)), counts), sizes)
    if used.max(initial=0) > length:
        raise ValueError(f"{used.max()} tokens do not fit a row of {length}")
    shape = (len(rows), length)
    filled = np.arange(length) < used[:, None]
    tokens, segment_ids, positions = (np.zeros(shape, np.int32) for _ in range(3))
    if items:
        tokens[filled] = np.concatenate(items)
        within = np.arange(len(items)) - np.repeat(np.cumsum(counts) - counts, counts)
        segment_ids[filled] = np.repeat((within + 1).astype(np.int32), sizes)
        total = int(sizes.sum())
        starts = np.cumsum(sizes) - sizes
        positions[filled] = np.arange(total, dtype=np.int32) - np.repeat(starts, sizes)
    return _Layout(tokens, segment_ids, positions, filled)


def _shift_right(layout: _Layout, pack: bool, start_id: int) -> np.ndarray:
    shifted = np.empty_like(layout.tokens)
    shifted[:, 0] = start_id
    shifted[:, 1:] = layout.tokens[:, :-1]
    if pack:
        # A segment, and the padding, begins anew and not with the end of what is before it.
        ids = layout.segment_ids
        np.copyto(shifted[:, 1:], start_id, where=ids[:, 1:] != ids[:, :-1])
    return shifted


def _decoder(layout: _Layout, pack: bool, zero_is_token: bool, start_id: int) -> ModelBatch:
    counted = layout.filled if zero_is_token else layout.tokens != 0
    batch = {
        "decoder_target_tokens": layout.tokens,
        "decoder_input_tokens": _shift_right(layout, pack, start_id),
        "decoder_loss_weights": counted.astype(np.int32),
    }
    if pack:
        batch["decoder_segment_ids"] = layout.segment_ids
        batch["decoder_positions"] = layout.positions
    return batch


def _given_positions(rows: Sequence[Row], layout: _Layout) -> np.ndarray:
    """The layout's positions, with those that items bring along in their place."""
    positions = layout.positions.copy()
    items = [(item.parts[-1].size, item.positions) for row in rows for item in row]
    if items:
        positions[layout.filled] = np.concatenate(
            [
                np.arange(size, dtype=np.int32) if given is None else given[:size]
                for size, given in items
            ]
        )
    return positions


@dataclass(frozen=True)
class EncDec:
    """Inputs to the encoder, targets to the decoder.

    Attributes:
      zero_is_token: see `FeatureConverter`. Rows that are not packed then have
        `encoder_segment_ids` too, 1 on the tokens.
      positioned: whether examples bring `targets_positions`, which become `decoder_positions`,
        packed or not; those that do not are counted from 0.
      start_id: see `FeatureConverter`.
    """

    zero_is_token: bool = False
    positioned: bool = False
    start_id: int = 0

    task_features: ClassVar[tuple[str, ...]] = ("inputs", "targets")

    def capacities(self, lengths: Mapping[str, int]) -> tuple[int, ...]:
        """Encoder's and decoder's length."""
        return lengths["inputs"], lengths["targets"]

    def item(self, example: Mapping[str, np.ndarray]) -> Item:
        """Parts: inputs, targets."""
        positions = example.get("targets_positions") if self.positioned else None
        return Item((example["inputs"], example["targets"]), positions=positions)

    def batch(self, rows: Sequence[Row], lengths: Mapping[str, int], pack: bool) -> ModelBatch:
        """`encoder_input_tokens` and the decoder's features, see `FeatureConverter.batch`."""
        encoder = _layout(rows, 0, lengths["inputs"])
        decoder = _layout(rows, 1, lengths["targets"])
        batch = {"encoder_input_tokens": encoder.tokens}
        batch |= _decoder(decoder, pack, self.zero_is_token, self.start_id)
        if pack or self.zero_is_token:
            batch["encoder_segment_ids"] = encoder.segment_ids
        if pack:
            batch["encoder_positions"] = encoder.positions
        if self.positioned:
            batch["decoder_positions"] = _given_positions(rows, decoder)
        return batch


@dataclass(frozen=True)
class LM:
    """Targets alone, each token predicted from those before it; see `FeatureConverter`."""

    zero_is_token: bool = False
    start_id: int = 0

    task_features: ClassVar[tuple[str, ...]] = ("targets",)

    def capacities(self, lengths: Mapping[str, int]) -> tuple[int, ...]:
        """The decoder's length."""
        return (lengths["targets"],)

    def item(self, example: Mapping[str, np.ndarray]) -> Item:
        """One part: the targets."""
        return Item((example["targets"],))

    def batch(self, rows: Sequence[Row], lengths: Mapping[str, int], pack: bool) -> ModelBatch:
        """The decoder's features, see `FeatureConverter.batch`."""
        layout = _layout(rows, 0, lengths["targets"])
        return _decoder(layout, pack, self.zero_is_token, self.start_id)


@dataclass(frozen=True)
class PrefixLM:
    """Inputs and targets as one sequence whose inputs are seen in both directions.

    `decoder_causal_attention` is 1 on the inputs and on the position after them, which reads
    the last input and predicts the first target; the loss counts targets only (Raffel et al.
    2020, section 3.2.1). `zero_is_token` and `start_id` are as in `FeatureConverter`.
    """

    zero_is_token: bool = False
    start_id: int = 0

    task_features: ClassVar[tuple[str, ...]] = ("inputs", "targets")

    def capacities(self, lengths: Mapping[str, int]) -> tuple[int, ...]:
        """The decoder's length: inputs and targets together."""
        return (lengths["inputs"] + lengths["targets"],)

    def item(self, example: Mapping[str, np.ndarray]) -> Item:
        """One part: inputs, then targets."""
        inputs = example["inputs"]
        return Item((np.concatenate([inputs, example["targets"]]),), inputs.size)

    def batch(self, rows: Sequence[Row], lengths: Mapping[str, int], pack: bool) -> ModelBatch:
        """The decoder's features with `decoder_causal_attention`."""
        length = lengths["inputs"] + lengths["targets"]
        layout = _layout(rows, 0, length)
        prefix = np.zeros_like(layout.tokens)
        items = [item for row in rows for item in row]
        if items:
            sizes = [min(item.parts[0].size, length) for item in items]
            prefix[layout.filled] = np.repeat([item.prefix for item in items], sizes)
        batch = _decoder(layout, pack, self.zero_is_token, self.start_id)
        inside = layout.filled & (layout.positions < prefix)
        batch["decoder_loss_weights"] *= ~inside
        batch["decoder_causal_attention"] = (layout.filled & (layout.positions <= prefix)).astype(
            np.int32
        )
        return batch


def converter_for(
    architecture: Architecture,
    features: Sequence[str],
    *,
    zero_is_token: bool = False,
    positioned: bool = False,
) -> EncDec | LM | PrefixLM:
    """The converter that joins an architecture to a task's features.

    Args:
      architecture: of the model.
      features: of the task.
      zero_is_token: whether id 0 is a token of the vocabulary like any other.
      positioned: whether `targets` come with `targets_positions`, of which encoder-decoders
        take notice; in a prefix language model they follow the inputs as ever.

    Raises:
      UserError: the model needs a feature that the task does not have.
    """
    if "targets" not in features:
        raise UserError(f"the task has the features {sorted(features)}, but not 'targets'")
    if architecture == "encoder_decoder":
        if "inputs" not in features:
            raise UserError(
                "an encoder-decoder model needs the feature 'inputs', which the task does not "
                "have; choose a task with inputs (span corruption, say) or a decoder-only model"
            )
        return EncDec(zero_is_token, positioned)
    if architecture == "decoder_only":
        return PrefixLM(zero_is_token) if "inputs" in features else LM(zero_is_token)
    raise UserError(f"architecture {architecture!r} is neither encoder_decoder nor decoder_only")
