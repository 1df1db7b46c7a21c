"""Training a SentencePiece model on text, or on the text of a task."""

import io
from collections.abc import Iterable
from typing import Any, Literal, Protocol

from tasks.errors import TaskError
from tasks.vocabularies.sentencepiece_vocabulary import SentencePieceVocabulary


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
    """Trains a SentencePiece model with T5's special ids: pad 0, EOS 1, unknown 2.

    PaLM's vocabulary (Chowdhery et al. 2022, section 2) is lossless: `byte_fallback`
    writes unknown characters as bytes, `split_digits` makes every digit a token, and
    whitespace is kept as it is.

    Args:
      texts: documents or lines; each line is one training sentence.
      model_path: where the `.model` is written, local or remote.
      vocab_size: pieces, without the sentinels that are added on loading.
      model_type: "unigram" (T5, LLaMA's is "bpe").
      byte_fallback: whether to add 256 byte pieces for what has no piece.
      split_digits: whether each digit is its own piece.
      character_coverage: share of the text's characters that get a piece of their own.
      max_sentences: stop reading after so many lines; None reads all.

    Returns:
      The vocabulary, open.

    Raises:
      TaskError: no text, or SentencePiece refuses (say, a vocabulary larger than the
        text can fill); its own words are passed on.
    """
    import sentencepiece
    from etils import epath

    counted = 0

    def lines() -> Iterable[str]:
        nonlocal counted
        for text in texts:
            for line in text.splitlines():
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
            max_sentence_length=65_536,
            minloglevel=2,
            **(lossless if byte_fallback else {}),
        )
    except (RuntimeError, OSError) as error:
        if not counted:
            raise TaskError("no text to train a vocabulary on: every line was empty.") from None
        reason = str(error).strip().splitlines()[-1].rpartition("] ")[2]  # less its source line
        raise TaskError(f"SentencePiece, vocab_size={vocab_size}: {reason}") from None
    path = epath.Path(model_path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.getvalue())
    return SentencePieceVocabulary(str(model_path))


class TextSource(Protocol):
    """A task as far as a vocabulary is concerned."""

    output_features: Any

    def examples(self, split: str) -> Iterable[dict[str, Any]]:
        """The text of a split, before it is tokenized."""


def train_on_task(
    task: TextSource,
    model_path: str,
    *,
    split: str = "train",
    max_examples: int | None = None,
    **options: Any,
) -> SentencePieceVocabulary:
    """`train_sentencepiece` on the text of every feature of a task.

    Args:
      task: gives text examples, `task.examples(split)`.
      model_path: where the `.model` is written.
      split: which split is read.
      max_examples: stop after so many examples; None reads all.
      **options: as for `train_sentencepiece`.

    Returns:
      The vocabulary, open.
    """

    def texts() -> Iterable[str]:
        for i, example in enumerate(task.examples(split)):
            if max_examples is not None and i >= max_examples:
                return
            yield from (example[name] for name in task.output_features if name in example)

    return train_sentencepiece(texts(), model_path, **options)
