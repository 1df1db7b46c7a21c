"""How the kernels divide queries and keys into blocks, and which pairs of blocks they visit."""

import dataclasses
import math

import jax
import jax.numpy as jnp

# A TPU's vector lanes, which queries and keys lie along: blocks are multiples of it.
LANES = 128
# The most queries or keys of a block: its scores and what is made of them are in on-chip memory.
MOST = 512
# With vectors of distances, where a block meets twice as many distances as keys.
MOST_OF_VECTORS = 256
# What larger blocks may add to a row that is filled up, of its length in the smallest blocks.
MOST_PADDING = 0.25


def block_size(length: int, most: int) -> int:
    """The largest block, a power of 2, that does not fill a row up by much.

    Args:
      length: of the row.
      most: the largest size.
    """
    size, shortest = most, -(-length // LANES) * LANES
    while size > LANES and -(-length // size) * size > (1 + MOST_PADDING) * shortest:
        size //= 2
    return size


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is known of a call while tracing.

    Attributes:
      num_queries: t.
      num_keys: s.
      query_block: queries of a block.
      key_block: keys of a block; with relative positions as many.
      causal: see `Mask`.
      window: see `Mask`.
      has_prefix: whether tokens of a prefix see all of it; the second row of the marks.
      has_first: whether the first query's slot is known at run time only.
      threshold: of 65536, how many weights are dropped.
      shared_axes: along which the draws of dropout are shared, see `Dropout`.
    """

    num_queries: int
    num_keys: int
    query_block: int
    key_block: int
    causal: bool = False
    window: int | None = None
    has_prefix: bool = False
    has_first: bool = False
    threshold: int = 0
    shared_axes: tuple[int, ...] = ()

    @property
    def query_blocks(self) -> int:
        """Blocks of queries."""
        return -(-self.num_queries // self.query_block)

    @property
    def key_blocks(self) -> int:
        """Blocks of keys."""
        return -(-self.num_keys // self.key_block)

    @property
    def num_windows(self) -> int:
        """Distances between a block of queries and one of keys, in blocks."""
        return self.query_blocks + self.key_blocks - 1

    @property
    def is_skipping(self) -> bool:
        """Whether some pairs of blocks are known to be hidden."""
        return self.causal and not self.has_prefix

    def sees(self, i: jax.Array | int, j: jax.Array | int, first: jax.Array | int) -> jax.Array:
        """Whether any query of block i may see any key of block j; `first` is the first's slot."""
        start = first + i * self.query_block
        seen = jnp.asarray(j * self.key_block < start + self.query_block)
        if self.window is not None:
            seen &= (j + 1) * self.key_block > start - self.window + 1
        return seen

    def nearest_keys(self, i: jax.Array, j: jax.Array) -> jax.Array:
        """Block j of keys, or the nearest one that block i of queries sees: it is read instead.

        A block that is not needed is thus not read, because it is on chip already or soon needed.
        """
        if not self.is_skipping or self.has_first:
            return j
        last = ((i + 1) * self.query_block - 1) // self.key_block
        earliest: jax.Array | int = 0
        if self.window is not None:
            earliest = jnp.maximum(i * self.query_block - self.window + 1, 0) // self.key_block
        return jnp.clip(j, earliest, jnp.minimum(last, self.key_blocks - 1))

    def nearest_queries(self, j: jax.Array, i: jax.Array) -> jax.Array:
        """Block i of queries, or the nearest one that sees block j of keys."""
        if not self.is_skipping or self.has_first:
            return i
        last: jax.Array | int = self.query_blocks - 1
        if self.window is not None:
            latest = (j + 1) * self.key_block + self.window - 2
            last = jnp.minimum(latest // self.query_block, last)
        return jnp.clip(i, jnp.minimum(j * self.key_block // self.query_block, last), last)

    def visited(self) -> int:
        """Pairs of blocks whose scores are computed, as far as is known while tracing."""
        pairs = self.query_blocks * self.key_blocks
        if not self.is_skipping or self.has_first:
            return pairs
        window = math.inf if self.window is None else self.window
        return sum(
            j * self.key_block < (i + 1) * self.query_block
            and (j + 1) * self.key_block > i * self.query_block - window + 1
            for i in range(self.query_blocks)
            for j in range(self.key_blocks)
        )
