"""LLaMA (Touvron et al. 2023): a decoder of pre-norm layers with SwiGLU and rotary positions."""

import jax
from flax import linen as nn

from models.decoder_only import DecoderOnly
from models.layers.attention.positions import Rotary
from models.layers.block import PreNormBlock
from models.layers.embeddings import Embed, OutputKernel
from models.layers.linear import normal
from models.layers.mlps import GatedMLP
from models.layers.norms import RMSNorm
from models.layers.stacks.builder import TransformerLayers

Array = jax.Array

# The released models round the hidden units of the MLP up to a multiple of this.
MLP_MULTIPLE = 256


def swiglu_dim(embed_dim: int) -> int:
    """Hidden units of LLaMA's MLP: 2/3 of 4d (section 2.2), up to a multiple of 256."""
    return -(-(8 * embed_dim // 3) // MLP_MULTIPLE) * MLP_MULTIPLE


class LLaMA(DecoderOnly):
    """LLaMA: RMSNorm before each branch, SwiGLU, RoPE, no biases (section 2.2).

    The paper gives no initial values; these are GPT-2's, N(0, 0.02²) and less where a branch
    joins the residual stream.

    Attributes:
      embed_dim: d_model.
      num_heads: attention heads; they divide `embed_dim` among them.
      num_layers: layers.
      num_kv_heads: heads of keys and values; None is `num_heads`, fewer is grouped-query
        attention (Ainslie et al. 2023), which LLaMA 2 took up.
      mlp_dim: hidden units of the MLP; None is `swiglu_dim(embed_dim)`.
      max_length: longest row; what the model was made for, since no parameter depends on it.
      rope_base: see `Rotary`.
      tied_output: whether the output matrix is the embeddings'.
      norm_epsilon: of every norm; the released models have 1e-6 or 1e-5.
    """

    embed_dim: int = 4096
    num_heads: int = 32
    num_layers: int = 32
    num_kv_heads: int | None = None
    mlp_dim: int | None = None
    max_length: int = 2048
    rope_base: float = 10000.0
    tied_output: bool = False
    norm_epsilon: float = 1e-6

    def setup(self) -> None:
        """Makes embeddings, layers, the last norm and the output."""
        init, residual_init = normal(0.02), normal(0.02 * (2 * self.num_layers) ** -0.5)
        mlp_dim = self.mlp_dim or swiglu_dim(self.embed_dim)
        layers = TransformerLayers.of(self, RMSNorm)
        attention = layers.attention(
            init, residual_init, num_kv_heads=self.num_kv_heads, rotation=Rotary(self.rope_base)
        )
        mlp = layers.mlp(GatedMLP, nn.silu, mlp_dim, init, residual_init)
        self.token_embedder = Embed(self.vocab_size, self.embed_dim, init, self.dtype)
        self.decoder = layers.stack(self.num_layers, layers.block(PreNormBlock, attention, mlp))
        self.final_norm = layers.norm()
        if not self.tied_output:
            self.output = OutputKernel(self.vocab_size, self.embed_dim, init)

    def output_kernel(self) -> Array:
        """The matrix from `hidden_states` to logits, `[e, v]`."""
        return super().output_kernel() if self.tied_output else self.output()
