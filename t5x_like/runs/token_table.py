"""The table in which a model looks tokens up, as vectors of words."""

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from t5x_like.data import formats
from t5x_like.decoding.text import checked_texts
from t5x_like.errors import UserError
from t5x_like.evaluation.prediction import Text
from t5x_like.protocols import EmbedsTokens, Model, Params, Predicts, Vocabulary
from t5x_like.runs.opened import OpenedRun
from t5x_like.vectors import WordVectors

if TYPE_CHECKING:
    import pandas as pd


def vectors_of(model: Model, params: Params, vocabulary: Vocabulary) -> WordVectors:
    """The vector of each token that stands for a text, in the order of ids.

    Args:
      model: has a vector for each token.
      params: of the model.
      vocabulary: what the tokens stand for; those without text are left out.

    Raises:
      UserError: the model has no such vectors.
    """
    if not isinstance(model, EmbedsTokens):
        raise UserError(f"{type(model).__name__} has no vectors of tokens.")
    table = np.asarray(model.token_vectors(params), np.float32)
    ids = range(min(table.shape[0], vocabulary.vocab_size))
    named = [(i, vocabulary.decode([i]).strip()) for i in ids if i != vocabulary.unk_id]
    known = [(i, word) for i, word in named if word]
    return WordVectors(tuple(word for _, word in known), table[[i for i, _ in known]])


def is_table(model: Model) -> bool:
    """Whether a model is nothing but vectors of tokens: it neither predicts nor writes text."""
    reads_alone = formats.find(model.batch_format).prompts is None
    return reads_alone and isinstance(model, EmbedsTokens) and not isinstance(model, Predicts)


def means(
    vectors: WordVectors, vocabulary: Vocabulary, texts: Sequence[Text], pooling: str
) -> np.ndarray:
    """The mean of the vectors of each text's words, float32 `[texts, e]`.

    Raises:
      UserError: another pooling is asked for, there is no text, or one has no known word.
    """
    if pooling != "mean":
        raise UserError(f"pooling is {pooling!r}: of vectors of words there is the 'mean' alone.")
    found = []
    for text in checked_texts(texts, "texts"):
        text = text if isinstance(text, str) else " ".join(text)
        rows = [row for row in _rows(vectors, vocabulary, text) if row is not None]
        if not rows:
            raise UserError(
                f"no word of {text[:40]!r} is in the run's vocabulary of {len(vectors.words):,} "
                "words."
            )
        found.append(vectors.vectors[rows].mean(axis=0))
    if not found:
        raise UserError("no text was given: give at least one.")
    return np.stack(found)


def _rows(vectors: WordVectors, vocabulary: Vocabulary, text: str) -> list[int | None]:
    """The rows of a text's tokens; None of a token that is not known."""
    return [
        None if i == vocabulary.unk_id else vectors.index.get(vocabulary.decode([i]).strip())
        for i in vocabulary.encode(text)
    ]


def nearest(vectors: WordVectors, vocabulary: Vocabulary, word: str, count: int) -> "pd.DataFrame":
    """`WordVectors.neighbours` of a word that may be of several tokens.

    Raises:
      UserError: the vocabulary does not know it.
    """
    if word in vectors:
        return vectors.neighbours(word, count)
    rows = _rows(vectors, vocabulary, word)
    known = [row for row in rows if row is not None]
    if not known or len(known) < len(rows):
        raise UserError(
            f"'{word}' is not in the run's vocabulary of {len(vectors.words):,} words: ask for one "
            "that is, as run.word_vectors.words lists them."
        )
    return vectors.neighbours(vectors.vectors[known].mean(axis=0), count)


class OfWords(OpenedRun):
    """A run that is asked about words."""

    @functools.cached_property
    def word_vectors(self) -> WordVectors:
        """The model's vector of each token of its vocabulary; `vectors.write_vectors` saves them.

        Raises:
          UserError: tokens have no table of their own.
        """
        return vectors_of(self.model, self.params, self._words)

    @property
    def _words(self) -> Vocabulary:
        """The vocabulary that the table is of."""
        of_inputs = getattr(self.model, "embeds_words", False)
        inputs = self.codec.inputs if of_inputs else None
        return (inputs or self.codec.targets).vocabulary

    def neighbours(self, word: str, count: int = 10) -> "pd.DataFrame":
        """The nearest tokens, a row for each: `word`, and `similarity`, the cosine, falling.

        Args:
          word: one word; of several tokens their mean stands for it.
          count: how many.

        Raises:
          UserError: the vocabulary does not know the word, or tokens have no table.
        """
        return nearest(self.word_vectors, self._words, word, count)

    def analogies(self, path: str, most_frequent: int | None = None) -> "pd.DataFrame":
        """How many analogies of word2vec's file the vectors solve; see `WordVectors.analogies`."""
        return self.word_vectors.analogies(path, most_frequent)
