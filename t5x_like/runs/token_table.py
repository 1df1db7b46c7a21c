"""The table in which a model looks tokens up, as vectors of words."""

from typing import TYPE_CHECKING, Any

import numpy as np

from t5x_like.errors import UserError
from t5x_like.protocols import EmbedsTokens, Model, Params, Vocabulary
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


def nearest(vectors: WordVectors, vocabulary: Vocabulary, word: str, count: int) -> "pd.DataFrame":
    """`WordVectors.neighbours` of a word that may be of several tokens.

    Raises:
      UserError: the vocabulary does not know it.
    """
    if word in vectors:
        return vectors.neighbours(word, count)
    ids = vocabulary.encode(word)
    pieces = [vocabulary.decode([i]).strip() for i in ids if i != vocabulary.unk_id]
    known = [piece for piece in pieces if piece in vectors]
    if not known or len(pieces) < len(ids):
        raise UserError(
            f"'{word}' is not in the run's vocabulary of {len(vectors.words):,} words: ask for one "
            "that is, as run.word_vectors.words lists them."
        )
    mean: Any = np.mean([vectors[piece] for piece in known], axis=0)
    return vectors.neighbours(mean, count)
