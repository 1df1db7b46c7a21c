"""Text to token ids and back: bytes or SentencePiece, with the ids that seqio gives.

Id 0 pads. Sentinels (`extra_ids`) are the highest ids, the first of them the very last:
sentinel `i` is `vocab_size - 1 - i`, as in T5 (Raffel et al. 2020, section 3.1.4).
`tokenizer_json.py` has the vocabularies of Hugging Face's `tokenizer.json`.
Nothing here imports TensorFlow, and `sentencepiece` is imported when a model is opened.
"""

import dataclasses
import functools
import hashlib
import io
from collections.abc import Iterable, Sequence
from typing import Any, Literal, Protocol

from tasks.errors import SourceUnavailable, TaskError
from tasks.vocabularies.special_pieces import full_stops, own_sentinels

PAD_ID = 0
# ByT5's 125 sentinels make 384 ids, a multiple of 128 (Xue et al. 2022, section 3.1).
BYTE_SENTINELS = 125


class Vocabulary(Protocol):
    """What a feature needs of its vocabulary; see `t5x_like/protocols.py`."""

    vocab_size: int
    extra_ids: int
    eos_id: int
    unk_id: int | None
    start_id: int  # what a decoder reads before the first token
    tag: str  # short name for folders, different where the ids differ

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without EOS."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids up to the first EOS."""

    def spec(self) -> dict[str, Any]:
        """What decides the ids, as JSON, and some of them by what they are for.

        `full_stop_ids`, tokens of full stops alone; `mask_id`, where there is one.
        """

    def seqio(self) -> Any:
        """The equal seqio vocabulary; imports seqio, and so TensorFlow."""


@dataclasses.dataclass(frozen=True)
class ByteVocabulary:
    """UTF-8 bytes: 0 pads, 1 ends, 2 is unknown, byte `b` is `b + 3`, then the sentinels.

    The ids are those of `seqio.ByteVocabulary` and ByT5 (Xue et al. 2022). Needs no file.

    Attributes:
      extra_ids: number of sentinels.
    """

    extra_ids: int = BYTE_SENTINELS
    eos_id: int = dataclasses.field(default=1, init=False)
    unk_id: int = dataclasses.field(default=2, init=False)
    start_id: int = dataclasses.field(default=PAD_ID, init=False)

    @property
    def vocab_size(self) -> int:
        """All ids: 3 special, 256 bytes and the sentinels."""
        return 3 + 256 + self.extra_ids

    @property
    def tag(self) -> str:
        """Short name for folders."""
        return f"bytes-{self.extra_ids}"

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without EOS."""
        return [byte + 3 for byte in text.encode("utf-8")]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids up to the first EOS; special ids and broken UTF-8 are left out."""
        return bytes(i - 3 for i in until_eos(ids, 1) if 3 <= i < 259).decode("utf-8", "ignore")

    def spec(self) -> dict[str, Any]:
        """What decides the ids, as JSON."""
        return {
            "kind": "bytes",
            "vocab_size": self.vocab_size,
            "extra_ids": self.extra_ids,
            "pad_id": PAD_ID,
            "eos_id": self.eos_id,
            "unk_id": self.unk_id,
            "start_id": self.start_id,
            "full_stop_ids": self.encode("."),
        }

    def seqio(self) -> Any:
        """The equal `seqio.ByteVocabulary`."""
        import seqio

        return seqio.ByteVocabulary(self.extra_ids)


@dataclasses.dataclass(frozen=True)
class SentencePieceVocabulary:
    """A SentencePiece model with T5's sentinels after its last piece.

    The ids are those of `seqio.SentencePieceVocabulary`. A model that already ends in
    pieces `<extra_id_*>` keeps them, and none are added (seqio wants `extra_ids=0` for
    such a file and fails on any other number).

    Attributes:
      path: the `.model` file, local or remote.
      extra_ids: sentinels that the vocabulary has, its own or else added.
      start_token: the piece that a decoder begins with; None takes the model's own beginning
        where it has no padding, as LLaMA's `<s>`, and else the padding, as T5.
    """

    path: str
    extra_ids: int = 100
    start_token: str | None = None

    @functools.cached_property
    def _model_bytes(self) -> bytes:
        from etils import epath

        try:
            return epath.Path(self.path).read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise SourceUnavailable(
                f"vocabulary file '{self.path}' not found: a SentencePiece model is needed, "
                "such as `t5x-like vocab` makes."
            ) from None
        except OSError as error:
            raise SourceUnavailable(f"vocabulary file '{self.path}': {error}.") from None

    @functools.cached_property
    def _processor(self) -> Any:
        import sentencepiece
        from google.protobuf import message
        from sentencepiece import sentencepiece_model_pb2

        def not_a_model(reason: str) -> TaskError:
            return TaskError(
                f"vocabulary file '{self.path}' is not a SentencePiece model ({reason}): "
                "a `.model` file made by `t5x-like vocab` or `spm_train` is needed."
            )

        try:
            model = sentencepiece_model_pb2.ModelProto.FromString(self._model_bytes)
        except message.DecodeError:
            raise not_a_model("it does not parse") from None
        if not model.pieces:
            raise not_a_model("it has no pieces")
        own = own_sentinels([piece.piece for piece in model.pieces])
        if own and own != self.extra_ids:
            raise TaskError(
                f"vocabulary file '{self.path}' holds {own} sentinels: set extra_ids={own}, "
                f"not {self.extra_ids}."
            )
        for i in reversed(range(0 if own else self.extra_ids)):
            model.pieces.add(
                piece=f"▁<extra_id_{i}>",
                score=0.0,
                type=sentencepiece_model_pb2.ModelProto.SentencePiece.USER_DEFINED,
            )
        processor = sentencepiece.SentencePieceProcessor()
        try:
            processor.LoadFromSerializedProto(model.SerializeToString())
        except RuntimeError as error:
            raise not_a_model(str(error).strip().splitlines()[-1]) from None
        # LLaMA's has no padding, and an unknown token 0 that is never written.
        free = processor.pad_id() < 0 and processor.unk_id() == PAD_ID
        pads = processor.pad_id() == PAD_ID or (free and model.trainer_spec.byte_fallback)
        if not pads or processor.eos_id() < 0:
            raise TaskError(
                f"vocabulary file '{self.path}' has pad_id {processor.pad_id()} and eos_id "
                f"{processor.eos_id()}: pad_id 0 (or none, an unk_id 0 and byte fallback, as "
                "LLaMA's) and an EOS are needed (spm_train --pad_id=0 --eos_id=1 --unk_id=2 "
                "--bos_id=-1)."
            )
        return processor

    @property
    def vocab_size(self) -> int:
        """All ids, the sentinels included."""
        return self._processor.GetPieceSize()

    @property
    def eos_id(self) -> int:
        """The id that ends a sequence."""
        return self._processor.eos_id()

    @property
    def unk_id(self) -> int:
        """The id of what the model cannot write."""
        return self._processor.unk_id()

    @functools.cached_property
    def start_id(self) -> int:
        """The id that a decoder begins with.

        Raises:
          TaskError: the model has no piece `start_token`.
        """
        processor = self._processor
        if self.start_token is None:
            return processor.bos_id() if processor.pad_id() < 0 <= processor.bos_id() else PAD_ID
        found = processor.PieceToId(self.start_token)
        if processor.IdToPiece(found) != self.start_token:  # the unknown's id
            raise TaskError(
                f"vocabulary file '{self.path}' has no piece '{self.start_token}' (start_token)."
            )
        return found

    def starting_with(self, start_id: int) -> "SentencePieceVocabulary":
        """The same, for a decoder that begins with an id below `vocab_size`."""
        if start_id == self.start_id:
            return self
        return dataclasses.replace(self, start_token=self._processor.IdToPiece(start_id))

    @functools.cached_property
    def _sha256(self) -> str:
        return hashlib.sha256(self._model_bytes).hexdigest()

    @property
    def tag(self) -> str:
        """Short name for folders."""
        return f"spm-{self._sha256[:8]}-{self.extra_ids}"

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without EOS."""
        return self._processor.EncodeAsIds(text)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids up to the first EOS; ids above the vocabulary are unknown."""
        size, unk = self.vocab_size, self.unk_id
        kept = until_eos(ids, self.eos_id)
        return self._processor.DecodeIds([i if i < size else unk for i in kept])

    def spec(self) -> dict[str, Any]:
        """What decides the ids, as JSON; `sha256` is of the file's bytes."""
        return {
            "kind": "sentencepiece",
            "vocab_size": self.vocab_size,
            "extra_ids": self.extra_ids,
            "pad_id": PAD_ID,
            "eos_id": self.eos_id,
            "unk_id": self.unk_id,
            "start_id": self.start_id,
            "full_stop_ids": self._full_stop_ids,
            "file": str(self.path),
            "sha256": self._sha256,
            "start_token": self.start_token,
        }

    def seqio(self) -> Any:
        """The equal `seqio.SentencePieceVocabulary`."""
        import seqio

        added = self.vocab_size - self._pieces_in_file
        return seqio.SentencePieceVocabulary(str(self.path), extra_ids=added)

    @functools.cached_property
    def _full_stop_ids(self) -> list[int]:
        pieces = [self._processor.IdToPiece(i) for i in range(self.vocab_size)]
        return full_stops(pieces)

    @functools.cached_property
    def _pieces_in_file(self) -> int:
        from sentencepiece import sentencepiece_model_pb2

        return len(sentencepiece_model_pb2.ModelProto.FromString(self._model_bytes).pieces)

    def __getstate__(self) -> dict[str, Any]:
        # What is loaded from the file stays behind: gin copies and processes pickle this.
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


def until_eos(ids: Sequence[int], eos_id: int) -> list[int]:
    """The ids before the first EOS."""
    ids = [int(i) for i in ids]
    return ids[: ids.index(eos_id)] if eos_id in ids else ids


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
    lossless = {"normalization_rule_name": "identity", "remove_extra_whitespaces": False}
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
