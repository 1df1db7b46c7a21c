"""RoBERTa (Liu et al. 2019): BERT without pairs, and positions that padding is not counted in."""

from typing import ClassVar

import jax
import jax.numpy as jnp

from models.bert import BERT
from models.layers.attention.positions import check_length
from models.layers.dropout import Dropout
from models.model import Array


class RoBERTa(BERT):
    """BERT as RoBERTa has it: one type of token, no pair, a table of positions with a margin.

    What the paper changes is mostly how BERT is trained (section 3): the data, the masks, the
    rows. What differs in the network is the released code's. The table of positions begins with
    rows that no token has: the last of them, `pad_id`, is that of padding, and the first token
    has the next one.

    Attributes:
      num_token_types: a single one, which every token has, whatever types the batch tells apart.
      norm_epsilon: of every norm.
      use_pooler: off; the next-sentence head of the paper's comparison (section 4.2) needs it.
      use_next_sentence_head: off.
      pad_id: the token that pads where a batch has no segments.
    """

    offsets: ClassVar[tuple[str, ...]] = (*BERT.offsets, "pad_id")

    num_token_types: int = 1
    norm_epsilon: float = 1e-5
    use_pooler: bool = False
    use_next_sentence_head: bool = False
    pad_id: int = 1

    def __post_init__(self) -> None:
        """Checks what it cannot be built with.

        Raises:
          ModelError: a padding token that the vocabulary lacks; and as BERT.
        """
        super().__post_init__()
        if self.pad_id >= self.vocab_size:
            raise self.refused("pad_id", f"it must be below vocab_size {self.vocab_size}")

    @property
    def position_offset(self) -> int:
        """The first token's row: 2 where token 1 pads."""
        return self.pad_id + 1

    @property
    def head_activation(self) -> str:
        """The released code's head has the exact GELU, whichever the layers have."""
        return "gelu"

    def embed(
        self, tokens_bs: Array, token_types_bs: Array | None, positions_bs: Array | None
    ) -> Array:
        """As BERT, with positions that padding does not count in."""
        if positions_bs is None:
            check_length(tokens_bs.shape[1], self.max_length)
            positions_bs = counted_positions(tokens_bs, self.pad_id)
        return super().embed(tokens_bs, token_types_bs, positions_bs)

    def pooled(self, x_bse: Array, enable_dropout: bool = False) -> Array:
        """As BERT, with dropout before the layer too; the released code has it in the head."""
        rate = self.head_dropout_rate
        key = self.make_rng("dropout") if enable_dropout and rate else None
        return super().pooled(Dropout(rate)(x_bse, key))


def counted_positions(tokens_bs: jax.Array, pad_id: int) -> jax.Array:
    """How many tokens that are not padding stand before each, int32 `[b, s]`; -1 for padding."""
    real_bs = (tokens_bs != pad_id).astype(jnp.int32)
    return real_bs.cumsum(axis=1) * real_bs - 1
