"""One iteration: answers are drawn, rewarded and learned from."""

import json
import time
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from t5x_like.alignment.learning import update_program
from t5x_like.alignment.mixed_text import parted
from t5x_like.alignment.plan import AlignmentPlan
from t5x_like.alignment.rollouts import Rollout, rollout_program
from t5x_like.decoding.generate import fetched
from t5x_like.errors import UserError
from t5x_like.host import disk_space, files
from t5x_like.protocols import Metrics
from t5x_like.training.state import TrainState

DIRECTORY = "samples"


class Iteration:
    """From a state and a batch of prompts to the next state and metrics, `training.step.TrainStep`.

    Waits for the answers and for the updates, as rewards are given on the host.

    Args:
      plan: of the run.

    Raises:
      UserError: the minibatches do not divide over the mesh.
    """

    def __init__(self, plan: AlignmentPlan) -> None:
        self._plan = plan
        rows = plan.dataset.batch_size // plan.algorithm.minibatches
        plan.partitioner.check_rows(rows)
        first, _ = plan.dataset.task.tasks[0]
        self._vocabulary = first.output_features["inputs"].vocabulary
        further = tuple(getattr(self._vocabulary, "further_eos_ids", ()))
        self._eos_ids = (self._vocabulary.eos_id, *further)
        self._draw = rollout_program(
            plan.model,
            plan.partitioner,
            max_new_tokens=plan.max_new_tokens,
            eos_id=self._eos_ids,
            seed=plan.seed,
            answers=plan.answers,
        )
        self._learn = update_program(
            plan.model,
            plan.optimizer,
            plan.partitioner,
            algorithm=plan.algorithm,
            kl=plan.kl,
            pretraining_coefficient=plan.pretraining_coefficient if plan.pretraining else 0.0,
            seed=plan.seed,
            num_microbatches=plan.num_microbatches,
            anomaly_policy=plan.anomaly_policy,
        )
        self._compiled = False

    def __call__(
        self, state: TrainState, batch: Mapping[str, jax.Array]
    ) -> tuple[TrainState, Metrics]:
        """See the class; among the metrics are `reward`, `kl`, `entropy` and rates.

        Raises:
          UserError: the rule's rewards are not one finite number for each answer.
        """
        step = int(state.step) + 1
        began = time.perf_counter()
        prompts, text = parted(batch)
        rollout = self._draw(state.params, state.frozen or {}, prompts, state.step)
        rollout = jax.block_until_ready(rollout)
        drawn = time.perf_counter()
        worth = self._rewards(rollout, step)
        ranking = self._plan.ranking
        rewards = worth if ranking is None else ranking.rewards(worth)
        reward_b = self._plan.partitioner.shard_rows(rewards)
        tokens = float(fetched(rollout.mask_bn).sum())
        rewarded = time.perf_counter()
        state, metrics = jax.block_until_ready(self._learn(state, rollout, reward_b, text))
        if ranking is not None:  # the mean of ranks says nothing
            metrics = {**metrics, "reward": (jnp.float32(worth.sum()), jnp.float32(worth.size))}
        if self._compiled:  # the first time says nothing of the rates
            learned = time.perf_counter() - rewarded
            metrics = {
                **metrics,
                "rollout_tokens_per_second": (jnp.float32(tokens), jnp.float32(drawn - began)),
                "update_tokens_per_second": (jnp.float32(tokens), jnp.float32(learned)),
            }
        self._compiled = True
        return state, jax.block_until_ready(metrics)

    def _rewards(self, rollout: Rollout, step: int) -> np.ndarray:
        """Of all answers, float32 `[b]`; where that is due some are written down with texts."""
        plan = self._plan
        sampled = step % plan.sample_period == 0 or step == plan.train_steps
        prompts, answers = self._texts(rollout) if plan.reward or sampled else ([], [])
        if plan.reward is None:
            assert rollout.reward_b is not None
            rewards = fetched(rollout.reward_b)
        else:
            rewards = np.asarray(plan.reward(prompts, answers), np.float32)
            if rewards.shape != (len(answers),) or not np.isfinite(rewards).all():
                raise UserError(
                    f"REWARD gave {rewards.shape} rewards for {len(answers)} answers: a finite "
                    "number for each is needed."
                )
        if plan.unfinished_reward is not None:
            rewards = np.where(fetched(rollout.ended_b), rewards, plan.unfinished_reward)
        if sampled and jax.process_index() == 0:
            self._write(step, prompts, answers, rewards)
        return rewards.astype(np.float32)

    def _texts(self, rollout: Rollout) -> tuple[list[str], list[str]]:
        """Prompts and answers of all processes."""
        tokens = fetched(rollout.rows["decoder_input_tokens"])
        there = fetched(rollout.rows["decoder_segment_ids"]) != 0
        columns = tokens.shape[1] - self._plan.max_new_tokens
        prompts, answers = [], []
        for row, filled in zip(tokens, there, strict=True):
            # Its first token is what a decoder begins with.
            prompts.append(self._text(row[:columns][filled[:columns]][1:]))
            answers.append(self._text(row[columns:][filled[columns:]]))
        return prompts, answers

    def _text(self, ids: np.ndarray) -> str:
        kept = [int(one) for one in ids]
        while kept and kept[-1] in self._eos_ids:
            kept.pop()
        return self._vocabulary.decode(kept)

    def _write(
        self, step: int, prompts: list[str], answers: list[str], rewards: np.ndarray
    ) -> None:
        directory = files.location(self._plan.model_dir) / DIRECTORY
        several = list(zip(prompts, answers, rewards, strict=True))[: self._plan.sample_count]
        lines = [
            json.dumps(
                {"step": step, "prompt": prompt, "answer": answer, "reward": float(reward)},
                ensure_ascii=False,
            )
            for prompt, answer, reward in several
        ]
        with disk_space.explained(directory):
            directory.mkdir(parents=True, exist_ok=True)
            # A file of its own for each step: a run that resumes writes the same again.
            files.write_whole(directory / f"{step}.jsonl", "\n".join(lines) + "\n")
