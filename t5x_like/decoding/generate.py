"""Token ids in, token ids out: the compiled decoding program and the loop over batches.

Shapes: `b` rows, `n` new tokens at most.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from t5x_like.data.formats.prompts import Tokens, bucket_length
from t5x_like.decoding.beam import BeamSearch
from t5x_like.decoding.compilation import compiler_options
from t5x_like.decoding.constraints import Constraints, StopStrings, constraints_of
from t5x_like.decoding.prefill import begin, spread
from t5x_like.decoding.prompts import prompts_of
from t5x_like.decoding.strategies import Decoded, EndIds, Greedy, Strategy, listed
from t5x_like.errors import UserError
from t5x_like.host.journal import NO_JOURNAL, Journal
from t5x_like.protocols import Batch, Decodes, longest_row


@dataclasses.dataclass(frozen=True)
class Generation:
    """One continuation.

    Attributes:
      tokens: new token ids, without the end token; a stop string's are among them.
      score: see `strategies.Decoded.scores_b`; the end token counts.
      finished: whether it ended by itself, not for want of room.
      length: how many tokens the score is of.
    """

    tokens: list[int]
    score: float
    finished: bool
    length: int


@dataclasses.dataclass(frozen=True)
class _Row:
    """One text to be generated.

    Attributes:
      prompt: number of its prompt.
      sample: which of several texts of that prompt.
      limit: the most new tokens; 0 of a row that only fills up a batch.
    """

    prompt: int
    sample: int
    limit: int


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
    samples_b: Any = None,
    constraints: Constraints = Constraints(),  # noqa: B008 (immutable)
    copies: int = 1,
) -> Decoded:
    """Continues every row of a batch; compiled once for each shape.

    Args:
      model: a `Decodes`, hashable.
      params: its parameters, placed as they should stay.
      decoding_params: the same, from `prepare`.
      batch: as `PromptFormat.decoding_batch` makes it, of `b / copies` prompts.
      row_indices_b: int32 `[b]`; the random stream of a row is a function of `seed`, this index
        and `samples_b` alone.
      limits_b: int32 `[b]`, most new tokens of each row; 0 for rows that nobody waits for.
      seed: int32 scalar.
      strategy: how tokens are chosen.
      max_new_tokens: `n`.
      eos_id: ends a row, or several ids that do, None for none.
      samples_b: int32 `[b]`, which of several texts of one prompt a row is; None for the first.
      constraints: what the tokens of every row keep to.
      copies: rows of each prompt, which is read once for all of them.
    """
    return decoding_program()(
        model,
        params,
        decoding_params,
        batch,
        row_indices_b,
        limits_b,
        jnp.asarray(seed, jnp.int32),
        np.zeros_like(row_indices_b) if samples_b is None else samples_b,
        constraints,
        strategy=strategy,
        max_new_tokens=max_new_tokens,
        eos_id=eos_id,
        copies=copies,
    )


@functools.cache
def decoding_program() -> Any:
    """The jitted program behind `generate_batch`, made when the backend is known."""
    return jax.jit(
        decode,
        static_argnames=("model", "strategy", "max_new_tokens", "eos_id", "copies"),
        compiler_options=compiler_options(),
    )


def decode(
    model: Decodes,
    params: Any,
    decoding_params: Any,
    batch: Batch,
    row_indices_b: Any,
    limits_b: Any,
    seed: Any,
    samples_b: Any,
    constraints: Constraints,
    *,
    strategy: Strategy,
    max_new_tokens: int,
    eos_id: EndIds,
    copies: int,
) -> Decoded:
    """What `generate_batch` compiles, to be called inside a larger program."""
    step = functools.partial(model.decode_step, decoding_params)
    start = begin(model, params, decoding_params, batch, max_new_tokens)
    logits_bv, _ = jax.eval_shape(step, start.cache, start.tokens_b)
    written = constraints.begun(batch, logits_bv.shape[-1])
    if copies > 1:
        start, written = spread(start, copies), spread(written, copies)
    own = strategy.arguments_of(model) if isinstance(strategy, BeamSearch) else {}
    return strategy.decode(
        step,
        start,
        keys_b=_keys(seed, row_indices_b, samples_b),
        limits_b=limits_b,
        max_new_tokens=max_new_tokens,
        eos_id=eos_id,
        constraints=constraints,
        written=written,
        **own,
    )


def _keys(seed: Any, row_indices_b: Any, samples_b: Any) -> Any:
    """A random key a row: what a prompt's first sample draws does not depend on their number."""
    key = jax.random.key(seed)

    def of_row(index: Any, sample: Any) -> Any:
        # Rows count up to 2**31, so that no sample's key is a row's.
        other = jax.random.fold_in(key, sample.astype(jnp.uint32) + jnp.uint32(2**31))
        own = jnp.where(sample > 0, jax.random.key_data(other), jax.random.key_data(key))
        return jax.random.fold_in(jax.random.wrap_key_data(own), index)

    return jax.vmap(of_row)(jnp.asarray(row_indices_b), jnp.asarray(samples_b))


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
    rows: Sequence[int] | None = None,
    min_new_tokens: int = 0,
    repetition_penalty: float = 1.0,
    stop: StopStrings | None = None,
    samples: int = 1,
    decoding_params: Any = None,
    progress: Callable[[int], None] | None = None,
    journal: Journal = NO_JOURNAL,
) -> list[Generation]:
    """Continues (decoder-only) or answers (encoder-decoder) every prompt.

    Prompts of similar length share a batch; every batch has `batch_size` rows and a length
    from `bucket_length`, so that few programs are compiled. Several samples of a prompt share a
    batch too, where it is read once.

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
      rows: the index of each prompt after `first_row`; None counts them.
      min_new_tokens: how many tokens come before an end token, where there is room for them.
      repetition_penalty: see `Constraints.applied`; 1 for none.
      stop: texts that end a row; None for none. Of a beam search, which hypotheses it ends.
      samples: how many texts of each prompt; sample j draws from the stream (seed, row, j), so that
        the first of several are those of fewer.
      decoding_params: what `prepare` made of `params`, for callers that generate again and
        again; None makes it anew.
      progress: called with the number of texts done after each batch.
      journal: of results of batches that are known.

    Returns:
      One `Generation` a sample, those of a prompt together, in the order of the prompts.

    Raises:
      UserError: `max_new_tokens`, `batch_size` or `samples` below 1, an empty prompt without
        `bos_id`, or a prompt longer than the model's `max_length`.
    """
    if min(max_new_tokens, batch_size, samples) < 1:
        raise UserError(
            f"max_new_tokens is {max_new_tokens}, batch_size {batch_size} and samples {samples}; "
            "all must be at least 1"
        )
    layout = prompts_of(model)
    numbers = range(len(prompts)) if rows is None else rows
    limits = []
    for number, prompt in enumerate(prompts, start=1):
        room = room_after(model, len(prompt), bos_id)
        if room < 1:
            raise UserError(f"prompt {number} of {len(prompts)}: {too_long(model, room)}")
        limits.append(int(min(max_new_tokens, room)))
    if decoding_params is None:
        decoding_params = prepare(model, params)

    def decoded(groups: Sequence[Sequence[_Row]], copies: int, stops: bool) -> list[Generation]:
        """The texts of a batch: of each prompt the rows of a group."""
        filled = [*groups, *[groups[0]] * (batch_size // copies - len(groups))]
        rows = [row for own in groups for row in [*own, *[_FILLING] * (copies - len(own))]]
        rows += [_FILLING] * (batch_size // copies * copies - len(rows))
        batch = layout.decoding_batch(
            [prompts[own[0].prompt] for own in filled],
            bos_id=bos_id,
            bidirectional=bidirectional_prompt,
            max_length=longest_row(model),
        )
        index = {
            "rows": [first_row + numbers[row.prompt] for row in rows],
            "samples": [row.sample for row in rows],
            "limits": [row.limit for row in rows],
        }
        arrays = {name: np.array(values, np.int32) for name, values in index.items()}
        table = stop.table if stop is not None and stops else None

        def compute() -> dict[str, np.ndarray]:
            found = generate_batch(
                model,
                params,
                decoding_params,
                batch,
                arrays["rows"],
                arrays["limits"],
                seed,
                strategy=strategy,
                max_new_tokens=max_new_tokens,
                eos_id=eos_id,
                samples_b=arrays["samples"],
                constraints=constraints_of(min_new_tokens, repetition_penalty, table),
                copies=copies,
            )
            return {name: fetched(value) for name, value in found._asdict().items()}

        settings = (
            f"generate {strategy} {max_new_tokens} {eos_id} {seed} {copies} {min_new_tokens} "
            f"{repetition_penalty} {stop.texts if stop is not None and stops else None}"
        )
        found = journal(settings, {**batch, **arrays}, compute)
        told = _generations(Decoded(**found), eos_id)
        return [one for one, row in zip(told, rows, strict=True) if row.limit]

    generations: dict[tuple[int, int], Generation] = {}
    again: list[_Row] = []

    def settle(groups: Sequence[Sequence[_Row]], copies: int, stops: bool) -> int:
        rows = [row for own in groups for row in own]
        for row, one in zip(rows, decoded(groups, copies, stops), strict=True):
            one, other = (one, None) if stop is None else _stopped(row, one, stop, strategy)
            generations[row.prompt, row.sample] = one
            again.extend([] if other is None else [other])
        return len(rows)

    for groups, copies in _batches(prompts, limits, samples, batch_size):
        done = settle(groups, copies, True)
        if progress is not None:
            progress(done)
    while again:
        part = again[:batch_size]
        del again[:batch_size]
        settle([[row] for row in part], 1, False)
    return [generations[i, j] for i in range(len(prompts)) for j in range(samples)]


_FILLING = _Row(0, 0, 0)


def _batches(
    prompts: Sequence[Tokens], limits: Sequence[int], samples: int, batch_size: int
) -> Iterator[tuple[list[list[_Row]], int]]:
    """Prompts of similar length together, with so many samples of each as fill a batch."""
    order = sorted(range(len(prompts)), key=lambda i: (bucket_length(len(prompts[i])), i))
    copies = min(samples, batch_size)
    together = batch_size // copies
    for first in range(0, len(order), together):
        for sample in range(0, samples, copies):
            numbers = range(sample, min(sample + copies, samples))
            own = order[first : first + together]
            yield [[_Row(i, j, limits[i]) for j in numbers] for i in own], copies


def _stopped(
    row: _Row, found: Generation, stop: StopStrings, strategy: Strategy
) -> tuple[Generation, _Row | None]:
    """What was generated, by its text; and the row as it is to be generated again, if it must be.

    The compiled loop looks at tokens by themselves, and their text may say otherwise.
    """
    kept = stop.kept(found.tokens)
    if kept is None:
        # Nothing that ends a row is there, and yet it may have ended before its limit.
        ended = found.finished or found.length >= row.limit
        return found, None if ended else row
    if kept == len(found.tokens):
        return dataclasses.replace(found, finished=True), None
    shorter = dataclasses.replace(found, tokens=found.tokens[:kept], finished=True)
    # The score of fewer tokens is that of a row which ends there. A search for the best row of that
    # length would find another; its score stays that of the whole hypothesis.
    if isinstance(strategy, BeamSearch) and strategy.beams > 1:
        return shorter, None
    return shorter, dataclasses.replace(row, limit=kept)


def fetched(value: jax.Array) -> np.ndarray:
    """The whole of an array, in each of several processes that each hold a part; a collective."""
    if value.is_fully_addressable or value.is_fully_replicated:
        return np.asarray(value)
    return np.asarray(multihost_utils.process_allgather(value, tiled=True))


def room_after(model: Decodes, prompt_length: int, bos_id: int | None) -> float:
    """How many tokens may follow a prompt, `bos_id` not counted; the last of them is never read.

    None may where it is 0 or less: the prompt is longer than the model's rows.
    """
    longest = longest_row(model)
    if longest is None:
        return math.inf
    taken = prompts_of(model).decoder_length(prompt_length + (bos_id is not None))
    return longest - taken + 1


def too_long(model: Decodes, room: float) -> str:
    """What is said of a prompt after which `room_after` is below 1."""
    longest = longest_row(model)
    assert longest is not None  # or there is room
    return (
        f"it takes {longest + 1 - int(room):,} positions, but the model's max_length is "
        f"{longest:,}: shorten it."
    )


def _generations(decoded: Decoded, eos_id: EndIds) -> list[Generation]:
    """Arrays to lists, the end token cut off."""
    generations = []
    for tokens_n, score, length in zip(*decoded, strict=True):
        tokens = tokens_n[:length].tolist()
        finished = bool(tokens) and tokens[-1] in listed(eos_id)
        if finished:
            tokens = tokens[:-1]
        generations.append(Generation(tokens, float(score), finished, int(length)))
    return generations
