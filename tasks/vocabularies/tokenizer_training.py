"""Training a `tokenizer.json` on text: WordPiece, BPE of bytes or of words, characters."""

import collections
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from tasks.errors import TaskError
from tasks.vocabularies.byte_pair_encoding import END_OF_WORD, Ties, learn_merges
from tasks.vocabularies.tokenizer_config import CONFIG
from tasks.vocabularies.tokenizer_pipelines import (
    byte_alphabet,
    byte_level_bpe,
    characters,
    word_bpe,
    wordpiece,
)

FILE = "tokenizer.json"
ModelType = Literal["wordpiece", "bpe", "word_bpe", "character"]

_T5 = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
# By id, from 0: BERT's special tokens; RoBERTa's, whose padding is 1; and T5's.
_SPECIAL: Mapping[ModelType, Mapping[str, str]] = {
    "wordpiece": {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    },
    "bpe": {
        "bos_token": "<s>",
        "pad_token": "<pad>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "mask_token": "<mask>",
    },
    "word_bpe": _T5,
    "character": _T5,
}
_CLS_SEP: Mapping[ModelType, tuple[str, str]] = {
    "wordpiece": ("[CLS]", "[SEP]"),
    "bpe": ("<s>", "</s>"),
}
# What is seen once teaches nothing: the library's own default.
_MIN_FREQUENCY = 2
_WORDS_AT_ONCE = 10_000


def train_tokenizer(
    texts: Iterable[str],
    path: str,
    *,
    model_type: ModelType,
    vocab_size: int = 32_000,
    lower_case: bool = True,
    max_characters: int = 1_000,
    ties: Ties = "greatest",
) -> int:
    """Trains a vocabulary and writes it as a `tokenizer.json`, `tokenizer_config.json` beside it.

    WordPiece has BERT's words and special tokens, `[PAD] [UNK] [CLS] [SEP] [MASK]` as ids 0 to 4.
    Its pieces are merged by the frequency of pairs, as BPE's are (Sennrich et al. 2016): that is
    the library's way, where Google's unreleased one weighed the likelihood. Byte-level BPE has
    GPT-2's words and RoBERTa's special tokens, `<s> <pad> </s> <unk> <mask>` as ids 0 to 4, and
    then all 256 bytes. Of pairs that are equally frequent the one of lower ids is merged first:
    the same text gives the same file.

    BPE of words is that of Sennrich et al. 2016 (`byte_pair_encoding`), whose symbols end with
    `</w>` where a word does; white space is not kept. A vocabulary of characters keeps all of a
    text but rare characters. Both have `<pad> </s> <unk>` as ids 0 to 2.

    Args:
      texts: documents; WordPiece reads them twice, for which an iterator is kept in memory.
      path: the file, local or remote; its name is `tokenizer.json`.
      model_type: which of the four.
      vocab_size: number of ids, special tokens included; fewer are made of a text in which no
        pair is left that occurs twice.
      lower_case: of WordPiece, whether capitals are made small and accents removed.
      max_characters: of WordPiece, how many characters get pieces, the most frequent ones; a word
        with another is unknown. Of characters, how many there are.
      ties: of BPE of words, see `byte_pair_encoding.learn_merges`.

    Returns:
      The number of ids.

    Raises:
      TaskError: there is no text, `vocab_size` has no room for special tokens and single
        characters, the directory holds a model, or the library is not installed.
    """
    from etils import epath

    for name, value in (("vocab_size", vocab_size), ("max_characters", max_characters)):
        if value < 1:
            raise TaskError(f"{name}={value}: 1 or more is needed.")
    file = epath.Path(path)
    if file.name != FILE:
        raise TaskError(
            f"'{path}' is not named {FILE}, by which the files beside it and transformers know "
            f"it: give DIRECTORY/{FILE}."
        )
    if (file.parent / "config.json").exists():
        raise TaskError(
            f"'{file.parent}' holds a model (config.json), whose tokenizer this would replace: "
            "give another directory."
        )
    try:
        import tokenizers  # noqa: F401
    except ImportError:
        raise TaskError(
            f'a {FILE} needs the package tokenizers: pip install "t5x-like[tokenizers]".'
        ) from None
    if iter(texts) is texts:
        texts = list(texts)
    special = list(_SPECIAL[model_type].values())
    try:
        if model_type == "wordpiece":
            content = _wordpiece(texts, special, vocab_size, lower_case, max_characters)
        elif model_type == "bpe":
            content = _byte_level_bpe(texts, special, vocab_size)
        elif model_type == "word_bpe":
            content = _word_bpe(texts, special, vocab_size, ties)
        else:
            content = _of_characters(texts, special, min(max_characters, vocab_size - len(special)))
    except UnicodeEncodeError as error:
        raise TaskError(f"the text is not Unicode that UTF-8 can write: {error}.") from None
    size = len(content["model"]["vocab"])
    if size > vocab_size:
        raise TaskError(
            f"vocab_size={vocab_size} has no room for {len(special)} special tokens and each "
            f"single character: {size} are needed."
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", "utf-8")
    (file.parent / CONFIG).write_text(json.dumps(_config(model_type), indent=2) + "\n", "utf-8")
    return size


def _wordpiece(
    texts: Iterable[str],
    special: Sequence[str],
    vocab_size: int,
    lower_case: bool,
    max_characters: int,
) -> dict[str, Any]:
    import tokenizers

    def pipeline(vocab: Mapping[str, int]) -> dict[str, Any]:
        boundaries = _CLS_SEP["wordpiece"]
        return wordpiece(
            vocab,
            unk_token=_SPECIAL["wordpiece"]["unk_token"],
            boundaries=boundaries,
            special=special,
            lower_case=lower_case,
        )

    tokenizer = tokenizers.Tokenizer.from_str(json.dumps(pipeline(_numbered(special))))
    characters, inner = _characters(tokenizer, texts, max_characters)
    # The library numbers characters within words, `##a`, in the order of a hash table that is
    # another in each process; and by their numbers it decides between pairs of one frequency.
    # Given as special tokens, they have an order.
    trainer = tokenizers.trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=_MIN_FREQUENCY,
        special_tokens=[*special, *characters, *(f"##{c}" for c in inner)],
        initial_alphabet=characters,
        limit_alphabet=len(characters),
        continuing_subword_prefix="##",
        show_progress=False,
    )
    return pipeline(_trained(tokenizer, trainer, texts)["vocab"])


def _characters(
    tokenizer: Any, texts: Iterable[str], max_characters: int
) -> tuple[list[str], list[str]]:
    """The most frequent characters of the words, and those of them that are inside of words."""
    counts: collections.Counter[str] = collections.Counter()
    parts: set[str] = set()
    for text in texts:
        text = tokenizer.normalizer.normalize_str(text)
        counts.update(text)
        parts.update(text.split())
    inner: set[str] = set()
    in_order = sorted(parts)
    for i in range(0, len(in_order), _WORDS_AT_ONCE):
        some = " ".join(in_order[i : i + _WORDS_AT_ONCE])
        for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(some):
            inner.update(word[1:])
    if not parts:
        raise _no_text()
    ranked = sorted((c for c in counts if not c.isspace()), key=lambda c: (-counts[c], c))
    kept = set(ranked[:max_characters])
    return sorted(kept), sorted(inner & kept)


def _byte_level_bpe(
    texts: Iterable[str], special: Sequence[str], vocab_size: int
) -> dict[str, Any]:
    import tokenizers

    def pipeline(
        vocab: Mapping[str, int], merges: Sequence[tuple[str, str]] = ()
    ) -> dict[str, Any]:
        return byte_level_bpe(vocab, merges, boundaries=_CLS_SEP["bpe"], special=special)

    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=_MIN_FREQUENCY,
        special_tokens=list(special),
        initial_alphabet=sorted(byte_alphabet()),
        show_progress=False,
    )
    tokenizer = tokenizers.Tokenizer.from_str(json.dumps(pipeline(_numbered(special))))
    model = _trained(tokenizer, trainer, texts)
    merges = [tuple(pair) for pair in model["merges"]]
    if not merges and not any(text.strip() for text in texts):
        raise _no_text()
    return pipeline(model["vocab"], merges)


def _word_bpe(
    texts: Iterable[str], special: Sequence[str], vocab_size: int, ties: Ties
) -> dict[str, Any]:
    words = collections.Counter(word for text in texts for word in text.split())
    if not words:
        raise _no_text()
    alphabet = sorted(set("".join(words)))
    # Each of them may be the end of a word that was not met.
    symbols = [*special, *alphabet, *(f"{c}{END_OF_WORD}" for c in alphabet)]
    merges = learn_merges(words, max(0, vocab_size - len(symbols)), ties=ties)
    return word_bpe(
        _numbered([*symbols, *("".join(pair) for pair in merges)]),
        merges,
        unk_token=_T5["unk_token"],
        special=special,
        end_of_word=END_OF_WORD,
    )


def _of_characters(texts: Iterable[str], special: Sequence[str], most: int) -> dict[str, Any]:
    counts: collections.Counter[str] = collections.Counter()
    for text in texts:
        counts.update(text)
    if not any(not c.isspace() for c in counts):
        raise _no_text()
    kept = sorted(counts, key=lambda c: (-counts[c], c))[: max(1, most)]
    return characters(_numbered([*special, *kept]), unk_token=_T5["unk_token"], special=special)


def _trained(tokenizer: Any, trainer: Any, texts: Iterable[str]) -> dict[str, Any]:
    tokenizer.train_from_iterator(texts, trainer)
    model: dict[str, Any] = json.loads(tokenizer.to_str())["model"]
    return model


def _no_text() -> TaskError:
    return TaskError("no text to train a vocabulary on: every line was empty.")


def _numbered(tokens: Sequence[str]) -> dict[str, int]:
    return {token: i for i, token in enumerate(tokens)}


def _config(model_type: ModelType) -> dict[str, Any]:
    """What transformers needs to know: that it is to read the file as it is, and the names."""
    config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", **_SPECIAL[model_type]}
    if model_type == "bpe":
        cls, sep = _CLS_SEP[model_type]
        names = ["input_ids", "attention_mask"]
        return {**config, "cls_token": cls, "sep_token": sep, "model_input_names": names}
    return config
