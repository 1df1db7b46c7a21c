"""The Transformer (Vaswani et al. 2017): an encoder-decoder of post-norm layers.

Its own ways: sinusoidal positions, one embedding for both sides and the output, which enters
multiplied by sqrt(d_model), ReLU, and label smoothing. Section numbers are the paper's.
"""

import jax
from flax import linen as nn

from models.encoder_decoder import EncoderDecoder
from models.layers.attention.positions import add_sinusoids
from models.layers.block import PostNormBlock
from models.layers.dropout import NO_DROPOUT
from models.layers.embeddings import Embed
from models.layers.linear import normal
from models.layers.mlps import MLP
from models.layers.norms import LayerNorm
from models.layers.stacks.builder import TransformerLayers

Array = jax.Array


class Transformer(EncoderDecoder):
    """Equations 1 and 2 in layers of `LayerNorm(x + Sublayer(x))` (section 3.1).

    The paper gives no initial values; the matrices have Glorot and Bengio's of 2010, as in the
    authors' code, and the embeddings, which are also the output, N(0, 1/d_model).

    Attributes:
      embed_dim: d_model.
      mlp_dim: d_ff.
      num_heads: h; each has `embed_dim / num_heads` units (section 3.2.2).
      num_encoder_layers: N of the encoder.
      num_decoder_layers: N of the decoder.
      label_smoothing: ε_ls (section 5.4).
      norm_epsilon: of every norm.
    """

    embed_dim: int = 512
    mlp_dim: int = 2048
    num_heads: int = 8
    num_encoder_layers: int = 6
    num_decoder_layers: int = 6
    label_smoothing: float = 0.1
    norm_epsilon: float = 1e-6

    def setup(self) -> None:
        """Makes the embedding, encoder and decoder."""
        glorot = nn.initializers.glorot_uniform()
        # "to the output of each sub-layer, before it is added ..." (section 5.4): there alone.
        layers = TransformerLayers.of(self, LayerNorm)
        attention = layers.attention(glorot, glorot, dropout=NO_DROPOUT)
        mlp = layers.mlp(MLP, nn.relu, self.mlp_dim, glorot, glorot, use_bias=True)
        encoder = layers.block(PostNormBlock, attention, mlp)
        decoder = layers.block(PostNormBlock, attention, mlp, cross_attention=attention)
        self.token_embedder = Embed(
            self.vocab_size, self.embed_dim, normal(self.embed_dim**-0.5), self.dtype
        )
        self.encoder = layers.stack(self.num_encoder_layers, encoder)
        self.decoder = layers.stack(self.num_decoder_layers, decoder)

    def embed_source(self, tokens_bs: Array, positions_bs: Array | None) -> Array:
        """Embeddings times sqrt(d_model), and sinusoids (sections 3.4 and 3.5)."""
        x_bse = self.token_embedder(tokens_bs)
        return add_sinusoids(x_bse * self.embed_dim**0.5, positions_bs)

    def embed_target(self, tokens_bt: Array, positions_bt: Array | None) -> Array:
        """As `embed_source`: the two sides share their embedding (section 3.4)."""
        return self.embed_source(tokens_bt, positions_bt)
