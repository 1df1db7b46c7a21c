"""A stack of equal layers, scanned in training and unrolled in decoding."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from models.errors import ModelError
from models.layers.auxiliary_losses import AUXILIARY
from models.layers.block import Context, LayerCache, ModuleFactory
from models.layers.intermediates import COLLECTION
from models.layers.linear import STORED_PRODUCT

# What is stored for the backward pass; the rest is computed again.
REMAT_POLICIES = {
    "none": None,
    "dots": jax.checkpoint_policies.save_only_these_names(STORED_PRODUCT),
    "full": jax.checkpoint_policies.nothing_saveable,
}

LAYERS = "layers"


def policy_of(name: str) -> Callable[..., bool] | None:
    """The named policy of rematerialization; None stores everything.

    Raises:
      ModelError: an unknown name.
    """
    if name not in REMAT_POLICIES:
        raise ModelError(
            f"unknown remat_policy {name!r}: choose one of {', '.join(map(repr, REMAT_POLICIES))}."
        )
    return REMAT_POLICIES[name]


def apply_in_turn(
    block: nn.Module,
    x_bte: jax.Array,
    context: Context,
    *,
    turns: int,
    policy: Any,
    unroll: int,
    shared: bool = False,
    histories_lbse: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array | None]:
    """The residual stream after a block was scanned over `turns` layers, and what entered each.

    Args:
      block: one layer.
      x_bte: the residual stream, `[b, t, e]`.
      context: what every layer reads, and in `of_layer` what each reads alone.
      turns: how many layers.
      policy: of rematerialization, as `policy_of` gives it.
      unroll: layers for each turn of the loop.
      shared: whether all layers have the same parameters; else they are stacked on an axis
        `layers`.
      histories_lbse: what entered each layer of earlier tokens, see `Context`; None is nothing.

    Returns:
      `[b, t, e]`; and where there are histories `[layers, b, t, e]`.
    """
    keeps = histories_lbse is not None

    def layer(
        block: nn.Module,
        x_bte: jax.Array,
        history_bse: jax.Array | None,
        own: Any,
        context: Context,
    ) -> tuple[jax.Array, jax.Array | None]:
        context = dataclasses.replace(context, of_layer=own)
        if keeps:
            context = dataclasses.replace(context, history_bse=history_bse)
        return block(x_bte, context)[0], x_bte if keeps else None

    if policy is not None:
        layer = nn.remat(layer, policy=policy, prevent_cse=False)
    stacked = (AUXILIARY, COLLECTION) if shared else ("params", AUXILIARY, COLLECTION)
    scanned = nn.scan(
        layer,
        variable_broadcast="params" if shared else False,
        variable_axes=dict.fromkeys(stacked, 0),
        split_rngs={"params": not shared, "dropout": True},
        in_axes=(0, 0, nn.broadcast),
        length=turns,
        unroll=unroll,
        metadata_params={} if shared else {nn.PARTITION_NAME: LAYERS},
    )
    of_layer, context = context.of_layer, dataclasses.replace(context, of_layer=None)
    result: tuple[jax.Array, jax.Array | None] = scanned(
        block, x_bte, histories_lbse, of_layer, context
    )
    return result


class Stack(nn.Module):
    """`num_layers` layers whose parameters are stacked on a first axis `layers`.

    Scanned, so that compile time does not grow with depth. A family whose layers alternate
    passes a `LayerGroup`.

    Attributes:
      make_block: one layer.
      num_layers: how many.
      remat_policy: "none" stores all activations; "dots" the results of products with
        parameters and of attention; "full" only the residual stream between layers.
      unroll: layers for each turn of the loop.
    """

    make_block: ModuleFactory
    num_layers: int
    remat_policy: str = "dots"
    unroll: int = 1

    def setup(self) -> None:
        """Makes the one block that is scanned."""
        self.policy = policy_of(self.remat_policy)
        self.layers = self.make_block()

    def __call__(self, x_bte: jax.Array, context: Context) -> jax.Array:
        """The residual stream after all layers."""
        return self._run(self.layers, x_bte, context)[0]

    def recur(
        self, x_bte: jax.Array, context: Context, histories_lbse: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """`__call__` where each layer attends to what entered it of earlier tokens too.

        Args:
          x_bte: the residual stream, `[b, t, e]`.
          context: whose mask is of the earlier tokens too, before the given ones.
          histories_lbse: what entered each layer of them.

        Returns:
          The residual stream, and what entered each layer, `[layers, b, t, e]`.
        """
        x_bte, inputs_lbte = self._run(self.layers, x_bte, context, histories_lbse)
        assert inputs_lbte is not None
        return x_bte, inputs_lbte

    def _run(
        self,
        block: nn.Module,
        x_bte: jax.Array,
        context: Context,
        histories_lbse: jax.Array | None = None,
    ) -> tuple[jax.Array, jax.Array | None]:
        return apply_in_turn(
            block,
            x_bte,
            context,
            turns=self.num_layers,
            policy=self.policy,
            unroll=self.unroll,
            histories_lbse=histories_lbse,
        )

    def empty_cache(
        self, batch_size: int, length: int, memory_bse: jax.Array | None = None
    ) -> list[LayerCache]:
        """One cache a layer, each in buffers of its own.

        Separate buffers, so that a decoding loop updates each of them in place.
        """
        caches: list[Any] = [
            block.apply(variables, batch_size, length, memory_bse, method="empty_cache")
            for block, variables in self._unrolled()
        ]
        return caches

    def decode(
        self, x_bte: jax.Array, context: Context, caches: list[LayerCache]
    ) -> tuple[jax.Array, list[LayerCache]]:
        """The residual stream of tokens that follow those in the caches, and the new caches.

        Scanned where the parameters are stacked: compile time does not grow with depth, and each
        layer's are copied out of the stack, which costs little when there are many tokens. A
        decoding loop has them apart, see `unstack_layers`.
        """
        params = self.variables["params"]
        if LAYERS in params:
            return self._decode_scanned(params[LAYERS], x_bte, context, caches)
        new_caches = []
        for (block, variables), cache in zip(self._unrolled(), caches, strict=True):
            result: Any = block.apply(variables, x_bte, context, cache)
            x_bte, new_cache = result
            new_caches.append(new_cache)
        return x_bte, new_caches

    def _decode_scanned(
        self, stacked: Any, x_bte: jax.Array, context: Context, caches: list[LayerCache]
    ) -> tuple[jax.Array, list[LayerCache]]:
        block = self.make_block(parent=None)

        def layer(x_bte: jax.Array, own: Any) -> tuple[jax.Array, LayerCache]:
            params, cache = own
            result: Any = block.apply({"params": params}, x_bte, context, cache)
            return result

        # What all layers share is there once.
        whole = jax.tree.map(
            lambda leaf: jnp.broadcast_to(leaf, (self.num_layers, *leaf.shape[1:])), stacked
        )
        of_layers = whole, jax.tree.map(lambda *leaves: jnp.stack(leaves), *caches)
        x_bte, new = jax.lax.scan(layer, x_bte, of_layers)
        return x_bte, [jax.tree.map(lambda leaf, i=i: leaf[i], new) for i in range(self.num_layers)]

    def _unrolled(self) -> list[tuple[nn.Module, dict[str, Any]]]:
        params = self.variables["params"]
        if LAYERS in params:
            params = unstack_layers(params)
        # Outside of this module's scope: applied to each layer's own parameters.
        block = self.make_block(parent=None)
        return [(block, {"params": params[f"{LAYERS}_{i}"]}) for i in range(self.num_layers)]


def unstack_layers(params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters with `layers` divided into `layers_0`, `layers_1`, …, at any depth.

    A decoding loop wants this done once, before it: inside, every step would copy every
    layer's parameters out of the stack.
    """
    divided = {}
    for name, subtree in params.items():
        if name == LAYERS:
            for i in range(max(leaf.shape[0] for leaf in jax.tree.leaves(subtree))):
                # What all layers share is there once.
                divided[f"{LAYERS}_{i}"] = jax.tree.map(
                    lambda x, i=i: x[min(i, x.shape[0] - 1)], subtree
                )
        elif isinstance(subtree, Mapping):
            divided[name] = unstack_layers(subtree)
        else:
            divided[name] = subtree
    return divided
