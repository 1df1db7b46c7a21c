"""What a run of reinforcement learning was asked for, checked before anything is built."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np

from t5x_like.alignment.advantages import FixedKL, KLCoefficient
from t5x_like.alignment.algorithms import PPO, Algorithm
from t5x_like.alignment.mixed_text import PromptsAndText
from t5x_like.alignment.ranking import Ranking
from t5x_like.data import DataIterator, DatasetConfig, check_pairing, open_dataset, packs
from t5x_like.errors import UserError
from t5x_like.protocols import LearnsFromRewards, Vocabulary, vocabulary_differences
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
      reward_vocabulary: that of the reward model's task, which must be the prompts'; None where it
        is not known, or a rule gives the rewards.
      unfinished_reward: of an answer that has not ended within `max_new_tokens`, whatever it says;
        None for the reward that it is given.
      algorithm: how rewards are learned from.
      ranking: how many answers are drawn to each prompt, and that their ranks are rewarded; None
        draws one, whose reward is what it is worth.
      kl: what the divergence from the reference costs, for each token.
      pretraining: rows of text whose language-model loss is learned beside the rewards (PPO-ptx),
        one example a row; each minibatch has its share. None for none.
      pretraining_coefficient: gamma, of that loss, a mean over tokens; InstructGPT has 27.8.
      sample_period: iterations between two files of samples, `MODEL_DIR/samples/STEP.jsonl`.
      sample_count: answers in each.

    The others are those of `TrainingPlan`.
    """

    model: LearnsFromRewards
    max_new_tokens: int
    reward: Rule | None = None
    reward_vocabulary: Vocabulary | None = None
    unfinished_reward: float | None = None
    ranking: Ranking | None = None
    algorithm: Algorithm = dataclasses.field(default_factory=PPO)
    kl: KLCoefficient = dataclasses.field(default_factory=FixedKL)
    pretraining: DatasetConfig | None = None
    pretraining_coefficient: float = 27.8
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
        self._check_vocabulary()
        self._check_rows()
        self._check_room()
        self._check_text()
        if self.validation or self.evaluations:
            raise UserError(
                "align measures rewards, and nothing of held-out splits: leave out validation and "
                "evaluations, and measure the run with `t5x-like eval`."
            )

    @property
    def answers(self) -> int:
        """How many are drawn to each prompt."""
        return 1 if self.ranking is None else self.ranking.answers

    def _check_vocabulary(self) -> None:
        """Policy and reward model read the same tokens, which sizes alone do not say."""
        for task, _ in self.dataset.task.tasks:
            own = task.output_features.get("inputs")
            given = self.reward_vocabulary
            if own is None or given is None:
                continue
            if differing := vocabulary_differences(given, own.vocabulary):
                raise UserError(
                    f"REWARD_MODEL was trained with another vocabulary than that of task "
                    f"'{task.name}' ({'; '.join(differing[:2])}), and both read the same tokens: "
                    "train a reward model with the policy's."
                )

    def _check_rows(self) -> None:
        if len(self.dataset.batch_sizes) > 1:
            raise UserError("align draws as many answers in every iteration: no BATCH_SCHEDULE.")
        pieces = self.algorithm.minibatches
        sizes = {"BATCH_SIZE": self.dataset.batch_size}
        if self.pretraining is not None:
            sizes["the batch_size of align.align.pretraining"] = self.pretraining.batch_size
        for name, rows in sizes.items():
            if rows % (pieces * self.num_microbatches):
                raise UserError(
                    f"{name} {rows} is not divided by {pieces} minibatches of "
                    f"{self.num_microbatches} NUM_MICROBATCHES each: choose a multiple of "
                    f"{pieces * self.num_microbatches}."
                )

    def _check_room(self) -> None:
        """Prompt and answer must fit the rows of all models."""
        lengths, longest = self.dataset.task_feature_lengths, self.model.max_length
        taken = lengths.get("inputs", 0) + self.max_new_tokens
        if self.model.reward is not None:
            taken += 1  # it reads the last token too
        if longest is not None and taken > longest:
            raise UserError(
                f"TASK_FEATURE_LENGTHS['inputs'] {lengths.get('inputs', 0)} and max_new_tokens "
                f"{self.max_new_tokens} make rows of {taken} tokens, but the model's max_length is "
                f"{longest}: shorten them."
            )

    def _check_text(self) -> None:
        text = self.pretraining
        if text is None:
            return
        if not self.pretraining_coefficient > 0:
            raise UserError(
                f"align.align.pretraining_coefficient is {self.pretraining_coefficient!r}: a "
                "number above 0 is needed, or no pretraining data."
            )
        if packs(text, self.model.policy.batch_format):
            raise UserError(
                "the pretraining data of align have one example a row: set their "
                "data.DatasetConfig.pack to False."
            )
        check_pairing(text, self.model.policy.batch_format)

    def open_data(self, shard_index: int, shard_count: int) -> DataIterator:
        """The prompts, with rows of text where there are any."""
        prompts = super().open_data(shard_index, shard_count)
        if self.pretraining is None:
            return prompts
        text = open_dataset(
            self.pretraining,
            batch_format=self.model.policy.batch_format,
            shard_index=shard_index,
            shard_count=shard_count,
        )
        # It does all that a run asks of an iterator, though it reads nothing itself.
        return cast(DataIterator, PromptsAndText(prompts, text))

    def work(self, shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, float]:
        """Tokens of prompts and answers, and FLOPs of drawing and learning, of an iteration.

        An answer is drawn in one forward pass. Before the updates there are two more, of the policy
        and of the reference, and each epoch has forward and backward.
        """
        rows, columns = shapes["decoder_input_tokens"]
        rows *= self.answers
        row = {"decoder_input_tokens": (rows, columns + self.max_new_tokens - 1)}
        once = self.model.step_flops(row)
        return rows * (columns + self.max_new_tokens - 1), once * (1 + self.algorithm.epochs)

    def described(self, *, mesh: bool = True) -> RunIdentity:
        """See `TrainingPlan`; with the rewards and what is made of them."""
        known = super().described(mesh=mesh)
        names = ("max_new_tokens", "reward", "unfinished_reward", "algorithm", "kl")
        own: dict[str, Any] = {name: getattr(self, name) for name in names}
        if self.ranking is not None:
            own["ranking"] = self.ranking
        if self.pretraining is not None:
            own["pretraining"] = self.pretraining
            own["pretraining_coefficient"] = self.pretraining_coefficient
        ours = RunIdentity.of(own, {})
        return RunIdentity({**known.identity, **ours.identity}, known.settings)
