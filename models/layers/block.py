"""One layer of a Transformer: how norms, attention and MLP are wired to the residual stream."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from models.layers import intermediates
from models.layers.attention.distances import Bias
from models.layers.attention.masks import Mask
from models.layers.attention.softmax_attention import KeysValues
from models.layers.dropout import NO_DROPOUT, Dropout

ModuleFactory = Callable[..., nn.Module]
"""Makes a fresh module; takes Linen's `name` and `parent`. Usually a `functools.partial`."""


@struct.dataclass
class Context:
    """Inputs that all layers of a stack share, besides the residual stream.

    Attributes:
      mask: among the stack's own slots.
      bias: added to the scores of self-attention.
      positions_bt: positions in the text, for rotations; None stands for the slots.
      relative_ne: vectors of distances that layers share, for `Attention.make_relative`.
      source_bse: what keys and values of self-attention are made of; None is the residual stream.
      memory_bse: what cross-attention attends to; None when decoding from a cache.
      memory_mask: from the stack's slots to the memory's.
      first_slot: where in the cache the given tokens stand.
      history_bse: what entered the layer of tokens before the given ones, whose keys and values
        stand before those of these (Dai et al. 2019, section 3.2); each layer has its own.
      text_bt: bool, where there is a token; None is everywhere. Elsewhere keys and values are
        those of zeros.
      of_layer: what each layer reads alone: a tree whose first axis is layers around a stack, and
        that of one layer inside it.
      enable_dropout: known at trace time.
    """

    mask: Mask
    bias: Bias | None = None
    positions_bt: jax.Array | None = None
    relative_ne: jax.Array | None = None
    source_bse: jax.Array | None = None
    memory_bse: jax.Array | None = None
    memory_mask: Mask | None = None
    first_slot: jax.Array | int = 0
    history_bse: jax.Array | None = None
    text_bt: jax.Array | None = None
    of_layer: Any = None
    enable_dropout: bool = struct.field(pytree_node=False, default=False)

    def attended(self, x_bte: jax.Array) -> jax.Array:
        """What keys and values are made of: the history, then the source or the stream."""
        if self.source_bse is not None:
            x_bte = self.source_bse
        if self.text_bt is not None:
            x_bte = jnp.where(self.text_bt[..., None], x_bte, 0)
        if self.history_bse is None:
            return x_bte
        return jnp.concatenate([self.history_bse.astype(x_bte.dtype), x_bte], axis=1)


@struct.dataclass
class LayerCache:
    """One layer's part of the decoding state.

    Attributes:
      own: keys and values of the tokens so far, in buffers of `max_decode_length` slots.
      memory: those of the memory, or None without cross-attention.
    """

    own: KeysValues
    memory: KeysValues | None = None


def num_slots(cache: Any) -> int:
    """How many tokens the cache of a layer, or of a group of layers, can hold."""
    own = jax.tree.leaves(cache, is_leaf=lambda node: isinstance(node, LayerCache))[0].own
    return own.keys_bgsd.shape[2]


class Block(nn.Module):
    """The branches of a layer; a subclass wires them.

    Attributes:
      make_norm: one norm.
      make_attention: self-attention.
      make_mlp: the MLP, or a mixture of experts.
      make_cross_attention: attention to a memory, or None.
      dropout: on what each branch adds to the residual stream.
    """

    is_layer: ClassVar[bool] = True

    make_norm: ModuleFactory
    make_attention: ModuleFactory
    make_mlp: ModuleFactory
    make_cross_attention: ModuleFactory | None = None
    dropout: Dropout = NO_DROPOUT

    def setup(self) -> None:
        """Makes the branches and their norms."""
        self.self_attention = self.make_attention()
        if self.make_cross_attention is not None:
            self.cross_attention = self.make_cross_attention()
        self.mlp = self.make_mlp()
        self.setup_norms()

    def setup_norms(self) -> None:
        """Makes one norm for each branch."""
        self.self_attention_norm = self.make_norm()
        if self.make_cross_attention is not None:
            self.cross_attention_norm = self.make_norm()
        self.mlp_norm = self.make_norm()

    def attend_self(
        self, x_bte: jax.Array, context: Context, cache: LayerCache | None
    ) -> tuple[jax.Array, LayerCache | None]:
        """Self-attention of `x`, or of `x` to the cache once its keys and values are written."""
        attended_bse = context.attended(x_bte)
        keys_values = self.self_attention.keys_values(attended_bse, context.positions_bt)
        if cache is not None:
            keys_values = cache.own.written(keys_values, context.first_slot)
            cache = dataclasses.replace(cache, own=keys_values)
        y_bte = self.self_attention(
            x_bte,
            keys_values,
            context.mask,
            bias=context.bias,
            positions_bt=context.positions_bt,
            relative_ne=context.relative_ne,
            enable_dropout=context.enable_dropout,
        )
        return self._dropped(y_bte, context), cache

    @intermediates.within(intermediates.CROSS_ATTENTION)
    def attend_memory(
        self, x_bte: jax.Array, context: Context, cache: LayerCache | None
    ) -> jax.Array:
        """Cross-attention to `context.memory_bse`, or to its keys and values in the cache."""
        keys_values = self.memory_keys_values(context.memory_bse) if cache is None else cache.memory
        y_bte = self.cross_attention(
            x_bte, keys_values, context.memory_mask, enable_dropout=context.enable_dropout
        )
        return self._dropped(y_bte, context)

    def feed_forward(self, x_bte: jax.Array, context: Context) -> jax.Array:
        """Applies the MLP and its dropout."""
        y_bte = self.mlp(x_bte, enable_dropout=context.enable_dropout)
        return self._dropped(y_bte, context)

    def memory_keys_values(self, memory_bse: jax.Array | None) -> KeysValues | None:
        """Keys and values of the memory; None without one, or without cross-attention."""
        if memory_bse is None or self.make_cross_attention is None:
            return None
        return self.cross_attention.keys_values(memory_bse)

    def empty_cache(self, batch_size: int, length: int, memory_bse: jax.Array | None) -> LayerCache:
        """The cache before the first token."""
        attention = self.self_attention
        keys, values = (
            jnp.zeros((batch_size, attention.kv_heads, length, units), attention.dtype)
            for units in (attention.head_dim, attention.value_units)
        )
        return LayerCache(KeysValues(keys, values), self.memory_keys_values(memory_bse))

    def _dropped(self, y_bte: jax.Array, context: Context) -> jax.Array:
        key = self.make_rng("dropout") if context.enable_dropout and self.dropout.rate else None
        y_bte = self.dropout(y_bte, key)
        return nn.with_logical_constraint(y_bte, ("batch", "length", "embed"))


class PreNormBlock(Block):
    """`x + branch(norm(x))` for each branch in turn: T5, GPT-2 and most since."""

    def __call__(
        self, x_bte: jax.Array, context: Context, cache: LayerCache | None = None
    ) -> tuple[jax.Array, LayerCache | None]:
        """The residual stream after this layer, and its cache if one was given."""
        y_bte, cache = self.attend_self(self.self_attention_norm(x_bte), context, cache)
        x_bte += y_bte
        if self.make_cross_attention is not None:
            x_bte += self.attend_memory(self.cross_attention_norm(x_bte), context, cache)
        x_bte += self.feed_forward(self.mlp_norm(x_bte), context)
        return x_bte, cache


class PostNormBlock(Block):
    """`norm(x + branch(x))` for each branch in turn (Vaswani et al. 2017, section 3.1)."""

    @intermediates.recorded(intermediates.ENTERING, lambda x_bte, *_: x_bte)
    def __call__(
        self, x_bte: jax.Array, context: Context, cache: LayerCache | None = None
    ) -> tuple[jax.Array, LayerCache | None]:
        """The residual stream after this layer, and its cache if one was given."""
        y_bte, cache = self.attend_self(x_bte, context, cache)
        x_bte = self.self_attention_norm(x_bte + y_bte)
        if self.make_cross_attention is not None:
            x_bte = self.cross_attention_norm(x_bte + self.attend_memory(x_bte, context, cache))
        return self.mlp_norm(x_bte + self.feed_forward(x_bte, context)), cache


class ParallelBlock(Block):
    """`x + attention(norm(x)) + mlp(norm(x))` with one norm (Chowdhery et al. 2022, section 2).

    Without cross-attention: no family of decoders with a memory is wired so.
    """

    def setup_norms(self) -> None:
        """Makes the one norm."""
        self.norm = self.make_norm()

    def __call__(
        self, x_bte: jax.Array, context: Context, cache: LayerCache | None = None
    ) -> tuple[jax.Array, LayerCache | None]:
        """The residual stream after this layer, and its cache if one was given."""
        h_bte = self.norm(x_bte)
        y_bte, cache = self.attend_self(h_bte, context, cache)
        return x_bte + y_bte + self.feed_forward(h_bte, context), cache


class TwoNormParallelBlock(Block):
    """`x + attention(norm_1(x)) + mlp(norm_2(x))` (Black et al. 2022, section 2.1).

    Without cross-attention, like `ParallelBlock`.
    """

    def __call__(
        self, x_bte: jax.Array, context: Context, cache: LayerCache | None = None
    ) -> tuple[jax.Array, LayerCache | None]:
        """The residual stream after this layer, and its cache if one was given."""
        y_bte, cache = self.attend_self(self.self_attention_norm(x_bte), context, cache)
        return x_bte + y_bte + self.feed_forward(self.mlp_norm(x_bte), context), cache
