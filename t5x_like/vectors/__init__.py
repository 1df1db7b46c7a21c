"""Vectors of words: neighbours, analogies, text files, and those that a matrix of counts gives."""

from t5x_like.vectors.initial import (
    InitialTable,
    InitialVectors,
    initial_table,
    vectors_state,
)
from t5x_like.vectors.spectral import TRANSFORMS, Transform, svd_vectors, transformed
from t5x_like.vectors.text_format import Format, read_vectors, write_vectors
from t5x_like.vectors.word_vectors import WordVectors

__all__ = [
    "TRANSFORMS",
    "Format",
    "InitialTable",
    "InitialVectors",
    "Transform",
    "WordVectors",
    "initial_table",
    "read_vectors",
    "svd_vectors",
    "transformed",
    "vectors_state",
    "write_vectors",
]
