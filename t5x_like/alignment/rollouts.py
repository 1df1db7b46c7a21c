"""Answers that a policy draws to prompts, as one compiled program."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp

from t5x_like.decoding import Sampling
from t5x_like.decoding.compilation import compiler_options
from t5x_like.decoding.constraints import Constraints
from t5x_like.decoding.generate import decode
from t5x_like.decoding.prompts import prompts_of
from t5x_like.decoding.strategies import Decoded, EndIds, Strategy, ends
from t5x_like.partitioning import Partitioner
from t5x_like.protocols import Batch, Decodes, LearnsFromRewards, Params

Array = jax.Array


class Rollout(NamedTuple):
    """Prompts with answers.

    Attributes:
      rows: int32 `[b, p + n]`, `decoder_input_tokens` (prompt, padded on the left, and answer),
        `decoder_positions`, `decoder_segment_ids` (0 on padding) and, where prompts are read in
        both directions, `decoder_causal_attention`.
      mask_bn: 1 on the tokens of answers, the end token among them, float32 `[b, n]`.
      ended_b: whether an answer ended by itself, bool `[b]`.
      reward_b: by the reward model, float32 `[b]`; None without one.
    """

    rows: dict[str, Array]
    mask_bn: Array
    ended_b: Array
    reward_b: Array | None

    @property
    def answer_bn(self) -> Array:
        """The tokens of answers, int32 `[b, n]`."""
        return self.rows["decoder_input_tokens"][:, -self.mask_bn.shape[1] :]


RolloutProgram = Callable[[Params, Mapping[str, Params], Batch, Array], Rollout]


def rollout_program(
    model: LearnsFromRewards, partitioner: Partitioner, **settings: Any
) -> RolloutProgram:
    """`jitted_rollout`, whose arguments these are, to be called."""
    compiled = jitted_rollout(model, partitioner, **settings, options=compiler_options())

    def run(params: Params, frozen: Mapping[str, Params], prompts: Batch, step: Array) -> Rollout:
        with partitioner.activate():
            return cast(Rollout, compiled(params, frozen, dict(prompts), step))

    return run


def jitted_rollout(
    model: LearnsFromRewards,
    partitioner: Partitioner,
    *,
    max_new_tokens: int,
    eos_id: EndIds,
    seed: int,
    answers: int = 1,
    options: dict[str, str] | None = None,
) -> jax.stages.Wrapped:
    """From parameters, frozen parameters, prompts and the step to a `Rollout`.

    Tokens are drawn from the policy's own probabilities (temperature 1). What a row draws is a
    function of seed, step and row alone.

    Args:
      model: the policy, and where there is one the reward model.
      partitioner: the mesh.
      max_new_tokens: n, the end token included.
      eos_id: ends an answer.
      seed: of the run.
      answers: drawn to each prompt, which follow one another in the rollout.
      options: of the compiler.
    """
    policy = model.policy
    both_ways = prompts_of(policy).bidirectional

    def drawn(params: Params, frozen: Mapping[str, Params], prompts: Batch, step: Array) -> Rollout:
        own = model.policy_params(params)
        read = {name: jnp.repeat(x, answers, axis=0) for name, x in prompts.items()}
        if both_ways:
            read["decoder_causal_attention"] = read["decoder_segment_ids"]
        count = read["decoder_input_tokens"].shape[0]
        found = drawn_texts(
            policy,
            own,
            read,
            step,
            jnp.full((count,), max_new_tokens, jnp.int32),
            seed=seed,
            max_new_tokens=max_new_tokens,
            eos_id=eos_id,
        )
        mask_bn = jnp.arange(max_new_tokens) < found.lengths_b[:, None]
        rows = with_answers(read, found.tokens_bn, mask_bn)
        rows = jax.lax.with_sharding_constraint(rows, partitioner.batch_sharding)
        reward_b = None if model.reward is None else model.rewards(frozen, rows)
        ended_b = (ends(found.tokens_bn, eos_id) & mask_bn).any(axis=1)
        return Rollout(rows, mask_bn.astype(jnp.float32), ended_b, reward_b)

    return jax.jit(drawn, out_shardings=partitioner.batch_sharding, compiler_options=options)


def drawn_texts(
    policy: Decodes,
    params: Params,
    prompts: Batch,
    step: Array,
    limits_b: Array,
    *,
    seed: int,
    max_new_tokens: int,
    eos_id: EndIds,
    strategy: Strategy = Sampling(),  # noqa: B008 (frozen)
    constraints: Constraints = Constraints(),  # noqa: B008 (immutable)
) -> Decoded:
    """What a model writes to prompts in a step of a run, to be called inside a larger program.

    Args:
      policy: the model.
      params: its parameters.
      prompts: as its prompt format makes them.
      step: of the run; a row's draws are a function of seed, step and row alone.
      limits_b: int32 `[b]`, most new tokens of each row.
      seed: of the run.
      max_new_tokens: the largest of the limits.
      eos_id: ends a text.
      strategy: how tokens are chosen.
      constraints: what tokens keep to.
    """
    count = limits_b.shape[0]
    return decode(
        policy,
        params,
        policy.decoding_params(params),
        prompts,
        # Rows are counted through the whole run, and so no two draw from one stream.
        step * count + jnp.arange(count, dtype=jnp.int32),
        limits_b,
        jnp.int32(seed),
        jnp.zeros((count,), jnp.int32),
        constraints,
        strategy=strategy,
        max_new_tokens=max_new_tokens,
        eos_id=eos_id,
        copies=1,
    )


def with_answers(prompts: Batch, tokens_bn: Array, mask_bn: Array) -> dict[str, Array]:
    """Prompts, padded on the left, followed by answers; see `Rollout.rows`.

    Args:
      prompts: as the format `prompts` makes them, `[b, p]`.
      tokens_bn: of answers, zeros behind them.
      mask_bn: where there is a token.
    """
    last_b1 = prompts["decoder_positions"][:, -1:]
    own = {
        "decoder_input_tokens": tokens_bn,
        "decoder_positions": jnp.where(mask_bn, last_b1 + 1 + jnp.arange(tokens_bn.shape[1]), 0),
        "decoder_segment_ids": mask_bn,
        "decoder_causal_attention": jnp.zeros_like(mask_bn),
    }
    return {
        name: jnp.concatenate([prompt, own[name].astype(jnp.int32)], axis=1)
        for name, prompt in prompts.items()
    }
