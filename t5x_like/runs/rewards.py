"""The rewards of answers at hand, by a model that has learned people's preferences."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from t5x_like.data import formats
from t5x_like.data.examples import for_lengths
from t5x_like.data.formats import BoundFormat, TaskFacts
from t5x_like.data.formats.prompts import bucket_length
from t5x_like.errors import UserError
from t5x_like.evaluation.generation import measured_of
from t5x_like.evaluation.prediction import predict_batch
from t5x_like.protocols import Mixture, Model, Objective, Params, Task

REWARD = "reward"


@dataclasses.dataclass(frozen=True)
class RewardReader:
    """Makes batches of prompts and answers as a task of comparisons does, one answer a row.

    Attributes:
      task: of comparisons.
      objective: makes the row.
      bound: lays rows out.
      length: most tokens of a row.
    """

    task: Task
    objective: Objective
    bound: BoundFormat
    length: int

    @classmethod
    def for_task(
        cls, task: Task | Mixture, model: Model, lengths: Mapping[str, int]
    ) -> "RewardReader":
        """The reader of a task, of a mixture's first.

        Raises:
          UserError: the model gives no rewards.
        """
        measured = measured_of(model)
        if measured is None or REWARD not in measured.outputs:
            raise UserError(
                f"{type(model).__name__} of this run gives no rewards: they are a head's that has "
                "learned comparisons (runs/reward.gin)."
            )
        first, _ = task.tasks[0]
        specs = {name: f.vocabulary.spec() for name, f in first.output_features.items()}
        objective = cast(Objective, for_lengths(first.objective(specs), lengths))
        facts = TaskFacts(tuple(first.output_features), first.example_features)
        bound = formats.bound(model.batch_format, facts)
        return cls(first, objective, bound, lengths["inputs"])

    def rewards(
        self,
        model: Model,
        params: Params,
        prompts: Sequence[str],
        answers: Sequence[str],
        batch_size: int = 32,
    ) -> np.ndarray:
        """The reward of each answer to its prompt, float32 `[answers]`.

        Args:
          model: gives rewards.
          params: of the model.
          prompts: texts, as the task's template writes them.
          answers: as many.
          batch_size: how many are read together.
        """
        rng = np.random.default_rng(0)
        tokenized = cast(Any, self.task).tokenized
        examples = [
            self.objective({**tokenized("inputs", prompt), **tokenized("answers", [answer])}, rng)
            for prompt, answer in zip(prompts, answers, strict=True)
        ]
        found = [np.zeros(0, np.float32)]
        for begin in range(0, len(examples), batch_size):
            items = [self.bound.item(one) for one in examples[begin : begin + batch_size]]
            longest = max(item.parts[0].size for item in items)
            lengths = {"inputs": bucket_length(longest, self.length), "answers": 1}
            rows = [*((item,) for item in items), *[()] * (batch_size - len(items))]
            batch = self.bound.batch(rows, lengths, False)
            rewards = predict_batch(model, params, batch, (REWARD,))[REWARD]
            found.append(rewards[: len(items), 0])
        return np.concatenate(found)
