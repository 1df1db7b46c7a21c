"""Vocabularies for seqio, and seqio's vocabularies for everyone else."""

import dataclasses
import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from tasks.vocabularies.byte_vocabulary import ByteVocabulary
from tasks.vocabularies.sentencepiece_vocabulary import SentencePieceVocabulary
from tasks.vocabularies.special_pieces import own_sentinels
from tasks.vocabularies.vocabulary import PAD_ID, Vocabulary


class PythonVocabulary(seqio.Vocabulary):
    """A seqio vocabulary that calls a vocabulary of this package, in Python also in datasets.

    seqio's feature converters take every 0 for padding. A token 0 is in a dataset's
    features all the same, and gets no loss only where those converters make a model's batch.

    Attributes:
      wrapped: the vocabulary.
    """

    def __init__(self, wrapped: Vocabulary):
        super().__init__(extra_ids=wrapped.extra_ids)
        self.wrapped = wrapped

    @property
    def eos_id(self) -> int:
        """The id that ends a sequence."""
        return self.wrapped.eos_id

    @property
    def bos_id(self) -> None:
        """None: nothing is put before a text."""

    @property
    def pad_id(self) -> None:
        """None: no id is only padding."""

    @property
    def unk_id(self) -> int | None:
        """The id of unknown text, if there is one."""
        return self.wrapped.unk_id

    @property
    def vocab_size(self) -> int:
        """The number of ids with the sentinels, as for seqio's SentencePiece vocabularies."""
        return self._base_vocab_size

    @property
    def _base_vocab_size(self) -> int:
        return self.wrapped.vocab_size

    def _encode(self, s: str) -> list[int]:
        return self.wrapped.encode(s)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids up to the first EOS."""
        return self._decode([int(i) for i in ids])

    def _decode(self, ids: Sequence[int]) -> str:
        return self.wrapped.decode(ids)

    def _encode_tf(self, s: tf.Tensor) -> tf.Tensor:
        def plain(text: bytes | np.ndarray) -> np.ndarray:
            octets = text if isinstance(text, bytes) else text.item()  # an array where eager
            return np.asarray(self.wrapped.encode(octets.decode("utf-8")), np.int32)

        return tf.ensure_shape(tf.numpy_function(plain, [s], tf.int32), [None])

    def decode_tf(self, ids: tf.Tensor) -> tf.Tensor:
        """The texts of ids, of any rank, each up to the first EOS of its last axis."""
        return self._decode_tf(ids)

    def _decode_tf(self, ids: tf.Tensor) -> tf.Tensor:
        def plain(rows: np.ndarray) -> np.ndarray:
            flat = rows.reshape(-1, rows.shape[-1])
            texts = [self.wrapped.decode(row.tolist()).encode("utf-8") for row in flat]
            return np.asarray(texts, object).reshape(rows.shape[:-1])

        return tf.ensure_shape(tf.numpy_function(plain, [ids], tf.string), ids.shape[:-1])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PythonVocabulary) and self.wrapped == other.wrapped

    def __hash__(self) -> int:
        return hash(self.wrapped)

    def __str__(self) -> str:
        return f"PythonVocabulary({self.wrapped})"


@dataclasses.dataclass(frozen=True)
class OtherVocabulary:
    """Any other seqio vocabulary, used through seqio.

    Attributes:
      wrapped: the vocabulary.
    """

    wrapped: seqio.Vocabulary

    @property
    def vocab_size(self) -> int:
        """The number of ids, the sentinels included."""
        return self.wrapped.vocab_size

    @property
    def extra_ids(self) -> int:
        """The number of sentinels, as seqio counts them."""
        return self.wrapped.extra_ids

    @property
    def eos_id(self) -> int:
        """The id that ends a sequence."""
        return self.wrapped.eos_id

    @property
    def unk_id(self) -> int | None:
        """The id of unknown text."""
        return self.wrapped.unk_id

    @property
    def start_id(self) -> int:
        """0, which seqio's converters put first."""
        return PAD_ID

    @property
    def tag(self) -> str:
        """Short name for folders."""
        return hashlib.sha256(self._described.encode()).hexdigest()[:8]

    @property
    def _described(self) -> str:
        """What it says of itself, and of SentencePiece's what it leaves out."""
        text = str(self.wrapped)
        if type(self.wrapped) is seqio.SentencePieceVocabulary:
            text += f" {self.wrapped._reverse_extra_ids} {self.wrapped._normalizer_spec_overrides}"
        return text

    def encode(self, text: str) -> list[int]:
        """The ids of a text, by the wrapped vocabulary."""
        return list(self.wrapped.encode(text))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, by the wrapped vocabulary."""
        return self.wrapped.decode(ids)

    def spec(self) -> dict[str, Any]:
        """What is known of the ids, as JSON."""
        return {
            "kind": type(self.wrapped).__name__,
            "vocab_size": self.vocab_size,
            "extra_ids": self.extra_ids,
            "pad_id": PAD_ID,
            "eos_id": self.eos_id,
            "unk_id": self.unk_id,
            "start_id": self.start_id,
            "described": self._described,
        }

    def seqio(self) -> seqio.Vocabulary:
        """The wrapped vocabulary."""
        return self.wrapped


def from_seqio(vocabulary: seqio.Vocabulary) -> Vocabulary:
    """The vocabulary of this package with the same ids.

    It needs no TensorFlow where this package has the same kind of vocabulary.
    """
    if type(vocabulary) is seqio.ByteVocabulary:
        return ByteVocabulary(vocabulary.extra_ids)
    if type(vocabulary) is seqio.SentencePieceVocabulary and _is_plain(vocabulary):
        size = vocabulary.vocab_size
        pieces = [vocabulary.tokenizer.IdToPiece(i) for i in range(size)]
        return SentencePieceVocabulary(
            vocabulary.sentencepiece_model_file, extra_ids=own_sentinels(pieces)
        )
    if isinstance(vocabulary, PythonVocabulary):
        return vocabulary.wrapped
    return OtherVocabulary(vocabulary)


def _is_plain(vocabulary: seqio.SentencePieceVocabulary) -> bool:
    """Whether its file and its sentinels say all of it.

    It has no public names for what else it may have been made with: text that is normalized
    otherwise than the file says, and sentinels from the first id on.
    """
    return vocabulary._normalizer_spec_overrides is None and vocabulary._reverse_extra_ids
