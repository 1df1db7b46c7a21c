"""Byte-pair encoding of words, as it was published (Sennrich et al. 2016).

The symbols of words are at first their characters; again and again the most frequent pair of
neighbours becomes one symbol. Which of two equally frequent pairs comes first decides much of what
is learned, and implementations differ in it.
"""

import collections
import heapq
import itertools
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from tasks.errors import TaskError

Pair = tuple[str, str]
Ties = Literal["greatest", "first", "earliest"]

END_OF_WORD = "</w>"


def learn_merges(
    words: Mapping[str, int],
    num_merges: int,
    *,
    ties: Ties = "greatest",
    end_of_word: str = END_OF_WORD,
    min_frequency: int = 2,
) -> list[Pair]:
    """The pairs that become one symbol, in their order.

    Args:
      words: how often each occurs.
      num_merges: how many pairs; fewer where none is left that is frequent enough.
      ties: which of equally frequent pairs is taken. "greatest": the last in the order of their
        characters, as in subword-nmt, the paper's released code. "first": the one that is met
        first when the words are gone through in their order, as in the paper's algorithm 1.
        "earliest": the one of the lowest ids, which characters have in their order and symbols as
        they are made, as in the `tokenizers` library.
      end_of_word: what the last character of each word has behind it; "" for nothing.
      min_frequency: pairs that are rarer are left apart.

    Raises:
      TaskError: there is no word, no such rule for ties, or a number below 1.
    """
    if ties not in typing.get_args(Ties):
        raise TaskError(f"ties is {ties!r}: give {', '.join(typing.get_args(Ties))}.")
    if min_frequency < 1 or num_merges < 0:
        raise TaskError(f"min_frequency={min_frequency}, merges={num_merges}: give 1 or more.")
    learner = _Learner(words, ties, end_of_word)
    merges: list[Pair] = []
    while len(merges) < num_merges:
        best = learner.most_frequent(min_frequency)
        if best is None:
            break
        learner.merge(best)
        merges.append(best)
    return merges


def encode_word(
    word: str, merges: Sequence[Pair], end_of_word: str = END_OF_WORD
) -> tuple[str, ...]:
    """The symbols of a word: of the pairs in it, the one that was learned first is merged first."""
    ranks = {pair: i for i, pair in enumerate(merges)}
    symbols = _symbols(word, end_of_word)
    while len(symbols) > 1:
        rank, best = min((ranks.get(pair, len(ranks)), pair) for pair in _pairs(symbols))
        if rank == len(ranks):
            break
        symbols = _merged(symbols, best)
    return symbols


def _symbols(word: str, end_of_word: str) -> tuple[str, ...]:
    return (*word[:-1], word[-1] + end_of_word)


def _pairs(symbols: Sequence[str]) -> Iterable[Pair]:
    return itertools.pairwise(symbols)


def _merged(symbols: Sequence[str], pair: Pair) -> tuple[str, ...]:
    """The symbols with the pair as one, from the left."""
    found: list[str] = []
    place = 0
    while place < len(symbols):
        if tuple(symbols[place : place + 2]) == pair:
            found.append(pair[0] + pair[1])
            place += 2
        else:
            found.append(symbols[place])
            place += 1
    return tuple(found)


class _Descending:
    """Orders pairs from the last to the first."""

    __slots__ = ("pair",)

    def __init__(self, pair: Pair) -> None:
        self.pair = pair

    def __lt__(self, other: "_Descending") -> bool:
        return self.pair > other.pair


class _Learner:
    """Words in symbols, with the counts of their pairs."""

    def __init__(self, words: Mapping[str, int], ties: Ties, end_of_word: str) -> None:
        kept = [(word, count) for word, count in words.items() if word and count > 0]
        if not kept:
            raise TaskError("no text to learn merges from: there is no word.")
        self._ties = ties
        self._words = [_symbols(word, end_of_word) for word, _ in kept]
        self._weights = [count for _, count in kept]
        self._counts: collections.Counter[Pair] = collections.Counter()
        self._places: dict[Pair, set[int]] = collections.defaultdict(set)
        for place, symbols in enumerate(self._words):
            self._add(place, symbols, self._weights[place])
        names = sorted({symbol for symbols in self._words for symbol in symbols})
        self._ids = {symbol: i for i, symbol in enumerate(names)}
        # Entries of which the count has changed since are passed over.
        self._heap: list[tuple[int, Any, Pair]] = []
        for pair in self._counts:
            self._push(pair)
        heapq.heapify(self._heap)

    def _add(self, place: int, symbols: Sequence[str], weight: int) -> None:
        for pair in _pairs(symbols):
            self._counts[pair] += weight
            self._places[pair].add(place)

    def _push(self, pair: Pair, onto_heap: bool = False) -> None:
        if self._ties == "greatest":
            key: Any = _Descending(pair)
        elif self._ties == "earliest":
            key = (self._ids[pair[0]], self._ids[pair[1]])
        else:
            key = 0
        entry = (-self._counts[pair], key, pair)
        if onto_heap:
            heapq.heappush(self._heap, entry)
        else:
            self._heap.append(entry)

    def most_frequent(self, min_frequency: int) -> Pair | None:
        """The pair that is merged next; None where none is frequent enough."""
        found: list[tuple[int, Any, Pair]] = []
        while self._heap:
            entry = self._heap[0]
            count = -entry[0]
            if count != self._counts.get(entry[2]):
                heapq.heappop(self._heap)
                continue
            if count < min_frequency or (found and count < -found[0][0]):
                break
            found.append(heapq.heappop(self._heap))
            if self._ties != "first":
                break
        for entry in found:
            heapq.heappush(self._heap, entry)
        if self._ties != "first" or len(found) < 2:
            return found[0][2] if found else None
        return min({entry[2] for entry in found}, key=self._first_place)

    def _first_place(self, pair: Pair) -> tuple[int, int]:
        place = min(self._places[pair])
        return place, list(_pairs(self._words[place])).index(pair)

    def merge(self, pair: Pair) -> None:
        """Makes one symbol of a pair in all words."""
        self._ids.setdefault(pair[0] + pair[1], len(self._ids))
        changed: set[Pair] = set()
        for place in self._places.pop(pair):
            before, weight = self._words[place], self._weights[place]
            after = _merged(before, pair)
            for one in _pairs(before):
                self._counts[one] -= weight
                self._places[one].discard(place)
                changed.add(one)
            self._add(place, after, weight)
            changed.update(_pairs(after))
            self._words[place] = after
        for one in changed:
            if self._counts[one] > 0:
                self._push(one, onto_heap=True)
            else:
                del self._counts[one]
                self._places.pop(one, None)
