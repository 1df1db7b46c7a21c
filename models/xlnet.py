"""XLNet (Yang et al. 2019): an encoder that predicts tokens in any order of them.

Two streams pass the layers side by side. The content stream is an encoder's; a query stream knows
where a token stands and what comes before it in the order, and not the token itself. What the paper
leaves open is the released code's: post-norm layers without biases in attention, exact GELU.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from models import losses, segment_memory
from models.encoder_only import EncoderOnly
from models.errors import ModelError
from models.layers import embeddings, intermediates, parts
from models.layers.attention.masks import Mask
from models.layers.attention.positions import RelativePositionScores
from models.layers.attention.relative_segments import RelativeSegmentScores, Segments
from models.layers.attention.two_streams import StreamsContext, TwoStreamBlock
from models.layers.dropout import Dropout
from models.layers.embeddings import Embed, OutputBias
from models.layers.linear import Linear, axis_names, normal
from models.layers.mlps import ACTIVATIONS, MLP
from models.layers.norms import LayerNorm
from models.layers.stacks.builder import TransformerLayers
from models.model import Array, Batch, Params
from models.segment_memory import Memory

KEY_RANK, OWN_RANK = "perm_key_rank", "perm_own_rank"


class XLNet(EncoderOnly):
    """XLNet, with the output that its pre-training needs or without.

    A batch of its pre-training has ranks in the order of prediction: a key is seen by the query
    stream where its `perm_key_rank` is below the query's `perm_own_rank`, and by the content stream
    also at the query's own place. Logits are then the query stream's, else the content's.

    With `carries` rows go on from those before, as Transformer-XL's: the memory is what entered
    each layer of the content stream.

    Attributes:
      embed_dim: width of the layers.
      mlp_dim: hidden units of the MLP.
      num_heads: attention heads, which divide `embed_dim` among them.
      num_layers: how many.
      norm_epsilon: of every norm.
      activation: of the MLP, one of `ACTIVATIONS`.
      causal: whether a token sees none after it (`attn_type` "uni").
      clamp_length: distance in either direction beyond which all are alike; None is none.
      use_output: whether there is an output for tokens, the embeddings and a bias.
      memory_length: tokens of the memory.
      reuse_length: tokens at the beginning of a row that go into the memory, where rows overlap as
        the released code's do; None is all.
      carries: whether training and evaluation hand the memory from batch to batch.
      pad_id: the token that pads where a batch has no segments.
      masked_places: most tokens of a row that are predicted, which alone then have logits in
        training (85 of 512); a batch that predicts more is computed whole, as with None.
      logit_chunks: see `losses.output_cross_entropy`.
    """

    offsets: ClassVar[tuple[str, ...]] = (*EncoderOnly.offsets, "pad_id")

    embed_dim: int = 768
    mlp_dim: int = 3072
    num_heads: int = 12
    num_layers: int = 12
    norm_epsilon: float = 1e-12
    activation: str = "gelu"
    causal: bool = False
    clamp_length: int | None = None
    use_output: bool = True
    memory_length: int = 384
    reuse_length: int | None = None
    carries: bool = False
    pad_id: int = 5
    masked_places: int | None = None
    logit_chunks: int | None = None

    trained: ClassVar[str] = "trained_outputs"

    def __post_init__(self) -> None:
        """Checks what XLNet cannot be built with.

        Raises:
          ModelError: an unknown activation, an odd width, a padding token that the vocabulary
            lacks, a head on rows that go on; and as every model.
        """
        if self.head is not None:
            # What pre-training alone needs.
            self.use_output = False
        super().__post_init__()
        if self.activation not in ACTIVATIONS:
            raise self.refused("activation", f"it must be one of {', '.join(ACTIVATIONS)}")
        if self.embed_dim % 2:
            raise self.refused("embed_dim", "distances have as many sines as cosines: make it even")
        if self.pad_id >= self.vocab_size:
            raise self.refused("pad_id", f"it must be below vocab_size {self.vocab_size}")
        if self.head is not None and self.carries:
            raise self.refused("carries", "rows of a task with labels do not go on")

    def setup(self) -> None:
        """Makes embeddings, layers and heads."""
        init = normal(0.02)
        dropout = Dropout(self.dropout_rate)
        self.token_embedder = Embed(self.vocab_size, self.embed_dim, init, self.dtype)
        # What enters the query stream at every place.
        self.mask_embedding = self.param(
            "mask_embedding", axis_names((None, None, "embed"), init), (1, 1, self.embed_dim)
        )
        layers = TransformerLayers.of(self, LayerNorm)
        positions = functools.partial(
            RelativePositionScores,
            kernel_init=init,
            bias_init=init,
            in_halves=True,
            clamp_length=self.clamp_length,
            dropout=dropout,
        )
        segments = functools.partial(RelativeSegmentScores, init=init)
        attention = layers.attention(init, init, make_relative=positions, make_segments=segments)
        mlp = layers.mlp(
            MLP, ACTIVATIONS[self.activation], self.mlp_dim, init, init, use_bias=True,
            dropout=dropout,
        )  # fmt: skip
        block = layers.block(TwoStreamBlock, attention, mlp)
        self.encoder = layers.stack(self.num_layers, block)
        if self.use_output:
            self.logit_bias = OutputBias(self.vocab_size)
        if self.head is not None and self.head.reads_row:
            self.pooler = Linear(self.embed_dim, ("embed", "mlp"), init, True, self.dtype)
        self.make_head(init)

    @property
    def batch_format(self) -> str:
        """The head's; without one, text with an order of prediction."""
        if self.head is not None:
            return self.head.batch_format
        kind = "permutation_language_model"
        return f"contiguous_{kind}" if self.carries else kind

    # What runs inside `apply`.

    def hidden_states(self, **features: Any) -> Array:
        """What leaves the stack of the content stream, `[b, s, e]`, in no order of prediction."""
        features = {name: x for name, x in features.items() if name not in (KEY_RANK, OWN_RANK)}
        return self.hidden_states_and_carry(**features)[0]

    @intermediates.within(intermediates.ENCODER)
    def hidden_states_and_carry(
        self,
        *,
        encoder_input_tokens: Array,
        encoder_token_types: Array | None = None,
        encoder_segment_ids: Array | None = None,
        perm_key_rank: Array | None = None,
        perm_own_rank: Array | None = None,
        row_continues: Array | None = None,
        carry: Memory | None = None,
        enable_dropout: bool = False,
        **_: Any,
    ) -> tuple[Array, Memory | None]:
        """What leaves the stack, and the memory after each row.

        Args:
          encoder_input_tokens: int `[b, s]`.
          encoder_token_types: int `[b, s]`, segments of which only the difference has a meaning;
            None is one. Those of the memory are 0.
          encoder_segment_ids: int `[b, s]`, 0 on padding; None tells padding by `pad_id`.
          perm_key_rank: int `[b, s]`; with `perm_own_rank` there is a query stream.
          perm_own_rank: int `[b, s]`, 0 or above.
          row_continues: int `[b]`, 0 on the rows that begin without memory; None is 1 on all.
          carry: the memory; None is none.
          enable_dropout: needs an rng `dropout`.

        Returns:
          `[b, s, e]`, of the query stream where there is one; and a tree like `carry`.
        """
        b, s = encoder_input_tokens.shape
        types = encoder_token_types
        types = jnp.zeros_like(encoder_input_tokens) if types is None else types
        segments_bs = encoder_segment_ids
        if segments_bs is None:
            segments_bs = (encoder_input_tokens != self.pad_id).astype(jnp.int32)
        m, valid_bs = 0, None
        if carry is not None:
            carry = segment_memory.continued(carry, self.initial_carry(b), row_continues)
            m = self.memory_length
            valid_bs = jnp.pad(segment_memory.seen(carry), ((0, 0), (0, s)), constant_values=True)

        def of_keys(x_bs: Array, of_memory: int) -> Array:
            return jnp.pad(x_bs, ((0, 0), (m, 0)), constant_values=of_memory)

        mask = Mask(
            causal=self.causal,
            # A token of padding too, so that it sees something.
            sees_itself=True,
            query_segments_bt=segments_bs,
            # The first text of a row continues from the memory.
            key_segments_bs=of_keys(segments_bs, 1),
            key_valid_bs=valid_bs,
            first_query=None if carry is None else jnp.int32(m),
        )
        x_bse = self._dropped(self.token_embedder(encoder_input_tokens), enable_dropout)
        query_mask = None
        if perm_key_rank is not None and perm_own_rank is not None:
            # All tokens see the memory.
            key_ranks_bs = of_keys(perm_key_rank, -1)
            mask = dataclasses.replace(
                mask, query_ranks_bt=perm_own_rank, key_ranks_bs=key_ranks_bs
            )
            query_mask = dataclasses.replace(mask, sees_itself=False)
            query_bse = jnp.broadcast_to(self.mask_embedding.astype(x_bse.dtype), x_bse.shape)
            query_bse = self._dropped(query_bse, enable_dropout)
            x_bse = jnp.concatenate([x_bse, query_bse], axis=1)
        context = StreamsContext(
            mask,
            enable_dropout=enable_dropout,
            segments=Segments(types, of_keys(types, 0)),
            query_mask=query_mask,
        )
        if carry is None:
            x_bse = self.encoder(x_bse, context)
        else:
            x_bse, inputs_lbse = self.encoder.recur(x_bse, context, segment_memory.histories(carry))
            reused = slice(0, s if self.reuse_length is None else min(self.reuse_length, s))
            own = None if encoder_segment_ids is None else encoder_segment_ids[:, reused]
            carry = segment_memory.remembered(carry, inputs_lbse[:, :, reused], own)
        # The last one is the query stream, where there are two.
        return self._dropped(x_bse[:, -s:], enable_dropout), carry

    def __call__(self, **features: Any) -> Array:
        """Logits of the token at each place, float32 `[b, s, v]`, or what the task's head gives.

        Hidden states of a model without either.

        Raises:
          ModelError: a feature is missing.
        """
        if self.head is not None:
            return self.head_logits(**features)
        self.check_features(features)
        x_bse, _ = self.hidden_states_and_carry(**features)
        if not self.use_output:
            return x_bse
        return self._token_logits(x_bse)

    def trained_outputs(self, **features: Any) -> Array:
        """As `__call__`, with logits at as many places as training has them at."""
        if self.head is not None or not self.use_output or self.masked_places is None:
            return self(**features)
        x_bse, _ = self.hidden_states_and_carry(**features)
        return self._token_logits(x_bse[:, : self.masked_places])

    def _token_logits(self, x_bse: Array) -> Array:
        kernel_ev = self.token_embedder.output_kernel()
        logits_bsv = embeddings.logits(x_bse, kernel_ev, self.logit_bias())
        return nn.with_logical_constraint(logits_bsv, ("batch", "length", "vocab"))

    def _dropped(self, x_bse: Array, enable_dropout: bool) -> Array:
        draw = enable_dropout and self.dropout_rate
        return Dropout(self.dropout_rate)(x_bse, self.make_rng("dropout") if draw else None)

    @parts.part(parts.HEAD)
    def pooled_rows(
        self, x_bse: Array, features: Mapping[str, Any], enable_dropout: bool = False
    ) -> Array:
        """The last token's vector through a layer with tanh: [CLS] stands at the end of a row."""
        segments_bs = features.get("encoder_segment_ids")
        if segments_bs is None:
            segments_bs = features["encoder_input_tokens"] != self.pad_id
        places = jnp.arange(x_bse.shape[1])
        last_b = jnp.max(jnp.where(segments_bs != 0, places, 0), axis=1)
        last_be = jnp.take_along_axis(x_bse, last_b[:, None, None], axis=1)[:, 0]
        return jnp.tanh(self.pooler(last_be))

    def _loss_and_carry(
        self, batch: Batch, carry: Memory | None, enable_dropout: bool
    ) -> tuple[Array, losses.Metrics, Memory | None]:
        for name in (KEY_RANK, OWN_RANK):
            if name not in batch:
                raise ModelError(
                    f"the batch has {sorted(batch)}, but XLNet's loss reads {name}: is it a batch "
                    f"of the format '{self.batch_format}'?"
                )
        x_bse, carry = self.hidden_states_and_carry(
            **batch, carry=carry, enable_dropout=enable_dropout
        )
        loss, found = losses.chosen_cross_entropy(
            x_bse,
            self.token_embedder.output_kernel(),
            batch["encoder_target_tokens"],
            batch["encoder_loss_weights"],
            most=self.masked_places,
            bias_v=self.logit_bias(),
            num_chunks=self.logit_chunks,
        )
        metrics = {name: found[name] for name in ("loss", "token_accuracy")}
        return loss, metrics, carry

    def _predictions(self, **features: Any) -> dict[str, Array]:
        self.check_features(features)
        found = {"hidden_states": self.hidden_states(**features).astype(jnp.float32)}
        if self.use_output:
            logits_bsv = self._token_logits(self.hidden_states_and_carry(**features)[0])
            found["tokens"] = logits_bsv.argmax(axis=-1).astype(jnp.int32)
        return found

    # What the engine calls.

    @property
    def loss_terms(self) -> Mapping[str, float]:
        """One, of the tokens that are predicted or of the task's head."""
        return {"loss": 1.0} if self.use_output or self.head is not None else {}

    @nn.nowrap
    def loss_weights(self, batch: Batch) -> dict[str, Array]:
        """How many tokens are predicted, or what the task's head counts."""
        if self.head is not None:
            return super().loss_weights(batch)
        weights_bs = batch["encoder_loss_weights"].astype(jnp.float32)
        return {name: weights_bs.sum() for name in self.loss_terms}

    @nn.nowrap
    def loss(
        self, params: Params, batch: Batch, rng: Array | None = None
    ) -> tuple[dict[str, Array], losses.Metrics]:
        """The query stream's loss summed over the tokens that are predicted, and its metrics.

        Args:
          params: as `init` makes them.
          batch: with ranks, `encoder_target_tokens` and `encoder_loss_weights` `[b, s]`.
          rng: for dropout, of which there is none without it.

        Raises:
          ModelError: the model has no output, or the batch no ranks.
        """
        if self.head is not None:
            return super().loss(params, batch, rng)
        return self._of_batch(params, batch, None, rng)[:2]

    @nn.nowrap
    def loss_and_carry(
        self, params: Params, batch: Batch, carry: Memory, rng: Array | None = None
    ) -> tuple[dict[str, Array], losses.Metrics, Memory]:
        """`loss` of rows that go on from a memory, and the memory after them.

        Args:
          params: as `init` makes them.
          batch: as for `loss`; with `row_continues` `[b]`, rows where it is 0 begin anew.
          carry: of the batch before, or `initial_carry`. No gradient flows into it.
          rng: for dropout, of which there is none without it.
        """
        loss, metrics, carried = self._of_batch(params, batch, jax.lax.stop_gradient(carry), rng)
        assert carried is not None
        return loss, metrics, carried

    @nn.nowrap
    def _of_batch(
        self, params: Params, batch: Batch, carry: Memory | None, rng: Array | None
    ) -> tuple[dict[str, Array], losses.Metrics, Memory | None]:
        if not self.use_output:
            raise ModelError("XLNet without use_output has no loss: set it to train.")
        rngs = {} if rng is None else {"dropout": rng}
        result: Any = self.apply(
            {"params": params}, batch, carry, rng is not None, rngs=rngs, method="_loss_and_carry"
        )
        loss, metrics, carry = result
        return {"loss": loss}, metrics, carry

    @nn.nowrap
    def initial_carry(self, rows: int) -> Memory:
        """No memory."""
        return segment_memory.empty(
            rows, self.num_layers, self.memory_length, self.embed_dim, self.dtype
        )

    @nn.nowrap
    def predict(self, params: Params, batch: Batch) -> dict[str, Array]:
        """What the model says, without dropout.

        Args:
          params: as `init` makes them.
          batch: as for `__call__`.

        Returns:
          `tokens`, the likeliest at each place, int32 `[b, s]`, of a model with an output, and
          float32 `hidden_states` `[b, s, e]`; with a `head`, its `predictions`.
        """
        if self.head is not None:
            return super().predict(params, batch)
        found: Any = self.apply({"params": params}, **batch, method="_predictions")
        return found
