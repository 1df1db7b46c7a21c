"""A step of training on one's own translations: they are drawn, and the way back is learned."""

from collections.abc import Mapping
from typing import Any, cast

import jax
import jax.numpy as jnp

from t5x_like.alignment.rollouts import drawn_texts
from t5x_like.decoding import Greedy
from t5x_like.decoding.compilation import compiler_options
from t5x_like.decoding.constraints import Constraints
from t5x_like.decoding.generate import fetched
from t5x_like.errors import UserError
from t5x_like.protocols import Batch, Metrics, Params, TranslatesBack
from t5x_like.training.plan import TrainingPlan
from t5x_like.training.state import TrainState
from t5x_like.training.step import make_train_step


class BackTranslation:
    """From a state and a batch to the next state and metrics, `training.step.TrainStep`.

    The texts of the batch are translated by the parameters as they are, the likeliest token each
    time, on the fly as in Lample et al. 2018; then the model takes a step on the batch and its
    translations. Drawing and learning are a compiled program each.

    Args:
      plan: of the run, whose model is a `TranslatesBack`.

    Raises:
      UserError: rows hold several examples; when first called, a row does not begin with the token
        of a language.
    """

    def __init__(self, plan: TrainingPlan) -> None:
        if plan.dataset.pack is not False:
            raise UserError(
                "texts that are translated have one example a row: set "
                "train/data.DatasetConfig.pack to False, as runs/back_translation.gin does."
            )
        self._model = cast(TranslatesBack, plan.model)
        (task, _), *_ = plan.dataset.task.tasks
        vocabulary = task.output_features["targets"].vocabulary
        further = tuple(getattr(vocabulary, "further_eos_ids", ()))
        self._partitioner = plan.partitioner
        self._draw = _jitted(
            self._model, plan, plan.dataset.task_feature_lengths["targets"],
            (vocabulary.eos_id, *further),
        )  # fmt: skip
        self._learn = make_train_step(
            plan.model,
            plan.optimizer,
            plan.partitioner,
            seed=plan.seed,
            num_microbatches=plan.num_microbatches,
            anomaly_policy=plan.anomaly_policy,
        )
        self._checked = False

    def __call__(
        self, state: TrainState, batch: Mapping[str, jax.Array]
    ) -> tuple[TrainState, Metrics]:
        """See the class."""
        if not self._checked:
            self._check(batch)
            self._checked = True
        with self._partitioner.activate():
            batch = self._draw(state.params, dict(batch), state.step)
        return self._learn(state, batch)

    def _check(self, batch: Mapping[str, jax.Array]) -> None:
        first_b = fetched(batch["encoder_input_tokens"])[:, 0]
        other = sorted(set(first_b.tolist()) - set(self._model.languages))
        if other:
            raise UserError(
                f"a row's inputs begin with token {other[0]}, and the tokens of the languages are "
                f"{' and '.join(map(str, self._model.languages))}: LANGUAGES must be the ids that "
                "INPUTS of the tasks begin with."
            )


def _jitted(
    model: TranslatesBack, plan: TrainingPlan, max_new_tokens: int, eos_id: tuple[int, ...]
) -> Any:
    spread = plan.partitioner.batch_sharding

    def drawn(params: Params, batch: Batch, step: jax.Array) -> Batch:
        prompts, limits_b = model.to_translate(batch)
        found = drawn_texts(
            model.translator,
            params,
            prompts,
            step,
            jnp.minimum(limits_b, max_new_tokens),
            seed=plan.seed,
            max_new_tokens=max_new_tokens,
            eos_id=eos_id,
            strategy=Greedy(),
            constraints=Constraints(allowed_bv=model.allowed_tokens(batch)),
        )
        mask_bn = jnp.arange(max_new_tokens) < found.lengths_b[:, None]
        return model.with_translations(batch, found.tokens_bn, mask_bn)

    return jax.jit(drawn, out_shardings=spread, compiler_options=compiler_options())
