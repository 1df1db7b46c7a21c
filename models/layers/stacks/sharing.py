"""Layers that share their parameters.

One that is repeated, a stack that has a branch once, and trees of stacks that share what both have.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from models.layers.block import Context, LayerCache, ModuleFactory
from models.layers.stacks.stack import Stack, apply_in_turn, policy_of


class RepeatedLayer(nn.Module):
    """One layer, applied several times over, called like a single one.

    The turns share all parameters (Lan et al. 2020, section 3.1). A stack of these is a stack of
    groups, each with the parameters of one layer.

    Attributes:
      make_block: the layer.
      turns: how often it is applied.
      remat_policy: of each turn; see `Stack`.
      unroll: turns for each turn of the loop.
    """

    make_block: ModuleFactory
    turns: int
    remat_policy: str = "dots"
    unroll: int = 1

    def setup(self) -> None:
        """Makes the layer."""
        self.policy = policy_of(self.remat_policy)
        self.block = self.make_block()

    def __call__(
        self, x_bte: jax.Array, context: Context, cache: tuple[LayerCache, ...] | None = None
    ) -> tuple[jax.Array, tuple[LayerCache, ...] | None]:
        """The residual stream after all turns, and the cache of each if they were given."""
        if cache is not None:
            caches = []
            for one in cache:
                x_bte, written = self.block(x_bte, context, one)
                caches.append(written)
            return x_bte, tuple(caches)
        x_bte, _ = apply_in_turn(
            self.block,
            x_bte,
            context,
            turns=self.turns,
            policy=self.policy,
            unroll=self.unroll,
            shared=True,
        )
        return x_bte, None

    def empty_cache(
        self, batch_size: int, length: int, memory_bse: jax.Array | None
    ) -> tuple[LayerCache, ...]:
        """The cache of each turn before the first token."""
        return tuple(
            self.block.empty_cache(batch_size, length, memory_bse) for _ in range(self.turns)
        )


class PartlySharedStack(Stack):
    """A stack whose layers share some of their parts (Lan et al. 2020, table 4).

    What is shared is stored once, with a first axis `layers` of 1. While the stack runs it is there
    for each layer: sharing in part saves the memory of the parameters and of the optimizer, and
    not that of a step.

    Attributes:
      shared: names of parts of a layer, as `self_attention`, or of one in a part, as
        `self_attention/relative/content_bias`.
    """

    shared: tuple[str, ...] = ()

    def _run(
        self,
        block: nn.Module,
        x_bte: jax.Array,
        context: Context,
        histories_lbse: jax.Array | None = None,
    ) -> tuple[jax.Array, jax.Array | None]:
        def run(block: nn.Module, x_bte: jax.Array) -> tuple[jax.Array, jax.Array | None]:
            return super(PartlySharedStack, self)._run(block, x_bte, context, histories_lbse)

        initializing = self.is_initializing()
        mapped = nn.map_variables(
            run, "params", self._for_each_layer, self._once, init=initializing, mutable=initializing
        )
        found: tuple[jax.Array, jax.Array | None] = mapped(block, x_bte)
        return found

    def _for_each_layer(self, variables: Mapping[str, Any]) -> Any:
        def repeat(leaf: jax.Array) -> jax.Array:
            return jnp.broadcast_to(leaf, (self.num_layers, *leaf.shape[1:]))

        return self._of_shared(repeat, variables)

    def _once(self, variables: Mapping[str, Any]) -> Any:
        return self._of_shared(lambda leaf: leaf[:1], variables)

    def _of_shared(self, change: Any, variables: Mapping[str, Any]) -> Any:
        def changed(path: Any, leaf: jax.Array) -> jax.Array:
            # The first name is the collection's, and a box adds one that is no key.
            names = "/".join(str(key.key) for key in path[1:] if hasattr(key, "key"))
            shared = any(f"{names}/".startswith(f"{name}/") for name in self.shared)
            return change(leaf) if shared else leaf

        return jax.tree_util.tree_map_with_path(changed, variables)


def without_copies(tree: Mapping[str, Any], original: Mapping[str, Any]) -> dict[str, Any]:
    """A tree less every leaf that the original has at the same place."""
    kept: dict[str, Any] = {}
    for name, part in tree.items():
        if name not in original:
            kept[name] = part
        elif isinstance(part, Mapping) and (rest := without_copies(part, original[name])):
            kept[name] = rest
    return kept


def with_copies(tree: Mapping[str, Any], original: Mapping[str, Any]) -> dict[str, Any]:
    """What `without_copies` was given, with the original's leaves in the place of the copies."""
    whole = dict(original)
    for name, part in tree.items():
        both = name in original and isinstance(part, Mapping)
        whole[name] = with_copies(part, original[name]) if both else part
    return whole
