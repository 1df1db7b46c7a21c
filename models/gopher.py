"""Gopher (Rae et al. 2021), and Chinchilla (Hoffmann et al. 2022), which is the same model.

"The autoregressive Transformer architecture detailed in Radford et al. (2019) with two
modifications: we use RMSNorm instead of LayerNorm, and we use the relative positional encoding
scheme from Dai et al. (2019) rather than absolute positional encodings" (section 3.1). So all
else is GPT-2's: GELU, biases, initial values and the tied output, which the counts confirm.
"""

import functools

from flax import linen as nn

from models.decoder_only import DecoderOnly
from models.layers.attention.positions import RelativePositionScores
from models.layers.block import PreNormBlock
from models.layers.embeddings import Embed
from models.layers.linear import normal
from models.layers.mlps import MLP
from models.layers.norms import RMSNorm
from models.layers.stacks.builder import TransformerLayers


class Gopher(DecoderOnly):
    """Gopher: GPT-2 with RMSNorm and Transformer-XL's relative positions.

    Each layer projects the sinusoids of the distances by a matrix of its own. Rows may be of
    any length: no parameter depends on it.

    Attributes:
      embed_dim: d_model.
      num_heads: attention heads.
      num_layers: layers.
      head_dim: units of one head, the paper's key/value size.
      mlp_dim: hidden units of the MLP; None is four times `embed_dim`.
      norm_epsilon: of every norm; not published.
    """

    embed_dim: int = 16384
    num_heads: int = 128
    num_layers: int = 80
    head_dim: int = 128
    mlp_dim: int | None = None
    norm_epsilon: float = 1e-6

    def setup(self) -> None:
        """Makes embeddings, layers and the last norm."""
        init, residual_init = normal(0.02), normal(0.02 * (2 * self.num_layers) ** -0.5)
        mlp_dim = self.mlp_dim or 4 * self.embed_dim
        layers = TransformerLayers.of(self, RMSNorm, head_dim=self.head_dim)
        positions = functools.partial(RelativePositionScores, kernel_init=init)
        attention = layers.attention(init, residual_init, make_relative=positions, use_bias=True)
        mlp = layers.mlp(MLP, nn.gelu, mlp_dim, init, residual_init, use_bias=True)
        self.token_embedder = Embed(self.vocab_size, self.embed_dim, init, self.dtype)
        self.decoder = layers.stack(self.num_layers, layers.block(PreNormBlock, attention, mlp))
        self.final_norm = layers.norm()
