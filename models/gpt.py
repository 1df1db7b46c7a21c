"""GPT-1, GPT-2 and GPT-3 (Radford et al. 2018, Radford et al. 2019, Brown et al. 2020).

Decoders with learned positions, GELU, biases and a tied output. Each paper describes its model
as the one before with a few changes, and so do the classes.
"""

from typing import ClassVar

import jax
from flax import linen as nn

from models.decoder_only import DecoderOnly
from models.layers.attention.positions import LearnedPositions
from models.layers.block import Block, ModuleFactory, PostNormBlock, PreNormBlock
from models.layers.embeddings import Embed
from models.layers.linear import normal
from models.layers.mlps import MLP
from models.layers.norms import LayerNorm
from models.layers.stacks.builder import TransformerLayers

Array = jax.Array


class GPT1(DecoderOnly):
    """GPT-1: a norm after each branch, and so none at the end (section 4.1).

    "A simple weight initialization of N(0, 0.02) was sufficient." The paper's dropout rate
    is 0.1. GELU is the tanh approximation, as in the released code.

    Attributes:
      embed_dim: d_model.
      num_heads: attention heads.
      num_layers: layers.
      max_length: longest row, the number of learned positions.
      head_dim: units of one head; None divides `embed_dim` evenly among the heads.
      mlp_dim: hidden units of the MLP; None is four times `embed_dim`.
      norm_epsilon: of every norm.
    """

    block: ClassVar[type[Block]] = PostNormBlock
    position_stddev: ClassVar[float] = 0.02

    embed_dim: int = 768
    num_heads: int = 12
    num_layers: int = 12
    max_length: int = 512
    head_dim: int | None = None
    mlp_dim: int | None = None
    norm_epsilon: float = 1e-5

    def setup(self) -> None:
        """Makes embeddings, positions and layers."""
        self.token_embedder = Embed(self.vocab_size, self.embed_dim, normal(0.02), self.dtype)
        self.position_embedder = LearnedPositions(
            self.max_length, normal(self.position_stddev), self.dtype
        )
        layers = TransformerLayers.of(self, LayerNorm, head_dim=self.head_dim)
        self.decoder = layers.stack(self.num_layers, *self.blocks_in_turn(layers))

    def embed(self, tokens_bt: Array, positions_bt: Array | None) -> Array:
        """Sum of token and position embeddings."""
        return self.position_embedder(self.token_embedder(tokens_bt), positions_bt)

    def final_layers(self, x_bte: Array) -> Array:
        """Nothing: the last layer ends with its norm."""
        return x_bte

    @property
    def residual_stddev(self) -> float:
        """Standard deviation of the initial output projections of attention and MLP."""
        return 0.02

    def blocks_in_turn(self, layers: TransformerLayers) -> tuple[ModuleFactory, ...]:
        """The layers that the stack repeats: here all are alike."""
        return (self._block(layers),)

    def _block(self, layers: TransformerLayers, window: int | None = None) -> ModuleFactory:
        init, residual_init = normal(0.02), normal(self.residual_stddev)
        mlp_dim = self.mlp_dim or 4 * self.embed_dim
        attention = layers.attention(init, residual_init, window=window, use_bias=True)
        mlp = layers.mlp(MLP, nn.gelu, mlp_dim, init, residual_init, use_bias=True)
        return layers.block(self.block, attention, mlp)


class GPT2(GPT1):
    """GPT-2: the norms stand before the branches, and one at the end (section 2.3).

    "We scale the weights of residual layers at initialization by a factor of 1/sqrt(N) where
    N is the number of residual layers": two in each of our layers. The other initial values
    are the released code's.
    """

    block: ClassVar[type[Block]] = PreNormBlock
    position_stddev: ClassVar[float] = 0.01

    max_length: int = 1024

    def setup(self) -> None:
        """Makes embeddings, positions, layers and the last norm."""
        super().setup()
        self.final_norm = LayerNorm(self.norm_epsilon, dtype=self.dtype)

    def final_layers(self, x_bte: Array) -> Array:
        """Applies the final layer norm."""
        return self.final_norm(x_bte)

    @property
    def residual_stddev(self) -> float:
        """GPT-1's over the square root of the number of branches."""
        return 0.02 * (2 * self.num_layers) ** -0.5


class GPT3(GPT2):
    """GPT-3: every second layer attends within a band only (section 2.1).

    "Alternating dense and locally banded sparse attention patterns", of which the paper says
    no more. Here the first layer is dense, and a query in a banded layer sees 256 keys, as in
    GPT-Neo, the first public model of this kind (EleutherAI 2021).

    Attributes:
      band: how many keys a query of a banded layer sees at most, itself the last.
    """

    max_length: int = 2048
    band: int = 256

    def blocks_in_turn(self, layers: TransformerLayers) -> tuple[ModuleFactory, ...]:
        """A dense layer and a banded one."""
        return self._block(layers), self._block(layers, window=self.band)
