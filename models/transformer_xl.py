"""Transformer-XL (Dai et al. 2019): a decoder with a memory of the text before its row.

What the paper leaves open is the released code's: post-norm layers, no biases in attention, an
adaptive softmax whose tables are the embeddings', which enter times the root of their width.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from models import segment_memory
from models.carrying import CarryingLanguageModel
from models.language_model import Cache
from models.layers import intermediates
from models.layers.adaptive_softmax import AdaptiveEmbed, AdaptiveOutput, AdaptiveSoftmax
from models.layers.attention.masks import Mask
from models.layers.attention.positions import RelativePositionScores
from models.layers.block import Context, PostNormBlock
from models.layers.dropout import Dropout
from models.layers.linear import normal
from models.layers.mlps import MLP
from models.layers.norms import LayerNorm
from models.layers.stacks.builder import TransformerLayers
from models.layers.stacks.sharing import PartlySharedStack
from models.model import Array, Batch
from models.segment_memory import Memory

_BIASES = ("self_attention/relative/content_bias", "self_attention/relative/distance_bias")


class TransformerXL(CarryingLanguageModel):
    """Transformer-XL, with an adaptive softmax or a plain one.

    The memory is what entered each layer of the last `memory_length` tokens (section 3.2): it is
    the carry of contiguous rows, and no gradient flows into it. Without a carry a row begins with
    no memory. Generation reads the prompt as one segment, and then sees the memory and the token.

    The defaults are the base model of WikiText-103.

    Attributes:
      embed_dim: width of the layers.
      num_heads: attention heads.
      head_dim: units of one head.
      mlp_dim: hidden units of the MLP.
      num_layers: how many.
      memory_length: tokens of the memory.
      same_length: whether every token sees `memory_length` keys, itself the last; else all
        that the row has before it, and the memory.
      clamp_length: distance beyond which all are alike; None is none.
      shared_biases: whether u and v, of relative positions, are the same in all layers.
      zero_memory: whether a memory before the first token is of zeros that are attended to, as in
        the code that trained the released weights; else there is none. It needs `carries`, for
        rows of one text.
      cutoffs: first token of each tail of the adaptive softmax, in ascending order; those beyond
        the vocabulary count for nothing, and none is a plain softmax.
      divisor: the vectors of each tail are so many times narrower than those of the one before.
      table_dim: width of the embeddings of the head; None is `embed_dim`.
      tied_projections: whether embeddings and output project tails by the same matrices.
      attention_dropout_rate: on attention weights; None is `dropout_rate`.
      norm_epsilon: of every norm.
      init_scale: standard deviation of the first matrices and tables; None is 0.02.
    """

    embed_dim: int = 410
    num_heads: int = 10
    head_dim: int = 41
    mlp_dim: int = 2100
    num_layers: int = 16
    memory_length: int = 150
    same_length: bool = False
    clamp_length: int | None = None
    shared_biases: bool = True
    zero_memory: bool = False
    cutoffs: tuple[int, ...] = ()
    divisor: int = 1
    table_dim: int | None = None
    tied_projections: bool = True
    attention_dropout_rate: float | None = None
    norm_epsilon: float = 1e-5
    init_scale: float | None = None

    def __post_init__(self) -> None:
        """Checks what no model can be built with.

        Raises:
          ModelError: cutoffs that do not ascend, tails of no width, an odd width, zeros as memory
            without `carries`, a scale of 0 or less; and as every model.
        """
        # gin and JSON give lists; a model's fields are hashed.
        if isinstance(self.cutoffs, list | tuple):
            self.cutoffs = tuple(self.cutoffs)
        super().__post_init__()
        rising = [0, *self.cutoffs] if isinstance(self.cutoffs, tuple) else [None]
        if not all(type(cut) is int for cut in rising) or sorted(set(rising)) != rising:
            raise self.refused("cutoffs", "it must be a list of rising whole numbers above 0")
        if not self._table_dim // self.divisor ** len(self.cutoffs):
            raise self.refused("divisor", f"tails of table_dim {self._table_dim} have no width")
        if self.embed_dim % 2:
            raise self.refused("embed_dim", "distances have as many sines as cosines: make it even")
        if self.init_scale is not None and not self.init_scale > 0:
            raise self.refused("init_scale", "it must be above 0")
        if self.zero_memory and not self.carries:
            raise self.refused("zero_memory", "it needs carries = True, for rows of one text")

    @property
    def _table_dim(self) -> int:
        return self.embed_dim if self.table_dim is None else self.table_dim

    def setup(self) -> None:
        """Makes embeddings, layers and the output."""
        init = normal(0.02 if self.init_scale is None else self.init_scale)
        dropout = Dropout(self.dropout_rate)
        layers = TransformerLayers.of(self, LayerNorm, head_dim=self.head_dim)
        positions = functools.partial(
            RelativePositionScores,
            kernel_init=init,
            bias_init=init,
            in_halves=True,
            clamp_length=self.clamp_length,
            dropout=dropout,
        )
        rate = self.attention_dropout_rate
        own: dict[str, Any] = {} if rate is None else {"dropout": Dropout(rate)}
        attention = layers.attention(init, init, make_relative=positions, **own)
        mlp = layers.mlp(MLP, nn.relu, self.mlp_dim, init, init, use_bias=True, dropout=dropout)
        block = layers.block(PostNormBlock, attention, mlp)
        self.decoder = PartlySharedStack(
            block,
            self.num_layers,
            self.remat_policy,
            self.scan_unroll,
            _BIASES if self.shared_biases else (),
        )
        self.token_embedder = AdaptiveEmbed(
            self.vocab_size,
            self.embed_dim,
            self._table_dim,
            self.cutoffs,
            self.divisor,
            init,
            normal(0.01),
            self.dtype,
        )
        self.output = AdaptiveOutput(
            self.vocab_size, self.cutoffs, self.tied_projections, normal(0.01), init
        )

    # Inside `apply`.

    def output_kernel(self) -> AdaptiveSoftmax:  # type: ignore[override]  # see `embeddings.Output`
        """The adaptive softmax; its scores are log-probabilities."""
        return self.output(self.token_embedder.tables, self.token_embedder.projections)

    def embed(self, tokens_bt: Array) -> Array:
        """Embeddings times the root of their width, `[b, t, e]`."""
        x_bte = self.token_embedder(tokens_bt)
        return x_bte * jnp.asarray(self.embed_dim**0.5, x_bte.dtype)

    @intermediates.within(intermediates.DECODER)
    def hidden_states_and_carry(  # type: ignore[override]  # features by their names
        self,
        *,
        decoder_input_tokens: Array,
        decoder_segment_ids: Array | None = None,
        row_continues: Array | None = None,
        carry: Memory | None = None,
        enable_dropout: bool = False,
        **_: Array,
    ) -> tuple[Array, Memory | None]:
        """The last layer's hidden states, and the memory after each row's last token.

        Args:
          decoder_input_tokens: int `[b, t]`.
          decoder_segment_ids: int `[b, t]`, 0 on padding; None is one text a row. The first text
            of a row continues `carry`.
          row_continues: int `[b]`, 0 on the rows that begin without memory; None is 1 on all.
          carry: the memory; None is none, or with `zero_memory` zeros.
          enable_dropout: needs an rng `dropout`.

        Returns:
          `[b, t, e]`, and a tree like `carry`, or None where that is None.
        """
        b, t = decoder_input_tokens.shape
        if self.zero_memory and carry is None:
            carry = self.initial_carry(b)
        x_bte = self._dropped(self.embed(decoder_input_tokens), enable_dropout)
        window = self.memory_length if self.same_length else None
        if carry is None:
            mask = Mask(
                causal=True,
                window=window,
                query_segments_bt=decoder_segment_ids,
                key_segments_bs=decoder_segment_ids,
            )
            x_bte = self.decoder(x_bte, Context(mask, enable_dropout=enable_dropout))
            return self._dropped(x_bte, enable_dropout), None
        carry = segment_memory.continued(carry, self.initial_carry(b), row_continues)
        m = self.memory_length
        first_b = m - carry["length"]
        segments, text_bt = decoder_segment_ids, None
        key_segments = None
        if segments is not None and self.zero_memory:
            # Padding before a text is part of the zeros before it.
            text_bt = segments != 0
            first_b += leading_padding(text_bt)
            segments = None
        elif segments is not None:
            key_segments = jnp.pad(segments, ((0, 0), (m, 0)), constant_values=1)
        mask = Mask(
            causal=True,
            window=window,
            query_segments_bt=segments,
            key_segments_bs=key_segments,
            key_valid_bs=jnp.arange(m + t) >= first_b[:, None],
            first_query=jnp.int32(m),
        )
        context = Context(mask, text_bt=text_bt, enable_dropout=enable_dropout)
        histories = segment_memory.histories(carry)
        x_bte, inputs_lbte = self.decoder.recur(x_bte, context, histories)
        carry = segment_memory.remembered(carry, inputs_lbte, decoder_segment_ids)
        return self._dropped(x_bte, enable_dropout), carry

    def prefill(self, batch: Batch, max_decode_length: int) -> Cache:
        """Runs the prompt, as one segment, and fills the cache with its keys and values."""
        prompt_bp = batch["decoder_input_tokens"]
        b, p = prompt_bp.shape
        segments_bp = batch.get("decoder_segment_ids")
        text_bp = jnp.ones((b, p), bool) if segments_bp is None else segments_bp != 0
        # Keys and values of zeros are zeros, as in an empty cache.
        before = self.memory_length if self.zero_memory else 0
        num_slots = before + max_decode_length
        cache = {
            "layers": self.decoder.empty_cache(b, num_slots),
            "next_slot": jnp.int32(before),
            "valid": jnp.arange(num_slots) >= leading_padding(text_bp)[:, None],
        }
        if not p:
            return cache
        window = self.memory_length if self.same_length else None
        text = text_bp if self.zero_memory else None
        return self._extended(cache, prompt_bp, window, text)[1]

    def decode(self, cache: Cache, tokens_bt: Array) -> tuple[Array, Cache]:
        """Hidden states of the next tokens, each of which sees itself and the memory."""
        window = self.memory_length + (not self.same_length)
        return self._extended(cache, tokens_bt, window, None)

    def _extended(
        self, cache: Cache, tokens_bt: Array, window: int | None, text_bt: Array | None
    ) -> tuple[Array, Cache]:
        slot = cache["next_slot"]
        mask = Mask(causal=True, window=window, key_valid_bs=cache["valid"], first_query=slot)
        context = Context(mask, first_slot=slot, text_bt=text_bt)
        x_bte, layers = self.decoder.decode(self.embed(tokens_bt), context, cache["layers"])
        return x_bte, cache | {"layers": layers, "next_slot": slot + tokens_bt.shape[1]}

    def _dropped(self, x_bte: Array, enable_dropout: bool) -> Array:
        draw = enable_dropout and self.dropout_rate
        return Dropout(self.dropout_rate)(x_bte, self.make_rng("dropout") if draw else None)

    # What the engine calls.

    @nn.nowrap
    def initial_carry(self, rows: int) -> Memory:
        """The memory before the first token: none, or with `zero_memory` zeros that count."""
        m = self.memory_length
        filled = m if self.zero_memory else 0
        return segment_memory.empty(rows, self.num_layers, m, self.embed_dim, self.dtype, filled)


def leading_padding(text_bt: jax.Array) -> jax.Array:
    """How many places stand before the first token of each row, int `[b]`."""
    return (jnp.cumsum(text_bt, axis=1) == 0).sum(axis=1)
