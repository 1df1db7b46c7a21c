"""Recurrent language models: layers of RNN, LSTM or GRU cells (Zaremba et al. 2014)."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import linen as nn

from models.carrying import CarryingLanguageModel
from models.errors import ModelError
from models.headed import concat_pooled, last_valid
from models.language_model import Cache, target_weights
from models.layers import parts
from models.layers.dropout import Dropout
from models.layers.embeddings import Embed, OutputBias, OutputKernel
from models.layers.linear import Linear, normal, uniform
from models.layers.recurrent.cells import LSTM, Cell
from models.layers.recurrent.stack import (
    RecurrentStack,
    StackDropout,
    States,
    continued,
    initial_states,
)
from models.layers.recurrent.time_scan import steps_of_segments
from models.model import Array, Batch

_POOLINGS = ("last", "concat")


class RecurrentLM(CarryingLanguageModel):
    """A language model whose memory is the state of recurrent layers.

    A state of zeros stands before every text: packed rows set it back where the segment changes,
    and padding leaves it as it is. It is also the decoding cache, and the carry of the engine's
    protocol `Carries`.

    The defaults are the medium model of Zaremba et al. 2014, section 4.1. Dropout is on what
    goes into each layer and into the output, and never on the state. The other kinds are those of
    AWD-LSTM (Merity et al. 2018, sections 2 and 4).

    Attributes:
      cell: of every layer, such as `layers.recurrent.cells.LSTM()`.
      num_layers: how many.
      embed_dim: size of a token's vector.
      hidden_dim: units of a layer; None is `embed_dim`.
      last_dim: units of the last layer; None is those of the others.
      init_scale: all parameters are drawn evenly from between plus and minus this.
      layer_init_scale: those of the layers; None is `init_scale`.
      tied_output: whether the output's matrix is the embeddings'.
      use_output_bias: whether the output adds a bias.
      input_dropout_rate: of what goes into the first layer; None is `dropout_rate`.
      between_dropout_rate: of what goes from layer to layer; None is `dropout_rate`.
      variational_dropout: whether these and the output's drop the same units at all tokens of a
        row (Gal and Ghahramani 2016); packed texts of a row share them.
      embedding_dropout_rate: of words: a dropped one is a vector of zeros wherever it is in the
        batch. A tied output keeps it.
      recurrent_dropout_rate: of the entries of the recurrent matrices, for a whole batch.
      activation_penalty: AWD-LSTM's α, see `layers.recurrent.stack.RecurrentStack`.
      temporal_penalty: its β, see there too.
      draws_lengths: whether, with `carries`, the rows of each training batch are of a length that
        is drawn for it, as AWD-LSTM's are.
      pooling: what a `head` reads: the "last" token's vector, or ULMFiT's "concat", the last one,
        the largest and the mean of each unit over a row's tokens (Howard and Ruder 2018, section
        3.3).
      pooler_dim: units of a layer with ReLU between that and the head, ULMFiT's 50; None is none.
      remat_policy: "dots" stores the products and states of all tokens, "full" the hidden states
        that pass between layers.
      scan_unroll: tokens for each turn of the loop over time.
    """

    cell: Cell = LSTM()
    num_layers: int = 2
    embed_dim: int = 650
    hidden_dim: int | None = None
    last_dim: int | None = None
    init_scale: float = 0.05
    layer_init_scale: float | None = None
    tied_output: bool = False
    use_output_bias: bool = True
    input_dropout_rate: float | None = None
    between_dropout_rate: float | None = None
    variational_dropout: bool = False
    embedding_dropout_rate: float = 0.0
    recurrent_dropout_rate: float = 0.0
    activation_penalty: float = 0.0
    temporal_penalty: float = 0.0
    draws_lengths: bool = False
    pooling: str = "last"
    pooler_dim: int | None = None

    def __post_init__(self) -> None:
        """Checks what no model can be built with.

        Raises:
          ModelError: a cell that is none or has a projection, a tied output of another width, a
            pooling that is none, a penalty below 0, a scale of 0 or less, or drawn lengths of rows
            that do not carry a state.
        """
        if not isinstance(self.cell, Cell):
            raise self.refused("cell", "it must be a cell, such as cells.LSTM()")
        if self.cell.projection:
            raise self.refused("cell", "it must be one without a projection")
        super().__post_init__()
        if self.pooling not in _POOLINGS:
            raise self.refused("pooling", f"it must be one of {', '.join(_POOLINGS)}")
        last = self.last_dim or self.hidden_dim or self.embed_dim
        if self.tied_output and last != self.embed_dim:
            raise ModelError(
                "RecurrentLM.tied_output needs a last layer as wide as the embeddings, but it has "
                f"{last} units (hidden_dim is {self.hidden_dim}, last_dim {self.last_dim}) and "
                f"embed_dim is {self.embed_dim}: set last_dim to {self.embed_dim}, or tied_output "
                "to False."
            )
        for name in ("activation_penalty", "temporal_penalty"):
            if getattr(self, name) < 0:
                raise self.refused(name, "it must be 0 or more")
        for name in ("init_scale", "layer_init_scale"):
            scale = getattr(self, name)
            if scale is not None and not scale > 0:
                raise self.refused(name, "it must be above 0")
        if self.draws_lengths and not self.carries:
            raise self.refused("draws_lengths", "rows that continue one another have carries=True")

    @property
    def text_format(self) -> str:
        """As of every `CarryingLanguageModel`, or with lengths that are drawn."""
        drawn = "_of_drawn_lengths" if self.draws_lengths else ""
        return super().text_format + drawn

    def setup(self) -> None:
        """Makes embeddings, layers and the output."""
        draw = uniform(self.init_scale)
        self.token_embedder = Embed(self.vocab_size, self.embed_dim, draw, self.dtype)
        inputs, between = (
            self.dropout_rate if rate is None else rate
            for rate in (self.input_dropout_rate, self.between_dropout_rate)
        )
        shared = (-2,) if self.variational_dropout else ()
        layer_scale = self.init_scale if self.layer_init_scale is None else self.layer_init_scale
        self.decoder = RecurrentStack(
            self.cell,
            self._units,
            uniform(layer_scale),
            StackDropout(
                Dropout(inputs, shared),
                Dropout(between, shared),
                Dropout(self.dropout_rate, shared),
                Dropout(self.recurrent_dropout_rate),
            ),
            self.remat_policy,
            self.scan_unroll,
            self.dtype,
            self.activation_penalty,
            self.temporal_penalty,
        )
        if not self.tied_output:
            self.output = OutputKernel(self.vocab_size, self._units[-1], draw)
        if self.use_output_bias:
            self.logit_bias = OutputBias(self.vocab_size, draw)
        if self.head is not None and self.pooler_dim:
            # He's, for ReLU: ULMFiT's paper has none.
            width = self._units[-1] * (3 if self.pooling == "concat" else 1)
            init = normal((2 / width) ** 0.5)
            self.pooler = Linear(self.pooler_dim, ("embed", "mlp"), init, True, self.dtype)

    @property
    def _units(self) -> tuple[int, ...]:
        units = self.hidden_dim or self.embed_dim
        return (units,) * (self.num_layers - 1) + (self.last_dim or units,)

    # Inside `apply`.

    def output_kernel(self) -> Array:
        """The matrix from `hidden_states` to logits, `[f, v]`."""
        return self.token_embedder.output_kernel() if self.tied_output else self.output()

    def output_bias(self) -> Array | None:
        """The bias of the output, `[v]`, if it has one."""
        return self.logit_bias() if self.use_output_bias else None

    def hidden_states_and_carry(  # type: ignore[override]  # features by their names
        self,
        *,
        decoder_input_tokens: Array,
        decoder_segment_ids: Array | None = None,
        row_continues: Array | None = None,
        carry: States | None = None,
        enable_dropout: bool = False,
        **features: Array,
    ) -> tuple[Array, States]:
        """The last layer's hidden states, and the state after each row's last token.

        Args:
          decoder_input_tokens: int `[b, t]`.
          decoder_segment_ids: int `[b, t]`, 0 on padding; None is one text a row. The first text
            of a row continues `carry`.
          row_continues: int `[b]`, 0 on the rows that begin with a state of zeros and not with
            `carry`; None is 1 on all.
          carry: the state before the first token; None is `initial_carry`.
          enable_dropout: needs an rng `dropout`.
          features: of the batch; the targets say where rows without segments end.

        Returns:
          `[b, t, f]`, and a tree like `carry`.
        """
        if carry is None:
            carry = self.initial_carry(decoder_input_tokens.shape[0])
        else:
            carry = continued(carry, row_continues)
        steps = None if decoder_segment_ids is None else steps_of_segments(decoder_segment_ids)
        x_bte = self.token_embedder(decoder_input_tokens)
        if enable_dropout and self.embedding_dropout_rate:
            words_v = Dropout(self.embedding_dropout_rate)(
                jnp.ones(self.vocab_size, x_bte.dtype), self.make_rng("dropout")
            )
            x_bte *= jnp.take(words_v, decoder_input_tokens)[..., None]
        text_bt = None if steps is not None else _text_of(features)
        return self.decoder(x_bte, carry, steps, enable_dropout, text_bt)

    @parts.part(parts.HEAD)
    def pooled(self, x_bte: Array, valid_bt: Array, enable_dropout: bool = False) -> Array:
        """The vector that a row is classified by, `[b, f]`; see `pooling` and `pooler_dim`."""
        pooled = last_valid(x_bte, valid_bt)
        if self.pooling == "concat":
            pooled = concat_pooled(x_bte, valid_bt)
        if not self.pooler_dim:
            return pooled
        draw = enable_dropout and self.dropout_rate
        key = self.make_rng("dropout") if draw else None
        return nn.relu(self.pooler(Dropout(self.dropout_rate)(pooled, key)))

    def prefill(self, batch: Batch, max_decode_length: int) -> Cache:
        """Reads the prompt; the state is of the same size for any number of tokens."""
        if not batch["decoder_input_tokens"].shape[1]:
            return self.initial_carry(batch["decoder_input_tokens"].shape[0])
        return self.hidden_states_and_carry(**batch)[1]

    def decode(self, cache: Cache, tokens_bt: Array) -> tuple[Array, Cache]:
        """The hidden states of the next tokens, and the state after them."""
        return self.hidden_states_and_carry(decoder_input_tokens=tokens_bt, carry=cache)

    # What the engine calls.

    @nn.nowrap
    def initial_carry(self, rows: int) -> States:
        """The state before the first token: zeros, float32 `[rows, units]` each."""
        return initial_states(self.cell, rows, self._units)


def _text_of(features: Mapping[str, Array]) -> Array | None:
    """Up to the last target that counts, bool `[b, t]`; None without targets."""
    if "decoder_target_tokens" not in features:
        return None
    counts_bt = (target_weights(features) != 0).astype(jnp.int32)
    return jax.lax.cummax(counts_bt, axis=1, reverse=True) > 0
