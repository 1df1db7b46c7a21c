"""DPO (Rafailov et al. 2023): a decoder learns preferences without a reward model."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from models import flops, losses
from models.errors import ModelError
from models.heads.reward import pairs, preference_loss
from models.language_model import LanguageModel
from models.model import Array, Batch, Model, Params
from models.tuning import Before

REFERENCE = "reference"


class DPO(Model, kw_only=True):
    """Direct preference optimization of a decoder, with the one that it started from beside it.

    The implicit reward of an answer is `beta` times the log-ratio of its likelihoods, of all its
    tokens and its end, under the policy and under the frozen reference (equation 5). The loss of a
    pair is −log σ of the difference (equation 7); as for `heads.Reward` it is a mean over the
    pairs of a prompt, and then over prompts. The parameters are the policy's, and no others.

    Attributes:
      policy: what is trained, all of it or what its `tuning` says; the reference is the same
        model without what the tuning adds, with parameters of its own.
      beta: how much it may leave the reference: the larger, the less.
      vocab_size: the policy's.
    """

    batch_format: ClassVar[str] = "causal_comparisons"  # type: ignore[misc]  # a property elsewhere
    input_features: ClassVar[tuple[str, ...]] = ("decoder_input_tokens",)

    policy: LanguageModel
    beta: float = 0.1
    vocab_size: int = 1

    def __post_init__(self) -> None:
        """Takes over the policy's vocabulary and what of it is trained.

        Raises:
          ModelError: a `beta` that is not above 0, or a policy that does not write text, or reads
            prompts in both directions.
        """
        self.vocab_size = self.policy.vocab_size
        self.tuning = self.policy.tuning
        if not self.beta > 0:
            raise self.refused("beta", "a number above 0 is needed")
        if self.policy.batch_format.startswith("prefix_"):
            raise ModelError(
                f"DPO.policy is a {type(self.policy).__name__} that reads a prompt in both "
                "directions, and answers are compared as it reads from left to right: set its "
                "input_attention to 'causal'."
            )
        writes = isinstance(self.policy, LanguageModel)
        if not writes or not self.policy.batch_format.endswith("_language_model"):
            raise ModelError(
                f"DPO.policy is a {type(self.policy).__name__} for batches of "
                f"{self.policy.batch_format!r}: a decoder that writes text, without a head, is "
                "needed."
            )
        super().__post_init__()

    @property
    def max_length(self) -> int | None:
        """The policy's."""
        return self.policy.max_length

    @property
    def frozen_models(self) -> Mapping[str, Model]:
        """The reference."""
        tuning = self.policy.tuning
        before = None if tuning is None else Before(tuning=tuning)
        return {REFERENCE: self.policy.clone(tuning=before)}

    @nn.nowrap
    def _boxed_init(self, rng: Array) -> dict[str, Params]:
        return self.policy._boxed_init(rng)

    @nn.nowrap
    def axis_blocks(self) -> dict[str, int]:
        """The policy's."""
        return self.policy.axis_blocks()

    @nn.nowrap
    def log_likelihoods(self, params: Params, batch: Batch, rng: Array | None = None) -> Array:
        """The natural-log likelihood of each answer given its prompt, float32 `[b, answers]`.

        Args:
          params: of the policy.
          batch: of `batch_format`.
          rng: for dropout, of which there is none without it.
        """
        return self._log_likelihoods(self.policy, params, batch, rng)

    @nn.nowrap
    def _log_likelihoods(
        self, model: Model, params: Params, batch: Batch, rng: Array | None = None
    ) -> Array:
        tokens, there = batch["decoder_input_tokens"], batch["decoder_segment_ids"]
        *axes, length = tokens.shape
        row_bt, there_bt = tokens.reshape(-1, length), there.reshape(-1, length)
        logits_btv: Any = model.apply(
            {"params": params},
            decoder_input_tokens=row_bt[:, :-1],
            decoder_segment_ids=there_bt[:, :-1],
            enable_dropout=rng is not None,
            rngs={} if rng is None else {"dropout": rng},
        )
        target_bt = row_bt[:, 1:]
        chosen_bt = jnp.take_along_axis(logits_btv, target_bt[..., None], axis=-1)[..., 0]
        token_bt = chosen_bt - jax.nn.logsumexp(logits_btv, axis=-1)
        end_b = there_bt.sum(axis=1)[:, None]
        place_t = jnp.arange(1, length)
        answer_bt = (place_t < end_b) & (place_t >= end_b - batch["answer_sizes"].reshape(-1, 1))
        return jnp.where(answer_bt, token_bt, 0.0).sum(axis=1).reshape(axes)

    @nn.nowrap
    def loss_weights(self, batch: Batch) -> dict[str, Array]:
        """How many prompts have a pair that can be compared."""
        return {"loss": pairs(batch).any(axis=(1, 2)).astype(jnp.float32).sum()}

    @nn.nowrap
    def loss_with_frozen(
        self, params: Params, batch: Batch, frozen: Mapping[str, Params], rng: Array | None = None
    ) -> tuple[dict[str, Array], losses.Metrics]:
        """The loss summed over prompts; see the engine's protocol `UsesFrozen`.

        Returns:
          The term, and with those of `heads.Reward` as metrics `margin`, the mean difference of
          the implicit rewards of a pair, and `reward`, their mean over answers.
        """
        reference = self.frozen_models[REFERENCE]
        reference_bk = self._log_likelihoods(reference, frozen[REFERENCE], batch)
        reward_bk = self.beta * (self.log_likelihoods(params, batch, rng) - reference_bk)
        loss, metrics = preference_loss(reward_bk, batch)
        better_bkk = pairs(batch).astype(jnp.float32)
        margin = ((reward_bk[:, :, None] - reward_bk[:, None, :]) * better_bkk).sum()
        there_bk = batch["answer_weight"].astype(jnp.float32)
        return {"loss": loss}, metrics | {
            "margin": (margin, better_bkk.sum()),
            "reward": ((reward_bk * there_bk).sum(), there_bk.sum()),
        }

    @nn.nowrap
    def forward_flops(self, batch_shapes: Mapping[str, tuple[int, ...]]) -> dict[str, flops.Flops]:
        """Those of the policy, on a row for each answer."""
        return self.policy.forward_flops(_rows_of_answers(batch_shapes))

    @nn.nowrap
    def backward_flops(self, batch_shapes: Mapping[str, tuple[int, ...]]) -> dict[str, flops.Flops]:
        """Those of the policy, on a row for each answer."""
        return self.policy.backward_flops(_rows_of_answers(batch_shapes))

    @nn.nowrap
    def step_flops(self, batch_shapes: Mapping[str, tuple[int, ...]]) -> float:
        """Forward and backward of the policy, and forward of the reference."""
        reference = flops.in_full(self.forward_flops(batch_shapes))
        return super().step_flops(batch_shapes) + reference


def _rows_of_answers(batch_shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    *rows, length = batch_shapes["decoder_input_tokens"]
    return {"decoder_input_tokens": (math.prod(rows), length - 1)}
