"""GPT-NeoX and Pythia (Black et al. 2022; Biderman et al. 2023): a GPT of parallel branches."""

import jax
from flax import linen as nn

from models.decoder_only import DecoderOnly
from models.layers.attention.positions import Rotary
from models.layers.block import PreNormBlock, TwoNormParallelBlock
from models.layers.embeddings import Embed, OutputKernel
from models.layers.linear import normal
from models.layers.mlps import MLP, exact_gelu
from models.layers.norms import LayerNorm
from models.layers.stacks.builder import TransformerLayers


class GPTNeoX(DecoderOnly):
    """GPT-NeoX (Black et al. 2022, section 2.1), of which Pythia is other sizes.

    Attention and MLP side by side, each with a norm of its own; rotary positions on a part of
    each head; biases everywhere but in the output, which is not tied. The initial values are
    the paper's: N(0, 2/(5d)), and N(0, 4/(L²d)) where a branch joins the residual stream.

    Attributes:
      embed_dim: d_model.
      num_heads: attention heads; they divide `embed_dim` among them.
      num_layers: layers.
      mlp_dim: hidden units of the MLP; None is four times `embed_dim`.
      max_length: longest row; what the model was made for, since no parameter depends on it.
      rotary_pct: the share of a head's units, the first ones, that positions turn.
      rope_base: see `Rotary`.
      parallel_residual: False adds the branches in turn, as GPT-2 does.
      approximate_gelu: whether GELU is the approximation by tanh.
      norm_epsilon: of every norm.
    """

    embed_dim: int = 6144
    num_heads: int = 64
    num_layers: int = 44
    mlp_dim: int | None = None
    max_length: int = 2048
    rotary_pct: float = 0.25
    rope_base: float = 10000.0
    parallel_residual: bool = True
    approximate_gelu: bool = False
    norm_epsilon: float = 1e-5

    def __post_init__(self) -> None:
        """Checks what no model can be built with.

        Raises:
          ModelError: as of every decoder, or a share that is none.
        """
        super().__post_init__()
        if not 0 <= self.rotary_pct <= 1:
            raise self.refused("rotary_pct", "it must be from 0 to 1")

    def setup(self) -> None:
        """Makes embeddings, layers, the last norm and the output."""
        init = normal((2 / (5 * self.embed_dim)) ** 0.5)
        residual_init = normal(2 / self.num_layers * self.embed_dim**-0.5)
        mlp_dim = self.mlp_dim or 4 * self.embed_dim
        layers = TransformerLayers.of(self, LayerNorm)
        rotation = Rotary(self.rope_base, units=int(self.rotary_pct * layers.head_dim))
        attention = layers.attention(init, residual_init, rotation=rotation, use_bias=True)
        gelu = nn.gelu if self.approximate_gelu else exact_gelu
        mlp = layers.mlp(MLP, gelu, mlp_dim, init, residual_init, use_bias=True)
        wiring = TwoNormParallelBlock if self.parallel_residual else PreNormBlock
        self.token_embedder = Embed(self.vocab_size, self.embed_dim, init, self.dtype)
        self.decoder = layers.stack(self.num_layers, layers.block(wiring, attention, mlp))
        self.final_norm = layers.norm()
        self.output = OutputKernel(self.vocab_size, self.embed_dim, init)

    def output_kernel(self) -> jax.Array:
        """The matrix from `hidden_states` to logits, `[e, v]`."""
        return self.output()
