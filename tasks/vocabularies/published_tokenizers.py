"""The files of published BERTs and RoBERTas from before `tokenizer.json`.

`vocab.txt` is a WordPiece vocabulary, a piece a line; `vocab.json` and `merges.txt` are a
byte-level BPE. Neither says how a text becomes words: the `tokenizer_config.json` beside it may,
and else what its pieces look like does.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tasks.errors import SourceUnavailable, TaskError
from tasks.vocabularies.special_pieces import is_special
from tasks.vocabularies.tokenizer_config import (
    CONFIG,
    added_tokens,
    named_tokens,
    options,
    refuse_added,
    special_token,
)
from tasks.vocabularies.tokenizer_pipelines import (
    LONGEST_WORD,
    byte_alphabet,
    byte_level_bpe,
    wordpiece,
)
from tasks.vocabularies.vocabulary import check_is_file

WORDPIECE, BPE, MERGES = "vocab.txt", "vocab.json", "merges.txt"
# Classes of transformers that split text as the pipeline does; others have files of these names
# too, with words and pieces of another kind.
_CLASSES = {
    WORDPIECE: ("Bert", "DistilBert", "Electra", "MobileBert", "RetriBert", "Funnel", "MPNet"),
    BPE: ("GPT2", "Roberta", "Bart", "Longformer", "LED", "Deberta", "BigBirdPegasus"),
}
_ANY_CLASS = (None, "PreTrainedTokenizer", "PreTrainedTokenizerFast", "TokenizersBackend")


def is_wordpiece_file(path: Any) -> bool:
    """Whether a file is read as a `vocab.txt`, whatever its first name."""
    return str(path).endswith(".txt")


def is_published(path: Any) -> bool:
    """Whether a file is one that `read` reads: a `vocab.txt` or a `vocab.json`."""
    return is_wordpiece_file(path) or path.name == BPE


def is_known(path: Any) -> bool:
    """Whether the tokenizer that a file is of splits text as the pipelines here do.

    Raises:
      TaskError: the configuration beside it is malformed.
    """
    return _foreign_class(path, options(path.parent)) is None


def read(path: Any, lower_case: bool | None = None, longest_word: int | None = None) -> bytes:
    """The `tokenizer.json` of the same tokenizer, the same bytes for the same files.

    Args:
      path: an `epath.Path` of a `vocab.txt` or `vocab.json`.
      lower_case: of a `vocab.txt`, whether capitals are made small; None does what
        `do_lower_case` in `tokenizer_config.json` says, and without it keeps them where the
        vocabulary has pieces with capitals.
      longest_word: of a `vocab.txt`, the characters beyond which a word is unknown; None is 100.

    Raises:
      SourceUnavailable: a file is missing.
      TaskError: a file is malformed, or of a tokenizer of another kind; a setting that the
        file has no use for is given.
    """
    config = options(path.parent)
    foreign = _foreign_class(path, config)
    if foreign:
        raise TaskError(
            f"vocabulary file '{path}' is of a {foreign} ({CONFIG}), whose words are not found "
            "from this file alone: save it as a tokenizer.json, as `save_pretrained` of "
            "transformers does."
        )
    if is_wordpiece_file(path):
        content = _wordpiece(path, config, lower_case, longest_word)
    else:
        refuse_settings(path, lower_case, longest_word)
        content = _byte_level_bpe(path, config)
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode("utf-8")


def refuse_settings(path: Any, lower_case: bool | None, longest_word: int | None) -> None:
    """Checks that a file that is no `vocab.txt` is given none of its settings.

    Raises:
      TaskError: one is given.
    """
    if lower_case is not None or longest_word is not None:
        raise TaskError(
            f"lower_case and longest_word are for a {WORDPIECE}: '{path}' says itself how a text "
            "becomes words; leave them None."
        )


def _foreign_class(path: Any, config: Mapping[str, Any]) -> str | None:
    """The class of the tokenizer, if it is none that the pipelines stand for."""
    name = config.get("tokenizer_class")
    if name in _ANY_CLASS:
        return None
    known = _CLASSES[WORDPIECE if is_wordpiece_file(path) else BPE]
    plain = str(name).removesuffix("Fast").removesuffix("Tokenizer")
    return None if plain in known else str(name)


def _wordpiece(
    path: Any, config: Mapping[str, Any], lower_case: bool | None, longest_word: int | None
) -> dict[str, Any]:
    lines = _text(path).split("\n")
    if lines[-1] == "":
        lines.pop()
    # Of a piece that stands twice the last place counts, as in transformers.
    vocab = {piece.removesuffix("\r"): i for i, piece in enumerate(lines)}
    refuse_added(path, added_tokens(path.parent, {}).keys() - vocab.keys())
    named = named_tokens(path.parent)
    unk_token = special_token("unk_token", named, vocab.__contains__)
    if unk_token is None:
        raise TaskError(
            f"vocabulary file '{path}' is no WordPiece vocabulary: it has no token "
            f"'{named.get('unk_token', '[UNK]')}' for unknown words."
        )
    if config.get("do_basic_tokenize") is False or config.get("never_split"):
        raise TaskError(
            f"file '{path.parent / CONFIG}' sets do_basic_tokenize or never_split, which are not "
            "supported: remove them, or save the tokenizer as a tokenizer.json."
        )
    special = _special(vocab, named)
    if lower_case is None:
        cased = any(
            piece != piece.lower() for piece in vocab.keys() - {*special} if piece[:1] != "["
        )
        lower_case = _flag(path, config, "do_lower_case", not cased)
    return wordpiece(
        vocab,
        unk_token=unk_token,
        boundaries=_boundaries(vocab, named),
        special=special,
        lower_case=bool(lower_case),
        strip_accents=_flag(path, config, "strip_accents", None),
        split_chinese=bool(_flag(path, config, "tokenize_chinese_chars", True)),
        longest_word=LONGEST_WORD if longest_word is None else longest_word,
    )


def _byte_level_bpe(path: Any, config: Mapping[str, Any]) -> dict[str, Any]:
    try:
        vocab = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise TaskError(f"vocabulary file '{path}' is not JSON: {error}.") from None
    if not isinstance(vocab, dict) or any(type(i) is not int or i < 0 for i in vocab.values()):
        raise TaskError(f"vocabulary file '{path}' is not an object of tokens and their ids.")
    refuse_added(path, added_tokens(path.parent, {}).keys() - vocab.keys())
    merges_path = path.parent / MERGES
    lines = _text(merges_path).split("\n")
    first = 1 if lines[0].startswith("#version") else 0
    merges = []
    for number, line in enumerate(lines[first:], first + 1):
        pair = line.removesuffix("\r").split(" ")
        if pair == [""]:
            continue
        if len(pair) != 2 or not {*pair, "".join(pair)} <= vocab.keys():
            raise TaskError(
                f"file '{merges_path}' line {number}: two tokens of {BPE} are needed, which make a "
                f"third, not {line[:40]!r}."
            )
        merges.append((pair[0], pair[1]))
    missing = set(byte_alphabet()) - vocab.keys()
    if missing or any(second.endswith("</w>") for _, second in merges):
        raise TaskError(
            f"vocabulary file '{path}' is no byte-level BPE, as GPT-2's and RoBERTa's are: "
            + (f"{len(missing)} of 256 bytes have no token." if missing else "words end in </w>.")
        )
    named = named_tokens(path.parent)
    return byte_level_bpe(
        vocab,
        merges,
        boundaries=_boundaries(vocab, named),
        special=_special(vocab, named),
        prefix_space=bool(_flag(path, config, "add_prefix_space", False)),
    )


def _text(path: Any) -> str:
    try:
        check_is_file(path)
        # Not `read_text`, which would make one line end of all: each may be a piece.
        return str(path.read_bytes().decode("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        beside = f" ({BPE} needs it beside itself)" if path.name == MERGES else ""
        raise SourceUnavailable(f"vocabulary file '{path}' not found{beside}.") from None
    except OSError as error:
        raise SourceUnavailable(f"vocabulary file '{path}': {error}.") from None
    except UnicodeDecodeError as error:
        raise TaskError(f"vocabulary file '{path}' is not UTF-8: {error}.") from None


def _special(vocab: Mapping[str, int], named: Mapping[str, str]) -> Sequence[str]:
    """The special tokens, those that a file names and those that are spelled so, by id."""
    return sorted(
        (piece for piece in vocab if is_special(piece) or piece in named.values()),
        key=vocab.__getitem__,
    )


def _boundaries(vocab: Mapping[str, int], named: Mapping[str, str]) -> tuple[str, str] | None:
    roles = ("cls_token", "sep_token")
    cls, sep = (special_token(role, named, vocab.__contains__) for role in roles)
    return None if cls is None or sep is None else (cls, sep)


def _flag(path: Any, config: Mapping[str, Any], name: str, usual: bool | None) -> bool | None:
    value = config.get(name)
    if value is None:
        return usual
    if not isinstance(value, bool):
        raise TaskError(f"file '{path.parent / CONFIG}': {name} is {value!r}, not true or false.")
    return value
