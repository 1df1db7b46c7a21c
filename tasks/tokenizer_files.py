"""The vocabulary that the tokenizer's files in a Hugging Face directory hold."""

import json
from pathlib import Path

from tasks.errors import TaskError
from tasks.tokenizer_json import TokenizerVocabulary
from tasks.vocabularies import SentencePieceVocabulary, Vocabulary

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
    return TokenizerVocabulary(str(path)) if path.is_file() else None


def _sentinels(directory: Path, usual: int) -> int:
    try:
        config = json.loads((directory / _CONFIG).read_text("utf-8"))
        return int(config.get("extra_ids", usual))
    except FileNotFoundError:
        return usual
    except (ValueError, AttributeError, TypeError) as error:
        raise TaskError(f"file '{directory / _CONFIG}' is not a tokenizer's: {error}.") from None
