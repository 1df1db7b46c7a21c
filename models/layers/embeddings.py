"""Token embeddings, and what leads from hidden states to logits."""

from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from models.layers import parts
from models.layers.adaptive_softmax import AdaptiveSoftmax
from models.layers.linear import Initializer, Linear, axis_names, dense
from models.layers.mlps import Activation
from models.layers.norms import LayerNorm

Output = jax.Array | AdaptiveSoftmax
"""What makes logits of the residual stream: a matrix, or a softmax in parts."""


class Embed(nn.Module):
    """A learned vector for each token, or for each of some other ids.

    Attributes:
      vocab_size: how many tokens.
      embed_dim: size of a vector.
      embedding_init: initial values.
      dtype: of the result.
      axis: logical name of the table's rows, `token_types` for BERT's segments.
    """

    part: ClassVar[str] = parts.EMBEDDING

    vocab_size: int
    embed_dim: int
    embedding_init: Initializer
    dtype: str = "float32"
    axis: str = "vocab"

    def setup(self) -> None:
        """Makes the table `[v, e]`."""
        self.embedding = self.param(
            "embedding",
            axis_names((self.axis, "embed"), self.embedding_init),
            (self.vocab_size, self.embed_dim),
        )

    def __call__(self, tokens_bt: jax.Array) -> jax.Array:
        """Tokens, int `[b, t]`, to their vectors `[b, t, e]`."""
        # Gathered like any other parameter where FSDP divides `embed`; else the compiler would
        # divide the result's `embed` too, and exchange activations.
        table_ve = nn.with_logical_constraint(self.embedding, (self.axis, None))
        x_bte = jnp.take(table_ve, tokens_bt, axis=0).astype(self.dtype)
        # Every token first: else a table that is divided by tokens would be gathered too, where
        # the length is divided over the same devices.
        x_bte = nn.with_logical_constraint(x_bte, ("batch", None, "embed"))
        return nn.with_logical_constraint(x_bte, ("batch", "length", "embed"))

    def output_kernel(self) -> jax.Array:
        """The table as the matrix `[e, v]` of a tied output."""
        return self.embedding.T


class OutputKernel(nn.Module):
    """The matrix `[e, v]` of an output that is not tied to the embeddings.

    Attributes:
      vocab_size: how many tokens.
      embed_dim: size of the residual stream.
      kernel_init: initial values.
    """

    vocab_size: int
    embed_dim: int
    kernel_init: Initializer

    @nn.compact
    def __call__(self) -> jax.Array:
        """The matrix, float32."""
        return self.param(
            "kernel",
            axis_names(("embed", "vocab"), self.kernel_init),
            (self.embed_dim, self.vocab_size),
        )


class OutputBias(nn.Module):
    """A vector `[v]` that is added to the logits.

    Attributes:
      vocab_size: how many tokens.
      bias_init: initial values.
    """

    vocab_size: int
    bias_init: Initializer = nn.initializers.zeros

    @nn.compact
    def __call__(self) -> jax.Array:
        """The vector, float32."""
        return self.param("bias", axis_names(("vocab",), self.bias_init), (self.vocab_size,))


class MaskedOutput(nn.Module):
    """What BERT's hidden states pass on their way to logits: a layer, a norm, a bias.

    The matrix to logits is the table of tokens; the bias of each token is kept here.

    Attributes:
      vocab_size: how many tokens.
      width: of the layer and of the table.
      activation: of the layer.
      kernel_init: initial values of its matrix.
      norm_epsilon: of the norm.
      dtype: of the computation.
    """

    part: ClassVar[str] = parts.HEAD

    vocab_size: int
    width: int
    activation: Activation
    kernel_init: Initializer
    norm_epsilon: float
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x_bse: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Hidden states `[b, s, h]` to what the output reads, `[b, s, e]`, and the bias, `[v]`."""
        transform = Linear(
            self.width, ("embed", "mlp"), self.kernel_init, True, self.dtype, name="transform"
        )
        h_bse = self.activation(transform(x_bse))
        h_bse = LayerNorm(self.norm_epsilon, dtype=self.dtype, name="norm")(h_bse)
        zeros = axis_names(("vocab",), nn.initializers.zeros)
        bias_v = self.param("bias", zeros, (self.vocab_size,))
        return nn.with_logical_constraint(h_bse, ("batch", "length", "embed")), bias_v


@parts.part(parts.HEAD)
def logits(x_bte: jax.Array, kernel_ev: Output, bias_v: jax.Array | None = None) -> jax.Array:
    """Scores of the vocabulary: products in the dtype of `x`, summed in float32.

    Args:
      x_bte: `[..., e]`, the residual stream after its last norm.
      kernel_ev: `[e, v]`, float32; of an adaptive softmax scores are log-probabilities.
      bias_v: `[v]`, float32; added if there is one.

    Returns:
      float32 `[..., v]`.
    """
    if isinstance(kernel_ev, AdaptiveSoftmax):
        return kernel_ev.log_probabilities(x_bte)
    logits_v = dense(x_bte, kernel_ev.astype(x_bte.dtype), "float32")
    return logits_v if bias_v is None else logits_v + bias_v
