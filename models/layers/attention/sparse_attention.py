"""Attention whose heads follow patterns."""

from collections.abc import Sequence

import jax

from models.errors import ModelError
from models.layers import intermediates
from models.layers.attention import block_sparse
from models.layers.attention.attention import Attention
from models.layers.attention.block_sparse import Pattern
from models.layers.attention.distances import Bias
from models.layers.attention.masks import Mask
from models.layers.attention.softmax_attention import KeysValues


class SparseAttention(Attention):
    """`Attention` in which each query sees what a pattern shows it.

    Attributes:
      patterns: heads are divided evenly among them, in order.
    """

    patterns: tuple[Pattern, ...] = ()

    def setup(self) -> None:
        """Makes the projections.

        Raises:
          ModelError: heads that patterns cannot divide evenly.
        """
        if not self.patterns or self.num_heads % len(self.patterns):
            raise ModelError(
                f"num_heads is {self.num_heads}, which {len(self.patterns)} patterns cannot divide "
                f"evenly: choose a multiple of {len(self.patterns)}."
            )
        super().setup()

    def attend(
        self,
        q_bhtd: jax.Array,
        keys_values: KeysValues,
        mask: Mask,
        bias: Bias | None,
        *,
        enable_dropout: bool,
    ) -> jax.Array:
        """Softmax attention of scaled queries to the keys that the patterns show.

        Raises:
          ModelError: scores that have a bias.
        """
        if bias is not None:
            raise ModelError("sparse attention has no bias on the scores.")
        key = self.make_rng("dropout") if enable_dropout and self.dropout.rate else None
        return self.attend_by_patterns(q_bhtd, keys_values, self.patterns, mask, key=key)

    @intermediates.recorded(intermediates.ATTENTION, block_sparse.attention_weights)
    def attend_by_patterns(
        self,
        q_bhtd: jax.Array,
        keys_values: KeysValues,
        patterns: Sequence[Pattern],
        mask: Mask,
        *,
        key: jax.Array | None,
    ) -> jax.Array:
        """The same, with the key of the dropout if there is any."""
        return block_sparse.by_patterns(q_bhtd, keys_values, patterns, mask, self.dropout, key)
