"""A policy that writes answers, and a value function that expects their reward."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from models import flops, losses
from models.errors import ModelError
from models.headed import HeadedLanguageModel
from models.heads import Reward
from models.layers import embeddings
from models.model import Array, Batch, Model, Params
from models.tuning.parts import text_length

REFERENCE, REWARD, VALUE = "reference", "reward", "value"
_FEATURES = (
    "decoder_input_tokens",
    "decoder_positions",
    "decoder_segment_ids",
    "decoder_causal_attention",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ActorCritic:
    """A decoder as policy with a value function, for learning from rewards.

    Fulfils the engine's `LearnsFromRewards`. Beside it stand frozen models: the reference, which is
    the policy as it began, and where there is one the reward model (Ouyang et al. 2022, section
    3.5). The parameters are the policy's under their own names, so that the policy's class reads a
    run's checkpoints; those of the value function are beside them.

    Attributes:
      policy: a decoder that writes text, without a head.
      value: a decoder with `heads.Reward` whose parameters are its own; None is a head on the
        policy's last hidden states, in which policy and value share all other parameters.
      reward: a decoder with `heads.Reward` that has learned comparisons; None where a rule gives
        the rewards.
    """

    policy: HeadedLanguageModel
    value: HeadedLanguageModel | None = None
    reward: HeadedLanguageModel | None = None

    batch_format: ClassVar[str] = "prompts"
    loss_terms: ClassVar[Mapping[str, float]] = {"loss": 1.0}
    carries: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Checks that the models go together.

        Raises:
          ModelError: a policy that does not write text or is tuned in part, a value function or
            reward model without the head, or with another vocabulary.
        """
        writes = isinstance(self.policy, HeadedLanguageModel)
        writes &= self.policy.batch_format.endswith("_language_model")
        if not writes or self.policy.tuning:
            raise ModelError(
                f"ActorCritic.policy is a {type(self.policy).__name__} for batches of "
                f"{self.policy.batch_format!r}: a decoder that writes text, without a head and "
                "without a tuning, is needed."
            )
        for name in (VALUE, REWARD):
            model = getattr(self, name)
            if model is None:
                continue
            if not isinstance(getattr(model, "head", None), Reward):
                raise ModelError(
                    f"ActorCritic.{name} is a {type(model).__name__} without heads.Reward: give a "
                    "model that learned comparisons (runs/reward.gin)."
                )
            if model.vocab_size != self.policy.vocab_size:
                raise ModelError(
                    f"ActorCritic.{name} has a vocabulary of {model.vocab_size} tokens and the "
                    f"policy one of {self.policy.vocab_size}: both read the same tokens, so give a "
                    "model that was trained with the policy's vocabulary."
                )
        if self.value is not None and self.value.axis_blocks() != self.policy.axis_blocks():
            raise ModelError(
                "ActorCritic.value and the policy have heads of different sizes: they are divided "
                "over one mesh, and must have the same."
            )

    @property
    def _shared(self) -> HeadedLanguageModel:
        """The policy with the value's head on it."""
        return self.policy.clone(head=Reward(), parent=None)

    @property
    def vocab_size(self) -> int:
        """The policy's."""
        return self.policy.vocab_size

    @property
    def max_length(self) -> int | None:
        """What all of the models can read."""
        models = (self.policy, self.value, self.reward)
        lengths = [text_length(model) for model in models if model is not None]
        return min((length for length in lengths if length is not None), default=None)

    @property
    def dtype(self) -> str:
        """The policy's."""
        return self.policy.dtype

    @property
    def frozen_models(self) -> Mapping[str, Model]:
        """The reference, and the reward model where there is one."""
        beside = {} if self.reward is None else {REWARD: self.reward}
        return {REFERENCE: self.policy, **beside}

    # Parameters.

    @property
    def beside_policy(self) -> tuple[str, ...]:
        """What holds the value function's own parameters."""
        return ("output_head",) if self.value is None else (VALUE,)

    def init(self, rng: Array, batch: Batch | None = None) -> dict[str, Params]:
        """See `Model`."""
        if self.value is None:
            return self._shared.init(rng)
        value = self.value.init(jax.random.fold_in(rng, 1))["params"]
        return {"params": {**self.policy.init(rng)["params"], VALUE: value}}

    def apply(self, variables: Mapping[str, Params], **batch: Array) -> Any:
        """The policy's logits."""
        return self.policy.apply(variables, **batch)

    def abstract_params(self) -> Params:
        """See `Model`."""
        if self.value is None:
            return self._shared.abstract_params()
        return {**self.policy.abstract_params(), VALUE: self.value.abstract_params()}

    def axis_blocks(self) -> dict[str, int]:
        """The policy's."""
        return self.policy.axis_blocks()

    def parameter_count(self, *, embeddings: bool = True) -> int:
        """Of policy and value function."""
        if self.value is None:
            return self._shared.parameter_count(embeddings=embeddings)
        models = (self.policy, self.value)
        return sum(model.parameter_count(embeddings=embeddings) for model in models)

    def policy_params(self, params: Params) -> Params:
        """Of all parameters the policy's."""
        return {name: part for name, part in params.items() if name not in self.beside_policy}

    # What rows of prompts and answers are worth.

    def logits_and_values(
        self, params: Params, rows: Batch, answer_length: int
    ) -> tuple[Array, Array]:
        """What the policy says of each token of an answer, and what reward is expected before it.

        There is no dropout: the ratio to the policy that drew the answers begins as 1.

        Args:
          params: as `init` makes them.
          rows: prompt, padded on the left, and answer, int32 `[b, p + n]`:
            `decoder_input_tokens`, `decoder_positions`, `decoder_segment_ids` and, where prompts
            are read in both directions, `decoder_causal_attention`.
          answer_length: n.

        Returns:
          Logits `[b, n, v]` and values `[b, n]`, float32.
        """
        read = _before_the_last(rows)
        if self.value is None:
            found: Any = self._shared.apply(
                {"params": params}, read, answer_length, method=_logits_and_values
            )
            return found
        values: Any = self.value.apply(
            {"params": params[VALUE]}, read, answer_length, method=_values
        )
        return self._logits(self.policy_params(params), read, answer_length), values

    def reference_logits(
        self, frozen: Mapping[str, Params], rows: Batch, answer_length: int
    ) -> Array:
        """The reference's logits for the tokens of answers, float32 `[b, n, v]`.

        Args:
          frozen: parameters of `frozen_models`.
          rows: as for `logits_and_values`.
          answer_length: n.
        """
        return self._logits(frozen[REFERENCE], _before_the_last(rows), answer_length)

    def _logits(self, params: Params, read: Batch, answer_length: int) -> Array:
        found: Any = self.policy.apply({"params": params}, read, answer_length, method=_logits)
        return found

    def rewards(self, frozen: Mapping[str, Params], rows: Batch) -> Array:
        """The reward model's reward of each answer, float32 `[b]`.

        Args:
          frozen: parameters of `frozen_models`.
          rows: as for `logits_and_values`.
        """
        assert self.reward is not None
        features = {name: rows[name] for name in _FEATURES[:3]}
        return self.reward.predict(frozen[REWARD], features)[REWARD]

    # The language-model loss, of the text that is mixed in.

    def loss_weights(self, batch: Batch) -> dict[str, Array]:
        """The policy's."""
        return self.policy.loss_weights(batch)

    def loss(
        self, params: Params, batch: Batch, rng: Array | None = None
    ) -> tuple[dict[str, Array], losses.Metrics]:
        """The policy's language-model loss of rows of text, in its own batch format."""
        return self.policy.loss(self.policy_params(params), batch, rng)

    def loss_with_frozen(
        self, params: Params, batch: Batch, frozen: Mapping[str, Params], rng: Array | None = None
    ) -> tuple[dict[str, Array], losses.Metrics]:
        """As `loss`, which no other model plays a part in."""
        return self.loss(params, batch, rng)

    def initial_carry(self, rows: int) -> dict[str, Array]:
        """What the coefficient of the divergence is multiplied by: 1 to begin with."""
        return {"kl_scale": jnp.ones((rows,), jnp.float32)}

    def loss_and_carry(
        self, params: Params, batch: Batch, carry: Any, rng: Array | None = None
    ) -> tuple[dict[str, Array], losses.Metrics, Any]:
        """As `loss`; the carry passes by."""
        return *self.loss(params, batch, rng), carry

    # What it costs.

    def forward_flops(self, batch_shapes: Mapping[str, tuple[int, ...]]) -> dict[str, flops.Flops]:
        """Those of policy and value function on rows of prompts and answers, by part."""
        shapes = {"decoder_input_tokens": batch_shapes["decoder_input_tokens"]}
        models = [model for model in (self.policy, self.value) if model is not None]
        return flops.together(model.forward_flops(shapes) for model in models)

    def backward_flops(self, batch_shapes: Mapping[str, tuple[int, ...]]) -> dict[str, flops.Flops]:
        """The same twice: all of both is trained."""
        return flops.together([self.forward_flops(batch_shapes)] * 2)

    def step_flops(self, batch_shapes: Mapping[str, tuple[int, ...]]) -> float:
        """Forward and backward once through rows of prompts and answers."""
        return flops.in_full(self.forward_flops(batch_shapes), self.backward_flops(batch_shapes))


def _before_the_last(rows: Batch) -> dict[str, Array]:
    """The rows without their last token, which nothing is predicted from."""
    return {name: rows[name][:, :-1] for name in _FEATURES if name in rows}


# These run inside `apply`, on the module.


def _logits_and_values(module: Any, read: Batch, length: int) -> tuple[Array, Array]:
    x_bne = module.hidden_states(**read)[:, -length:]
    return _of_states(module, x_bne), module.head_outputs(x_bne)[..., 0]


def _logits(module: Any, read: Batch, length: int) -> Array:
    return _of_states(module, module.hidden_states(**read)[:, -length:])


def _values(module: Any, read: Batch, length: int) -> Array:
    values_bn: Array = module.head_outputs(module.hidden_states(**read)[:, -length:])[..., 0]
    return values_bn


def _of_states(module: Any, x_bne: Array) -> Array:
    return embeddings.logits(x_bne, module.output_kernel(), module.output_bias())
