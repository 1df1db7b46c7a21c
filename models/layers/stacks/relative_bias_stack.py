"""A stack whose layers share one bias for relative distances, or have one each."""

import dataclasses
from typing import Any

import jax
from flax import linen as nn

from models.layers.attention import kernels
from models.layers.block import Context, ModuleFactory, num_slots
from models.layers.dropout import NO_DROPOUT, Dropout


class RelativeBiasStack(nn.Module):
    """The encoder or the decoder of T5: a relative bias, layers, and the last norm.

    Called like a `Stack`.

    Attributes:
      make_relative_bias: the bias (Raffel et al. 2020, section 2.1); None where each layer's
        attention makes its own.
      make_stack: the layers.
      make_norm: the last norm.
      dropout: on what goes out.
    """

    make_relative_bias: ModuleFactory | None
    make_stack: ModuleFactory
    make_norm: ModuleFactory
    dropout: Dropout = NO_DROPOUT

    def setup(self) -> None:
        """Makes the three parts."""
        if self.make_relative_bias is not None:
            self.relative_position_bias = self.make_relative_bias()
        self.stack = self.make_stack()
        self.final_norm = self.make_norm()

    def __call__(self, x_bte: jax.Array, context: Context) -> jax.Array:
        """From embeddings to the last norm, `[b, t, e]`."""
        b, length, _ = x_bte.shape
        context = self._with_bias(context, length, length, b)
        x_bte = self.final_norm(self.stack(x_bte, context))
        draw = context.enable_dropout and self.dropout.rate
        return self.dropout(x_bte, self.make_rng("dropout") if draw else None)

    def empty_cache(
        self, batch_size: int, length: int, memory_bse: jax.Array | None = None
    ) -> list[Any]:
        """The layers' caches before the first token."""
        return self.stack.empty_cache(batch_size, length, memory_bse)

    def decode(
        self, x_bte: jax.Array, context: Context, caches: list[Any]
    ) -> tuple[jax.Array, list[Any]]:
        """Hidden states of tokens that follow those in the caches, and the new caches."""
        slots = num_slots(caches[0])
        context = self._with_bias(context, x_bte.shape[1], slots)
        x_bte, caches = self.stack.decode(x_bte, context, caches)
        return self.final_norm(x_bte), caches

    def _with_bias(
        self, context: Context, num_queries: int, num_keys: int, num_rows: int = 1
    ) -> Context:
        if self.make_relative_bias is None:
            return context
        bias = self.relative_position_bias(num_queries, num_keys, context.first_slot, num_rows)
        return dataclasses.replace(context, bias=kernels.shared_bias(bias))
