"""GPT-2 (Radford et al. 2019): a decoder of pre-norm layers with learned positions."""

import functools

import jax
from flax import linen as nn

from models.decoder_only import DecoderOnly
from models.errors import ModelError
from models.layers.attention import Attention
from models.layers.block import PreNormBlock
from models.layers.dropout import Dropout
from models.layers.embeddings import Embed
from models.layers.linear import normal
from models.layers.mlps import MLP
from models.layers.norms import LayerNorm
from models.layers.positions import LearnedPositions
from models.layers.stack import Stack

Array = jax.Array


class GPT2(DecoderOnly):
    """GPT-2: a norm before each branch and one at the end, GELU, biases, a tied output.

    "We scale the weights of residual layers at initialization by a factor of 1/sqrt(N) where
    N is the number of residual layers" (section 2.3): two in each of our layers. The other
    initial values are the released code's.

    Attributes:
      embed_dim: d_model.
      num_heads: attention heads; they divide `embed_dim` among them.
      num_layers: layers.
      max_length: longest row, the number of learned positions.
      mlp_dim: hidden units of the MLP; None is four times `embed_dim`.
      norm_epsilon: of every norm.
    """

    embed_dim: int = 768
    num_heads: int = 12
    num_layers: int = 12
    max_length: int = 1024
    mlp_dim: int | None = None
    norm_epsilon: float = 1e-5

    def setup(self) -> None:
        """Makes embeddings, positions, layers and the last norm."""
        if self.embed_dim % self.num_heads:
            raise ModelError(
                f"embed_dim {self.embed_dim} is not a multiple of num_heads {self.num_heads}: "
                "the heads divide it evenly among them."
            )
        residual_init = normal(0.02 * (2 * self.num_layers) ** -0.5)
        dropout = Dropout(self.dropout_rate)
        norm = functools.partial(LayerNorm, epsilon=self.norm_epsilon, dtype=self.dtype)
        head_dim = self.embed_dim // self.num_heads
        attention = functools.partial(
            Attention,
            self.embed_dim,
            self.num_heads,
            head_dim,
            query_init=normal(0.02),
            key_value_init=normal(0.02),
            output_init=residual_init,
            scale=head_dim**-0.5,
            use_bias=True,
            dropout=dropout,
            dtype=self.dtype,
        )
        mlp = functools.partial(
            MLP,
            self.mlp_dim or 4 * self.embed_dim,
            nn.gelu,
            input_init=normal(0.02),
            output_init=residual_init,
            use_bias=True,
            dtype=self.dtype,
        )
        block = functools.partial(PreNormBlock, norm, attention, mlp, dropout=dropout)
        self.token_embedder = Embed(self.vocab_size, self.embed_dim, normal(0.02), self.dtype)
        self.position_embedder = LearnedPositions(self.max_length, normal(0.01), self.dtype)
        self.decoder = Stack(block, self.num_layers, self.remat_policy, self.scan_unroll)
        self.final_norm = norm()

    def embed(self, tokens_bt: Array, positions_bt: Array | None) -> Array:
        """The token's vector and its position's."""
        return self.position_embedder(self.token_embedder(tokens_bt), positions_bt)
