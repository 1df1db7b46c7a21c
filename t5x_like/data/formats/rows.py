"""Examples on their way into the rows of a batch.

A batch format first makes an example into an `Item`, the runs of tokens that fill a row; then it
lays whole batches out at once, because NumPy's cost is in the call and not in the token. The
conventions (token 0 pads, decoder inputs are the targets shifted right, segments count from 1)
are those of seqio's `feature_converters.py`, whose `bos_id` is `start_id` here.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

ModelBatch = dict[str, np.ndarray]
_NOTHING: Mapping[str, np.ndarray] = {}


class Item(NamedTuple):
    """One example on its way into a row.

    Attributes:
      parts: int32 `[length]` for each run of tokens that a row has.
      prefix: how many of the last part's tokens are inputs.
      positions: int32 `[length]`, those of the last part's tokens; None for 0, 1, 2, …
      companions: arrays `[length, ...]` by name, one entry for each of the last part's tokens.
      labels: arrays of any rank by name, one for the whole example.
    """

    parts: tuple[np.ndarray, ...]
    prefix: int = 0
    positions: np.ndarray | None = None
    companions: Mapping[str, np.ndarray] = _NOTHING
    labels: Mapping[str, np.ndarray] = _NOTHING

    def before_padding(self) -> "Item":
        """Each part up to where padding begins, which is where seqio takes it to end."""
        parts = tuple(part[: np.count_nonzero(part)] for part in self.parts)
        size = parts[-1].size
        companions = {name: array[:size] for name, array in self.companions.items()}
        return self._replace(parts=parts, companions=companions)


Row = Sequence[Item]


class Layout(NamedTuple):
    """One run of tokens of every row, laid out.

    Attributes:
      tokens: int32 `[rows, length]`, 0 where there is nothing.
      segment_ids: int32, counted from 1 within a row, 0 where there is nothing.
      positions: int32, counted from 0 within an item.
      filled: bool, where there is a token.
    """

    tokens: np.ndarray
    segment_ids: np.ndarray
    positions: np.ndarray
    filled: np.ndarray


def layout(rows: Sequence[Row], part: int, length: int) -> Layout:
    """Lays one part of all items out, each cut to `length`.

    Raises:
      ValueError: the items of a row are longer than it.
    """
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
    return Layout(tokens, segment_ids, positions, filled)


def companion(
    rows: Sequence[Row], name: str, filled: np.ndarray, dtype: type[np.generic] = np.int32
) -> np.ndarray:
    """What goes with each token of the last part, `[rows, length]`, 0 where there is nothing."""
    out = np.zeros(filled.shape, dtype)
    pieces = [item.companions[name][: filled.shape[1]] for row in rows for item in row]
    if pieces:
        out[filled] = np.concatenate(pieces)
    return out


def row_continues(rows: Sequence[Row]) -> np.ndarray:
    """Which rows continue those of the batch before, by the label `continues` of their one item.

    Returns:
      int32 `[rows]`, 0 where a text begins, and where there is no item.
    """
    return np.array([row[0].labels["continues"] if row else 0 for row in rows], np.int32)


def given_positions(rows: Sequence[Row], laid_out: Layout) -> np.ndarray:
    """The layout's positions, with those that items bring along in their place."""
    positions = laid_out.positions.copy()
    items = [(item.parts[-1].size, item.positions) for row in rows for item in row]
    if items:
        positions[laid_out.filled] = np.concatenate(
            [
                np.arange(size, dtype=np.int32) if given is None else given[:size]
                for size, given in items
            ]
        )
    return positions


def decoder_features(
    laid_out: Layout, pack: bool, zero_is_token: bool, start_id: int
) -> ModelBatch:
    """What every decoder is given: targets, the same shifted right, and loss weights.

    Args:
      laid_out: the targets.
      pack: whether to add segment ids and positions.
      zero_is_token: whether id 0 is a token like any other, and not padding.
      start_id: what the decoder reads first, in every row and every segment of it.
    """
    counted = laid_out.filled if zero_is_token else laid_out.tokens != 0
    batch = {
        "decoder_target_tokens": laid_out.tokens,
        "decoder_input_tokens": _shift_right(laid_out, pack, start_id),
        "decoder_loss_weights": counted.astype(np.int32),
    }
    if pack:
        batch["decoder_segment_ids"] = laid_out.segment_ids
        batch["decoder_positions"] = laid_out.positions
    return batch


def _shift_right(laid_out: Layout, pack: bool, start_id: int) -> np.ndarray:
    shifted = np.empty_like(laid_out.tokens)
    shifted[:, 0] = start_id
    shifted[:, 1:] = laid_out.tokens[:, :-1]
    if pack:
        # A segment, and the padding, begins anew and not with the end of what is before it.
        ids = laid_out.segment_ids
        np.copyto(shifted[:, 1:], start_id, where=ids[:, 1:] != ids[:, :-1])
    return shifted
