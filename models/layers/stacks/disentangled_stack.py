"""A stack whose layers share a table of distances, and whose last layer can be applied again."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
from flax import linen as nn

from models.layers.block import Context
from models.layers.linear import Initializer, axis_names
from models.layers.stacks.stack import Stack, apply_in_turn


class DisentangledStack(Stack, kw_only=True):
    """The layers of DeBERTa (He et al. 2021), called like a `Stack`.

    `below_last` and `last` are its two parts, from which the enhanced mask decoder is made
    (section 3.2): that applies the last layer to queries of its own.

    Attributes:
      embed_dim: features of the table.
      max_distance: k; the table has 2k rows, see `distance_row`.
      table_init: its initial values.
    """

    embed_dim: int
    max_distance: int
    table_init: Initializer

    def setup(self) -> None:
        """Makes the layers and the table."""
        super().setup()
        self.relative_embedding = self.param(
            "relative_embedding",
            axis_names(("relpos_buckets", "embed"), self.table_init),
            (2 * self.max_distance, self.embed_dim),
        )

    def __call__(self, x_bte: jax.Array, context: Context) -> jax.Array:
        """The residual stream after all layers."""
        return super().__call__(x_bte, self._with_table(context))

    def below_last(self, x_bte: jax.Array, context: Context) -> jax.Array:
        """The residual stream before the last layer."""
        if self.is_initializing():
            # All layers have their parameters made.
            return self(x_bte, context)
        if self.num_layers == 1:
            return x_bte
        return self._with_layers(slice(0, -1), x_bte, context)

    def last(
        self,
        x_bte: jax.Array,
        context: Context,
        *,
        source_bse: jax.Array | None = None,
        turns: int = 1,
    ) -> jax.Array:
        """The residual stream after the last layer was applied so many times.

        Args:
          x_bte: the residual stream before it.
          context: what every layer reads.
          source_bse: what keys and values are made of in every turn; None is the stream itself.
          turns: how often the layer is applied.
        """
        if self.is_initializing():
            return x_bte
        context = dataclasses.replace(context, source_bse=source_bse)
        for _ in range(turns):
            x_bte = self._with_layers(slice(-1, None), x_bte, context)
        return x_bte

    def _with_table(self, context: Context) -> Context:
        return dataclasses.replace(context, relative_ne=self.relative_embedding)

    def _with_layers(self, chosen: slice, x_bte: jax.Array, context: Context) -> jax.Array:
        """Some of the layers in turn."""
        turns = len(range(self.num_layers)[chosen])

        def run(block: nn.Module, x_bte: jax.Array) -> jax.Array:
            return apply_in_turn(
                block,
                x_bte,
                self._with_table(context),
                turns=turns,
                policy=self.policy,
                unroll=min(self.unroll, turns),
            )[0]

        def some(variables: Mapping[str, Any]) -> Any:
            return jax.tree.map(lambda leaf: leaf[chosen], variables)

        mapped: Callable[..., jax.Array] = nn.map_variables(run, "params", some)
        return mapped(self.layers, x_bte)
