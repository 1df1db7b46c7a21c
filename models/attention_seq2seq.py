"""Recurrent encoder-decoders with attention (Bahdanau et al. 2015; Luong et al. 2015; GNMT)."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from models.errors import ModelError
from models.language_model import Batch, Cache, LanguageModel
from models.layers import intermediates
from models.layers.dropout import Dropout
from models.layers.embeddings import Embed, OutputBias, OutputKernel
from models.layers.linear import Linear, uniform
from models.layers.recurrent.alignment import Additive, Score
from models.layers.recurrent.attention_decoder import (
    CURRENT,
    QUERIES,
    AttentionDecoder,
    Read,
    Source,
)
from models.layers.recurrent.cells import GRU, Cell
from models.layers.recurrent.encoder import EncoderShape, RecurrentEncoder
from models.layers.recurrent.stack import States, initial_states
from models.layers.recurrent.time_scan import Steps, steps_of_segments

Array = jax.Array


class AttentionSeq2Seq(LanguageModel, kw_only=True):
    """A recurrent encoder in both directions, and a recurrent decoder that attends to it.

    The defaults are RNNsearch of Bahdanau et al. 2015, appendix A: GRUs of Cho et al. 2014,
    additive attention by the decoder's state before the token, a state that begins as
    `tanh(W h)`, h what the encoder read backward up to the first token, and an output layer of
    pairs of units of which the larger counts (maxout). With `query="current"`, `feed_input` and no
    maxout it is the model of Luong et al. 2015; with more layers, `residual` and one bidirectional
    layer GNMT (Wu et al. 2016, section 3). Packed rows begin anew at each text, and attend to the
    source of their own.

    Attributes:
      cell: of every layer.
      attention: how a state of the decoder is compared with those of the source, such as
        `layers.recurrent.alignment.Additive()`.
      query: see `layers.recurrent.attention_decoder.AttentionDecoder`.
      feed_input: there too.
      embed_dim: size of a token's vector.
      encoder_dim: units each way of a bidirectional layer.
      hidden_dim: units of the decoder's layers, and of the encoder's above the bidirectional ones.
      num_bidirectional_layers: of the encoder, from the bottom.
      num_encoder_layers: these and those from left to right above them.
      num_decoder_layers: how many.
      residual: see `layers.recurrent.encoder.RecurrentEncoder`.
      maxout_dim: units of the output layer, after the larger of each pair; None: there is none,
        and the last layer's output makes the logits.
      source_start: whether the decoder's state begins as the source says; else as zeros.
      share_embeddings: whether source and target have one table of vectors.
      tied_output: whether the output's matrix is the target's table.
      init_scale: all parameters are drawn evenly from between plus and minus this.
    """

    input_features: ClassVar[tuple[str, ...]] = ("encoder_input_tokens", "decoder_input_tokens")

    cell: Cell = GRU(reset_after=False)
    attention: Score = Additive()
    query: str = "previous"
    feed_input: bool = True
    embed_dim: int = 620
    encoder_dim: int = 1000
    hidden_dim: int = 1000
    num_bidirectional_layers: int = 1
    num_encoder_layers: int = 1
    num_decoder_layers: int = 1
    residual: bool = False
    maxout_dim: int | None = 500
    source_start: bool = True
    share_embeddings: bool = False
    tied_output: bool = False
    init_scale: float = 0.08

    def __post_init__(self) -> None:
        """Checks what no model can be built with.

        Raises:
          ModelError: an unknown query, a cell or score that is none, layers or widths that do not
            fit one another.
        """
        if not isinstance(self.cell, Cell):
            raise self.refused("cell", "it must be a cell, such as cells.LSTM()")
        if self.cell.projection:
            raise self.refused("cell", "it must be one without a projection")
        if not isinstance(self.attention, Score):
            raise self.refused("attention", "it must be a score, such as alignment.Additive()")
        super().__post_init__()
        if self.query not in QUERIES:
            raise self.refused("query", f"it must be one of {QUERIES}")
        if self.num_bidirectional_layers > self.num_encoder_layers:
            raise self.refused(
                "num_bidirectional_layers",
                f"it must not be above num_encoder_layers, which is {self.num_encoder_layers}",
            )
        if self.maxout_dim is not None and self.query == CURRENT:
            raise self.refused("maxout_dim", "with query 'current' it must be None")
        if self.maxout_dim is not None and self.num_decoder_layers > 1:
            # The output layer reads the state of the only layer (Bahdanau et al. 2015, A.2.2).
            raise self.refused("maxout_dim", "with more than one decoder layer it must be None")
        if self.tied_output and self._output_dim != self.embed_dim:
            raise ModelError(
                "AttentionSeq2Seq.tied_output needs an output layer as wide as the embeddings, but "
                f"it has {self._output_dim} units and embed_dim is {self.embed_dim}: make them "
                "equal, or set tied_output to False."
            )
        self.attention.shapes(self.hidden_dim, self._encoder_shape.output_dim)

    def setup(self) -> None:
        """Makes embeddings, encoder, decoder and the output."""
        draw = uniform(self.init_scale)
        dropout = Dropout(self.dropout_rate)
        last = self.residual, self.remat_policy, self.scan_unroll, self.dtype
        self.token_embedder = Embed(self.vocab_size, self.embed_dim, draw, self.dtype)
        if not self.share_embeddings:
            self.source_embedder = Embed(self.vocab_size, self.embed_dim, draw, self.dtype)
        shape = self._encoder_shape
        self.encoder = RecurrentEncoder(self.cell, shape, draw, dropout, *last)
        self.decoder = AttentionDecoder(
            self.cell,
            self.attention,
            self.num_decoder_layers,
            self.hidden_dim,
            self.embed_dim,
            shape.output_dim,
            self.query,
            self.feed_input,
            draw,
            dropout,
            *last,
        )
        if self.source_start:
            names = len(self.cell.state_names)
            self.start = Linear(
                self.num_decoder_layers * names * self.hidden_dim,
                ("embed", "mlp"),
                draw,
                use_bias=True,
                dtype=self.dtype,
            )
        if self.maxout_dim is not None:
            self.deep_output = Linear(
                2 * self.maxout_dim, ("embed", "mlp"), draw, use_bias=True, dtype=self.dtype
            )
        if not self.tied_output:
            self.output = OutputKernel(self.vocab_size, self._output_dim, draw)
        self.logit_bias = OutputBias(self.vocab_size)

    @property
    def batch_format(self) -> str:
        """Inputs to the encoder, targets to the decoder."""
        return "encoder_decoder"

    @property
    def _encoder_shape(self) -> EncoderShape:
        above = self.num_encoder_layers - self.num_bidirectional_layers
        return EncoderShape(self.num_bidirectional_layers, self.encoder_dim, above, self.hidden_dim)

    @property
    def _output_dim(self) -> int:
        return self.hidden_dim if self.maxout_dim is None else self.maxout_dim

    # Inside `apply`.

    def output_kernel(self) -> Array:
        """The matrix from `hidden_states` to logits, `[f, v]`."""
        return self.token_embedder.output_kernel() if self.tied_output else self.output()

    def output_bias(self) -> Array:
        """What is added to the logits, `[v]`."""
        return self.logit_bias()

    @intermediates.within(intermediates.DECODER)
    def hidden_states(  # type: ignore[override]  # features by their names
        self,
        *,
        encoder_input_tokens: Array,
        decoder_input_tokens: Array,
        encoder_segment_ids: Array | None = None,
        decoder_segment_ids: Array | None = None,
        enable_dropout: bool = False,
        **_: Array,
    ) -> Array:
        """What the output reads at each token, `[b, t, f]`.

        Args:
          encoder_input_tokens: int `[b, s]`.
          decoder_input_tokens: int `[b, t]`.
          encoder_segment_ids: int `[b, s]`, the number of each token's text, 0 on padding; None is
            one text a row, padded with token 0.
          decoder_segment_ids: int `[b, t]`; None is one text a row.
          enable_dropout: needs an rng `dropout`.
        """
        source, backward_bsf = self._encode(
            encoder_input_tokens, encoder_segment_ids, enable_dropout
        )
        steps = starts = texts_bt = None
        if decoder_segment_ids is not None:
            steps = steps_of_segments(decoder_segment_ids)
            if encoder_segment_ids is not None:
                texts_bt = decoder_segment_ids
                # The first text of a row begins with its own state like the others.
                first_bt = steps.valid & (jnp.cumsum(steps.valid, axis=1) == 1)
                steps = Steps(steps.reset | first_bt, steps.valid)
                starts = self._starts(source, backward_bsf, texts_bt)
        state = self._begin(source, backward_bsf)
        return self._read(
            decoder_input_tokens, source, state, steps, starts, texts_bt, enable_dropout
        )[0]

    def text_states(  # type: ignore[override]  # features by their names
        self,
        *,
        encoder_input_tokens: Array,
        encoder_segment_ids: Array | None = None,
        **_: Array,
    ) -> Array:
        """What the encoder has read from both ends, `[b, s, e]`."""
        return self._encode(encoder_input_tokens, encoder_segment_ids, False)[0].states_bse

    def prefill(self, batch: Batch, max_decode_length: int) -> Cache:
        """Reads the source, and the prompt if there is one."""
        tokens_bs, segments_bs = batch["encoder_input_tokens"], batch.get("encoder_segment_ids")
        source, backward_bsf = self._encode(tokens_bs, segments_bs, False)
        cache: Cache = {
            "source": source._asdict(),
            "state": self._begin(source, backward_bsf),
            "attended": jnp.zeros(tokens_bs.shape, jnp.float32),
        }
        prompt_bp = batch.get("decoder_input_tokens")
        if prompt_bp is None or not prompt_bp.shape[1]:
            return cache
        segments_bp = batch.get("decoder_segment_ids")
        steps = None if segments_bp is None else steps_of_segments(segments_bp)
        return self._extend(cache, prompt_bp, steps)[1]

    def decode(self, cache: Cache, tokens_bt: Array) -> tuple[Array, Cache]:
        """The hidden states of the next tokens, and the cache with them."""
        return self._extend(cache, tokens_bt, None)

    def _extend(self, cache: Cache, tokens_bt: Array, steps: Steps | None) -> tuple[Array, Cache]:
        source = Source(**cache["source"])
        x_btf, (state, read) = self._read(tokens_bt, source, cache["state"], steps)
        alignment_bts = read.alignment_bts
        if steps is not None:
            alignment_bts *= steps.valid[..., None]
        attended_bs = cache["attended"] + alignment_bts.sum(axis=1)
        return x_btf, cache | {"state": state, "attended": attended_bs}

    @intermediates.within(intermediates.ENCODER)
    def _encode(
        self, tokens_bs: Array, segments_bs: Array | None, enable_dropout: bool
    ) -> tuple[Source, Array]:
        embed = self.token_embedder if self.share_embeddings else self.source_embedder
        if segments_bs is None:
            segments_bs = (tokens_bs != 0).astype(jnp.int32)
        states_bse, backward_bsf = self.encoder(embed(tokens_bs), segments_bs, enable_dropout)
        return self.decoder.source(states_bse, segments_bs), backward_bsf

    def _begin(self, source: Source, backward_bsf: Array) -> dict[str, Any]:
        """The state before the first token of rows that have one text each."""
        rows = backward_bsf.shape[0]
        layers = initial_states(self.cell, rows, (self.hidden_dim,) * self.num_decoder_layers)
        if self.source_start:
            one_b1 = jnp.ones((rows, 1), source.segments_bs.dtype)
            starts = self._starts(source, backward_bsf, one_b1)
            layers = jax.tree.map(lambda a_b1f: a_b1f[:, 0], starts)
        state: dict[str, Any] = {"layers": layers}
        if self.query == CURRENT and self.feed_input:
            state["fed"] = jnp.zeros((rows, self.hidden_dim), jnp.float32)
        return state

    def _starts(self, source: Source, backward_bsf: Array, texts_bt: Array) -> States | None:
        """The state before the first token of each of these texts, float32 `[b, t, f]`."""
        if not self.source_start:
            return None
        is_of_text_bts = source.segments_bs[:, None] == texts_bt[..., None]
        first_bt = jnp.argmax(is_of_text_bts, axis=-1)
        h_btf = jnp.take_along_axis(backward_bsf, first_bt[..., None], axis=1)
        start_btf = jnp.tanh(self.start(h_btf).astype(jnp.float32))
        names = self.cell.state_names
        parts = iter(jnp.split(start_btf, self.num_decoder_layers * len(names), axis=-1))
        return {
            f"layers_{i}": {name: next(parts) for name in names}
            for i in range(self.num_decoder_layers)
        }

    def _read(
        self,
        tokens_bt: Array,
        source: Source,
        state: dict[str, Any],
        steps: Steps | None,
        starts: States | None = None,
        texts_bt: Array | None = None,
        enable_dropout: bool = False,
    ) -> tuple[Array, tuple[dict[str, Any], Read]]:
        """What the output reads; and the state after the tokens, with what the decoder gave."""
        x_bte = self.token_embedder(tokens_bt)
        read, state = self.decoder(x_bte, source, state, steps, starts, texts_bt, enable_dropout)
        y_btf = read.outputs_btf
        if self.maxout_dim is not None:
            seen = (read.queries_btf.astype(self.dtype), x_bte, read.contexts_bte)
            deep_btf = self.deep_output(jnp.concatenate(seen, axis=-1))
            y_btf = deep_btf.reshape(*deep_btf.shape[:-1], self.maxout_dim, 2).max(axis=-1)
            drop = enable_dropout and self.dropout_rate
            y_btf = Dropout(self.dropout_rate)(y_btf, self.make_rng("dropout") if drop else None)
        return y_btf, (state, read)

    # What the engine calls.

    @nn.nowrap
    def log_coverage(self, cache: Cache) -> Array:
        """How little of the source was attended to so far; see `CoversSource` of the protocols."""
        attended_bs = jnp.minimum(cache["attended"], 1.0)
        valid_bs = cache["source"]["segments_bs"] != 0
        # A token that was not seen at all would make every other hypothesis equal.
        log_bs = jnp.log(jnp.maximum(attended_bs, 1e-9))
        return jnp.where(valid_bs, log_bs, 0.0).sum(axis=-1)
