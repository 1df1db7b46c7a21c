"""Training a SentencePiece model on text."""

import io
import itertools
from collections.abc import Iterable, Iterator
from typing import Any, Literal

from tasks.errors import TaskError
from tasks.vocabularies.sentencepiece_vocabulary import SentencePieceVocabulary

_LONGEST = 65_536  # bytes of a line


def train_sentencepiece(
    texts: Iterable[str],
    model_path: str,
    *,
    vocab_size: int = 32_000,
    model_type: Literal["unigram", "bpe"] = "unigram",
    byte_fallback: bool = False,
    split_digits: bool = False,
    character_coverage: float = 0.9995,
    max_sentences: int | None = None,
) -> SentencePieceVocabulary:
    """Trains a SentencePiece model with T5's special ids: padding 0, EOS 1, unknown 2.

    PaLM's vocabulary (Chowdhery et al. 2022, section 2) is lossless: `byte_fallback`
    writes unknown characters as bytes, `split_digits` makes every digit a token, and
    whitespace is kept as it is.

    Args:
      texts: documents; each line is one training sentence. Lines above 65,536 bytes, which
        SentencePiece would pass over, are cut at spaces.
      model_path: where the `.model` is written, local or remote.
      vocab_size: number of pieces, without the sentinels that are added on loading.
      model_type: "unigram" (T5) or "bpe" (LLaMA).
      byte_fallback: whether to add 256 pieces of a byte for characters without a piece.
      split_digits: whether each digit is its own piece.
      character_coverage: share of the text's characters that get a piece of their own.
      max_sentences: most lines that are read; None reads all.

    Returns:
      The vocabulary.

    Raises:
      TaskError: there is no text, or SentencePiece reports an error, such as a vocabulary
        that is too large for the text; the message is SentencePiece's. What is wrong with the
        texts is raised as it is.
    """
    import sentencepiece
    from etils import epath

    counted = 0
    failures: list[Exception] = []  # of the texts; SentencePiece raises them as its own

    def documents() -> Iterator[str]:
        try:
            yield from texts
        except Exception as error:
            failures.append(error)
            raise

    def lines() -> Iterable[str]:
        nonlocal counted
        for text in documents():
            for line in itertools.chain.from_iterable(map(_cut, text.splitlines())):
                if line.strip():
                    if max_sentences is not None and counted >= max_sentences:
                        return
                    counted += 1
                    yield line

    model = io.BytesIO()
    lossless: dict[str, Any] = {
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
    }
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines()),
            model_writer=model,
            vocab_size=vocab_size,
            model_type=model_type,
            byte_fallback=byte_fallback,
            split_digits=split_digits,
            character_coverage=character_coverage,
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            max_sentence_length=_LONGEST,
            minloglevel=2,
            **(lossless if byte_fallback else {}),
        )
    except (RuntimeError, OSError) as error:
        if failures:
            raise failures[0] from None
        if not counted:
            raise TaskError("no text to train a vocabulary on: every line was empty.") from None
        reason = str(error).strip().splitlines()[-1].rpartition("] ")[2]  # without its source line
        raise TaskError(f"SentencePiece, vocab_size={vocab_size}: {reason}") from None
    path = epath.Path(model_path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.getvalue())
    return SentencePieceVocabulary(str(model_path))


def _cut(line: str) -> Iterator[str]:
    """A line in parts that SentencePiece does not pass over, cut before a space where there is one.

    Their text is that of the line: nothing is lost.
    """
    most = _LONGEST // 4  # a character has at most four bytes
    if len(line) <= most or len(line.encode("utf-8", "replace")) <= _LONGEST:
        yield line
        return
    begin = 0
    while begin < len(line):
        end = begin + most
        if end < len(line):
            space = line.rfind(" ", begin + 1, end)
            end = space if space > 0 else end
        yield line[begin:end]
        begin = end
