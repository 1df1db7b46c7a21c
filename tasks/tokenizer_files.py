"""The vocabulary that the tokenizer's files in a Hugging Face directory hold."""

import json
from pathlib import Path

from tasks.errors import TaskError
from tasks.tokenizer_json import TokenizerVocabulary
from tasks.vocabularies import SentencePieceVocabulary, Vocabulary, own_sentinels

# T5's model has 32,000 pieces, after which its tokenizer adds the sentinels.
_SENTENCEPIECE = {"spiece.model": 100, "tokenizer.model": 0}
_TOKENIZER = "tokenizer.json"
_CONFIG = "tokenizer_config.json"


def vocabulary_in(directory: Path) -> Vocabulary | None:
    """The vocabulary of the tokenizer in a Hugging Face directory, or None without one.

    Args:
      directory: with `spiece.model` (T5), `tokenizer.model` (LLaMA) or `tokenizer.json`, of which
        the first that is there is taken.

    Raises:
      TaskError: the file is not what it should be.
    """
    for name, sentinels in _SENTENCEPIECE.items():
        path = directory / name
        if path.is_file():
            return SentencePieceVocabulary(str(path), _sentinels(directory, sentinels))
    path = directory / _TOKENIZER
    if not path.is_file():
        return None
    return TokenizerVocabulary(str(path), _own_sentinels(path))


def _sentinels(directory: Path, usual: int) -> int:
    """How many the tokenizer adds to a SentencePiece model."""
    path = directory / _CONFIG
    if not path.is_file():
        return usual
    try:
        return int(json.loads(path.read_text("utf-8")).get("extra_ids", usual))
    except (ValueError, AttributeError, TypeError) as error:
        raise _not_a_tokenizer(path, error) from None


def _own_sentinels(path: Path) -> int:
    """How many a tokenizer.json ends in."""
    try:
        added = json.loads(path.read_text("utf-8"))["added_tokens"]
        return own_sentinels([token["content"] for token in sorted(added, key=lambda t: t["id"])])
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise _not_a_tokenizer(path, error) from None


def _not_a_tokenizer(path: Path, error: Exception) -> TaskError:
    return TaskError(f"file '{path}' is not a tokenizer's: {type(error).__name__} {error}.")
