"""The vocabulary of the tokenizer files in a Hugging Face directory."""

import json
from pathlib import Path

from tasks.errors import TaskError
from tasks.tokenizer_json import TokenizerVocabulary
from tasks.vocabularies import SentencePieceVocabulary
from tasks.vocabularies.special_pieces import own_sentinels

# Sentinels to add by file name: T5's model has 32,000 pieces and no sentinels of its own.
_SENTENCEPIECE = {"spiece.model": 100, "tokenizer.model": 0}
_TOKENIZER = "tokenizer.json"
_TOKENIZER_CONFIG = "tokenizer_config.json"
_MODEL_CONFIG = "config.json"
# Keys of the start token; `decoder_start_token_id`, of encoder-decoders, comes first.
_START = ("decoder_start_token_id", "bos_token_id")


def vocabulary_in(directory: Path) -> SentencePieceVocabulary | TokenizerVocabulary | None:
    """The vocabulary of the tokenizer in a Hugging Face directory, or None without one.

    Args:
      directory: has `spiece.model` (T5), `tokenizer.model` (LLaMA) or `tokenizer.json`, of which
        the first is read, and `config.json`, which may name the start token of the decoder.

    Raises:
      TaskError: a file is malformed.
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
    """The start token in a model's configuration, if it names one."""
    if not path.is_file():
        return None
    try:
        config = json.loads(path.read_text("utf-8"))
        return next((config[key] for key in _START if isinstance(config.get(key), int)), None)
    except (ValueError, AttributeError) as error:
        raise TaskError(
            f"file '{path}' is not a model's configuration: {type(error).__name__} {error}."
        ) from None


def _sentinels(directory: Path, usual: int) -> int:
    """The number of sentinels that the tokenizer adds to a SentencePiece model."""
    path = directory / _TOKENIZER_CONFIG
    if not path.is_file():
        return usual
    try:
        return int(json.loads(path.read_text("utf-8")).get("extra_ids", usual))
    except (ValueError, AttributeError, TypeError) as error:
        raise _not_a_tokenizer(path, error) from None


def _own_sentinels(path: Path) -> int:
    """The number of sentinels at the end of a tokenizer.json."""
    try:
        added = json.loads(path.read_text("utf-8"))["added_tokens"]
        return own_sentinels([token["content"] for token in sorted(added, key=lambda t: t["id"])])
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise _not_a_tokenizer(path, error) from None


def _not_a_tokenizer(path: Path, error: Exception) -> TaskError:
    return TaskError(
        f"file '{path}' is not a tokenizer's configuration: {type(error).__name__} {error}."
    )
