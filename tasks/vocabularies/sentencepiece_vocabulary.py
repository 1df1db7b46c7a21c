"""SentencePiece models, with the ids of seqio.

Nothing here imports TensorFlow, and `sentencepiece` is imported when a model is opened.
"""

import bisect
import dataclasses
import functools
import hashlib
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tasks.errors import SourceUnavailable, TaskError
from tasks.vocabularies.special_pieces import full_stops, is_special, own_sentinels, spelled
from tasks.vocabularies.vocabulary import PAD_ID, Offsets, check_is_file, until_eos


@dataclasses.dataclass(frozen=True)
class SentencePieceVocabulary:
    """A SentencePiece model with T5's sentinels after its last piece.

    The ids are those of `seqio.SentencePieceVocabulary`. A model that already ends in
    pieces `<extra_id_*>` keeps them, and none are added (for such a file, seqio accepts only
    `extra_ids=0`).

    Attributes:
      path: the `.model` file, local or remote.
      extra_ids: number of sentinels, in the file or else added.
      start_token: the decoder's first input; None takes the model's BOS where it has no
        padding, as LLaMA's `<s>`, and else the padding, as T5.
      further_eos_ids: tokens that end generated text besides the EOS, as the models that chat
        have them; nothing is trained with them.
    """

    path: str
    extra_ids: int = 100
    start_token: str | None = None
    further_eos_ids: tuple[int, ...] = ()

    @functools.cached_property
    def _model_bytes(self) -> bytes:
        from etils import epath

        try:
            check_is_file(self.path)
            return epath.Path(self.path).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
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

        def not_a_model(reason: str) -> TaskError:
            return TaskError(
                f"vocabulary file '{self.path}' is not a SentencePiece model ({reason}): "
                "a `.model` file made by `t5x-like vocab` or `spm_train` is needed."
            )

        try:
            model = _model_proto().FromString(self._model_bytes)
        except message.DecodeError:
            raise not_a_model("it does not parse") from None
        if not model.pieces:
            raise not_a_model("it has no pieces")
        own = own_sentinels([piece.piece for piece in model.pieces])
        if own and own != self.extra_ids:
            raise TaskError(
                f"vocabulary file '{self.path}' has {own} sentinels: set extra_ids={own}, "
                f"not {self.extra_ids}."
            )
        for i in reversed(range(0 if own else self.extra_ids)):
            model.pieces.add(
                piece=f"▁<extra_id_{i}>",
                score=0.0,
                type=_model_proto().SentencePiece.USER_DEFINED,
            )
        processor = sentencepiece.SentencePieceProcessor()
        try:
            processor.LoadFromSerializedProto(model.SerializeToString())
        except RuntimeError as error:
            raise not_a_model(str(error).strip().splitlines()[-1]) from None
        # LLaMA's model has no padding; its token 0 is the unknown one, which never occurs.
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
        """The number of ids, the sentinels included."""
        return self._processor.GetPieceSize()

    @property
    def eos_id(self) -> int:
        """The id that ends a sequence."""
        return self._processor.eos_id()

    @property
    def unk_id(self) -> int:
        """The id of unknown text."""
        return self._processor.unk_id()

    @functools.cached_property
    def start_id(self) -> int:
        """The id of the decoder's first input.

        Raises:
          TaskError: the model has no piece `start_token`.
        """
        processor = self._processor
        if self.start_token is None:
            return processor.bos_id() if processor.pad_id() < 0 <= processor.bos_id() else PAD_ID
        found = processor.PieceToId(self.start_token)
        if (
            processor.IdToPiece(found) != self.start_token
        ):  # SentencePiece gives the id of the unknown piece
            raise TaskError(
                f"vocabulary file '{self.path}' has no piece '{self.start_token}' (start_token)."
            )
        return found

    def starting_with(self, start_id: int) -> "SentencePieceVocabulary":
        """The same vocabulary with another start token, an id below `vocab_size`."""
        if start_id == self.start_id:
            return self
        return dataclasses.replace(self, start_token=self._processor.IdToPiece(start_id))

    def ending_with(self, eos_ids: Sequence[int]) -> "SentencePieceVocabulary":
        """The same vocabulary with further tokens that end a text, ids below `vocab_size`."""
        further = tuple(i for i in eos_ids if i != self.eos_id)
        return dataclasses.replace(self, further_eos_ids=further) if further else self

    @functools.cached_property
    def _sha256(self) -> str:
        return hashlib.sha256(self._model_bytes).hexdigest()

    @property
    def tag(self) -> str:
        """Short name for folders."""
        return f"spm-{self._sha256[:8]}-{self.extra_ids}"

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without EOS; sentinels that are spelled out in it are sentinels."""
        return self._processor.EncodeAsIds(text)

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[Offsets]]:
        """The ids of a text, and the characters that each stands for."""
        return _with_offsets(self._processor, text)

    @functools.cached_property
    def special_tokens(self) -> re.Pattern[str] | None:
        """What is read as a special token where a text spells it; None for nothing."""
        processor = self._processor
        pieces = map(processor.IdToPiece, range(self.vocab_size))
        read = [
            piece
            for i, piece in enumerate(pieces)
            if is_special(piece) and not (processor.IsControl(i) or processor.IsUnknown(i))
        ]
        return spelled(read)

    def unread(self, tokens: Mapping[str, int]) -> list[str]:
        """Which tokens are not read as one where a text spells them.

        What pads, begins or ends a text and stands for the unknown is never spelled, and not among
        them.

        Args:
          tokens: with their ids, as a tokenizer around this model has them.
        """
        processor = self._processor
        marks = (PAD_ID, processor.unk_id(), processor.bos_id(), processor.eos_id())
        return [
            token for token, i in tokens.items() if i not in marks and i not in self.encode(token)
        ]

    def encode_as_text(self, text: str) -> list[int]:
        """The ids of a text, special tokens that it spells out taken apart like other words."""
        return self._text_processor.EncodeAsIds(text)

    def encode_as_text_with_offsets(self, text: str) -> tuple[list[int], list[Offsets]]:
        """`encode_as_text`, and the characters that each id stands for."""
        return _with_offsets(self._text_processor, text)

    @functools.cached_property
    def _text_processor(self) -> Any:
        import sentencepiece

        model = _model_proto().FromString(self._processor.serialized_model_proto())
        kinds = _model_proto().SentencePiece
        for piece in model.pieces:
            if piece.type == kinds.USER_DEFINED and is_special(piece.piece):
                piece.type = kinds.UNUSED
        processor = sentencepiece.SentencePieceProcessor()
        processor.LoadFromSerializedProto(model.SerializeToString())
        return processor

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids up to the first EOS; ids of `vocab_size` and above are unknown."""
        size, unk = self.vocab_size, self.unk_id
        kept = until_eos(ids, self.eos_id)
        return self._processor.DecodeIds([i if i < size else unk for i in kept])

    def spec(self) -> dict[str, Any]:
        """A description of the ids, as JSON; `sha256` is of the file's bytes."""
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
        """The `seqio.SentencePieceVocabulary` with the same ids."""
        import seqio

        added = self.vocab_size - self._pieces_in_file
        return seqio.SentencePieceVocabulary(str(self.path), extra_ids=added)

    @functools.cached_property
    def _full_stop_ids(self) -> list[int]:
        pieces = [self._processor.IdToPiece(i) for i in range(self.vocab_size)]
        return full_stops(pieces)

    @functools.cached_property
    def _pieces_in_file(self) -> int:
        return len(_model_proto().FromString(self._model_bytes).pieces)

    def __getstate__(self) -> dict[str, Any]:
        # Without what was read from the file: gin copies this object and processes pickle it.
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


def _with_offsets(processor: Any, text: str) -> tuple[list[int], list[Offsets]]:
    """Ids, and where in the text each piece stands, of which SentencePiece counts the bytes."""
    from sentencepiece import sentencepiece_pb2

    # In bytes, which all versions give alike.
    octets = processor.Encode(text, out_type="serialized_proto")
    made: Any = sentencepiece_pb2.SentencePieceText.FromString(octets)  # type: ignore[attr-defined]
    sizes = [len(character.encode("utf-8")) for character in text]
    ends = list(itertools.accumulate(sizes))  # of each character, in bytes
    ids: list[int] = []
    offsets: list[Offsets] = []
    for piece in made.pieces:
        begin = bisect.bisect_right(ends, piece.begin)
        stands_for_some = piece.end > piece.begin
        ids.append(piece.id)
        offsets.append(
            (begin, bisect.bisect_left(ends, piece.end) + 1 if stands_for_some else begin)
        )
    # Of a character that is spelled in bytes, SentencePiece gives the last byte all of it.
    for i in reversed(range(len(ids) - 1)):
        begin, end = offsets[i]
        if begin == end and processor.IsByte(ids[i]) and processor.IsByte(ids[i + 1]):
            offsets[i] = offsets[i + 1]
    return ids, offsets


def _model_proto() -> Any:
    """The protobuf message of a model; protobuf makes its module at run time, untyped."""
    from sentencepiece import sentencepiece_model_pb2

    module: Any = sentencepiece_model_pb2
    return module.ModelProto
