"""Vectors of words as text, as word2vec and GloVe write them."""

import contextlib
import gzip
import os
import warnings
import zlib
from collections.abc import Iterator
from typing import IO, Any, Literal

import numpy as np

from t5x_like.errors import UserError
from t5x_like.host import files
from t5x_like.vectors.word_vectors import WordVectors

Format = Literal["word2vec", "glove"]
FORMATS: tuple[str, ...] = ("word2vec", "glove")


def write_vectors(
    vectors: WordVectors, path: str | os.PathLike[str], form: Format = "word2vec"
) -> None:
    """Writes a line for each word, the word and its numbers; whole or not at all.

    Numbers have as many digits as tell a float32 from all others.

    Args:
      vectors: what is written.
      path: the file; one that ends in `.gz` is compressed.
      form: "word2vec" has a first line with the numbers of words and of numbers, "glove" has none.

    Raises:
      UserError: a word has white space, or the file cannot be written.
    """
    if form not in FORMATS:
        raise UserError(f"form is {form!r}: {' or '.join(FORMATS)}.")
    for word in vectors.words:
        if not word or word.split() != [word]:
            raise UserError(
                f"the word {word!r} cannot be written: white space parts a line of vectors."
            )
    where = files.location(path)
    try:
        where.parent.mkdir(parents=True, exist_ok=True)
        with files.replacing(where) as file, _written(file, where) as out:
            if form == "word2vec":
                out.write(f"{len(vectors.words)} {vectors.vectors.shape[1]}\n".encode())
            for word, row in zip(vectors.words, vectors.vectors, strict=True):
                numbers = " ".join(map(str, row))
                out.write(f"{word} {numbers}\n".encode("utf-8", "surrogatepass"))
    except OSError as error:
        raise UserError(f"'{path}' cannot be written: {error.strerror or error}.") from None


@contextlib.contextmanager
def _written(file: IO[bytes], path: os.PathLike[str]) -> Iterator[Any]:
    if not os.fspath(path).endswith(".gz"):
        yield file
        return
    # Without a time, the same vectors are the same file.
    with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as compressed:
        yield compressed


def read_vectors(path: str | os.PathLike[str]) -> WordVectors:
    """Reads a file of either program; a first line of two whole numbers is word2vec's.

    Of a word that is there twice the first line counts, and a warning says so.

    Raises:
      UserError: there is no such file, it is no text, lines differ in their length, or the first
        line says other numbers.
    """
    lines = _lines(path)
    if not lines:
        raise UserError(f"'{path}' has no vectors.")
    first = lines[0].split(" ")
    stated = tuple(map(int, first)) if len(first) == 2 and all(map(_is_whole, first)) else None
    size = len(first) - 1
    if stated is not None and len(lines) > 1 and len(lines[1].split(" ")) == 2 != stated[1] + 1:
        stated = None  # GloVe's, with a vector of one number for a word that is one
    if stated is not None:
        size, lines = stated[1], lines[1:]
        if len(lines) != stated[0]:
            raise UserError(
                f"'{path}' has {len(lines)} vectors, and says in its first line that there are "
                f"{stated[0]}."
            )
    if not lines or size < 1:
        raise UserError(f"'{path}' has no vectors.")
    words: dict[str, int] = {}
    vectors = np.empty((len(lines), size), np.float32)
    kept = np.ones(len(lines), np.bool_)
    for i, line in enumerate(lines):
        word, *numbers = line.rsplit(" ", size)
        number = i + 1 + (stated is not None)
        if len(numbers) != size or (size and " " in word and _is_number(word.rsplit(" ", 1)[1])):
            raise UserError(
                f"'{path}', line {number}, has {len(line.split(' ')) - 1} numbers, where "
                f"{size} are needed."
            )
        try:
            vectors[i] = numbers
        except ValueError as error:
            raise UserError(f"'{path}', line {number}, is no vector: {error}.") from None
        if words.setdefault(word, i) != i:
            kept[i] = False
    if not np.isfinite(vectors).all():
        row = int(np.argmin(np.isfinite(vectors).all(axis=1))) + 1 + (stated is not None)
        raise UserError(f"'{path}', line {row}, has numbers that are not finite.")
    if not kept.all():
        twice = int((~kept).sum())
        warnings.warn(f"{twice} words of '{path}' are there twice: the first counts.", stacklevel=2)
    return WordVectors(tuple(words), vectors[kept])


def _lines(path: str | os.PathLike[str]) -> list[str]:
    try:
        content = files.read_whole(path)
        if os.fspath(path).endswith(".gz"):
            content = gzip.decompress(content)
        text = content.decode("utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"'{path}' is not there: a file of vectors is needed.") from None
    except UnicodeDecodeError:
        raise UserError(
            f"'{path}' is no text: word2vec's binary files are not read; save it as text "
            "(gensim's save_word2vec_format with binary=False)."
        ) from None
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"'{path}' cannot be read: {error}.") from None
    # Not splitlines, which parts words that have other ends of lines in them.
    return [line.rstrip(" \r") for line in text.split("\n") if line.strip(" \r")]


def _is_whole(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
