"""Adaptive embeddings and softmax, in which rare tokens cost less (Grave et al. 2017).

Tokens are sorted by their frequency and cut into a head, the most frequent ones, and tails. The
head's softmax has the head's tokens and one entry for each tail; a token of a tail has the
probability of its tail times its own within it. The vectors of a tail may be narrower than those
of the tails before it, in the embeddings as in the output (Baevski and Auli 2019).
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from models.layers import parts
from models.layers.linear import Initializer, axis_names, dense

Arrays = tuple[jax.Array, ...]


def cluster_bounds(vocab_size: int, cutoffs: Sequence[int]) -> tuple[int, ...]:
    """Where the head and each tail begin, and the size of the vocabulary."""
    return (0, *(cut for cut in cutoffs if cut < vocab_size), vocab_size)


@struct.dataclass
class AdaptiveSoftmax:
    """What the output is made of: it stands where other models have the matrix to logits.

    Attributes:
      tables: vectors of the tokens of the head and of each tail, float32 `[v_c, e_c]`.
      biases: of the same tokens, `[v_c]`.
      projections: from the residual stream to the width of each table, `[e_c, e]`; none where all
        are as wide.
      cluster_table: vectors of the tails in the head's softmax, `[tails, e_0]`.
      cluster_bias: `[tails]`.
    """

    tables: Arrays
    biases: Arrays
    projections: Arrays
    cluster_table: jax.Array
    cluster_bias: jax.Array

    @property
    def shape(self) -> tuple[int, int]:
        """Width of the residual stream, and size of the vocabulary, as of a matrix to logits."""
        widths = self.projections or self.tables
        return widths[0].shape[-1], sum(table.shape[-2] for table in self.tables)

    @parts.part(parts.HEAD)
    def log_probabilities(self, x_bte: jax.Array) -> jax.Array:
        """Log-probabilities of all tokens, `[..., e]` to float32 `[..., v]`.

        Every tail is computed for every token, since shapes must not depend on the targets.
        """
        head = jnp.concatenate([self.tables[0], self.cluster_table])
        bias = jnp.concatenate([self.biases[0], self.cluster_bias])
        of_head = jax.nn.log_softmax(self._scores(x_bte, 0, head) + bias)
        size = self.tables[0].shape[0]
        found = [of_head[..., :size]]
        for i in range(1, len(self.tables)):
            within = jax.nn.log_softmax(self._scores(x_bte, i, self.tables[i]) + self.biases[i])
            found.append(of_head[..., size + i - 1, None] + within)
        return jnp.concatenate(found, axis=-1)

    def _scores(self, x_bte: jax.Array, cluster: int, table: jax.Array) -> jax.Array:
        if self.projections:
            x_bte = dense(x_bte, self.projections[cluster].T.astype(x_bte.dtype))
        return dense(x_bte, table.T.astype(x_bte.dtype), "float32")

    def constrained(self, before: tuple[str | None, ...]) -> "AdaptiveSoftmax":
        """The same, divided by vocabulary alone; `before` are further first axes."""

        def divided(x: Any, *axes: str | None) -> Any:
            return nn.with_logical_constraint(x, (*before, *axes))

        return AdaptiveSoftmax(
            tables=tuple(divided(x, "vocab", None) for x in self.tables),
            biases=tuple(divided(x, "vocab") for x in self.biases),
            projections=tuple(divided(x, None, None) for x in self.projections),
            cluster_table=divided(self.cluster_table, None, None),
            cluster_bias=divided(self.cluster_bias, None),
        )


class AdaptiveEmbed(nn.Module):
    """A learned vector for each token, narrower for rarer ones, and all projected to one width.

    Attributes:
      vocab_size: how many tokens.
      embed_dim: width of the result.
      table_dim: width of the head's vectors.
      cutoffs: first token of each tail.
      divisor: the vectors of tail i are `table_dim / divisor ** i` wide; 1 has a single table.
      embedding_init: initial values of the tables.
      projection_init: of the projections.
      dtype: of the result.
    """

    vocab_size: int
    embed_dim: int
    table_dim: int
    cutoffs: tuple[int, ...]
    divisor: int
    embedding_init: Initializer
    projection_init: Initializer
    dtype: str = "float32"

    def setup(self) -> None:
        """Makes `embedding_c`, `[v_c, e_c]`, and where widths differ `projection_c`, `[e_c, e]`."""
        bounds = cluster_bounds(self.vocab_size, self.cutoffs)
        self.bounds = bounds if self.divisor > 1 else (0, self.vocab_size)
        tables, projections = [], []
        for i in range(len(self.bounds) - 1):
            width = self.table_dim // self.divisor**i
            # What is narrower is not divided along its width.
            axes = ("vocab", "rank" if i else "embed")
            shape = (self.bounds[i + 1] - self.bounds[i], width)
            tables.append(
                self.param(f"embedding_{i}", axis_names(axes, self.embedding_init), shape)
            )
            if self.divisor > 1 or self.table_dim != self.embed_dim:
                init = axis_names((None, "embed"), self.projection_init)
                projections.append(self.param(f"projection_{i}", init, (width, self.embed_dim)))
        self.tables, self.projections = tuple(tables), tuple(projections)

    def __call__(self, tokens_bt: jax.Array) -> jax.Array:
        """Tokens, int `[b, t]`, to their vectors `[b, t, e]`."""
        found = None
        for i, table in enumerate(self.tables):
            first, end = self.bounds[i : i + 2]
            # Gathered along its width where FSDP divides it, as in `embeddings.Embed`.
            table = nn.with_logical_constraint(table, ("vocab", None))
            own_bt = jnp.clip(tokens_bt - first, 0, end - first - 1)
            x_bte = jnp.take(table, own_bt, axis=0).astype(self.dtype)
            x_bte = nn.with_logical_constraint(x_bte, ("batch", None, "embed"))
            if self.projections:
                x_bte = dense(x_bte, self.projections[i].astype(self.dtype))
            here_bt1 = (tokens_bt >= first)[..., None]
            found = x_bte if found is None else jnp.where(here_bt1, x_bte, found)
        return nn.with_logical_constraint(found, ("batch", "length", "embed"))


class AdaptiveOutput(nn.Module):
    """The biases and vectors of an `AdaptiveSoftmax` whose tables are an `AdaptiveEmbed`'s.

    Attributes:
      vocab_size: how many tokens.
      cutoffs: first token of each tail.
      tied_projections: whether the tails are projected by the embeddings' matrices; the head has
        one of its own, as in the released code.
      projection_init: initial values of the output's own projections.
      cluster_init: of the vectors of the tails.
    """

    vocab_size: int
    cutoffs: tuple[int, ...]
    tied_projections: bool
    projection_init: Initializer
    cluster_init: Initializer

    @nn.compact
    def __call__(self, tables: Arrays, projections: Arrays) -> AdaptiveSoftmax:
        """The output, from the embeddings' tables and projections."""
        bounds = cluster_bounds(self.vocab_size, self.cutoffs)
        zeros = axis_names(("vocab",), nn.initializers.zeros)
        biases = tuple(
            self.param(f"bias_{i}", zeros, table.shape[:1]) for i, table in enumerate(tables)
        )
        if len(tables) < len(bounds) - 1:
            ranges = [slice(*bounds[i : i + 2]) for i in range(len(bounds) - 1)]
            biases = tuple(biases[0][own] for own in ranges)
            tables = tuple(tables[0][own] for own in ranges)
            projections = projections * len(ranges)
        own = []
        for i, projection in enumerate(projections):
            if i == 0 or not self.tied_projections:
                init = axis_names((None, "embed"), self.projection_init)
                projection = self.param(f"projection_{i}", init, projection.shape)
            own.append(projection)
        tails = len(bounds) - 2
        width = tables[0].shape[1]
        if not tails:
            vectors, bias = jnp.zeros((0, width)), jnp.zeros(0)
        else:
            names = axis_names((None, "embed"), self.cluster_init)
            vectors = self.param("cluster_embedding", names, (tails, width))
            bias = self.param("cluster_bias", axis_names((None,), nn.initializers.zeros), (tails,))
        return AdaptiveSoftmax(tables, biases, tuple(own), vectors, bias)
