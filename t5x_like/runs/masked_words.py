"""What could stand in the place of a word: what a masked language model or word vectors say."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from t5x_like.data.formats.prompts import bucket_length, right_padded
from t5x_like.errors import UserError
from t5x_like.protocols import Model, Params, Vocabulary
from t5x_like.vectors import WordVectors

_FORMAT = "masked_language_model"


class WordCandidates:
    """The words that could stand in the place of each word of a text.

    Of a word that is one piece they are those whole words that a masked language model finds
    likeliest where it is hidden; of another its nearest neighbours by word vectors; of one without
    a letter or a vector there are none (Jiao et al. 2020, algorithm 1).

    Args:
      model: a masked language model.
      params: its parameters.
      vocabulary: of the model.
      special_ids: what hides a token, and what stands before and after a text.
      vectors: of words; None leaves words of several pieces as they are.
      count: K, how many candidates at most.

    Raises:
      UserError: the model is no masked language model, or no candidate is asked for.
    """

    def __init__(
        self,
        model: Model,
        params: Params,
        vocabulary: Vocabulary,
        *,
        special_ids: tuple[int, int, int],
        vectors: WordVectors | None = None,
        count: int = 15,
    ) -> None:
        if model.batch_format != _FORMAT:
            raise UserError(
                f"{type(model).__name__} reads batches of the format '{model.batch_format}': a "
                "masked language model, such as BERT, is needed."
            )
        if count < 1:
            raise UserError(f"the number of candidates is {count}: 1 or more is needed.")
        self._params, self._vocabulary, self._count = params, vocabulary, count
        self._mask_id, self._cls_id, self._sep_id = special_ids
        self._vectors, self._neighbours = vectors, dict[str, list[str]]()
        self._length = model.max_length
        size = min(model.vocab_size, vocabulary.vocab_size)
        words = [vocabulary.decode([i]).strip() for i in range(size)]
        self._words = words
        whole = [_replaces(word) and self._pieces(word, 1) == [i] for i, word in enumerate(words)]
        self._is_whole = np.pad(np.array(whole), (0, model.vocab_size - size))
        if self._is_whole.sum() < count:
            raise UserError(
                f"the model's vocabulary has {self._is_whole.sum()} tokens that are whole words, "
                f"and {count} candidates are asked for: it needs a vocabulary of words or pieces "
                "of them, not of bytes."
            )

        self._likeliest = jax.jit(_program(model, self._is_whole, count))

    def __call__(self, words: Sequence[str]) -> list[list[str]]:
        """Of each word of a text its candidates, the likeliest first; an empty list for none.

        Raises:
          UserError: the text is longer than the model can read.
        """
        pieces = [self._pieces(word, i) for i, word in enumerate(words)]
        row = [self._cls_id, *(i for one in pieces for i in one), self._sep_id]
        if self._length is not None and len(row) > self._length:
            raise UserError(
                f"a text of {len(row) - 2} tokens, {' '.join(words)[:40]!r}, is longer than the "
                f"masked language model can read, {self._length - 2}: shorten it."
            )
        begins = 1 + np.cumsum([0, *map(len, pieces)])
        single = [
            i
            for i, (word, one) in enumerate(zip(words, pieces, strict=True))
            if _replaces(word) and len(one) == 1 and one[0] != self._vocabulary.unk_id
        ]
        found: list[list[str]] = [[] for _ in words]
        if single:
            likeliest = self._ids_at(row, [int(begins[i]) for i in single])
            for i, ids in zip(single, likeliest, strict=True):
                found[i] = [self._words[int(j)] for j in ids]
        for i, word in enumerate(words):
            if i not in single and _replaces(word):
                found[i] = self._similar(word)
        return found

    def _pieces(self, word: str, place: int) -> list[int]:
        """The ids of a word at its place in a text; byte pairs have the space before it in them."""
        return list(self._vocabulary.encode(f" {word}" if place else word))

    def _ids_at(self, row: Sequence[int], places: Sequence[int]) -> np.ndarray:
        """What is likeliest where the token of each place is hidden, and no other one."""
        length = bucket_length(len(row), self._length)
        hidden = [[*row[:place], self._mask_id, *row[place + 1 :]] for place in places]
        # Rows in powers of two, so that few shapes are compiled.
        count = 1 << (len(places) - 1).bit_length()
        tokens = right_padded(hidden + [list(row)] * (count - len(places)), length)
        segments = np.broadcast_to(np.arange(length) < len(row), tokens.shape).astype(np.int32)
        at = np.array([*places, *[0] * (count - len(places))], np.int32)
        found = self._likeliest(self._params, tokens, segments, at)
        return np.asarray(found)[: len(places)]

    def _similar(self, word: str) -> list[str]:
        if self._vectors is None:
            return []
        known = next((form for form in (word, word.lower()) if form in self._vectors), None)
        if known is None:
            return []
        if known not in self._neighbours:
            table = self._vectors.neighbours(known, self._count)
            self._neighbours[known] = [str(one) for one in table["word"]]
        return self._neighbours[known]


def _program(model: Model, is_whole: np.ndarray, count: int) -> Any:
    def likeliest(
        params: Params, tokens_bs: jax.Array, segments_bs: jax.Array, places_b: jax.Array
    ) -> jax.Array:
        """The ids of the likeliest whole words at one place of each row, `[b, K]`."""
        logits_bsv = model.apply(
            {"params": params}, encoder_input_tokens=tokens_bs, encoder_segment_ids=segments_bs
        )
        logits_bv = jnp.take_along_axis(logits_bsv, places_b[:, None, None], axis=1)[:, 0]
        return jax.lax.top_k(jnp.where(is_whole, logits_bv, -jnp.inf), count)[1]

    return likeliest


def _replaces(word: str) -> bool:
    """Whether a word is one, and no sign or number."""
    return any(character.isalpha() for character in word) and word.replace("'", "").isalnum()
