"""BART (Lewis et al. 2019): the Transformer with BERT's embeddings and activation.

An encoder-decoder of post-norm layers with learned positions, a norm after the embeddings,
GELU, and biases everywhere, trained to restore text that was corrupted in any way
(`tasks/objectives`).
"""

import functools

import jax
from flax import linen as nn

from models.encoder_decoder import EncoderDecoder
from models.layers.attention.positions import LearnedPositions
from models.layers.block import PostNormBlock
from models.layers.dropout import Dropout
from models.layers.embeddings import Embed
from models.layers.linear import Linear, normal
from models.layers.mlps import MLP, exact_gelu
from models.layers.norms import LayerNorm
from models.layers.stacks.builder import TransformerLayers

Array = jax.Array


class BART(EncoderDecoder):
    """BART: GELU for ReLU, and initial values from N(0, 0.02²) (section 2.1).

    What the section does not say is the released code's: one embedding for both sides and the
    output, positions of either side in a table of its own, a norm after each sum of the two. With a
    head, the decoder's state at the last token passes a layer with tanh first.

    Attributes:
      embed_dim: d_model.
      mlp_dim: hidden units of the MLP.
      num_heads: attention heads; they divide `embed_dim` among them.
      num_encoder_layers: layers of the encoder.
      num_decoder_layers: layers of the decoder.
      max_length: longest row of either side.
      position_offset: rows of the tables before that of position 0, which nothing reads; the
        released tables have 2, as their code numbered positions from the padding token's id on.
      norm_epsilon: of every norm.
    """

    embed_dim: int = 768
    mlp_dim: int = 3072
    num_heads: int = 12
    num_encoder_layers: int = 6
    num_decoder_layers: int = 6
    max_length: int = 1024
    position_offset: int = 2
    norm_epsilon: float = 1e-5

    def setup(self) -> None:
        """Makes embeddings, positions, encoder and decoder."""
        init = normal(0.02)
        layers = TransformerLayers.of(self, LayerNorm)
        attention = layers.attention(init, init, use_bias=True)
        mlp = layers.mlp(MLP, exact_gelu, self.mlp_dim, init, init, use_bias=True)
        encoder = layers.block(PostNormBlock, attention, mlp)
        decoder = layers.block(PostNormBlock, attention, mlp, cross_attention=attention)
        positions = functools.partial(
            LearnedPositions, self.max_length, init, self.dtype, self.position_offset
        )
        self.token_embedder = Embed(self.vocab_size, self.embed_dim, init, self.dtype)
        self.encoder_positions = positions()
        self.encoder_embedding_norm = layers.norm()
        self.encoder = layers.stack(self.num_encoder_layers, encoder)
        self.decoder_positions = positions()
        self.decoder_embedding_norm = layers.norm()
        self.decoder = layers.stack(self.num_decoder_layers, decoder)
        if self.head is not None:
            axes = ("embed", "mlp")
            self.output_head_dense = Linear(self.embed_dim, axes, init, True, self.dtype)

    def pooled(self, x_bte: Array, valid_bt: Array, enable_dropout: bool = False) -> Array:
        """The decoder's state at each row's last token, through dropout and a layer with tanh."""
        last_be = super().pooled(x_bte, valid_bt, enable_dropout)
        rate = self.head_dropout_rate
        key = self.make_rng("dropout") if enable_dropout and rate else None
        return nn.tanh(self.output_head_dense(Dropout(rate)(last_be, key)))

    def embed_source(self, tokens_bs: Array, positions_bs: Array | None) -> Array:
        """Normalized sum of token and position embeddings."""
        x_bse = self.encoder_positions(self.token_embedder(tokens_bs), positions_bs)
        return self.encoder_embedding_norm(x_bse)

    def embed_target(self, tokens_bt: Array, positions_bt: Array | None) -> Array:
        """Normalized sum of token embeddings and the decoder's position embeddings."""
        x_bte = self.decoder_positions(self.token_embedder(tokens_bt), positions_bt)
        return self.decoder_embedding_norm(x_bte)
