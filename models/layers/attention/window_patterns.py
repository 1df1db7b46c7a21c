"""BigBird's pattern: windows, tokens that all see and that see all, and random blocks.

Zaheer et al. 2020, section 2, in blocks of tokens as in appendix D. A token sees its own block and
its two neighbours, r random blocks, and the global tokens. These are the first and the last block
of the row (ITC, internal), or tokens that stand before the text (ETC, extended).
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from models.layers.attention.block_sparse import (
    Region,
    Tokens,
    View,
    chosen,
    everything,
    listed,
)
from models.layers.attention.masks import Mask, SentencesMask

# Lengths for which the released code draws from the blocks of the first tokens, so many.
OLD_LENGTHS, OLD_TOKENS = (1024, 3072, 4096), 1024
# No block: beyond the last of any row.
NONE = np.iinfo(np.int32).max


@struct.dataclass
class RandomBlocksMask(SentencesMask):
    """A mask that says too which random blocks each block of queries sees.

    Attributes:
      random_gnr: int32 `[heads, blocks of the text that are not global, random blocks]`: numbers of
        blocks of keys. One that is named twice counts twice.
    """

    random_gnr: jax.Array | None = None


@dataclasses.dataclass(frozen=True)
class WindowsAndGlobals:
    """Which keys a query of BigBird sees.

    Attributes:
      block: b, tokens of a block.
      num_global: tokens before the text that are global; with 0 the first and the last block are.
      max_distance: k, beyond which distances of labels are not told apart.
      sentences: whether each global token stands for the sentence that the mask says it is of, and
        labels tell the tokens of its own sentence from others.
      hard_global_to_long: with `sentences`, whether a global token sees no text but its sentence
        and what is of none.
      hard_long_to_global: with `sentences`, whether a token of a sentence sees no global token but
        that of its own.
    """

    block: int
    num_global: int = 0
    max_distance: int = 0
    sentences: bool = False
    hard_global_to_long: bool = False
    hard_long_to_global: bool = False

    @property
    def num_labels(self) -> int:
        """Of pairs, see `labels`."""
        return 2 * self.max_distance + (5 if self.sentences else 3)

    def blocks(self, length: int) -> int:
        """Blocks of a text that has `length` tokens, global ones left out."""
        return -(-(length - self.num_global) // self.block)

    def padded(self, length: int) -> int:
        """The global tokens, and whole blocks."""
        return self.num_global + self.blocks(length) * self.block

    def regions(self, length: int, tokens: Tokens, mask: Mask) -> Sequence[Region]:
        """The global queries, which see all, and the others between or behind them."""
        random = [] if not isinstance(mask, RandomBlocksMask) else [mask.random_gnr]
        views = [
            listed(table, self.block, first=self.num_global)
            for table in random
            if table is not None and table.shape[-1]
        ]
        count = self.blocks(length)
        windows = np.arange(count)[:, None] + np.arange(-1, 2)
        if self.num_global:
            windows = np.where((windows < 0) | (windows >= count), NONE, windows)
            whole = everything(self._global_sees if self.hard_global_to_long else None, end=length)
            globals_ = everything(
                self._sees_global if self.hard_long_to_global else None, end=self.num_global
            )
            return [
                Region(0, self.num_global, 1, (whole,), self.labels),
                Region(self.num_global, self.block, count,
                       (globals_, self._windows(windows), *views), self.labels),
            ]  # fmt: skip
        # The first and the last block are global, and no part of a window.
        windows = np.where((windows < 1) | (windows > count - 2), NONE, windows)[1:-1]
        whole = everything(end=length)
        ends = np.r_[: self.block, length - self.block : length]
        return [
            Region(0, self.block, 1, (whole,)),
            Region(self.block, self.block, count - 2,
                   (chosen(ends), self._windows(windows), *views)),
            Region(length - self.block, self.block, 1, (whole,)),
        ]  # fmt: skip

    def sees(self, queries: Tokens, keys: Tokens) -> jax.Array:
        """Nothing is read from a cache: an encoder has none."""
        raise NotImplementedError

    def visible_pairs(self, length: int) -> int | None:
        """All that are computed."""
        return None

    def labels(self, queries: Tokens, keys: Tokens) -> jax.Array:
        """The key's distance, cut at -k and k, from 0; and two more labels.

        One is of a global query and a key of the text, one of the other way round (Ainslie et al.
        2020, section 2.2); with sentences another one of each where both are of the same.
        """
        k = self.max_distance
        distances = jnp.clip(keys.slots - queries.slots, -k, k) + k
        of_query, of_key = (x.slots < self.num_global for x in (queries, keys))
        crossing = jnp.where(of_query, 2 * k + 1, 2 * k + 2)
        if self.sentences:
            crossing += 2 * (queries.sentences == keys.sentences)
        return jnp.where(of_query == of_key, distances, crossing)

    def _global_sees(self, queries: Tokens, keys: Tokens) -> jax.Array:
        """All global tokens, its own sentence, and what is of none."""
        is_global = keys.slots < self.num_global
        return is_global | (keys.sentences == 0) | (keys.sentences == queries.sentences)

    def _sees_global(self, queries: Tokens, keys: Tokens) -> jax.Array:
        """That of its own sentence; all if it is of none."""
        own: Any = queries.sentences
        return (own == 0) | (own == keys.sentences)

    def _windows(self, table_nr: np.ndarray) -> View:
        return listed(table_nr[None], self.block, first=self.num_global)


def random_blocks(
    layer: int, num_heads: int, length: int, block: int, num_random: int, longest: int
) -> np.ndarray:
    """The random blocks that `transformers` draws for a layer in training.

    Its generator is NumPy's old one, seeded by the number of the layer, so that they are the same
    in every step. Rows of 1,024, 3,072 and 4,096 tokens draw from the first 1,024 tokens, each head
    by itself, as the paper's models do; other lengths from the first `5 + 2 r` blocks.

    Args:
      layer: its number, from 0.
      num_heads: heads, each of which has its own.
      length: tokens of a row, a multiple of `block`, above `(5 + 2 r) block`.
      block: tokens of a block.
      num_random: r, blocks for each block of queries.
      longest: the longest row that the model is made for.

    Returns:
      int32 `[heads, blocks - 2, r]`, for the blocks between the first and the last.
    """
    draws = np.random.RandomState(layer)
    count = length // block
    if length in OLD_LENGTHS:
        heads = [_of_old_length(draws, block, num_random, longest) for _ in range(num_heads)]
        return np.stack(heads)[:, : count - 2]
    table = np.zeros((num_heads, count, num_random), np.int32)
    if num_random:
        drawn_from = 2 * num_random + 5
        for row in range(1, count):
            left_out = {0, row - 1, row, row + 1, drawn_from - 1}
            # A global block's neighbour does not see the other's.
            left_out |= {drawn_from - 2} if row == 1 else set()
            left_out |= {1} if row == drawn_from - 2 else set()
            for head in range(num_heads):
                order = draws.permutation(np.arange(drawn_from, dtype=np.int32))
                table[head, row] = [x for x in order if x not in left_out][:num_random]
    return table[:, 1:-1]


def _of_old_length(draws, block, num_random, longest):
    """One head's blocks for all rows of the longest length, `[blocks - 2, r]`."""
    count = longest // block
    # The last block that is drawn: of the first tokens, and not the row's last.
    last = OLD_TOKENS // block - 1 if 2 * block < OLD_TOKENS else count - 1
    last = min(last, count - 2)
    table = np.zeros((count - 2, num_random), np.int32)
    for row in range(1, count - 1):
        if row > 2 and row >= count - 3:
            # The released code forgets the window here.
            candidates = np.arange(1, last + 1)
        else:
            before, after = np.arange(1, min(row - 2, last) + 1), np.arange(row + 2, last + 1)
            candidates = np.concatenate([before, after])
        table[row - 1] = draws.permutation(candidates.astype(np.int32))[:num_random]
    return table


@functools.lru_cache(maxsize=32)
def random_blocks_of_layers(
    num_layers: int, num_heads: int, length: int, block: int, num_random: int, longest: int
) -> np.ndarray:
    """`random_blocks` of all layers, `[layers, heads, blocks - 2, r]`."""
    sizes = (num_heads, length, block, num_random, longest)
    return np.stack([random_blocks(layer, *sizes) for layer in range(num_layers)])
