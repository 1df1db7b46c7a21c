"""The interface of a vocabulary, from text to token ids and back.

Id 0 pads. The sentinels (`extra_ids`) are the highest ids, in descending order: sentinel `i` is
`vocab_size - 1 - i`, as in T5 (Raffel et al. 2020, section 3.1.4).
"""

import os
from collections.abc import Sequence
from typing import Any, Protocol

PAD_ID = 0

Offsets = tuple[int, int]
"""Characters of a text, from the first to before the second."""


class Vocabulary(Protocol):
    """What a feature needs of its vocabulary; `t5x_like/protocols/` has the engine's view.

    One that knows where tokens stand has `encode_with_offsets(text)`: the ids as `encode` gives
    them, and the `Offsets` of each. Both ends ascend, or stay, from id to id; parts of one
    character have all of it; of a piece that stands for nothing in the text both ends are equal.
    """

    @property
    def vocab_size(self) -> int:
        """The number of ids, the sentinels included."""

    @property
    def extra_ids(self) -> int:
        """The number of sentinels."""

    @property
    def eos_id(self) -> int:
        """The id that ends a sequence."""

    @property
    def unk_id(self) -> int | None:
        """The id of unknown text, if there is one."""

    @property
    def start_id(self) -> int:
        """The id that a decoder reads before the first token."""

    @property
    def tag(self) -> str:
        """Short name for folders, different where the ids differ."""

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without EOS."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids up to the first EOS."""

    def spec(self) -> dict[str, Any]:
        """A description of the ids, as JSON, among them those with a special purpose.

        `full_stop_ids` are the tokens that consist of full stops; `mask_id` is there if the
        vocabulary has a mask token.
        """

    def seqio(self) -> Any:
        """The seqio vocabulary with the same ids; imports seqio, and so TensorFlow."""


def until_eos(ids: Sequence[int], eos_id: int) -> list[int]:
    """The ids before the first EOS."""
    ids = [int(i) for i in ids]
    return ids[: ids.index(eos_id)] if eos_id in ids else ids


def check_is_file(path: str | os.PathLike[str]) -> None:
    """Checks that reading a local path waits for nothing, as reading a pipe does for its writer.

    Raises:
      FileNotFoundError: it is no file.
    """
    if "://" not in os.fspath(path) and not os.path.isfile(path):
        raise FileNotFoundError(path)
