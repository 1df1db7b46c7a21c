"""A group of layers that differ, which a stack repeats."""

from typing import Any

import jax
from flax import linen as nn

from models.layers.block import Context, ModuleFactory


class LayerGroup(nn.Module):
    """Consecutive layers that differ, called like a single one.

    A stack of `num_layers // len(make_blocks)` groups is scanned like any other: GPT-3
    alternates dense and banded attention, Switch dense and expert MLPs.

    Attributes:
      make_blocks: each layer of the group, first to last.
    """

    make_blocks: tuple[ModuleFactory, ...]

    def setup(self) -> None:
        """Makes `block_0`, `block_1` and so on."""
        self.block = [make() for make in self.make_blocks]

    def __call__(
        self, x_bte: jax.Array, context: Context, cache: tuple[Any, ...] | None = None
    ) -> tuple[jax.Array, tuple[Any, ...] | None]:
        """The residual stream after the group, and its layers' caches if they were given."""
        caches = [None] * len(self.block) if cache is None else list(cache)
        for i, block in enumerate(self.block):
            x_bte, caches[i] = block(x_bte, context, caches[i])
        return x_bte, None if cache is None else tuple(caches)

    def empty_cache(
        self, batch_size: int, length: int, memory_bse: jax.Array | None
    ) -> tuple[Any, ...]:
        """The layers' caches before the first token."""
        return tuple(block.empty_cache(batch_size, length, memory_bse) for block in self.block)
