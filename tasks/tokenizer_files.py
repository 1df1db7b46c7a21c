"""The vocabulary of the tokenizer files in a Hugging Face directory."""

import json
from pathlib import Path

from tasks.errors import TaskError
from tasks.tokenizer_json import TokenizerVocabulary
from tasks.vocabularies import SentencePieceVocabulary, published_tokenizers, tokenizer_config
from tasks.vocabularies.special_pieces import own_sentinels

# Sentinels to add by file name: T5's model has 32,000 pieces and no sentinels of its own.
_SENTENCEPIECE = {"spiece.model": 100, "tokenizer.model": 0}
_TOKENIZER = "tokenizer.json"
_OLDER = (
    (published_tokenizers.WORDPIECE,),
    (published_tokenizers.BPE, published_tokenizers.MERGES),
)
# Of the model; the second overrules the first.
_MODEL_CONFIGS = ("config.json", "generation_config.json")
# Keys of the start token; `decoder_start_token_id`, of encoder-decoders, comes first.
_START = ("decoder_start_token_id", "bos_token_id")
_EOS = "eos_token_id"
_SIZE = "vocab_size"


def vocabulary_in(directory: Path) -> SentencePieceVocabulary | TokenizerVocabulary | None:
    """The vocabulary of the tokenizer in a Hugging Face directory, or None without one.

    Args:
      directory: has `spiece.model` (T5), `tokenizer.model` (LLaMA), `tokenizer.json`, `vocab.txt`
        (BERT) or `vocab.json` beside `merges.txt` (RoBERTa), of which the first is read that can
        be and has the tokens that `added_tokens.json`, `tokenizer_config.json` and
        `tokenizer.json` add; the last two not where `tokenizer_config.json` names a tokenizer that
        splits words in another way.
        `config.json` and `generation_config.json` may name the start token of the decoder and
        further tokens that end a text.

    Raises:
      TaskError: a file is malformed, or none has the tokens that others add to it.
    """
    vocabulary = _tokenizer_in(directory)
    if vocabulary is None:
        return None
    # A model trained with a vocabulary of its own may keep the ids of the published one.
    size = vocabulary.vocab_size
    named = {key: [i for i in ids if 0 <= i < size] for key, ids in _named_ids(directory).items()}
    vocabulary = vocabulary.ending_with(named.get(_EOS, []))
    starts = next((named[key] for key in _START if key in named), [])
    return vocabulary.starting_with(starts[0]) if starts else vocabulary


def ends_left_out(directory: Path) -> list[int]:
    """Ids with which the model may end a text and that are not in the vocabulary.

    Those beyond the model's own are of another model, whose configuration this one began with.

    Args:
      directory: see `vocabulary_in`.

    Raises:
      TaskError: as there.
    """
    vocabulary = vocabulary_in(directory)
    if vocabulary is None:
        return []
    ids = _named_ids(directory)
    return [i for i in ids.get(_EOS, []) if vocabulary.vocab_size <= i < ids.get(_SIZE, [0])[0]]


def _tokenizer_in(directory: Path) -> SentencePieceVocabulary | TokenizerVocabulary | None:
    whole = directory / _TOKENIZER
    added = tokenizer_config.added_tokens(directory, _added_in(whole) if whole.is_file() else {})
    for name, sentinels in _SENTENCEPIECE.items():
        path = directory / name
        if path.is_file():
            vocabulary = SentencePieceVocabulary(str(path), _sentinels(directory, sentinels))
            if not whole.is_file():
                tokenizer_config.refuse_added(path, vocabulary.unread(added))
                return vocabulary
            # XLNet's has ids that no model of pieces has here, and models that chat have tokens
            # for turns that are not in it: the other file says them.
            if _can_be_read(vocabulary) and not vocabulary.unread(added):
                return vocabulary
    if whole.is_file():
        found = TokenizerVocabulary(str(whole), own_sentinels(list(_added_in(whole))))
        size = found.vocab_size
        tokenizer_config.refuse_added(whole, [token for token, i in added.items() if i >= size])
        return found
    for names in _OLDER:
        paths = [directory / name for name in names]
        if all(path.is_file() for path in paths) and published_tokenizers.is_known(paths[0]):
            return TokenizerVocabulary(str(paths[0]))
    return None


def _can_be_read(vocabulary: SentencePieceVocabulary) -> bool:
    """Whether a model of pieces pads with 0 and has an end."""
    try:
        return vocabulary.vocab_size > 0
    except TaskError:
        return False


def _named_ids(directory: Path) -> dict[str, list[int]]:
    """The ids that a model's configuration names, and how many it has, each option as a list."""
    found: dict[str, list[int]] = {}
    for path in (directory / name for name in _MODEL_CONFIGS):
        if not path.is_file():
            continue
        try:
            config = json.loads(path.read_text("utf-8"))
            for key in (*_START, _EOS, _SIZE):
                value = config.get(key)
                ids = value if isinstance(value, list) else [value]
                if ids and all(type(one) is int for one in ids):
                    found[key] = ids
        except (ValueError, AttributeError, RecursionError) as error:
            raise TaskError(
                f"file '{path}' is not a model's configuration: {type(error).__name__} {error}."
            ) from None
    return found


def _sentinels(directory: Path, usual: int) -> int:
    """The number of sentinels that the tokenizer adds to a SentencePiece model."""
    path = directory / tokenizer_config.CONFIG
    if not path.is_file():
        return usual
    try:
        return int(json.loads(path.read_text("utf-8")).get("extra_ids", usual))
    except (ValueError, AttributeError, TypeError) as error:
        raise _not_a_tokenizer(path, error) from None


def _added_in(path: Path) -> dict[str, int]:
    """The tokens that a tokenizer.json adds to its pieces, in the order of their ids."""
    try:
        added = json.loads(path.read_text("utf-8"))["added_tokens"]
        return dict(sorted(((t["content"], t["id"]) for t in added), key=lambda pair: pair[1]))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise _not_a_tokenizer(path, error) from None


def _not_a_tokenizer(path: Path, error: Exception) -> TaskError:
    return TaskError(
        f"file '{path}' is not a tokenizer's configuration: {type(error).__name__} {error}."
    )
