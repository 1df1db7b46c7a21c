"""DeBERTa (He et al. 2021): BERT whose attention keeps contents and distances apart.

Absolute positions enter where hidden tokens are restored, in the enhanced mask decoder, and not
with the embeddings. What the paper leaves open is the released code's.
"""

import functools
from typing import Any, ClassVar

from models.bert import BERT
from models.encoder_only import first_token
from models.layers import parts
from models.layers.attention.disentangled import DisentangledScores
from models.layers.block import Context, ModuleFactory
from models.layers.linear import Initializer
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
      use_pooler: off; a `head` for rows has one, with the exact GELU.
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
            from the beginning; and as BERT.
        """
        if self.head is not None or not self.use_masked_head:
            self.decoder_turns = 0
        super().__post_init__()
        if not (self.content_to_position or self.position_to_content):
            raise self.refused("position_to_content", "without content_to_position it must be True")
        if self.use_input_positions and self.decoder_turns:
            raise self.refused("decoder_turns", "with use_input_positions it must be 0")

    def attention_options(self, layers: TransformerLayers, init: Initializer) -> dict[str, Any]:
        """Scores of distances, a scale for the number of terms, no bias of the keys."""
        terms = 1 + self.content_to_position + self.position_to_content
        scores = functools.partial(
            DisentangledScores,
            kernel_init=init,
            content_to_position=self.content_to_position,
            position_to_content=self.position_to_content,
            mirrored=self.mirrored_distance,
            dropout=layers.dropout,
        )
        scale = (layers.head_dim * terms) ** -0.5
        return {"make_relative": scores, "scale": scale, "use_key_bias": False}

    def stack_of(self, layers: TransformerLayers, block: ModuleFactory, init: Initializer) -> Stack:
        """All layers, and the table of distances that they share."""
        return DisentangledStack(
            block,
            self.num_layers,
            layers.remat_policy,
            layers.scan_unroll,
            embed_dim=self.embed_dim,
            max_distance=self.max_distance,
            table_init=init,
        )

    # What runs inside `apply`.

    @parts.part(parts.HEAD)
    def pooled(self, x_bse: Array, enable_dropout: bool = False) -> Array:
        """The first token's vector through a layer with the exact GELU."""
        return exact_gelu(self.pooler(first_token(x_bse)))

    def __call__(self, **features: Any) -> Array:
        """As BERT; the last layer is applied by the decoder alone where there is one."""
        if not self.decoder_turns:
            return super().__call__(**features)
        self.check_features(features)
        return self._token_logits(self._decoded_alone(**features))

    def trained_outputs(self, **features: Any) -> Array:
        """As BERT's, and as `__call__`."""
        if not self.decoder_turns or self.masked_places is None:
            return super().trained_outputs(**features)
        return self._trained_logits(self._decoded_alone(**features))

    def states(self, **features: Any) -> tuple[Array, Array]:
        """What leaves the stack, and what leaves the decoder, which the masked head reads."""
        if not self.decoder_turns:
            return super().states(**features)
        x_bse, context = self._below_last(**features)
        return self.encoder.last(x_bse, context), self._decoded(x_bse, context, **features)

    def _decoded_alone(self, **features: Any) -> Array:
        return self._decoded(*self._below_last(**features), **features)

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
