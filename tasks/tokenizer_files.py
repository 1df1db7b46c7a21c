"""The vocabulary that the tokenizer's files in a Hugging Face directory hold."""

import json
from pathlib import Path

from tasks.errors import TaskError
from tasks.tokenizer_json import TokenizerVocabulary
from tasks.vocabularies import SentencePieceVocabulary
from tasks.vocabularies.special_pieces import own_sentinels

# T5's model has 32,000 pieces, after which its tokenizer adds the sentinels.
_SENTENCEPIECE = {"spiece.model": 100, "tokenizer.model": 0}
_TOKENIZER = "tokenizer.json"
_TOKENIZER_CONFIG = "tokenizer_config.json"
_MODEL_CONFIG = "config.json"
# What a decoder begins with, the first that is an id; an encoder-decoder's is its own.
_START = ("decoder_start_token_id", "bos_token_id")


def vocabulary_in(directory: Path) -> SentencePieceVocabulary | TokenizerVocabulary | None:
    """The vocabulary of the tokenizer in a Hugging Face directory, or None without one.

    Args:
      directory: with `spiece.model` (T5), `tokenizer.model` (LLaMA) or `tokenizer.json`, of which
        the first that is there is taken, and `config.json`, which may say what the decoder
        begins with.

    Raises:
      TaskError: the file is not what it should be.
    """
    vocabulary = _tokenizer_in(directory)
    start_id = None if vocabulary is None else _start_id(directory / _MODEL_CONFIG)
    # A model trained with a vocabulary of its own may keep the id of the published one.
    if vocabulary is None or start_id is None or not 0 <= start_id < vocabulary.vocab_size:
        return vocabulary
    return vocabulary.starting_with(start_id)


def _tokenizer_in(directory: Path) -> SentencePieceVocabulary | TokenizerVocabulary | None:
    for name, sentinels in _SENTENCEPIECE.items():
        path = directory / name
        if path.is_file():
            return SentencePieceVocabulary(str(path), _sentinels(directory, sentinels))
    path = directory / _TOKENIZER
    if not path.is_file():
        return None
    return TokenizerVocabulary(str(path), _own_sentinels(path))


def _start_id(path: Path) -> int | None:
    """The id that a model's configuration gives."""
    if not path.is_file():
        return None
    try:
        config = json.loads(path.read_text("utf-8"))
        return next((config[key] for key in _START if isinstance(config.get(key), int)), None)
    except (ValueError, AttributeError) as error:
        raise TaskError(
            f"file '{path}' is not a model's: {type(error).__name__} {error}."
        ) from None


def _sentinels(directory: Path, usual: int) -> int:
    """How many the tokenizer adds to a SentencePiece model."""
    path = directory / _TOKENIZER_CONFIG
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
