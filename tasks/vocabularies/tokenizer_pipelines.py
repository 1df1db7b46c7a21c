"""Tokenizers, each as the content of a `tokenizer.json`: WordPiece, byte-level BPE, and older ones.

They are what the `tokenizers` library runs: here is only which of its parts, in which order, and
with which settings. What reads published files and what trains a vocabulary share them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

# Letters of a word beyond which it is unknown: as `transformers` has it. BERT's code has 200.
LONGEST_WORD = 100
# Bytes that stand for themselves in a piece; the others are written as characters from 256 on.
_PRINTABLE = (*range(33, 127), *range(161, 173), *range(174, 256))


def byte_alphabet() -> str:
    """The 256 characters in which byte-level BPE writes bytes (GPT-2's `bytes_to_unicode`)."""
    others = range(256, 512 - len(_PRINTABLE))
    return "".join(map(chr, (*_PRINTABLE, *others)))


def wordpiece(
    vocab: Mapping[str, int],
    *,
    unk_token: str,
    boundaries: tuple[str, str] | None,
    special: Sequence[str],
    lower_case: bool,
    strip_accents: bool | None = None,
    split_chinese: bool = True,
    longest_word: int = LONGEST_WORD,
) -> dict[str, Any]:
    """BERT's tokenizer (Devlin et al. 2019; the released code's `tokenization.py`).

    Control characters are removed, whitespace becomes spaces, CJK characters stand alone, and
    words end at each punctuation mark, which is a word itself. From the left, the longest piece
    of the vocabulary is taken, after the first with `##` before it. A word that is not all
    pieces, or has more than `longest_word` characters, is the unknown token.

    Args:
      vocab: the id of each piece.
      unk_token: the unknown token.
      boundaries: what stands before a text and after it, [CLS] and [SEP].
      special: tokens of `vocab` that no text is split into, unless it spells them.
      lower_case: whether capital letters are made small.
      strip_accents: whether accents are removed; None does so where `lower_case` does.
      split_chinese: whether CJK characters stand alone.
      longest_word: see above.
    """
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added(token, vocab[token]) for token in special],
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": split_chinese,
            "strip_accents": strip_accents,
            "lowercase": lower_case,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": _processor("BertProcessing", vocab, boundaries),
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": unk_token,
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": longest_word,
            "vocab": dict(vocab),
        },
    }


def byte_level_bpe(
    vocab: Mapping[str, int],
    merges: Sequence[tuple[str, str]],
    *,
    boundaries: tuple[str, str] | None,
    special: Sequence[str],
    prefix_space: bool = False,
) -> dict[str, Any]:
    """GPT-2's and RoBERTa's tokenizer (Radford et al. 2019, section 2.2).

    A text is split into words, each with the space before it, and punctuation. The UTF-8 bytes of
    each are merged pair by pair, the earliest of `merges` first. Nothing is unknown, and nothing
    of a text is lost.

    Args:
      vocab: the id of each piece.
      merges: pairs of pieces, the first to be merged first.
      boundaries: what stands before a text and after it, RoBERTa's `<s>` and `</s>`.
      special: tokens of `vocab` that no text is split into, unless it spells them.
      prefix_space: whether a text is read as if a space stood before it.
    """
    byte_level = {"type": "ByteLevel", "trim_offsets": True, "use_regex": True}
    settings = {"trim_offsets": True, "add_prefix_space": prefix_space}
    after = _processor("RobertaProcessing", vocab, boundaries)
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            # The mask takes the space before it, as RoBERTa's.
            _added(token, vocab[token], lstrip=token == "<mask>")
            for token in special
        ],
        "normalizer": None,
        "pre_tokenizer": {**byte_level, "add_prefix_space": prefix_space},
        "post_processor": {**after, **settings} if after else None,
        "decoder": {**byte_level, "add_prefix_space": True},
        "model": _bpe(vocab, merges),
    }


def word_bpe(
    vocab: Mapping[str, int],
    merges: Sequence[tuple[str, str]],
    *,
    unk_token: str,
    special: Sequence[str],
    end_of_word: str,
) -> dict[str, Any]:
    """The tokenizer of Sennrich et al. 2016: words parted by white space, which is not kept.

    Args:
      vocab: the id of each symbol.
      merges: pairs of symbols, the first to be merged first.
      unk_token: stands for a character without a symbol.
      special: tokens of `vocab` that no text is split into, unless it spells them.
      end_of_word: what the last symbol of a word ends with.
    """
    return {
        **_PLAIN,
        "added_tokens": [_added(token, vocab[token]) for token in special],
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "decoder": {"type": "BPEDecoder", "suffix": end_of_word},
        "model": _bpe(vocab, merges, unk_token=unk_token, end_of_word_suffix=end_of_word),
    }


def characters(
    vocab: Mapping[str, int], *, unk_token: str, special: Sequence[str]
) -> dict[str, Any]:
    """A token for each character, white space too.

    Args:
      vocab: the id of each character.
      unk_token: stands for any other.
      special: tokens of `vocab` that no text is split into, unless it spells them.
    """
    return {
        **_PLAIN,
        "added_tokens": [_added(token, vocab[token]) for token in special],
        "pre_tokenizer": None,
        "decoder": {"type": "Fuse"},
        "model": _bpe(vocab, (), unk_token=unk_token),
    }


_PLAIN = {
    "version": "1.0", "truncation": None, "padding": None, "normalizer": None,
    "post_processor": None,
}  # fmt: skip


def _bpe(
    vocab: Mapping[str, int],
    merges: Sequence[tuple[str, str]],
    *,
    unk_token: str | None = None,
    end_of_word_suffix: str | None = None,
) -> dict[str, Any]:
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": unk_token,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": end_of_word_suffix,
        "fuse_unk": False,
        "byte_fallback": False,
        "vocab": dict(vocab),
        "merges": [f"{first} {second}" for first, second in merges],
    }


def _added(token: str, i: int, lstrip: bool = False) -> dict[str, Any]:
    return {
        "id": i,
        "content": token,
        "single_word": False,
        "lstrip": lstrip,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }


def _processor(
    kind: str, vocab: Mapping[str, int], boundaries: tuple[str, str] | None
) -> dict[str, Any] | None:
    if boundaries is None:
        return None
    cls, sep = boundaries
    return {"type": kind, "sep": [sep, vocab[sep]], "cls": [cls, vocab[cls]]}
