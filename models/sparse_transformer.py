"""Sparse Transformer (Child et al. 2019): a decoder that attends to some of the earlier tokens."""

import math
from typing import ClassVar

import jax
from flax import linen as nn

from models.decoder_only import DecoderOnly
from models.layers.attention.attention import even_head_dim
from models.layers.attention.axial_positions import AxialPositions
from models.layers.attention.factorized_patterns import Factorized, Fixed, Strided
from models.layers.attention.sparse_attention import SparseAttention
from models.layers.block import ModuleFactory, PreNormBlock
from models.layers.dropout import NO_DROPOUT
from models.layers.embeddings import Embed, OutputKernel
from models.layers.linear import normal
from models.layers.mlps import MLP
from models.layers.norms import LayerNorm
from models.layers.stacks.builder import TransformerLayers

Array = jax.Array

PATTERNS = ("strided", "fixed")
COMBINATIONS = ("merged", "layers", "heads")


def sigmoid_gelu(x: Array) -> Array:
    """`x σ(1.702 x)`, which is close to GELU (Hendrycks and Gimpel 2016, section 2)."""
    return x * nn.sigmoid(1.702 * x)


class SparseTransformer(DecoderOnly):
    """A decoder with factorized attention, which takes time in proportion to n √n.

    Norms stand before the branches (section 5.2), dropout only on what a branch adds (section 5.4).
    The output is not tied and starts at 0.

    Attributes:
      embed_dim: d.
      num_heads: attention heads.
      num_layers: N.
      max_length: longest row.
      pattern: "strided", for data with a period, or "fixed", for text (section 4.3).
      stride: l, about the root of the length.
      summary: c, the last tokens of each l that all later ones see; "fixed" alone has it.
      combination: how the near and the distant part of the pattern are combined (section 5.1):
        "merged" has both in every head, "layers" one after the other in turn, "heads" one in the
        first half of the heads and the other in the second.
      position_shape: axes of the grid of positions, as `(32, 32, 3)` for an image; None is a text
        in rows of `stride`.
      query_key_dim: units of queries and keys of one head; None is `embed_dim / num_heads`, which
        values always have.
      mlp_dim: hidden units of the MLP; None is four times `embed_dim`.
      norm_epsilon: of every norm; the paper does not state it.
      input_attention: "causal" alone.
    """

    # Only branches have dropout.
    drops_embeddings: ClassVar[bool] = False

    embed_dim: int = 512
    num_heads: int = 8
    num_layers: int = 30
    max_length: int = 12_288
    pattern: str = "fixed"
    stride: int = 128
    summary: int = 32
    combination: str = "merged"
    position_shape: tuple[int, ...] | None = None
    query_key_dim: int | None = None
    mlp_dim: int | None = None
    norm_epsilon: float = 1e-5
    input_attention: str = "causal"

    def __post_init__(self) -> None:
        """Checks what it cannot be built with.

        Raises:
          ModelError: an unknown pattern or combination, a grid that is not as large as the row,
            inputs that are read in both directions; and as every model.
        """
        if self.position_shape is not None:
            # gin gives lists; a model's fields are hashed.
            self.position_shape = tuple(self.position_shape)
        super().__post_init__()
        for name, known in (("pattern", PATTERNS), ("combination", COMBINATIONS)):
            if getattr(self, name) not in known:
                raise self.refused(name, f"it must be one of {', '.join(known)}")
        if self.input_attention != "causal":
            raise self.refused("input_attention", "factorized attention is 'causal'")
        if self.position_shape is not None and math.prod(self.position_shape) != self.max_length:
            raise self.refused(
                "position_shape", f"its product must be max_length, which is {self.max_length}"
            )

    def setup(self) -> None:
        """Makes embeddings, positions, layers, the last norm and the output."""
        d = self.embed_dim
        shape = self.position_shape
        if shape is None:
            shape = (-(-self.max_length // self.stride), self.stride)
        self.token_embedder = Embed(self.vocab_size, d, normal(0.125 * d**-0.5), self.dtype)
        self.position_embedder = AxialPositions(
            shape, normal(0.125 * (d * len(shape)) ** -0.5), self.dtype
        )
        layers = TransformerLayers.of(self, LayerNorm, head_dim=self.query_key_dim)
        self.decoder = layers.stack(self.num_layers, *self._blocks_in_turn(layers))
        self.final_norm = LayerNorm(self.norm_epsilon, dtype=self.dtype)
        self.output = OutputKernel(self.vocab_size, d, nn.initializers.zeros)

    def embed(self, tokens_bt: Array, positions_bt: Array | None) -> Array:
        """The sum of the vectors of the token and of its place along each axis (section 5.3)."""
        return self.position_embedder(self.token_embedder(tokens_bt), positions_bt)

    def output_kernel(self) -> Array:
        """An output of its own."""
        return self.output()

    def _blocks_in_turn(self, layers: TransformerLayers) -> tuple[ModuleFactory, ...]:
        """The layers that the stack repeats."""
        near = self._pattern(near=True, distant=False)
        distant = self._pattern(near=False, distant=True)
        if self.combination == "layers":
            return self._block(layers, near), self._block(layers, distant)
        if self.combination == "heads":
            return (self._block(layers, near, distant),)
        return (self._block(layers, self._pattern(near=True, distant=True)),)

    def _pattern(self, *, near: bool, distant: bool) -> Factorized:
        if self.pattern == "fixed":
            return Fixed(self.stride, near, distant, self.summary)
        return Strided(self.stride, near, distant)

    def _block(self, layers: TransformerLayers, *patterns: Factorized) -> ModuleFactory:
        """One layer. Matrices start in proportion to the root of their inputs (section 6)."""
        d, mlp_dim = self.embed_dim, self.mlp_dim or 4 * self.embed_dim
        init = normal(0.125 * d**-0.5)
        # What joins the residual stream starts smaller, by the number of branches (section 5.2).
        joining = (2 * self.num_layers) ** -0.5
        attention = layers.attention(
            init,
            normal(0.125 * d**-0.5 * joining),
            kind=SparseAttention,
            patterns=patterns,
            value_dim=even_head_dim(d, self.num_heads),
            use_bias=True,
            dropout=NO_DROPOUT,
        )
        mlp_init = normal(0.125 * mlp_dim**-0.5 * joining)
        mlp = layers.mlp(MLP, sigmoid_gelu, mlp_dim, init, mlp_init, use_bias=True)
        return layers.block(PreNormBlock, attention, mlp)
