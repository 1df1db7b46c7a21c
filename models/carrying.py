"""The base class of language models that hand a state from one batch to the next."""

from typing import Any, ClassVar

import jax
from flax import linen as nn

from models import losses
from models.headed import HeadedLanguageModel
from models.layers import auxiliary_losses
from models.model import Array, Batch, Params


class CarryingLanguageModel(HeadedLanguageModel, kw_only=True):
    """A language model with a state; fulfils `Carries` of the engine's protocols.

    A family writes `hidden_states_and_carry` and `initial_carry` beside what a language model
    needs, but for `hidden_states`.

    Attributes:
      carries: whether training and evaluation hand the state from batch to batch, over rows that
        continue those of the batch before (truncated back-propagation through time); else every
        row begins anew.
    """

    input_features: ClassVar[tuple[str, ...]] = ("decoder_input_tokens",)

    carries: bool = False

    @property
    def text_format(self) -> str:
        """Packed or separate texts; with `carries`, rows that continue those before."""
        return "contiguous_language_model" if self.carries else "causal_language_model"

    def hidden_states(self, **features: Any) -> Array:
        """The last layer's hidden states, `[b, t, e]`, of rows that begin anew."""
        return self.hidden_states_and_carry(**features)[0]

    def hidden_states_and_carry(self, **features: Any) -> tuple[Array, Any]:
        """The last layer's hidden states, and the state after each row's last token.

        Its arguments are the features of a batch, `row_continues` (int `[b]`, 0 on the rows that
        begin anew) among them, `carry`, None for `initial_carry`, and `enable_dropout`.
        """
        raise NotImplementedError

    @nn.nowrap
    def initial_carry(self, rows: int) -> Any:
        """The state before the first token; the rows are the first axis of every array."""
        raise NotImplementedError

    @nn.nowrap
    def loss_and_carry(
        self, params: Params, batch: Batch, carry: Any, rng: Array | None = None
    ) -> tuple[dict[str, Array], losses.Metrics, Any]:
        """The summed loss and metrics of rows that continue a state, and the state after them.

        Args:
          params: as `init` makes them.
          batch: see `LanguageModel.loss`; with `row_continues` `[b]`, rows where it is 0 begin
            anew.
          carry: of the batch before, or `initial_carry`. No gradient flows into it.
          rng: for dropout, of which there is none without it.
        """
        result: Any = self.apply(
            {"params": params},
            **batch,
            carry=jax.lax.stop_gradient(carry),
            enable_dropout=rng is not None,
            rngs={} if rng is None else {"dropout": rng},
            mutable=[auxiliary_losses.AUXILIARY],
            method="_output_and_carry",
        )
        (output, carry), reported = result
        return *self.loss_of(output, batch, reported), carry

    def _output_and_carry(self, **features: Any) -> tuple[tuple[Array, Array, Array | None], Any]:
        self.check_features(features)
        x_bte, carry = self.hidden_states_and_carry(**features)
        return (x_bte, self.output_kernel(), self.output_bias()), carry
