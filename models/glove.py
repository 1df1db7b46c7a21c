"""GloVe: vectors of words whose products are the logarithms of how often they meet."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from models.layers import parts
from models.layers.embeddings import Embed, OutputBias
from models.layers.linear import uniform
from models.model import Array, Batch, Params
from models.word_vectors import WordVectors


class GloVe(WordVectors):
    """Global vectors (Pennington et al. 2014, equation 8).

    `f(x) (w·w' + b + b' - log x)²` of each pair of words that meet x times, with `f(x) = (x /
    x_max)^alpha` up to 1; the loss is the mean over the pairs, where the released code halves each
    and adds them up one after the other. A word's vector is `w + w'` (section 4.2).

    Attributes:
      embed_dim: size of a vector.
      x_max: of the weights.
      alpha: of the weights.
    """

    x_max: float = 100.0
    alpha: float = 0.75

    def __post_init__(self) -> None:
        """Checks the weights.

        Raises:
          ModelError: `x_max` is not above 0, or `alpha` below it.
        """
        super().__post_init__()
        if self.x_max <= 0:
            raise self.refused("x_max", "it must be above 0")
        if self.alpha < 0:
            raise self.refused("alpha", "it must be 0 or more")

    def setup(self) -> None:
        """Makes two tables and two biases, with the initial values of the released code."""
        draw = uniform(0.5 / self.embed_dim)
        self.token_embedder = Embed(self.vocab_size, self.embed_dim, draw, self.dtype)
        self.context_embedder = Embed(self.vocab_size, self.embed_dim, draw, self.dtype)
        self.token_bias = OutputBias(self.vocab_size, draw)
        self.context_bias = OutputBias(self.vocab_size, draw)

    @property
    def batch_format(self) -> str:
        """Pairs of words and how often they meet."""
        return "cooccurrences"

    def make_parameters(self) -> None:
        """Makes the second table and the biases."""
        self.context_embedder.output_kernel()
        self.token_bias()
        self.context_bias()

    @parts.part(parts.HEAD)
    def summed_loss(  # type: ignore[override]  # features by their names
        self,
        *,
        encoder_input_tokens: Array,
        context_tokens: Array,
        cooccurrences: Array,
        **_: Any,
    ) -> Array:
        """See `WordVectors.summed_loss`."""
        x_bte = self.token_embedder(encoder_input_tokens)
        c_bte = self.context_embedder(context_tokens)
        product_bt = jnp.einsum("bte,bte->bt", x_bte, c_bte, preferred_element_type=jnp.float32)
        bias_bt = jnp.take(self.token_bias(), encoder_input_tokens)
        bias_bt += jnp.take(self.context_bias(), context_tokens)
        counts_bt = cooccurrences.astype(jnp.float32)
        weights_bt = jnp.minimum(1.0, (counts_bt / self.x_max) ** self.alpha)
        weights_bt = jnp.where(counts_bt > 0, weights_bt, 0.0)  # of a padding pair, for alpha 0
        residual_bt = product_bt + bias_bt - jnp.log(jnp.where(counts_bt > 0, counts_bt, 1.0))
        return (weights_bt * jnp.square(residual_bt)).sum()

    @nn.nowrap
    def loss_weights(self, batch: Batch) -> dict[str, Array]:
        """The pairs."""
        return {"loss": (batch["cooccurrences"] > 0).sum().astype(jnp.float32)}

    @nn.nowrap
    def token_vectors(self, params: Params) -> Array:
        """The sum of a word's vectors, float32 `[v, e]`."""
        return params["token_embedder"]["embedding"] + params["context_embedder"]["embedding"]
