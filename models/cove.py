"""CoVe: the vectors of words in context that the encoder of a translation model has."""

from typing import ClassVar

import jax.numpy as jnp
from flax import linen as nn

from models.attention_seq2seq import AttentionSeq2Seq
from models.layers.recurrent.alignment import General, Score
from models.layers.recurrent.attention_decoder import CURRENT
from models.layers.recurrent.cells import LSTM, Cell
from models.model import Array, Params


class CoVe(AttentionSeq2Seq, kw_only=True):
    """A translation model whose encoder is two bidirectional LSTMs over GloVe's vectors.

    What is read of it is `[GloVe(w); MT-LSTM(GloVe(w))]`, a word's own vector and what the encoder
    has of it (McCann et al. 2017, section 4). Training fixes the table of the words' vectors: see
    `vectors.InitialVectors` of the engine.

    The decoder is that of section 3: two LSTMs whose state asks by the score `s · W h`, and whose
    output goes into the first one at the next token. How wide they are the paper does not say; they
    are as wide as both directions together.

    Attributes: those of `AttentionSeq2Seq`, with other defaults.
    """

    cell: Cell = LSTM()
    attention: Score = General()
    query: str = CURRENT
    embed_dim: int = 300
    encoder_dim: int = 300
    hidden_dim: int = 600
    num_bidirectional_layers: int = 2
    num_encoder_layers: int = 2
    num_decoder_layers: int = 2
    maxout_dim: int | None = None
    source_start: bool = False

    embeds_words: ClassVar[bool] = True

    def text_states(  # type: ignore[override]  # features by their names
        self,
        *,
        encoder_input_tokens: Array,
        encoder_segment_ids: Array | None = None,
        **_: Array,
    ) -> Array:
        """Each word's own vector and what the encoder has of it, `[b, s, e + 2 encoder_dim]`."""
        states_bse = super().text_states(
            encoder_input_tokens=encoder_input_tokens, encoder_segment_ids=encoder_segment_ids
        )
        embedder = self.token_embedder if self.share_embeddings else self.source_embedder
        return jnp.concatenate([embedder(encoder_input_tokens), states_bse], axis=-1)

    @nn.nowrap
    def token_vectors(self, params: Params) -> Array:
        """The words' own vectors, those of the source, float32 `[v, e]`."""
        name = "token_embedder" if self.share_embeddings else "source_embedder"
        return params[name]["embedding"]
