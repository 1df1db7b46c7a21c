"""BART that translates: an encoder of its own reads the source in BART's place (section 3.4).

Lewis et al. 2019. A small encoder, of another vocabulary if need be, makes vectors of foreign words
that BART reads instead of its own tokens' vectors, as a text that it is to restore.
"""

import jax

from models.bart import BART
from models.layers.attention.positions import LearnedPositions
from models.layers.block import Context, PostNormBlock
from models.layers.embeddings import Embed
from models.layers.linear import normal
from models.layers.mlps import MLP, exact_gelu
from models.layers.norms import LayerNorm
from models.layers.stacks.builder import TransformerLayers

Array = jax.Array


class BARTForTranslation(BART):
    """BART with a source encoder, built like BART's own, in place of its source embeddings.

    To what leaves it BART's positions are added and BART's norm of the embeddings is applied.
    Parameters of a BART with the same fields have the same names here; those that it lacks begin
    with `source_`.

    Attributes:
      source_vocab_size: tokens of the source; None is `vocab_size`.
      num_source_layers: layers of the source encoder; the paper has 6.
    """

    source_vocab_size: int | None = None
    num_source_layers: int = 6

    def setup(self) -> None:
        """Makes BART, and the source encoder."""
        super().setup()
        init = normal(0.02)
        layers = TransformerLayers.of(self, LayerNorm)
        attention = layers.attention(init, init, use_bias=True)
        mlp = layers.mlp(MLP, exact_gelu, self.mlp_dim, init, init, use_bias=True)
        tokens = self.vocab_size if self.source_vocab_size is None else self.source_vocab_size
        self.source_embedder = Embed(tokens, self.embed_dim, init, self.dtype)
        self.source_positions = LearnedPositions(
            self.max_length, init, self.dtype, self.position_offset
        )
        self.source_embedding_norm = layers.norm()
        block = layers.block(PostNormBlock, attention, mlp)
        self.source_encoder = layers.stack(self.num_source_layers, block)

    def entering_encoder(self, tokens_bs: Array, context: Context) -> Array:
        """What leaves the source encoder, with BART's positions and norm, `[b, s, e]`."""
        positions_bs, drops = context.positions_bt, context.enable_dropout
        x_bse = self.source_positions(self.source_embedder(tokens_bs), positions_bs)
        x_bse = self._dropped(self.source_embedding_norm(x_bse), drops)
        x_bse = self.encoder_positions(self.source_encoder(x_bse, context), positions_bs)
        return self._dropped(self.encoder_embedding_norm(x_bse), drops)
