"""How likely continuations are, where several continue one context: it is read once for all.

Shapes: `c` contexts, `b` continuations, `t` tokens of the longest, `v` vocabulary.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from t5x_like.data.formats.prompts import PromptFormat, Tokens, bucket_length, right_padded
from t5x_like.decoding.generate import fetched
from t5x_like.decoding.prefill import begin
from t5x_like.decoding.prompts import prompts_of
from t5x_like.decoding.scoring import Score
from t5x_like.errors import UserError
from t5x_like.host.journal import NO_JOURNAL, Journal
from t5x_like.protocols import Batch, Decodes, Extends

# A context's tokens, and the places in the caller's list of what continues it.
_Group = tuple[tuple[int, ...], list[int]]


def score_continuations(
    model: Decodes,
    params: Any,
    pairs: Sequence[tuple[Tokens, Tokens]],
    *,
    bos_id: int | None = 0,
    bidirectional: bool = False,
    batch_size: int = 32,
    progress: Callable[[int], None] | None = None,
    journal: Journal = NO_JOURNAL,
) -> list[Score]:
    """The log-likelihood of each continuation given its context, as `scoring.score` gives it.

    Equal contexts are read once, and their continuations go on from the cache. Contexts and
    continuations of similar length share a batch.

    Args:
      model: a `Decodes`.
      params: its parameters.
      pairs: context and continuation, token ids. A context is what an encoder reads, or what a
        decoder reads first; of a decoder's, what the model's `max_length` has no room for is cut
        off at its beginning.
      bos_id: what a decoder reads before anything else; None (decoder-only) for nothing.
      bidirectional: whether a decoder reads contexts in both directions.
      batch_size: continuations scored together.
      progress: called with the number of continuations done after each batch.
      journal: of results of batches that are known.

    Raises:
      UserError: a continuation without tokens or with more than the model can read, or nothing to
        begin with: an empty context without `bos_id`.
    """
    if batch_size < 1:
        raise UserError(f"batch_size is {batch_size}; it must be at least 1")
    layout = prompts_of(model)
    groups = _groups(model, layout, pairs, bos_id)
    scores: list[Any] = [None] * len(pairs)

    def rest(members: Sequence[_Group]) -> int | None:
        """How many tokens every row has room for after the longest of these contexts."""
        if model.max_length is None:
            return None
        longest = max(len(context) for context, _ in members)
        return model.max_length + 1 - layout.decoder_length(longest)

    for members in _batches(groups, [len(tokens) for _, tokens in pairs], batch_size, rest):
        contexts = [context for context, _ in members]
        places = [place for _, own in members for place in own]
        # Few numbers of rows, and so few programs; those beyond are of the first context.
        size = min(_power_of_two(len(places)), batch_size)
        rows_b = np.zeros(size, np.int32)
        rows_b[: len(places)] = np.repeat(np.arange(len(members)), [len(own) for _, own in members])
        contexts += contexts[:1] * (min(_power_of_two(len(contexts)), size) - len(contexts))
        batch = layout.decoding_batch(
            contexts,
            bos_id=(bos_id or 0) if layout.needs_inputs else None,
            bidirectional=bidirectional,
            max_length=model.max_length,
        )
        continuations = [pairs[place][1] for place in places]
        length = bucket_length(max(map(len, continuations)), rest(members))
        filled = continuations + [[0]] * (size - len(places))
        inputs = {**batch, "rows": rows_b, "continuations": right_padded(filled, length)}

        def compute(batch: Any = batch, inputs: Any = inputs) -> dict[str, np.ndarray]:
            rows_b, tokens_bt = inputs["rows"], inputs["continuations"]
            return {"tokens": fetched(_log_likelihoods(model, params, batch, rows_b, tokens_bt))}

        found_bt = journal("continuations", inputs, compute)["tokens"]
        for row, place in enumerate(places):
            tokens = found_bt[row, : len(pairs[place][1])]
            scores[place] = Score(float(tokens.sum(dtype=np.float64)), tokens)
        if progress is not None:
            progress(len(places))
    return scores


def room_for_context(model: Decodes, continuation_length: int) -> int | None:
    """How many tokens a decoder can read before a continuation; None for any number.

    Raises:
      UserError: the continuation alone is longer than what the model can read.
    """
    if model.max_length is None:
        return None
    # The last token is never read; something must be before the first.
    if continuation_length > model.max_length:
        raise UserError(
            f"a continuation has {continuation_length:,} tokens, but the model's max_length is "
            f"{model.max_length:,}: shorten it."
        )
    return model.max_length + 1 - continuation_length


def _groups(
    model: Decodes,
    layout: PromptFormat,
    pairs: Sequence[tuple[Tokens, Tokens]],
    bos_id: int | None,
) -> list[_Group]:
    """The contexts as they are read, each with what continues it."""
    groups: dict[tuple[int, ...], list[int]] = {}
    start = [] if bos_id is None else [bos_id]
    for place, (context, continuation) in enumerate(pairs):
        if not continuation:
            raise UserError(f"continuation {place + 1} of {len(pairs)} has no token.")
        room = room_for_context(model, len(continuation))
        read = list(context) if layout.needs_inputs else [*start, *context]
        if room is not None and not layout.needs_inputs:
            read = read[-room:]
        if not read and not layout.needs_inputs:
            raise UserError("an empty context needs a bos_id to start from; found bos_id=None")
        groups.setdefault(tuple(read), []).append(place)
    return list(groups.items())


def _batches(
    groups: Sequence[_Group],
    lengths: Sequence[int],
    batch_size: int,
    rest: Callable[[Sequence[_Group]], int | None],
) -> Iterator[list[_Group]]:
    """Groups of similar lengths together, no more continuations than `batch_size`.

    Every row of a batch has room for its longest continuation: positions beyond the model's
    `max_length` have no vectors, and what is computed there would not be a number.
    """

    def longest(members: Sequence[_Group]) -> int:
        return max(lengths[i] for _, places in members for i in places)

    def shape(group: _Group) -> tuple[int, int]:
        return bucket_length(len(group[0])), bucket_length(longest([group]))

    batch: list[_Group] = []
    for context, places in sorted(groups, key=shape):
        for first in range(0, len(places), batch_size):
            part = (context, places[first : first + batch_size])
            grown = [*batch, part]
            room = rest(grown)
            full = sum(len(own) for _, own in grown) > batch_size
            if batch and (full or (room is not None and longest(grown) > room)):
                yield batch
                grown = [part]
            batch = grown
    if batch:
        yield batch


def _power_of_two(count: int) -> int:
    """The smallest that is no less."""
    return 1 << (count - 1).bit_length()


@functools.partial(jax.jit, static_argnames="model")
def _log_likelihoods(
    model: Decodes, params: Any, batch: Batch, rows_b: jax.Array, tokens_bt: jax.Array
) -> jax.Array:
    """Log-probability of each token, float32 `[b, t]`.

    Args:
      model: a `Decodes`, hashable.
      params: its parameters, as they are trained: a batch of long rows gains nothing from those
        laid out for single steps.
      batch: `c` contexts, as `PromptFormat.decoding_batch` lays them out.
      rows_b: int32, which context each continuation has.
      tokens_bt: int32, the continuations.
    """
    start = begin(model, params, params, batch, tokens_bt.shape[1])
    cache = jax.tree.map(lambda leaf: leaf[rows_b] if jnp.ndim(leaf) else leaf, start.cache)
    read_bt = tokens_bt[:, :-1]
    if start.logits_bv is None:
        read_bt = jnp.concatenate([start.tokens_b[rows_b][:, None], read_bt], axis=1)
        logits_btv = _extended(model, params, cache, read_bt)
    else:
        known_b1v = start.logits_bv[rows_b][:, None]
        logits_btv = jnp.concatenate([known_b1v, _extended(model, params, cache, read_bt)], axis=1)
    chosen_bt = jnp.take_along_axis(logits_btv, tokens_bt[:, :, None], axis=-1)[:, :, 0]
    return chosen_bt - jax.nn.logsumexp(logits_btv, axis=-1)


def _extended(model: Decodes, params: Any, cache: Any, tokens_bt: jax.Array) -> jax.Array:
    """The logits after each of the tokens, which follow what is in the cache."""
    if isinstance(model, Extends):
        return model.extend(params, cache, tokens_bt)[0]

    def step(carry: Any, tokens_b: jax.Array) -> tuple[Any, jax.Array]:
        logits_bv, carry = model.decode_step(params, carry, tokens_b)
        return carry, logits_bv

    _, logits_tbv = jax.lax.scan(step, cache, tokens_bt.T)
    return jnp.swapaxes(logits_tbv, 0, 1)
