"""Texts at which generation stops, found while tokens are generated.

A token is a piece of text, so a stop string may begin and end inside of tokens. An automaton over
characters (Aho and Corasick 1975) says after each token how much of a stop string the text ends
with; its moves over whole tokens are one table, which a compiled loop looks up.

What single tokens say is not always what a text of them says: characters may be of several tokens,
and a tokenizer may tidy spaces. The text of a row has therefore the last word, in `kept`.
"""

import dataclasses
import functools
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np

from t5x_like.errors import UserError

# Places of the automaton's first state, in which nothing of a stop string is there.
_NOTHING = 0


def checked_stop_strings(stop_strings: Sequence[str]) -> tuple[str, ...]:
    """The stop strings as a tuple.

    Raises:
      UserError: one text that is no list of them, or one that is empty or no text.
    """
    if isinstance(stop_strings, str):
        raise UserError(
            f"stop_strings is one text, {stop_strings!r}: give a list of texts, [{stop_strings!r}]."
        )
    for text in stop_strings:
        if not isinstance(text, str) or not text:
            raise UserError(f"stop_strings has {text!r}: each is a text of a character or more.")
    return tuple(stop_strings)


@dataclasses.dataclass(frozen=True)
class StopStrings:
    """The stop strings of a vocabulary's texts.

    Attributes:
      texts: the first to be complete ends a text, and is not part of it.
      decode: token ids to text.
      token_texts: what each id adds to a text that it stands in; None where that is unknown.
    """

    texts: tuple[str, ...]
    decode: Callable[[Sequence[int]], str]
    token_texts: Sequence[str | None]

    def cut(self, text: str) -> str | None:
        """The text before the stop string that is complete first; None without one."""
        found = [(text.find(one) + len(one), text.find(one)) for one in self.texts if one in text]
        return text[: min(found)[1]] if found else None

    def kept(self, tokens: Sequence[int]) -> int | None:
        """How many tokens there are when a stop string is complete; None without one."""

        def complete(count: int) -> bool:
            return self.cut(self.decode(tokens[:count])) is not None

        without, count = 0, len(tokens)
        if not complete(count):
            return None
        middle = count - 1  # where it is mostly: the compiled loop has stopped
        while without < count - 1:
            without, count = (without, middle) if complete(middle) else (middle, count)
            middle = (without + count) // 2
        return count

    @functools.cached_property
    def table(self) -> np.ndarray:
        """The state after each token, by the state before it: int16 `[v, s]`.

        State 0 is that in which nothing of a stop string is there, the last that in which one is
        complete, which nothing leaves.
        """
        columns, moves_sc = self._automaton()
        states = len(moves_sc)
        table = np.zeros((len(self.token_texts), states), np.int16)
        table[:, -1] = states - 1
        # Most tokens have nothing in common with any of the strings.
        related = [
            i
            for i, text in enumerate(self.token_texts)
            if text and not columns.keys().isdisjoint(text)
        ]
        for i in related:
            row = np.arange(states)
            for character in self.token_texts[i] or "":
                row = moves_sc[row, columns.get(character, 0)]
            table[i] = row
        return table

    def _automaton(self) -> tuple[dict[str, int], np.ndarray]:
        """The column of each character of the strings, 0 of any other, and moves `[s, columns]`."""
        characters = dict.fromkeys("".join(self.texts))
        columns = {character: number for number, character in enumerate(characters, start=1)}
        children: list[dict[str, int]] = [{}]
        complete = [False]
        for text in self.texts:
            state = _NOTHING
            for character in text:
                if character not in children[state]:
                    children[state][character] = len(children)
                    children.append({})
                    complete.append(False)
                state = children[state][character]
            complete[state] = True
        moves = np.zeros((len(children), len(columns) + 1), np.int64)
        fallback = [_NOTHING] * len(children)
        queue = deque([_NOTHING])
        while queue:
            state = queue.popleft()
            complete[state] |= complete[fallback[state]]
            moves[state] = moves[fallback[state]] if state else 0
            for character, child in children[state].items():
                fallback[child] = int(moves[state, columns[character]]) if state else _NOTHING
                moves[state, columns[character]] = child
                queue.append(child)
        return columns, _with_one_end(moves, complete)


def _with_one_end(moves_sc: np.ndarray, complete: Sequence[bool]) -> np.ndarray:
    """The moves, with one last state in place of all in which a string is complete."""
    open_states = [state for state, done in enumerate(complete) if not done]
    last = len(open_states)
    numbers = np.full(len(complete), last)
    numbers[open_states] = np.arange(last)
    kept = numbers[moves_sc[open_states]]
    return np.concatenate([kept, np.full((1, moves_sc.shape[1]), last)])


def token_texts(decode: Callable[[Sequence[int]], str], vocab_size: int) -> list[str | None]:
    """What each id of a vocabulary adds to a text; None where that is not known by itself.

    A tokenizer may write an id otherwise at the beginning of a text, so each one is read after
    another.
    """
    first = next((i for i in range(vocab_size) if _is_plain(decode([i]))), None)
    if first is None:
        return [None] * vocab_size
    before = decode([first])
    found: list[str | None] = []
    for i in range(vocab_size):
        both = decode([first, i])
        # Part of a character, and special tokens, add nothing by themselves.
        found.append(both[len(before) :] or None if both.startswith(before) else None)
    return found


def _is_plain(text: str) -> bool:
    return text.strip().isascii() and text.strip().isalnum()
