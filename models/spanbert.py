"""SpanBERT (Joshi et al. 2020): BERT that restores spans, and again from what is beside them."""

from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from models import losses
from models.bert import BERT, INITIAL_VALUES
from models.layers import embeddings, parts
from models.layers.embeddings import Embed, MaskedOutput
from models.layers.linear import Initializer, Linear
from models.layers.mlps import ACTIVATIONS, Activation
from models.layers.norms import LayerNorm
from models.model import Array, Batch

SPAN_BOUNDARY = "span_boundary"
# Where the span of each token lies in the row.
SPANS = ("encoder_span_left", "encoder_span_right", "encoder_span_offset")


class SpanBoundaryOutput(nn.Module):
    """A token of a span from the tokens beside the span and its number in it (section 3.2).

    `h = LN(GeLU(W1 [x_(s-1); x_(e+1); p_(i-s+1)]))`, then a layer, a norm and a bias as in
    `MaskedOutput`; the matrix to logits is the table of tokens.

    Attributes:
      vocab_size: how many tokens.
      width: of the layers.
      max_targets: how many numbers of tokens have a vector p.
      position_dim: the width of p.
      activation: of both layers.
      kernel_init: initial values of matrices and vectors.
      norm_epsilon: of both norms.
      dtype: of the computation.
    """

    part: ClassVar[str] = parts.HEAD

    vocab_size: int
    width: int
    max_targets: int
    position_dim: int
    activation: Activation
    kernel_init: Initializer
    norm_epsilon: float
    dtype: str = "float32"

    @nn.compact
    def __call__(
        self, x_bse: jax.Array, left_bs: jax.Array, right_bs: jax.Array, offset_bs: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """What the output reads, `[b, s, e]`, and the bias, `[v]`.

        Args:
          x_bse: hidden states.
          left_bs: int, the place before the span of each token.
          right_bs: int, the place after it.
          offset_bs: int, the token's number in its span, from 1; others stand for a neighbour.
        """
        init = self.kernel_init
        beside = [
            jnp.take_along_axis(x_bse, place[..., None], axis=1) for place in (left_bs, right_bs)
        ]
        table = Embed(
            self.max_targets, self.position_dim, init, self.dtype, axis="positions", name="position"
        )
        p_bsp = table(jnp.clip(offset_bs, 1, self.max_targets) - 1)
        first = Linear(self.width, ("embed", "mlp"), init, True, self.dtype, name="boundary")
        h_bse = self.activation(first(jnp.concatenate([*beside, p_bsp], axis=-1)))
        h_bse = LayerNorm(self.norm_epsilon, dtype=self.dtype, name="boundary_norm")(h_bse)
        second = MaskedOutput(
            self.vocab_size, self.width, self.activation, init, self.norm_epsilon, self.dtype,
            name="masked",
        )  # fmt: skip
        found: tuple[jax.Array, jax.Array] = second(h_bse)
        return found


class SpanBERT(BERT):
    """BERT without pairs, and with a second way to restore what is hidden.

    The loss has two terms (section 3.2), which count alike: `masked_language_model`, the mean over
    hidden tokens; and `span_boundary`, the mean over those of them that stand in a span among its
    first `max_span_targets`. Rows are single sequences: the table of types is BERT's, and only the
    first is met.

    Attributes:
      use_pooler: off; only a `head` for rows has one.
      use_next_sentence_head: off.
      use_span_boundary_head: whether there is the second term.
      max_span_targets: tokens of a span that it restores, the released code's.
      span_position_dim: the width of the vector of a token's number in its span.
    """

    use_pooler: bool = False
    use_next_sentence_head: bool = False
    use_span_boundary_head: bool = True
    max_span_targets: int = 15
    span_position_dim: int = 200

    trained_with: ClassVar[tuple[str, ...]] = ("use_masked_head", "use_span_boundary_head")

    def __post_init__(self) -> None:
        """Checks what it cannot be built with; as BERT."""
        if self.head is not None:
            self.use_span_boundary_head = False
        super().__post_init__()

    def setup(self) -> None:
        """Makes the head of boundaries, and what BERT has."""
        super().setup()
        if self.use_span_boundary_head:
            self.span_boundary_head = SpanBoundaryOutput(
                self.vocab_size, self.embedding_width, self.max_span_targets,
                self.span_position_dim, ACTIVATIONS[self.activation], INITIAL_VALUES,
                self.norm_epsilon, self.dtype,
            )  # fmt: skip

    @property
    def batch_format(self) -> str:
        """With the head of boundaries, text in which spans are hidden."""
        return "masked_span_language_model" if self.use_span_boundary_head else super().batch_format

    def span_boundary_logits(self, **features: Any) -> Array:
        """Logits of each token by its span's boundaries, float32 `[b, s, v]`.

        Raises:
          ModelError: a feature is missing, or the model has no such head.
        """
        if not self.use_span_boundary_head:
            raise self.refused("use_span_boundary_head", "only with this head are spans restored")
        x_bse, *_ = super()._outputs(**features)
        return self._boundary_logits(x_bse, features)

    def _boundary_logits(
        self, x_bse: Array, features: Mapping[str, Any], places: int | None = None
    ) -> Array:
        h_bse, bias_v = self._of_boundaries(x_bse, features)
        return embeddings.logits(h_bse[:, :places], self.token_embedder.output_kernel(), bias_v)

    def _of_boundaries(self, x_bse: Array, features: Mapping[str, Any]) -> tuple[Array, Array]:
        none = jnp.zeros_like(features["encoder_input_tokens"])
        places = (features.get(name, none) for name in SPANS)
        found: tuple[Array, Array] = self.span_boundary_head(x_bse, *places)
        return found

    def _outputs(self, **features: Any) -> tuple[Any, ...]:
        outputs = super()._outputs(**features)
        if self.use_span_boundary_head:
            # For `init` and `forward_flops`, as in `BERT`; as many as training has.
            self._boundary_logits(outputs[0], features, self.masked_places)
        return outputs

    def _terms_of(
        self, outputs: tuple[Any, ...], batch: Batch
    ) -> tuple[dict[str, Array], losses.Metrics]:
        terms, metrics = super()._terms_of(outputs, batch)
        if self.use_span_boundary_head:
            output = self._of_boundaries(outputs[0], batch)
            loss, found = self.token_loss(*output, batch, self._boundary_weights(batch))
            terms[SPAN_BOUNDARY] = loss
            metrics[SPAN_BOUNDARY] = found["loss"]
            metrics[f"{SPAN_BOUNDARY}_accuracy"] = found["token_accuracy"]
        return terms, metrics

    # What a user calls.

    @property
    def loss_terms(self) -> Mapping[str, float]:
        """Both ways to restore a token, each counted once."""
        own = {SPAN_BOUNDARY: 1.0} if self.use_span_boundary_head else {}
        return {**super().loss_terms, **own}

    @nn.nowrap
    def loss_weights(self, batch: Batch) -> dict[str, Array]:
        """How many hidden tokens there are, and how many of them have boundaries."""
        if not self.use_span_boundary_head:
            return super().loss_weights(batch)
        own = self._boundary_weights(batch).astype(jnp.float32).sum()
        masked = batch["encoder_loss_weights"].astype(jnp.float32).sum()
        weights = {"masked_language_model": masked, SPAN_BOUNDARY: own}
        return {name: weights[name] for name in self.loss_terms}

    @nn.nowrap
    def _boundary_weights(self, batch: Batch) -> Array:
        offset_bs = batch["encoder_span_offset"]
        counted_bs = (offset_bs > 0) & (offset_bs <= self.max_span_targets)
        return jnp.where(counted_bs, batch["encoder_loss_weights"], 0)
