"""The two factorized patterns of the Sparse Transformer (Child et al. 2019, sections 4.2 and 4.3).

Each has a near part and a distant one, between which two steps reach every earlier token. A head
may follow one of them or their union. Both are of a text's own tokens: in a row that holds several
texts, each is seen as if it stood alone.
"""

import dataclasses
import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from models.errors import ModelError
from models.layers.attention.block_sparse import (
    Region,
    Tokens,
    View,
    chosen,
    columns,
    listed,
)
from models.layers.attention.masks import Mask

# Parts that a row is divided into, none of which is compared with keys after its end.
REGIONS = 4


@dataclasses.dataclass(frozen=True)
class Factorized:
    """What both patterns share.

    Attributes:
      stride: l.
      near: whether a query sees the near part.
      distant: whether it sees the distant part.
    """

    stride: int
    near: bool = True
    distant: bool = True

    def padded(self, length: int) -> int:
        """A multiple of the stride."""
        return -(-length // self.stride) * self.stride

    def regions(self, length: int, tokens: Tokens, mask: Mask) -> Sequence[Region]:
        """Blocks of `stride` queries."""
        if mask.prefix_bt is not None:
            raise ModelError(
                "factorized attention reads from left to right: there are no prefixes seen in both "
                "directions. Set input_attention to 'causal'."
            )
        blocks = length // self.stride
        edges = sorted({blocks * i // REGIONS for i in range(REGIONS + 1)})
        regions = []
        for first, last in itertools.pairwise(edges):
            views = []
            if self.near:
                views.append(self.near_view(first, last, mask))
            if self.distant:
                views.append(self.distant_view(last * self.stride, tokens, mask))
            regions.append(Region(first * self.stride, self.stride, last - first, tuple(views)))
        return regions

    def near_view(self, first: int, last: int, mask: Mask) -> View:
        """The keys that the near part of blocks of queries may have."""
        raise NotImplementedError

    def distant_view(self, end: int, tokens: Tokens, mask: Mask) -> View:
        """Those of the distant part, before slot `end`."""
        raise NotImplementedError

    def sees_near(self, queries: Tokens, keys: Tokens) -> jax.Array:
        """Whether a key is in the near part."""
        raise NotImplementedError

    def sees_distant(self, queries: Tokens, keys: Tokens) -> jax.Array:
        """Whether a key is in the distant part."""
        raise NotImplementedError

    def sees(self, queries: Tokens, keys: Tokens) -> jax.Array:
        """Whether a key is in one of the parts that the pattern has."""
        near, distant = self.sees_near(queries, keys), self.sees_distant(queries, keys)
        if not self.distant:
            return near
        return near | distant if self.near else distant

    def _only_distant(self, queries: Tokens, keys: Tokens) -> jax.Array:
        """What the distant part adds to the near one, so that no key is counted twice."""
        distant = self.sees_distant(queries, keys)
        return distant & ~self.sees_near(queries, keys) if self.near else distant

    def _own_and_previous(self, first: int, last: int) -> View:
        numbers = np.arange(first, last)
        # Before the first block there is none: a number beyond the last.
        previous = np.where(numbers > 0, numbers - 1, np.iinfo(np.int32).max)
        table_1nr = np.stack([previous, numbers], axis=1)[None]
        return listed(table_1nr, self.stride, self.sees_near)


class Strided(Factorized):
    """The last l tokens and every l-th token before; for data with a period, such as images.

    Near are the query itself and the l tokens before it, in the paper's equations (section 4.2);
    the released code's near part has one less, which every distant part has.
    """

    def sees_near(self, queries: Tokens, keys: Tokens) -> jax.Array:
        """Whether a key is at most l before its query."""
        behind = queries.slots - keys.slots
        return (behind >= 0) & (behind <= self.stride)

    def sees_distant(self, queries: Tokens, keys: Tokens) -> jax.Array:
        """Whether a key is a multiple of l before its query."""
        behind = queries.slots - keys.slots
        return (behind >= 0) & (behind % self.stride == 0)

    def near_view(self, first: int, last: int, mask: Mask) -> View:
        """The block of the query, and the one before."""
        return self._own_and_previous(first, last)

    def distant_view(self, end: int, tokens: Tokens, mask: Mask) -> View:
        """The tokens at the query's place in every block."""
        return columns(self.stride, self._only_distant, end=end)

    def visible_pairs(self, length: int) -> int:
        """Of a row that is one text."""
        i = np.arange(length)
        near = np.minimum(i, self.stride) + 1
        # Of the multiples of l, the first two are near.
        distant = i // self.stride + 1
        added = np.maximum(distant - 2, 0)
        return int((near + added if self.near and self.distant else near if self.near else distant)
                   .sum())  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Fixed(Factorized):
    """The block of l tokens that the query is in, and the last c of every block; for text.

    Attributes:
      summary: c, how many tokens at the end of each block all later ones see.
    """

    summary: int = 1

    def __post_init__(self) -> None:
        """Checks c.

        Raises:
          ModelError: it is not between 1 and l.
        """
        if not 1 <= self.summary <= self.stride:
            raise ModelError(
                f"summary is {self.summary}: of a block of {self.stride} tokens (stride), between "
                f"1 and {self.stride} are seen by all later ones."
            )

    def sees_near(self, queries: Tokens, keys: Tokens) -> jax.Array:
        """Whether a key is in its query's block, and not after it."""
        same = queries.positions // self.stride == keys.positions // self.stride
        return same & (queries.slots >= keys.slots)

    def sees_distant(self, queries: Tokens, keys: Tokens) -> jax.Array:
        """Whether a key is one of the last of its block, and not after its query."""
        last = keys.positions % self.stride >= self.stride - self.summary
        return last & (queries.slots >= keys.slots)

    def near_view(self, first: int, last: int, mask: Mask) -> View:
        """The query's block, which may begin anywhere where texts do."""
        if _aligned(mask):
            return listed(np.arange(first, last)[None, :, None], self.stride, self.sees_near)
        return self._own_and_previous(first, last)

    def distant_view(self, end: int, tokens: Tokens, mask: Mask) -> View:
        """The last tokens of every block.

        Texts that do not begin where blocks do have them anywhere, but not more of them: of
        every `l` tokens of a text, and of fewer in proportion, at most c.
        """
        most = end // self.stride * self.summary
        if _aligned(mask):
            slots = np.arange(end).reshape(-1, self.stride)[:, self.stride - self.summary :]
            return chosen(slots.reshape(-1), self._only_distant)
        last = tokens.positions[:, :end] % self.stride >= self.stride - self.summary
        last &= tokens.segments[:, :end] > 0
        first_ones = jnp.argsort(~last, axis=1, stable=True)[:, :most]
        return chosen(first_ones, self._only_distant)

    def visible_pairs(self, length: int) -> int:
        """Of a row that is one text."""
        blocks, place = np.divmod(np.arange(length), self.stride)
        near, added = place + 1, self.summary * blocks
        distant = added + np.maximum(place - (self.stride - self.summary) + 1, 0)
        return int((near + added if self.near and self.distant else near if self.near else distant)
                   .sum())  # fmt: skip


def _aligned(mask: Mask) -> bool:
    """Whether a row is one text that begins with it."""
    return mask.key_segments_bs is None and mask.key_valid_bs is None
