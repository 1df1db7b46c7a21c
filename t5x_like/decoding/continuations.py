"""How likely continuations are, where several continue one context: it is read once for all.

Shapes: `c` contexts, `r` rows that are read after them, `b` continuations, `t` tokens of the
longest, `v` vocabulary.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from t5x_like.data.formats.prompts import PromptFormat, Tokens, right_padded
from t5x_like.decoding.generate import fetched
from t5x_like.decoding.prefill import begin
from t5x_like.decoding.prompts import prompts_of
from t5x_like.decoding.shared_prefixes import shared_prefixes
from t5x_like.errors import UserError
from t5x_like.host.journal import NO_JOURNAL, Journal
from t5x_like.protocols import Batch, Decodes, Extends, longest_row

# Logits of a batch, float32, that are held at once: 256 MiB, as of a batch in training.
_MOST_LOGITS = 2**26
# What a batch's results are called in a journal.
_SCORES = ("tokens", "greedy")


def check_batch_size(batch_size: int) -> None:
    """Refuses one below 1."""
    if batch_size < 1:
        raise UserError(f"batch_size is {batch_size}; it must be at least 1")


@dataclasses.dataclass(frozen=True)
class Score:
    """Natural-log likelihood of one target.

    Attributes:
      total: sum over the target's tokens.
      tokens: float32 `[len(target)]`, each token's log-probability given those before it.
    """

    total: float
    tokens: np.ndarray


@dataclasses.dataclass(frozen=True)
class ContinuationScore(Score):
    """The natural-log likelihood of one continuation.

    Attributes:
      greedy: whether each of its tokens is the likeliest where it stands.
    """

    greedy: bool


class _Asked(NamedTuple):
    """A continuation, after a row.

    Attributes:
      place: in the caller's list.
      tokens: what the row reads, but its first token, and the last one.
      skipped: how many of these are of the context.
    """

    place: int
    tokens: tuple[int, ...]
    skipped: int


class _Row(NamedTuple):
    """Tokens that are read after a context, and the continuations that end with them.

    Attributes:
      context: token ids.
      length: of `_Asked.tokens`, the same of all.
      asked: the continuations.
    """

    context: tuple[int, ...]
    length: int
    asked: list[_Asked]


# Rows of one context.
_Group = list[_Row]


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
    never_first: Sequence[int] = (),
) -> list[ContinuationScore]:
    """The log-likelihood of each continuation given its context, as `scoring.score` gives it.

    What several texts begin with is read once, and they go on from the cache: equal contexts, and
    where a decoder reads forwards also what different contexts have in common, see
    `shared_prefixes`. Continuations that differ in their last token alone are one row. Contexts and
    continuations of similar length share a batch.

    Args:
      model: a `Decodes`.
      params: its parameters.
      pairs: context and continuation, token ids. A context is what an encoder reads, or what a
        decoder reads first; of a decoder's, what the model's `max_length` has no room for is cut
        off at its beginning.
      bos_id: what a decoder reads before anything else; None (decoder-only) for nothing.
      bidirectional: whether a decoder reads contexts in both directions.
      batch_size: most rows scored together; fewer where their logits would take much memory.
      progress: called with the number of continuations done after each batch.
      journal: of results of batches that are known.
      never_first: tokens that would not be written first, whatever their likelihood: `greedy` asks
        whether a continuation's first token is the likeliest of the others.

    Raises:
      UserError: a continuation without tokens or with more than the model can read, or nothing to
        begin with: an empty context without `bos_id`.
    """
    check_batch_size(batch_size)
    layout = prompts_of(model)
    rows = _rows(model, layout, pairs, bos_id, None if bidirectional else batch_size)
    scores: list[Any] = [None] * len(pairs)

    def rest(members: Sequence[_Group]) -> int | None:
        """How many tokens every row has room for after the longest of these contexts."""
        room = longest_row(model)
        if room is None:
            return None
        longest = max(len(group[0].context) for group in members)
        return room + 1 - layout.decoder_length(longest)

    def most(length: int) -> int:
        """How many rows of this length are scored together."""
        return max(1, min(batch_size, _MOST_LOGITS // (length * model.vocab_size)))

    for members in _batches(_groups(rows), most, rest):
        contexts = [group[0].context for group in members]
        own = [row for group in members for row in group]
        asked = [(number, one) for number, row in enumerate(own) for one in row.asked]
        length = _padded(max(row.length for row in own), rest(members))
        # Few numbers of rows, and so few programs; those beyond are of the first context.
        size = min(_rounded(len(own)), most(length))
        contexts_r = np.zeros(size, np.int32)
        contexts_r[: len(own)] = np.repeat(np.arange(len(members)), [len(one) for one in members])
        contexts += contexts[:1] * (min(_rounded(len(contexts)), size) - len(contexts))
        batch = layout.decoding_batch(
            contexts,
            bos_id=(bos_id or 0) if layout.needs_inputs else None,
            bidirectional=bidirectional,
            max_length=_padded(max(map(len, contexts)), longest_row(model)),
        )
        reads = [row.asked[0].tokens for row in own]
        # As many continuations as rows, twice as many, and so on.
        count = size << (-(-len(asked) // size) - 1).bit_length()
        rows_b = np.zeros(count, np.int32)
        rows_b[: len(asked)] = [number for number, _ in asked]
        tokens = [one.tokens for _, one in asked]
        told = {
            "contexts": contexts_r,
            "reads": right_padded([*reads, *[()] * (size - len(own))], length)[:, :-1],
            "rows": rows_b,
            "continuations": right_padded([*tokens, *[()] * (count - len(asked))], length),
        }

        if never_first:
            firsts = [one.skipped for _, one in asked]
            told["firsts"] = np.array([*firsts, *[0] * (count - len(asked))], np.int32)
            told["never_first"] = np.isin(np.arange(model.vocab_size), never_first)

        def compute(batch: Any = batch, told: Any = told) -> dict[str, np.ndarray]:
            found = _log_likelihoods(model, params, batch, *told.values())
            return {name: fetched(value) for name, value in zip(_SCORES, found, strict=True)}

        found = journal("continuations", {**batch, **told}, compute)
        for number, (_, one) in enumerate(asked):
            scored = slice(one.skipped, len(one.tokens))
            tokens_t = found["tokens"][number, scored]
            greedy = bool(found["greedy"][number, scored].all())
            total = float(tokens_t.sum(dtype=np.float64))
            scores[one.place] = ContinuationScore(total, tokens_t, greedy)
        if progress is not None:
            progress(len(asked))
    return scores


def room_for_context(model: Decodes, continuation_length: int) -> int | None:
    """How many tokens a decoder can read before a continuation; None for any number.

    Raises:
      UserError: the continuation alone is longer than what the model can read.
    """
    longest = longest_row(model)
    if longest is None:
        return None
    # The last token is never read; something must be before the first.
    if continuation_length > longest:
        raise UserError(
            f"a continuation has {continuation_length:,} tokens, but the model's max_length is "
            f"{longest:,}: shorten it."
        )
    return longest + 1 - continuation_length


def _rows(
    model: Decodes,
    layout: PromptFormat,
    pairs: Sequence[tuple[Tokens, Tokens]],
    bos_id: int | None,
    batch_size: int | None,
) -> list[_Row]:
    """What is read: contexts that are shared, and rows after them.

    Args:
      model: see `score_continuations`.
      layout: of the model's prompts.
      pairs: see `score_continuations`.
      bos_id: see `score_continuations`.
      batch_size: of rows; None where a context must be read as a whole.
    """
    start = [] if bos_id is None else [bos_id]
    contexts = []
    for place, (context, continuation) in enumerate(pairs):
        if not continuation:
            raise UserError(f"continuation {place + 1} of {len(pairs)} has no token.")
        room = room_for_context(model, len(continuation))
        read = list(context) if layout.needs_inputs else [*start, *context]
        if room is not None and not layout.needs_inputs:
            read = read[-room:]
        if not read and not layout.needs_inputs:
            raise UserError("an empty context needs a bos_id to start from; found bos_id=None")
        contexts.append(read)
    lengths = [len(context) for context in contexts]
    if batch_size is not None and not layout.needs_inputs:
        texts: dict[tuple[int, ...], int] = {}
        for context, (_, continuation) in zip(contexts, pairs, strict=True):
            text = (*context, *continuation[:-1])
            texts[text] = min(texts.get(text, len(context)), len(context))
        shared = shared_prefixes(list(texts), list(texts.values()), batch_size)
        of_text = dict(zip(texts, shared.tolist(), strict=True))
        lengths = [
            of_text[(*context, *continuation[:-1])]
            for context, (_, continuation) in zip(contexts, pairs, strict=True)
        ]
    rows: dict[tuple[tuple[int, ...], tuple[int, ...]], _Row] = {}
    for place, (context, length) in enumerate(zip(contexts, lengths, strict=True)):
        before, tokens = tuple(context[:length]), (*context[length:], *pairs[place][1])
        row = rows.setdefault((before, tokens[:-1]), _Row(before, len(tokens), []))
        row.asked.append(_Asked(place, tokens, len(context) - length))
    return list(rows.values())


def _groups(rows: Sequence[_Row]) -> list[_Group]:
    """Rows of one context together."""
    groups: dict[tuple[int, ...], _Group] = {}
    for row in rows:
        groups.setdefault(row.context, []).append(row)
    return list(groups.values())


def _batches(
    groups: Sequence[_Group],
    most: Callable[[int], int],
    rest: Callable[[Sequence[_Group]], int | None],
) -> Iterator[list[_Group]]:
    """Groups of similar lengths together, no more rows than `most` of their length.

    Every row of a batch has room for its longest continuation: positions beyond the model's
    `max_length` have no vectors, and what is computed there would not be a number.
    """

    def longest(members: Sequence[_Group]) -> int:
        return max(row.length for group in members for row in group)

    def shape(group: _Group) -> tuple[int, int]:
        return _padded(len(group[0].context)), _padded(longest([group]))

    batch: list[_Group] = []
    for group in sorted(groups, key=shape):
        rows = sorted(group, key=lambda row: row.length)
        while rows:
            part = rows[: most(_padded(rows[-1].length))]
            rows = rows[len(part) :]
            grown = [*batch, part]
            room = rest(grown)
            size = sum(map(len, grown))
            full = size > most(_padded(longest(grown)))
            if batch and (full or (room is not None and longest(grown) > room)):
                yield batch
                grown = [part]
            batch = grown
    if batch:
        yield batch


def _padded(length: int, longest: int | None = None) -> int:
    """The length to which something is padded: few lengths, and so few programs, little padding.

    8, 12, 16, 24, 32, 48, 64, and from there quarters of powers of two, but for `longest`. A
    program takes as long to compile as some batches to run, since layers are compiled once.
    """
    power = 1 << max(length - 1, 7).bit_length()
    step = power // (8 if power > 64 else 4)
    padded = max(8, -(-length // step) * step)
    return padded if longest is None else min(padded, max(length, longest))


def _rounded(count: int) -> int:
    """The smallest number that is no less, of 1, 2, 3, 4, 6, 8, 12, 16 and so on."""
    power = 1 << (count - 1).bit_length()
    return power * 3 // 4 if power > 2 and count <= power * 3 // 4 else power


@functools.partial(jax.jit, static_argnames="model")
def _log_likelihoods(
    model: Decodes,
    params: Any,
    batch: Batch,
    contexts_r: jax.Array,
    reads_rt: jax.Array,
    rows_b: jax.Array,
    tokens_bt: jax.Array,
    firsts_b: jax.Array | None = None,
    never_first_v: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Log-probability of each token, float32 `[b, t]`, and whether it is the likeliest, bool.

    Args:
      model: a `Decodes`, hashable.
      params: its parameters, as they are trained: a batch of long rows gains nothing from those
        laid out for single steps.
      batch: `c` contexts, as `PromptFormat.decoding_batch` lays them out.
      contexts_r: int32, which context each row has.
      reads_rt: int32 `[r, t - 1]`, what each row reads after it.
      rows_b: int32, which row each continuation has.
      tokens_bt: int32, the continuations.
      firsts_b: int32, where the first token of each stands that is scored; None where any may be.
      never_first_v: bool, which tokens are not chosen there.
    """
    start = begin(model, params, params, batch, tokens_bt.shape[1])
    cache = jax.tree.map(lambda leaf: leaf[contexts_r] if jnp.ndim(leaf) else leaf, start.cache)
    if start.logits_bv is None:
        reads_rt = jnp.concatenate([start.tokens_b[contexts_r][:, None], reads_rt], axis=1)
        logits_rtv = _extended(model, params, cache, reads_rt)
    else:
        known_r1v = start.logits_bv[contexts_r][:, None]
        logits_rtv = jnp.concatenate([known_r1v, _extended(model, params, cache, reads_rt)], axis=1)
    chosen_bt = logits_rtv[rows_b[:, None], jnp.arange(tokens_bt.shape[1]), tokens_bt]
    greedy_bt = chosen_bt == logits_rtv.max(axis=-1)[rows_b]
    if firsts_b is not None and never_first_v is not None:
        most_rt = jnp.where(never_first_v, -jnp.inf, logits_rtv).max(axis=-1)
        first_bt = jnp.arange(tokens_bt.shape[1]) == firsts_b[:, None]
        may_be_bt = (chosen_bt == most_rt[rows_b]) & ~never_first_v[tokens_bt]
        greedy_bt = jnp.where(first_bt, may_be_bt, greedy_bt)
    return chosen_bt - jax.nn.logsumexp(logits_rtv, axis=-1)[rows_b], greedy_bt


def _extended(model: Decodes, params: Any, cache: Any, tokens_bt: jax.Array) -> jax.Array:
    """The logits after each of the tokens, which follow what is in the cache."""
    if isinstance(model, Extends):
        return model.extend(params, cache, tokens_bt)[0]

    def step(carry: Any, tokens_b: jax.Array) -> tuple[Any, jax.Array]:
        logits_bv, carry = model.decode_step(params, carry, tokens_b)
        return carry, logits_bv

    _, logits_tbv = jax.lax.scan(step, cache, tokens_bt.T)
    return jnp.swapaxes(logits_tbv, 0, 1)
