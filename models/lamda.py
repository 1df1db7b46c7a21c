"""LaMDA (Thoppilan et al. 2022): a decoder alone, made of T5's parts.

"Relative attention as described in T5, and gated-GELU activation as described in Raffel et al."
(section 3). The paper names no other part; norms, initial values and the output tied to the
embeddings are T5's (Raffel et al. 2020).
"""

import functools

import jax
from flax import linen as nn

from models.decoder_only import DecoderOnly
from models.layers.attention.positions import RelativePositionBias, check_buckets
from models.layers.block import PreNormBlock
from models.layers.embeddings import Embed
from models.layers.linear import normal
from models.layers.mlps import GatedMLP
from models.layers.norms import RMSNorm
from models.layers.stacks.builder import TransformerLayers
from models.layers.stacks.relative_bias_stack import RelativeBiasStack


class LaMDA(DecoderOnly):
    """LaMDA: one relative bias for all layers, pre-norm, GEGLU, no other bias.

    Rows may be of any length: no parameter depends on it.

    Attributes:
      embed_dim: d_model.
      mlp_dim: d_ff, the units of each of the two halves of the gated layer.
      num_heads: attention heads.
      head_dim: d_k and d_v.
      num_layers: layers.
      num_buckets: of relative distance.
      max_distance: from which on all distances share a bucket.
      norm_epsilon: of every norm.
    """

    embed_dim: int = 8192
    mlp_dim: int = 65536
    num_heads: int = 128
    head_dim: int = 128
    num_layers: int = 64
    num_buckets: int = 32
    max_distance: int = 128
    norm_epsilon: float = 1e-6

    def __post_init__(self) -> None:
        """Checks that distances have buckets.

        Raises:
          ModelError: as every model, or the buckets cannot be divided.
        """
        super().__post_init__()
        check_buckets(self.num_buckets, self.max_distance, bidirectional=False)

    def setup(self) -> None:
        """Makes embeddings and layers with their bias and last norm."""
        init = normal(self.embed_dim**-0.5)
        layers = TransformerLayers.of(self, RMSNorm, head_dim=self.head_dim)
        # T5 starts with smaller queries instead of dividing scores by sqrt(d).
        attention = layers.attention(
            init,
            normal((self.num_heads * self.head_dim) ** -0.5),
            query_init=normal((self.embed_dim * self.head_dim) ** -0.5),
            scale=1.0,
        )
        output_init = normal(self.mlp_dim**-0.5)
        mlp = layers.mlp(GatedMLP, nn.gelu, self.mlp_dim, init, output_init, dropout=layers.dropout)
        bias = functools.partial(
            RelativePositionBias, self.num_heads, False, init, self.num_buckets, self.max_distance
        )
        block = layers.block(PreNormBlock, attention, mlp)
        stack = functools.partial(layers.stack, self.num_layers, block)
        self.token_embedder = Embed(self.vocab_size, self.embed_dim, normal(1.0), self.dtype)
        self.decoder = RelativeBiasStack(bias, stack, layers.norm, layers.dropout)

    def final_layers(self, x_bte: jax.Array) -> jax.Array:
        """Scales the hidden states for the tied output, since the embeddings' variance is 1."""
        return x_bte * self.embed_dim**-0.5
