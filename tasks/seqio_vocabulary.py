"""A `tokenizer.json` as a seqio vocabulary; imports seqio, and so TensorFlow."""

from collections.abc import Iterable, Sequence

import numpy as np
import seqio
import tensorflow as tf

from tasks.tokenizer_json import TokenizerVocabulary


class SeqioTokenizer(seqio.Vocabulary):
    """Ids, EOS and decoding are the wrapped vocabulary's; in a dataset it runs in Python.

    seqio's feature converters take every 0 for padding. A token 0 is in a dataset's
    features all the same, and gets no loss only where those converters make a model's batch.

    Attributes:
      wrapped: the vocabulary.
    """

    def __init__(self, wrapped: TokenizerVocabulary):
        super().__init__(extra_ids=wrapped.extra_ids)
        self.wrapped = wrapped

    @property
    def eos_id(self) -> int:
        """The id that ends a sequence."""
        return self.wrapped.eos_id

    @property
    def bos_id(self) -> None:
        """Nothing is put before a text."""

    @property
    def pad_id(self) -> None:
        """No id is only padding."""

    @property
    def unk_id(self) -> int | None:
        """The id of what cannot be written, if there is one."""
        return self.wrapped.unk_id

    @property
    def vocab_size(self) -> int:
        """With the sentinels, as for seqio's SentencePiece vocabularies."""
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
        return isinstance(other, SeqioTokenizer) and self.wrapped == other.wrapped

    def __str__(self) -> str:
        return f"SeqioTokenizer(path={self.wrapped.path}, extra_ids={self.extra_ids})"
