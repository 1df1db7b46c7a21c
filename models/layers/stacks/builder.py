"""Stacks of Transformer layers from a few choices; what all layers share is said once."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, Protocol, Self

from flax import linen as nn

from models.errors import ModelError
from models.layers.attention.attention import Attention, even_head_dim
from models.layers.block import Block, ModuleFactory
from models.layers.dropout import Dropout
from models.layers.linear import Initializer
from models.layers.mlps import MLP, Activation
from models.layers.stacks.layer_group import LayerGroup
from models.layers.stacks.sharing import PartlySharedStack, RepeatedLayer
from models.layers.stacks.stack import Stack

# What layers may share, by the name of a choice: parts of a block, or all of it, or nothing.
SHARED: Mapping[str, tuple[str, ...]] = {
    "all": (),
    "attention": ("self_attention", "self_attention_norm"),
    "feed_forward": ("mlp", "mlp_norm"),
    "none": (),
}


class TransformerFields(Protocol):
    """The fields of a family that all of its layers share."""

    embed_dim: int
    num_heads: int
    norm_epsilon: float
    dropout_rate: float
    dtype: str
    remat_policy: str
    scan_unroll: int


@dataclasses.dataclass(frozen=True)
class TransformerLayers:
    """Factories of the parts of a Transformer's layers, which differ in little between families.

    Attributes:
      embed_dim: size of the residual stream.
      num_heads: attention heads.
      head_dim: units of one head.
      norm: makes a norm.
      dropout: on what each branch of a layer adds, and on attention weights.
      dtype: of the computation.
      remat_policy: see `Stack`.
      scan_unroll: see `Stack`.
    """

    embed_dim: int
    num_heads: int
    head_dim: int
    norm: ModuleFactory
    dropout: Dropout
    dtype: str
    remat_policy: str
    scan_unroll: int

    @classmethod
    def of(
        cls,
        fields: TransformerFields,
        norm: type[nn.Module],
        *,
        head_dim: int | None = None,
        dropout: Dropout | None = None,
        **norm_options: Any,
    ) -> Self:
        """The factories of one model.

        Args:
          fields: the model.
          norm: `RMSNorm`, `LayerNorm` or what takes their fields.
          head_dim: units of one head; None divides `embed_dim` evenly among the heads.
          dropout: None draws each element alone, at the model's rate.
          **norm_options: further fields of the norm.

        Raises:
          ModelError: the heads cannot divide `embed_dim`.
        """
        norm_options |= {"epsilon": fields.norm_epsilon, "dtype": fields.dtype}
        return cls(
            fields.embed_dim,
            fields.num_heads,
            head_dim or even_head_dim(fields.embed_dim, fields.num_heads),
            functools.partial(norm, **norm_options),
            Dropout(fields.dropout_rate) if dropout is None else dropout,
            fields.dtype,
            fields.remat_policy,
            fields.scan_unroll,
        )

    def attention(
        self,
        init: Initializer,
        output_init: Initializer,
        *,
        query_init: Initializer | None = None,
        kind: type[Attention] = Attention,
        **options: Any,
    ) -> ModuleFactory:
        """Makes `Attention`, whose scores are divided by the root of `head_dim`.

        Args:
          init: initial values of the projections of queries, keys and values.
          output_init: of the output's.
          query_init: of the queries', where they have their own.
          kind: `Attention` or a subclass.
          **options: further fields of `Attention`.
        """
        shared: dict[str, Any] = {"scale": self.head_dim**-0.5, "dropout": self.dropout}
        return functools.partial(
            kind,
            self.embed_dim,
            self.num_heads,
            self.head_dim,
            query_init or init,
            init,
            output_init,
            dtype=self.dtype,
            **shared | options,
        )

    def mlp(
        self,
        kind: type[MLP],
        activation: Activation,
        hidden_dim: int,
        init: Initializer,
        output_init: Initializer,
        **options: Any,
    ) -> ModuleFactory:
        """Makes an `MLP` or a `GatedMLP`, without dropout on its hidden layer.

        Args:
          kind: which.
          activation: of the hidden layer.
          hidden_dim: its units.
          init: initial values of the matrices that it is made with.
          output_init: of the output's.
          **options: further fields.
        """
        return functools.partial(
            kind, hidden_dim, activation, init, output_init, dtype=self.dtype, **options
        )

    def block(
        self,
        kind: type[Block],
        attention: ModuleFactory,
        mlp: ModuleFactory,
        cross_attention: ModuleFactory | None = None,
    ) -> ModuleFactory:
        """Makes one layer.

        Args:
          kind: how norms and branches are wired.
          attention: self-attention.
          mlp: the MLP, or a mixture of experts.
          cross_attention: attention to the encoder's output, in the decoder of two sides.
        """
        return functools.partial(kind, self.norm, attention, mlp, cross_attention, self.dropout)

    def stack(self, num_layers: int, *blocks: ModuleFactory) -> Stack:
        """All layers of a side.

        Args:
          num_layers: how many.
          *blocks: makes each of them; several take turns.

        Raises:
          ModelError: the number is not a multiple of those that take turns.
        """
        if num_layers % len(blocks):
            raise ModelError(
                f"num_layers is {num_layers}, where {len(blocks)} kinds of layers take turns: "
                f"choose a multiple of {len(blocks)}."
            )
        block = blocks[0] if len(blocks) == 1 else functools.partial(LayerGroup, blocks)
        return Stack(block, num_layers // len(blocks), self.remat_policy, self.scan_unroll)

    def shared_stack(
        self, num_layers: int, block: ModuleFactory, shared: str, num_groups: int = 1
    ) -> Stack:
        """All layers of a side, which share parameters (Lan et al. 2020, section 3.1).

        Args:
          num_layers: how many.
          block: makes each of them.
          shared: what they share, of `SHARED`.
          num_groups: where they share all, consecutive groups of layers, each with its own; they
            divide the layers.
        """
        if shared == "none":
            return self.stack(num_layers, block)
        if shared == "all":
            turns = num_layers // num_groups
            repeated = functools.partial(
                RepeatedLayer, block, turns, self.remat_policy, self.scan_unroll
            )
            # Each turn is rematerialized by itself.
            return Stack(repeated, num_groups, "none")
        return PartlySharedStack(
            block, num_layers, self.remat_policy, self.scan_unroll, SHARED[shared]
        )
