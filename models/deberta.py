"""DeBERTa (He et al. 2021): BERT whose attention keeps contents and distances apart.

Absolute positions enter where hidden tokens are restored, in the enhanced mask decoder, and not
with the embeddings. What the paper leaves open is the released code's.
"""

import functools
from typing import Any, ClassVar

import jax.numpy as jnp

from models.bert import BERT, INITIAL_VALUES
from models.encoder_only import first_token
from models.layers import parts
from models.layers.attention.disentangled import DisentangledScores
from models.layers.block import Context, ModuleFactory
from models.layers.mlps import exact_gelu
from models.layers.stacks.builder import TransformerLayers
from models.layers.stacks.disentangled_stack import DisentangledStack
from models.layers.stacks.stack import Stack
from models.model import Array


class DeBERTa(BERT):
    """DeBERTa, version 1, with its masked head or without; all else is as in `BERT`.

    A score is the sum of three products, of content with content, of content with distance and of
    distance with content, over the root of three times the units of a head (section 3.1); with
    one of the last two left out, of two times. Keys have no bias.

    The enhanced mask decoder (section 3.2) applies the last layer to queries that are the states
    below it with absolute positions added, and once more to what comes of that; keys and values
    stay those states. It is for hidden tokens alone: `hidden_states`, and a `head`, are of the
    plain last layer.

    Attributes:
      num_token_types: 0: the batch's types are not read.
      norm_epsilon: of every norm.
      use_pooler: off, and only without a decoder; a `head` for rows has one, with the exact GELU.
      use_next_sentence_head: off.
      max_distance: k; distances beyond share the vectors of the longest.
      content_to_position: whether queries meet the distance of each key.
      position_to_content: whether keys meet the distance of each query.
      mirrored_distance: see `DisentangledScores.mirrored`.
      use_input_positions: whether absolute positions are added to the embeddings after all; there
        is no decoder then, as in the released code.
      decoder_turns: how often the decoder applies the last layer; 0 is no decoder.
    """

    # Elsewhere a table without rows is a mistake.
    offsets: ClassVar[tuple[str, ...]] = (*BERT.offsets, "num_token_types", "decoder_turns")

    num_token_types: int = 0
    norm_epsilon: float = 1e-7
    use_pooler: bool = False
    use_next_sentence_head: bool = False
    max_distance: int = 512
    content_to_position: bool = True
    position_to_content: bool = True
    mirrored_distance: bool = False
    use_input_positions: bool = False
    decoder_turns: int = 2

    def __post_init__(self) -> None:
        """Checks what DeBERTa cannot be built with.

        Raises:
          ModelError: attention that knows no distances, a decoder beside positions that are there
            from the beginning or beside a pooler; and as BERT.
        """
        if self.head is not None or not self.use_masked_head:
            self.decoder_turns = 0
        super().__post_init__()
        if not (self.content_to_position or self.position_to_content):
            raise self.refused("position_to_content", "without content_to_position it must be True")
        if self.use_input_positions and self.decoder_turns:
            raise self.refused("decoder_turns", "with use_input_positions it must be 0")
        if self.use_pooler and self.decoder_turns:
            raise self.refused("decoder_turns", "with use_pooler it must be 0")

    def attention_of(self, layers: TransformerLayers, **options: Any) -> ModuleFactory:
        """Scores of distances, a scale for the number of terms, no bias of the keys."""
        terms = 1 + self.content_to_position + self.position_to_content
        scores = functools.partial(
            DisentangledScores,
            kernel_init=INITIAL_VALUES,
            content_to_position=self.content_to_position,
            position_to_content=self.position_to_content,
            mirrored=self.mirrored_distance,
            dropout=layers.dropout,
        )
        scale = (layers.head_dim * terms) ** -0.5
        return super().attention_of(
            layers, make_relative=scores, scale=scale, use_key_bias=False, **options
        )

    def stack_of(self, layers: TransformerLayers, block: ModuleFactory) -> Stack:
        """All layers, and the table of distances that they share."""
        return DisentangledStack(
            block,
            self.num_layers,
            layers.remat_policy,
            layers.scan_unroll,
            embed_dim=self.embed_dim,
            max_distance=self.max_distance,
            table_init=INITIAL_VALUES,
        )

    # What runs inside `apply`.

    def looked_up(
        self, tokens_bs: Array, token_types_bs: Array | None, positions_bs: Array | None
    ) -> Array:
        """As BERT, without positions unless they are asked for."""
        if self.use_input_positions:
            return super().looked_up(tokens_bs, token_types_bs, positions_bs)
        return self.without_positions(tokens_bs, token_types_bs)

    @parts.part(parts.HEAD)
    def pooled(self, x_bse: Array, enable_dropout: bool = False) -> Array:
        """The first token's vector through a layer with the exact GELU."""
        return exact_gelu(self.pooler(first_token(x_bse)))

    def _outputs(self, **features: Any) -> tuple[Any, ...]:
        """As BERT's, with what leaves the decoder in place of what leaves the stack."""
        if not self.decoder_turns:
            return super()._outputs(**features)
        self.check_features(features)
        # The last layer is the decoder's alone.
        return self._decoded(*self._below_last(**features), **features), None, None

    def _predictions(self, **features: Any) -> dict[str, Array]:
        if not self.decoder_turns:
            return super()._predictions(**features)
        x_bse, context = self._below_last(**features)
        logits_bsv = self._token_logits(self._decoded(x_bse, context, **features))
        return {
            "hidden_states": self.encoder.last(x_bse, context).astype(jnp.float32),
            "tokens": logits_bsv.argmax(axis=-1).astype(jnp.int32),
        }

    def _below_last(self, **features: Any) -> tuple[Array, Context]:
        x_bse, context = self.entering(**features)
        return self.encoder.below_last(x_bse, context), context

    def _decoded(
        self,
        x_bse: Array,
        context: Context,
        *,
        encoder_positions: Array | None = None,
        **_: Any,
    ) -> Array:
        """The decoder, of the states below the last layer."""
        queries_bse = self.position_embedder(x_bse, encoder_positions)
        return self.encoder.last(queries_bse, context, source_bse=x_bse, turns=self.decoder_turns)
