"""Counts of all n-grams up to an order, by sorting.

The n-grams of an order are sorted by their context, which is an n-gram of the order below, and then
by their last token: those that share a context are neighbours, and an n-gram is found by one binary
search for each of its tokens. Nothing is hashed, so that counts are exact.
"""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from models.errors import ModelError
from models.model import Batch

LARGEST_ORDER = 9
_MOST_TOKENS = 2**31 - 1  # what a place of 32 bits reaches


@dataclasses.dataclass(frozen=True)
class Level:
    """The n-grams of one order, `n` of them, sorted by context and token.

    Attributes:
      tokens: the last token of each, int32 `[n]`.
      first: of each context, an n-gram of the order below, the place of its first continuation,
        and at the end `n`: int32 `[contexts + 1]`.
      counts: how often each was predicted, int32 `[n]`; 0 of those that only stood before others.
      shorter: the place of each without its first token among the n-grams of the order below,
        int32 `[n]`.
      beginnings: the places of those that begin a text, and so have nothing before them, each as
        often as it does; int32.
    """

    tokens: np.ndarray
    first: np.ndarray
    counts: np.ndarray
    shorter: np.ndarray
    beginnings: np.ndarray


@dataclasses.dataclass(frozen=True)
class NGramCounts:
    """Counts of the n-grams of some texts.

    Attributes:
      vocab_size: tokens are below it.
      zero_is_token: whether token 0 is predicted, and not padding.
      levels: by order, from 1, whose n-grams are all tokens of the vocabulary in their order.
    """

    vocab_size: int
    zero_is_token: bool
    levels: tuple[Level, ...]

    @property
    def order(self) -> int:
        """Tokens of the longest n-grams."""
        return len(self.levels)

    @property
    def predictable(self) -> np.ndarray:
        """Which tokens may be predicted, bool `[vocab_size]`."""
        return predictable_tokens(self.vocab_size, self.zero_is_token)

    def continuations(self, order: int) -> np.ndarray:
        """How many different tokens were seen before each n-gram of an order, int32 `[n]`.

        Where a text begins nothing stands before an n-gram: each such occurrence counts, as in
        KenLM. At the highest order these are the counts themselves (Chen and Goodman 1998,
        section 2.7).
        """
        level = self.levels[order - 1]
        if order == self.order:
            return level.counts
        above = self.levels[order]
        found = _tally(above.shorter[above.counts > 0], level.tokens.size)
        np.add.at(found, level.beginnings, 1)
        return found


def predictable_tokens(vocab_size: int, zero_is_token: bool) -> np.ndarray:
    """Which tokens may be predicted, bool `[vocab_size]`: all but padding."""
    may = np.ones(vocab_size, bool)
    may[0] = zero_is_token
    return may


def check_order(order: int) -> None:
    """Refuses an order that no model is counted of.

    Raises:
      ModelError: it is below 1 or above `LARGEST_ORDER`.
    """
    if not 1 <= order <= LARGEST_ORDER:
        raise ModelError(f"order is {order}: an n-gram has 1 to {LARGEST_ORDER} tokens.")


def count_batches(
    batches: Iterable[Batch], *, order: int, vocab_size: int, zero_is_token: bool = False
) -> NGramCounts:
    """Counts the n-grams of batches of a causal language model, not packed.

    Args:
      batches: with `decoder_input_tokens`, `decoder_target_tokens`, `decoder_loss_weights`. A row's
        first input stands before its targets; of these, those with a weight are counted.
      order: tokens of the longest n-grams.
      vocab_size: of the vocabulary.
      zero_is_token: whether token 0 is one, and not padding.

    Raises:
      ModelError: as `count_ngrams`.
    """
    pieces: list[np.ndarray] = []
    weighed: list[np.ndarray] = []
    sizes: list[np.ndarray] = []
    for batch in batches:
        weights_bt = np.asarray(batch["decoder_loss_weights"]) > 0
        targets_bt = np.asarray(batch["decoder_target_tokens"])
        length = weights_bt.shape[1]
        used_b = np.where(weights_bt.any(axis=1), length - weights_bt[:, ::-1].argmax(axis=1), -1)
        kept = np.arange(-1, length) < used_b[:, None]
        kept[used_b < 0] = False
        first_b1 = np.asarray(batch["decoder_input_tokens"])[:, :1]
        pieces.append(np.concatenate([first_b1, targets_bt], axis=1)[kept].astype(np.int32))
        predicted = np.concatenate([np.zeros_like(first_b1, bool), weights_bt], axis=1)
        weighed.append(predicted[kept])
        sizes.append(used_b[used_b >= 0] + 1)
    if not pieces:
        raise ModelError("there is no text to count n-grams of.")
    tokens, predicted = np.concatenate(pieces), np.concatenate(weighed)
    del pieces, weighed
    return count_ngrams(
        tokens,
        np.concatenate(sizes),
        predicted,
        order=order,
        vocab_size=vocab_size,
        zero_is_token=zero_is_token,
    )


def count_ngrams(
    tokens: np.ndarray,
    sizes: Sequence[int] | np.ndarray,
    predicted: np.ndarray | None = None,
    *,
    order: int,
    vocab_size: int,
    zero_is_token: bool = False,
) -> NGramCounts:
    """Counts the n-grams of texts.

    Each order numbers its n-grams in sorted order, and the next one sorts pairs of such a number
    and a token: one sort of 8-byte keys for each order, whatever the vocabulary.

    Args:
      tokens: of all texts, one after the other, int32 `[s]`.
      sizes: of each text, in tokens.
      predicted: which of them are counted, bool `[s]`, as others only stand before them; None for
        all but the first of each text.
      order: tokens of the longest n-grams.
      vocab_size: tokens are below it.
      zero_is_token: whether token 0 is one, and not padding.

    Raises:
      ModelError: an order that is not counted, an empty vocabulary, tokens beyond it, or texts in
        which none has so many tokens.
    """
    check_order(order)
    before = _tokens_before(np.asarray(sizes, np.int64), order)
    if predicted is None:
        predicted = before > 0
    _check_tokens(tokens, before, predicted, order, vocab_size)
    everything = np.arange(vocab_size, dtype=np.int32)
    levels = [
        Level(
            everything,
            np.array([0, vocab_size], np.int32),
            _tally(tokens[predicted], vocab_size),
            np.zeros(vocab_size, np.int32),
            tokens[predicted & (before == 0)],
        )
    ]
    places_of = tokens  # of each token's n-gram of the order below, which ends with it
    for size in range(2, order + 1):
        counted = before >= size - 1
        if size == order:
            counted &= predicted  # nothing continues the longest
        places_of, level = _next_level(
            places_of,
            tokens,
            predicted,
            before == size - 1,
            np.flatnonzero(counted).astype(np.int32),
            levels[-1],
            vocab_size,
        )
        levels.append(level)
    return NGramCounts(vocab_size, zero_is_token, tuple(levels))


def _next_level(
    shorter_of: np.ndarray,
    tokens: np.ndarray,
    predicted: np.ndarray,
    begins: np.ndarray,
    ends: np.ndarray,
    below: Level,
    vocab_size: int,
) -> tuple[np.ndarray, Level]:
    """The n-grams one token longer, and which of them ends at each token (-1: none).

    Args:
      shorter_of: the n-gram of the order below that ends at each token, int32 `[s]`.
      tokens: int32 `[s]`.
      predicted: bool `[s]`.
      begins: whether the n-gram that ends at each token is the beginning of a text, bool `[s]`.
      ends: where the n-grams end, int32, ascending.
      below: the order below.
      vocab_size: tokens are below it.
    """
    keys = shorter_of[ends - 1].astype(np.int64)
    keys *= vocab_size
    keys += tokens[ends]
    order = np.argsort(keys)
    keys = keys[order]
    ends = ends[order]
    del order
    is_new = np.empty(keys.size, bool)
    is_new[0] = True
    np.not_equal(keys[1:], keys[:-1], out=is_new[1:])
    numbers = np.cumsum(is_new, dtype=np.int32)
    numbers -= 1
    places_of = np.full(tokens.size, -1, np.int32)
    places_of[ends] = numbers
    keys = keys[is_new]
    shorter = shorter_of[ends[is_new]]
    del is_new
    counts = _tally(numbers[predicted[ends]], keys.size)
    beginnings = numbers[predicted[ends] & begins[ends]]
    del numbers, ends
    contexts = keys // vocab_size
    first = np.zeros(below.tokens.size + 1, np.int32)
    np.cumsum(_tally(contexts, below.tokens.size), out=first[1:])
    contexts *= vocab_size
    keys -= contexts
    return places_of, Level(keys.astype(np.int32), first, counts, shorter, beginnings)


def _tally(places: np.ndarray, size: int) -> np.ndarray:
    return np.bincount(places, minlength=size).astype(np.int32)


def _tokens_before(sizes: np.ndarray, order: int) -> np.ndarray:
    """How many tokens of its text stand before each, `order` for as many or more, int8 `[s]`."""
    before = np.full(sizes.sum(), order, np.int8)
    starts = np.cumsum(sizes) - sizes
    for size in range(min(order, int(sizes.max(initial=0)))):
        before[starts[sizes > size] + size] = size
    return before


def _check_tokens(
    tokens: np.ndarray, before: np.ndarray, predicted: np.ndarray, order: int, vocab_size: int
) -> None:
    if vocab_size < 2:
        raise ModelError(f"the vocabulary has {vocab_size} tokens: there is nothing to predict.")
    if tokens.size > _MOST_TOKENS:
        raise ModelError(f"{tokens.size:,} tokens: n-grams of up to {_MOST_TOKENS:,} are counted.")
    if tokens.size and not 0 <= tokens.min() <= tokens.max() < vocab_size:
        wrong = tokens.max() if tokens.max() >= vocab_size else tokens.min()
        raise ModelError(
            f"a text has the token {wrong}, but the vocabulary has {vocab_size}: it is another one."
        )
    if not (predicted & (before >= order - 1)).any():
        longest = int(before[predicted].max(initial=0)) + 1
        raise ModelError(
            f"no text has {order} tokens, of which n-grams of order {order} are made: the longest "
            f"has {longest}, with the token that stands before it. Choose an order up to that."
        )
