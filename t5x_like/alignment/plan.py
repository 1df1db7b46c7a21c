"""What a run of reinforcement learning was asked for, checked before anything is built."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from t5x_like.alignment.advantages import FixedKL, KLCoefficient
from t5x_like.alignment.algorithms import PPO, Algorithm
from t5x_like.errors import UserError
from t5x_like.protocols import LearnsFromRewards
from t5x_like.training.identity import RunIdentity
from t5x_like.training.plan import TrainingPlan

# Prompts and as many answers to the reward of each.
Rule = Callable[[Sequence[str], Sequence[str]], Sequence[float] | np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class AlignmentPlan(TrainingPlan):
    """What a run is to do: the arguments of `align.align`, as gin binds them.

    A step of the run is an iteration: answers to a batch of prompts are drawn, rewarded, and
    learned from in one or several updates. Schedules count iterations.

    Attributes:
      model: policy and value function, `actor_critic.ActorCritic`.
      dataset: the prompts; the feature `inputs`.
      max_new_tokens: most tokens of an answer, its end included.
      reward: a function of prompts and as many answers that gives the reward of each; None where
        the model has a reward model.
      unfinished_reward: of an answer that has not ended within `max_new_tokens`, whatever it says;
        None for the reward that it is given.
      algorithm: how rewards are learned from.
      kl: what the divergence from the reference costs, for each token.
      sample_period: iterations between two files of samples, `MODEL_DIR/samples/STEP.jsonl`.
      sample_count: answers in each.

    The others are those of `TrainingPlan`.
    """

    max_new_tokens: int
    reward: Rule | None = None
    unfinished_reward: float | None = None
    algorithm: Algorithm = dataclasses.field(default_factory=PPO)
    kl: KLCoefficient = dataclasses.field(default_factory=FixedKL)
    sample_period: int = 10
    sample_count: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.model, LearnsFromRewards):
            raise UserError(
                f"align.align.model is a {type(self.model).__name__}, which does not learn from "
                "rewards: give @actor_critic.ActorCritic(), as runs/align.gin does."
            )
        if (self.reward is None) == (self.model.reward is None):
            raise UserError(
                "align needs one source of rewards: a function (REWARD) or a reward model "
                f"(REWARD_MODEL); it was given {'none' if self.reward is None else 'both'}."
            )
        if self.reward is not None and not callable(self.reward):
            raise UserError(
                f"REWARD is {self.reward!r}: give a function of prompts and answers, as @NAME of a "
                "module that the gin file imports."
            )
        for name in ("max_new_tokens", "sample_period", "sample_count"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise UserError(
                    f"align.align.{name} is {value!r}: a whole number of 1 or more is needed."
                )
        self._check_rows()
        self._check_room()
        if self.validation or self.evaluations:
            raise UserError(
                "align measures rewards, and nothing of held-out splits: leave out validation and "
                "evaluations, and measure the run with `t5x-like eval`."
            )

    def _check_rows(self) -> None:
        if len(self.dataset.batch_sizes) > 1:
            raise UserError("align draws as many answers in every iteration: no BATCH_SCHEDULE.")
        rows, pieces = self.dataset.batch_size, self.algorithm.minibatches
        if rows % (pieces * self.num_microbatches):
            raise UserError(
                f"BATCH_SIZE {rows} is not divided by {pieces} minibatches of "
                f"{self.num_microbatches} NUM_MICROBATCHES each: choose a multiple of "
                f"{pieces * self.num_microbatches}."
            )

    def _check_room(self) -> None:
        """Prompt and answer must fit the rows of all models."""
        lengths, longest = self.dataset.task_feature_lengths, self.model.max_length
        taken = lengths.get("inputs", 0) + self.max_new_tokens
        if longest is not None and taken > longest:
            raise UserError(
                f"TASK_FEATURE_LENGTHS['inputs'] {lengths.get('inputs', 0)} and max_new_tokens "
                f"{self.max_new_tokens} make rows of {taken} tokens, but the model's max_length is "
                f"{longest}: shorten them."
            )

    def work(self, shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, float]:
        """Tokens of prompts and answers, and FLOPs of drawing and learning, of an iteration.

        An answer is drawn in one forward pass. Before the updates there are two more, of the policy
        and of the reference, and each epoch has forward and backward.
        """
        rows, columns = shapes["decoder_input_tokens"]
        row = {"decoder_input_tokens": (rows, columns + self.max_new_tokens - 1)}
        once = self.model.step_flops(row)
        return rows * (columns + self.max_new_tokens - 1), once * (1 + self.algorithm.epochs)

    def described(self, *, mesh: bool = True) -> RunIdentity:
        """See `TrainingPlan`; with the rewards and what is made of them."""
        known = super().described(mesh=mesh)
        names = ("max_new_tokens", "reward", "unfinished_reward", "algorithm", "kl")
        own: dict[str, Any] = {name: getattr(self, name) for name in names}
        ours = RunIdentity.of(own, {})
        return RunIdentity({**known.identity, **ours.identity}, known.settings)
