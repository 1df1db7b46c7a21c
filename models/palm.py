"""PaLM (Chowdhery et al. 2022): parallel layers, SwiGLU, multi-query attention, RoPE, no biases."""

import jax
from flax import linen as nn

from models.decoder_only import DecoderOnly
from models.layers.attention.positions import Rotary
from models.layers.block import Block, ParallelBlock
from models.layers.embeddings import Embed
from models.layers.linear import normal
from models.layers.mlps import MLP, Activation, GatedMLP
from models.layers.norms import LayerNorm
from models.layers.stacks.builder import TransformerLayers


class PaLM(DecoderOnly):
    """PaLM (section 2), with the initial values and the z-loss of section 5.

    The wiring of a layer, the number of heads of keys and values, and the kind of MLP are fields,
    to compare.

    Attributes:
      embed_dim: d_model.
      num_heads: attention heads.
      num_layers: layers.
      head_dim: units of one head, even.
      num_kv_heads: heads of keys and values: 1 is multi-query attention, None multi-head.
      block: `ParallelBlock`, or `PreNormBlock` for serial layers.
      mlp: `GatedMLP`, or `MLP`.
      activation: inside the MLP; silu in a `GatedMLP` is SwiGLU.
      mlp_dim: hidden units of the MLP; None is four times `embed_dim`.
      max_length: longest row; what the model was made for, since no parameter depends on it.
      rope_base: see `Rotary`.
      norm_epsilon: of every norm; not published.
      z_loss: see `losses.summed_cross_entropy`.
    """

    embed_dim: int = 18432
    num_heads: int = 48
    num_layers: int = 118
    head_dim: int = 256
    num_kv_heads: int | None = 1
    block: type[Block] = ParallelBlock
    mlp: type[MLP] = GatedMLP
    activation: Activation = nn.silu
    mlp_dim: int | None = None
    max_length: int = 2048
    rope_base: float = 10000.0
    norm_epsilon: float = 1e-6
    z_loss: float = 1e-4

    def setup(self) -> None:
        """Makes embeddings, layers and the last norm."""
        inner_dim = self.num_heads * self.head_dim
        mlp_dim = self.mlp_dim or 4 * self.embed_dim
        layers = TransformerLayers.of(self, LayerNorm, head_dim=self.head_dim, use_bias=False)
        # "Fan-in variance scaling, i.e., W ~ N(0, 1/sqrt(n_in))."
        init = normal(self.embed_dim**-0.5)
        attention = layers.attention(
            init,
            normal(inner_dim**-0.5),
            num_kv_heads=self.num_kv_heads,
            rotation=Rotary(self.rope_base),
        )
        mlp = layers.mlp(self.mlp, self.activation, mlp_dim, init, normal(mlp_dim**-0.5))
        self.token_embedder = Embed(self.vocab_size, self.embed_dim, normal(1.0), self.dtype)
        self.decoder = layers.stack(self.num_layers, layers.block(self.block, attention, mlp))
        self.final_norm = layers.norm()

    def final_layers(self, x_bte: jax.Array) -> jax.Array:
        """Applies the final layer norm, and scales by 1/sqrt(n) for the tied output, N(0, 1)."""
        return super().final_layers(x_bte) * self.embed_dim**-0.5
