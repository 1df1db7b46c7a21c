"""UTF-8 bytes as tokens, with the ids of seqio and ByT5."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from tasks.vocabularies.vocabulary import PAD_ID, Offsets, until_eos

# ByT5's 125 sentinels make 384 ids, a multiple of 128 (Xue et al. 2022, section 3.1).
BYTE_SENTINELS = 125


@dataclasses.dataclass(frozen=True)
class ByteVocabulary:
    """UTF-8 bytes: 0 pads, 1 is EOS, 2 unknown, byte `b` is `b + 3`, then come the sentinels.

    The ids are those of `seqio.ByteVocabulary` and ByT5 (Xue et al. 2022). It needs no file.

    Attributes:
      extra_ids: number of sentinels.
    """

    extra_ids: int = BYTE_SENTINELS
    eos_id: int = dataclasses.field(default=1, init=False)
    unk_id: int = dataclasses.field(default=2, init=False)
    start_id: int = dataclasses.field(default=PAD_ID, init=False)

    @property
    def vocab_size(self) -> int:
        """The number of ids: 3 special ones, 256 bytes and the sentinels."""
        return 3 + 256 + self.extra_ids

    @property
    def tag(self) -> str:
        """Short name for folders."""
        return f"bytes-{self.extra_ids}"

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without EOS."""
        return [byte + 3 for byte in text.encode("utf-8")]

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[Offsets]]:
        """The ids of a text, and the character that each is a byte of."""
        sizes = [len(character.encode("utf-8")) for character in text]
        offsets = [(i, i + 1) for i, size in enumerate(sizes) for _ in range(size)]
        return self.encode(text), offsets

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids up to the first EOS, without special ids and invalid UTF-8."""
        return bytes(i - 3 for i in until_eos(ids, 1) if 3 <= i < 259).decode("utf-8", "ignore")

    def spec(self) -> dict[str, Any]:
        """A description of the ids, as JSON."""
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
        """The `seqio.ByteVocabulary` with the same ids."""
        import seqio

        return seqio.ByteVocabulary(self.extra_ids)
