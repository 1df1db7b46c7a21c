"""What all encoder families share: one stack that reads a whole row in both directions."""

from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from models.layers import intermediates
from models.layers.attention.masks import Mask
from models.layers.block import Context
from models.layers.dropout import Dropout
from models.model import Array, Batch, Model, Params


class EncoderOnly(Model, kw_only=True):
    """The base class of encoder families.

    A family's `setup` makes `encoder` (a `Stack` or what is called like one); it writes `embed`
    and the heads, which are its own.

    Batches hold `encoder_input_tokens`, int32 `[b, s]`, and as a family needs them
    `encoder_token_types`, `encoder_positions` and `encoder_segment_ids`: tokens of different
    segments do not see each other, and segment 0 is padding. Without segments `pad_id` pads.
    """

    input_features: ClassVar[tuple[str, ...]] = ("encoder_input_tokens",)

    @property
    def batch_format(self) -> str:
        """Text in which tokens are hidden."""
        return "masked_language_model"

    @property
    def pad_id(self) -> int:
        """The token that pads; families whose vocabularies differ have a field instead."""
        return 0

    def embed(
        self, tokens_bs: Array, token_types_bs: Array | None, positions_bs: Array | None
    ) -> Array:
        """What enters the stack, `[b, s, e]`.

        Args:
          tokens_bs: int.
          token_types_bs: int; None is type 0 throughout.
          positions_bs: int; None is 0, 1, 2, … in every row.
        """
        raise NotImplementedError

    def widened(self, x_bse: Array) -> Array:
        """The embeddings in the width of the stack, which narrower ones are projected to."""
        return x_bse

    @intermediates.within(intermediates.ENCODER)
    def hidden_states(
        self,
        *,
        encoder_input_tokens: Array,
        encoder_token_types: Array | None = None,
        encoder_segment_ids: Array | None = None,
        encoder_positions: Array | None = None,
        enable_dropout: bool = False,
        **_: Any,
    ) -> Array:
        """What leaves the stack, `[b, s, e]`."""
        if encoder_segment_ids is None:
            mask = Mask(key_valid_bs=encoder_input_tokens != self.pad_id)
        else:
            mask = Mask(query_segments_bt=encoder_segment_ids, key_segments_bs=encoder_segment_ids)
        context = Context(mask, positions_bt=encoder_positions, enable_dropout=enable_dropout)
        x_bse = self.embed(encoder_input_tokens, encoder_token_types, encoder_positions)
        draw = enable_dropout and self.dropout_rate
        x_bse = Dropout(self.dropout_rate)(x_bse, self.make_rng("dropout") if draw else None)
        return self.encoder(self.widened(x_bse), context)

    @nn.nowrap
    def attention_weights(self, params: Params, batch: Batch) -> dict[str, Array]:
        """How much each token attends to each other, without dropout.

        Args:
          params: as `init` makes them.
          batch: of `batch_format`.

        Returns:
          `encoder`, float32 `[layers, b, h, s, s]`, whose rows sum to 1.
        """

        def run() -> Mapping[str, Any]:
            mutable = [intermediates.COLLECTION]
            return self.apply({"params": params}, **batch, mutable=mutable, method="hidden_states")[
                1
            ]

        found = intermediates.collect(intermediates.ATTENTION, run)
        return {"encoder": jnp.stack([record.value for record in found])}


def first_token(x_bse: jax.Array) -> jax.Array:
    """The vector of each row's first token, `[b, e]`, in which BERT sums a row up."""
    return x_bse[:, 0]
