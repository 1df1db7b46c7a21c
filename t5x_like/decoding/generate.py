"""Token ids in, token ids out: the compiled decoding program and the loop over batches.

Shapes: `b` rows, `n` new tokens at most.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from t5x_like.data.formats.prompts import Tokens, bucket_length
from t5x_like.decoding.beam import BeamSearch
from t5x_like.decoding.compilation import compiler_options
from t5x_like.decoding.prefill import begin
from t5x_like.decoding.prompts import prompts_of
from t5x_like.decoding.strategies import Decoded, EndIds, Greedy, Strategy, listed
from t5x_like.errors import UserError
from t5x_like.protocols import Batch, Decodes


@dataclasses.dataclass(frozen=True)
class Generation:
    """One continuation.

    Attributes:
      tokens: new token ids, without the end token.
      score: see `strategies.Decoded.scores_b`; the end token counts.
      finished: whether it ended by itself, not for want of room.
    """

    tokens: list[int]
    score: float
    finished: bool


def settings_text(strategy: Strategy, max_new_tokens: int, seed: int) -> str:
    """How text is generated, for comparison and for a person; the seed where one is drawn with."""
    drawn = "" if isinstance(strategy, Greedy | BeamSearch) else f", seed={seed}"
    return f"{strategy}, max_new_tokens={max_new_tokens}{drawn}"


@functools.partial(jax.jit, static_argnames="model")
def prepare(model: Decodes, params: Any) -> Any:
    """The parameters laid out for decoding, once for any number of batches."""
    return model.decoding_params(params)


def generate_batch(
    model: Decodes,
    params: Any,
    decoding_params: Any,
    batch: Batch,
    row_indices_b: Any,
    limits_b: Any,
    seed: Any = 0,
    *,
    strategy: Strategy,
    max_new_tokens: int,
    eos_id: EndIds = 1,
) -> Decoded:
    """Continues every row of a batch; compiled once for each shape.

    Args:
      model: a `Decodes`, hashable.
      params: its parameters, placed as they should stay.
      decoding_params: the same, from `prepare`.
      batch: as `PromptFormat.decoding_batch` makes it.
      row_indices_b: int32 `[b]`; the random stream of a row is a function of `seed` and
        this index alone.
      limits_b: int32 `[b]`, most new tokens of each row; 0 for rows that nobody waits for.
      seed: int32 scalar.
      strategy: how tokens are chosen.
      max_new_tokens: `n`.
      eos_id: ends a row, or several ids that do, None for none.
    """
    return decoding_program()(
        model,
        params,
        decoding_params,
        batch,
        row_indices_b,
        limits_b,
        jnp.asarray(seed, jnp.int32),
        strategy=strategy,
        max_new_tokens=max_new_tokens,
        eos_id=eos_id,
    )


@functools.cache
def decoding_program() -> Any:
    """The jitted program behind `generate_batch`, made when the backend is known."""
    return jax.jit(
        _decode,
        static_argnames=("model", "strategy", "max_new_tokens", "eos_id"),
        compiler_options=compiler_options(),
    )


def _decode(
    model: Decodes,
    params: Any,
    decoding_params: Any,
    batch: Batch,
    row_indices_b: Any,
    limits_b: Any,
    seed: Any,
    *,
    strategy: Strategy,
    max_new_tokens: int,
    eos_id: EndIds,
) -> Decoded:
    key = jax.random.key(seed)
    return strategy.decode(
        functools.partial(model.decode_step, decoding_params),
        begin(model, params, decoding_params, batch, max_new_tokens),
        keys_b=jax.vmap(jax.random.fold_in, (None, 0))(key, row_indices_b),
        limits_b=limits_b,
        max_new_tokens=max_new_tokens,
        eos_id=eos_id,
    )


def generate(
    model: Decodes,
    params: Any,
    prompts: Sequence[Tokens],
    *,
    max_new_tokens: int,
    strategy: Strategy = Greedy(),  # noqa: B008 (frozen)
    eos_id: EndIds = 1,
    bos_id: int | None = 0,
    bidirectional_prompt: bool = False,
    seed: int = 0,
    batch_size: int = 8,
    first_row: int = 0,
    decoding_params: Any = None,
    progress: Callable[[int], None] | None = None,
) -> list[Generation]:
    """Continues (decoder-only) or answers (encoder-decoder) every prompt.

    Prompts of similar length share a batch; every batch has `batch_size` rows and a length
    from `bucket_length`, so that few programs are compiled.

    Args:
      model: a `Decodes`.
      params: its parameters.
      prompts: token ids; for encoder-decoders the encoder's input, with the end token if
        the model was trained with one there; otherwise the prefix without `bos_id`.
      max_new_tokens: most tokens to generate, the end token included; fewer where the
        model's `max_length` leaves no room for them.
      strategy: how tokens are chosen.
      eos_id: ends a row, or several ids that do, None for none.
      bos_id: what the decoder begins with, before any prompt of its own; None for decoder-only
        models trained without one.
      bidirectional_prompt: whether the decoder attends in both directions within a prompt,
        as models trained by seqio's PrefixLM converter do.
      seed: of the random streams.
      batch_size: rows decoded together.
      first_row: index of the first prompt; row i draws from the stream (seed, first_row + i).
      decoding_params: what `prepare` made of `params`, for callers that generate again and
        again; None makes it anew.
      progress: called with the number of prompts done after each batch.

    Returns:
      One `Generation` a prompt, in the order of the prompts.

    Raises:
      UserError: `max_new_tokens` or `batch_size` below 1, an empty prompt without `bos_id`, or
        a prompt longer than the model's `max_length`.
    """
    if max_new_tokens < 1 or batch_size < 1:
        raise UserError(
            f"max_new_tokens is {max_new_tokens} and batch_size {batch_size}; "
            "both must be at least 1"
        )
    layout = prompts_of(model)
    limits = []
    for number, prompt in enumerate(prompts, start=1):
        room = room_after(model, len(prompt), bos_id)
        if room < 1:
            raise UserError(f"prompt {number} of {len(prompts)}: {too_long(model, room)}")
        limits.append(int(min(max_new_tokens, room)))
    if decoding_params is None:
        decoding_params = prepare(model, params)
    order = sorted(range(len(prompts)), key=lambda i: (bucket_length(len(prompts[i])), i))
    generations: list[Any] = [None] * len(prompts)
    for first in range(0, len(order), batch_size):
        members = order[first : first + batch_size]
        filled = members + members[:1] * (batch_size - len(members))
        row_indices = np.zeros((batch_size,), np.int32)
        row_indices[: len(members)] = [first_row + i for i in members]
        batch_limits = np.zeros((batch_size,), np.int32)
        batch_limits[: len(members)] = [limits[i] for i in members]
        decoded = generate_batch(
            model,
            params,
            decoding_params,
            layout.decoding_batch(
                [prompts[i] for i in filled],
                bos_id=bos_id,
                bidirectional=bidirectional_prompt,
                max_length=model.max_length,
            ),
            row_indices,
            batch_limits,
            seed,
            strategy=strategy,
            max_new_tokens=max_new_tokens,
            eos_id=eos_id,
        )
        for i, generation in zip(members, _generations(decoded, eos_id), strict=False):
            generations[i] = generation
        if progress is not None:
            progress(len(members))
    return generations


def fetched(value: jax.Array) -> np.ndarray:
    """The whole of an array, in each of several processes that each hold a part; a collective."""
    if value.is_fully_addressable or value.is_fully_replicated:
        return np.asarray(value)
    return np.asarray(multihost_utils.process_allgather(value, tiled=True))


def room_after(model: Decodes, prompt_length: int, bos_id: int | None) -> float:
    """How many tokens may follow a prompt, `bos_id` not counted; the last of them is never read.

    None may where it is 0 or less: the prompt is longer than the model's rows.
    """
    if model.max_length is None:
        return math.inf
    taken = prompts_of(model).decoder_length(prompt_length + (bos_id is not None))
    return model.max_length - taken + 1


def too_long(model: Decodes, room: float) -> str:
    """What is said of a prompt after which `room_after` is below 1."""
    assert model.max_length is not None  # or there is room
    return (
        f"it takes {model.max_length + 1 - int(room):,} positions, but the model's max_length is "
        f"{model.max_length:,}: shorten it."
    )


def _generations(decoded: Decoded, eos_id: EndIds) -> list[Generation]:
    """Device arrays to lists, the end token cut off."""
    tokens_bn, scores_b, lengths_b = (fetched(value) for value in decoded)
    generations = []
    for tokens_n, score, length in zip(tokens_bn, scores_b, lengths_b, strict=True):
        tokens = tokens_n[:length].tolist()
        finished = bool(tokens) and tokens[-1] in listed(eos_id)
        generations.append(Generation(tokens[:-1] if finished else tokens, float(score), finished))
    return generations
