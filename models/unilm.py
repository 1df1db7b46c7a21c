"""UniLM (Dong et al. 2019): BERT that also writes, because each row has its own way to look."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax.numpy as jnp
from flax import linen as nn

from models import losses
from models.bert import BERT
from models.layers import fused_projections
from models.layers.attention.attention import SELF_PROJECTIONS
from models.layers.attention.masks import Mask
from models.layers.block import Context
from models.layers.stacks import stack
from models.model import Array, Batch, Params

Cache = dict[str, Any]

# The kinds of masks, as batches number them (figure 1).
BIDIRECTIONAL, LEFT_TO_RIGHT, RIGHT_TO_LEFT, SEQUENCE_TO_SEQUENCE = range(4)

# The row that each segment of each kind has in the table of types; the released table has six.
TYPES = ((0, 1), (2, 2), (3, 3), (4, 5))


def ranks(kind_b: Array, prefix_b: Array, length: int) -> tuple[Array, Array]:
    """The ranks of queries and keys, int `[b, s]` each: a token sees those below its own.

    Equations 1 to 3 as `Mask.query_ranks_bt` and `Mask.key_ranks_bs`, comparisons of two vectors
    that differ from row to row of a batch.

    Args:
      kind_b: int, of `BIDIRECTIONAL` and the others.
      prefix_b: int, tokens of the first segment with what stands around it, of a sequence to
        sequence: they see each other, and the others see them and what stands before.
      length: s.
    """
    slots_bs = jnp.broadcast_to(jnp.arange(length), (kind_b.shape[0], length))
    of_second_bs = jnp.where(slots_bs < prefix_b[:, None], 0, slots_bs)
    of_kinds_bsk = jnp.stack(
        [jnp.zeros_like(slots_bs), slots_bs, length - 1 - slots_bs, of_second_bs], axis=-1
    )
    keys_bs = jnp.take_along_axis(of_kinds_bsk, kind_b[:, None, None], axis=-1)[..., 0]
    # A token sees what has its own rank, itself included.
    return keys_bs + 1, keys_bs


class UniLM(BERT, kw_only=True):
    """BERT whose rows are seen in both directions, from the left, from the right, or as a pair.

    One set of parameters and one task, hidden tokens, for all four (section 2.3); rows in both
    directions have pairs as BERT's have. Batches say in `row_mask_kind` and `row_prefix_length`,
    int32 `[b]`, how each row is seen; without them it is BERT.

    It writes from the left, or from a prefix that is seen in both directions: a mask at the place
    of the next token is read, and then replaced by that token (section 2.4). So every step of
    decoding feeds two tokens, of which the cache keeps the first. A row begins with the
    vocabulary's start token, and its segments end with the end token.

    Attributes:
      mask_id: the token that stands where one is to be written, the same as in training.
      num_token_types: rows of the table of types, see `TYPES`.
      norm_epsilon: of every norm.
      label_smoothing: of hidden tokens, see `losses.summed_cross_entropy`.
    """

    offsets: ClassVar[tuple[str, ...]] = (*BERT.offsets, "mask_id")

    mask_id: int
    num_token_types: int = 6
    norm_epsilon: float = 1e-5
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        """Checks what UniLM cannot be built with.

        Raises:
          ModelError: a mask that the vocabulary lacks, another number of types; and as BERT.
        """
        super().__post_init__()
        if self.mask_id >= self.vocab_size:
            raise self.refused("mask_id", f"it must be below vocab_size {self.vocab_size}")
        if self.num_token_types != 6:
            raise self.refused("num_token_types", "it must be 6")

    @property
    def batch_format(self) -> str:
        """The head's; without one, text in which tokens are hidden, with a mask for each row."""
        if self.head is not None:
            return super().batch_format
        return "multidirectional_language_model"

    @property
    def feature_values(self) -> Mapping[str, int]:
        """As BERT's; types of segments are of each kind of row two at most, see `TYPES`."""
        return {**super().feature_values, "encoder_token_types": 2}

    # What runs inside `apply`.

    def entering(self, **features: Any) -> tuple[Array, Context]:
        """As BERT, of a batch as it is trained with, or of one that a decoder would read."""
        features = _as_rows(features)
        tokens_bs = features["encoder_input_tokens"]
        segments_bs = features.get("encoder_token_types")
        segments_bs = jnp.zeros_like(tokens_bs) if segments_bs is None else segments_bs
        kind_b = _kind(features, tokens_bs.shape[0])
        types_bs = jnp.asarray(TYPES)[kind_b[:, None], segments_bs]
        return super().entering(**features | {"encoder_token_types": types_bs})

    def context_of(self, **features: Any) -> Context:
        """As every encoder, within what the `ranks` of each row say."""
        context = super().context_of(**features)
        kind_b, prefix_b = (features.get(f"row_{name}") for name in ("mask_kind", "prefix_length"))
        if kind_b is None:
            return context
        b, s = features["encoder_input_tokens"].shape
        prefix_b = jnp.zeros((b,), jnp.int32) if prefix_b is None else prefix_b
        queries_bs, keys_bs = ranks(kind_b, prefix_b, s)
        mask = dataclasses.replace(context.mask, query_ranks_bt=queries_bs, key_ranks_bs=keys_bs)
        return dataclasses.replace(context, mask=mask)

    def token_loss(
        self, h_bse: Array, bias_v: Array, batch: Batch, weights_bs: Array
    ) -> tuple[Array, losses.Metrics]:
        """As BERT, smoothed."""
        return losses.chosen_cross_entropy(
            h_bse,
            self.token_embedder.output_kernel(),
            batch["encoder_target_tokens"],
            weights_bs,
            most=self.masked_places,
            bias_v=bias_v,
            label_smoothing=self.label_smoothing,
            num_chunks=self.logit_chunks,
        )

    def check_features(self, features: Mapping[str, Any]) -> None:
        """As every model; a decoder's tokens will do as well."""
        if "decoder_input_tokens" not in features:
            super().check_features(features)

    def next_logits(self, **features: Any) -> Array:
        """Logits of the token after each, float32 `[b, t, v]`, of a batch for decoders.

        In one pass: after the row stand as many masks, each at the position of the token that
        follows one of the row's. A mask sees the row up to there and itself, and nothing sees it.
        A position beyond `max_length` is the last one.
        """
        rows = _as_rows(features)
        tokens_bt = rows["encoder_input_tokens"]
        b, t = tokens_bt.shape
        twice = {
            "encoder_input_tokens": jnp.full_like(tokens_bt, self.mask_id),
            "encoder_token_types": jnp.ones_like(tokens_bt),
            "encoder_segment_ids": rows["encoder_segment_ids"],
            "encoder_positions": self._within(rows["encoder_positions"] + 1),
        }
        twice = {name: jnp.concatenate([rows[name], masks], 1) for name, masks in twice.items()}
        kind_b, prefix_b = rows["row_mask_kind"], rows["row_prefix_length"]
        queries_bt, keys_bt = ranks(kind_b, prefix_b, t)
        unseen_bt = jnp.full_like(keys_bt, t + 1)
        up_to_bt = jnp.broadcast_to(jnp.arange(t), (b, t)) + 1
        ids_bs = twice["encoder_segment_ids"]
        mask = Mask(
            query_segments_bt=ids_bs,
            key_segments_bs=ids_bs,
            query_ranks_bt=jnp.concatenate([queries_bt, up_to_bt], 1),
            key_ranks_bs=jnp.concatenate([keys_bt, unseen_bt], 1),
            sees_itself=True,
        )
        x_bse, context = self.entering(**twice, row_mask_kind=kind_b)
        x_bse = self.encoder(x_bse, dataclasses.replace(context, mask=mask))
        return self._token_logits(x_bse[:, t:])

    def prefill(self, batch: Batch, max_decode_length: int) -> Cache:
        """See `init_cache`."""
        rows = _as_rows(batch)
        tokens_bp = rows["encoder_input_tokens"]
        b, p = tokens_bp.shape
        kind_b, positions_bp = rows["row_mask_kind"], rows["encoder_positions"]
        valid_bp = rows["encoder_segment_ids"] != 0
        # One slot more, for the mask of the last step.
        new = ((0, 0), (0, max_decode_length + 1 - p))
        types = jnp.asarray(TYPES)[kind_b]
        cache = {
            "layers": self.encoder.empty_cache(b, max_decode_length + 1),
            "next_slot": jnp.zeros((), jnp.int32),
            "next_position": jnp.zeros((b,), jnp.int32),
            "next_type": types[:, 1],
            "valid": jnp.pad(valid_bp, new, constant_values=True),
        }
        if not p:
            return cache
        causal_bp = batch.get("decoder_causal_attention")
        prefix_bs = None if causal_bp is None else jnp.pad(causal_bp != 0, new)
        types_bp = jnp.take_along_axis(types, rows["encoder_token_types"], axis=1)
        cache = self._extended(cache, tokens_bp, types_bp, positions_bp, prefix_bs, p)[1]
        return cache | {"next_position": jnp.where(valid_bp[:, -1], positions_bp[:, -1] + 1, 0)}

    def step(self, cache: Cache, tokens_b: Array) -> tuple[Array, Cache]:
        """See `decode_step`."""
        tokens_b2 = jnp.stack([tokens_b, jnp.full_like(tokens_b, self.mask_id)], axis=1)
        positions_b2 = self._within(cache["next_position"][:, None] + jnp.arange(2))
        types_b2 = jnp.broadcast_to(cache["next_type"][:, None], tokens_b2.shape)
        x_b2e, cache = self._extended(cache, tokens_b2, types_b2, positions_b2, None, 1)
        cache |= {"next_position": cache["next_position"] + 1}
        return self._token_logits(x_b2e[:, 1:])[:, 0], cache

    def _extended(
        self,
        cache: Cache,
        tokens_bt: Array,
        types_bt: Array,
        positions_bt: Array,
        prefix_bs: Array | None,
        kept: int,
    ) -> tuple[Array, Cache]:
        """Hidden states of tokens after the cache's, and the cache with the first of them."""
        slot = cache["next_slot"]
        mask = Mask(causal=True, key_valid_bs=cache["valid"], prefix_bt=prefix_bs, first_query=slot)
        x_bte = self.embed(tokens_bt, types_bt, positions_bt)
        context = Context(mask, positions_bt=positions_bt, first_slot=slot)
        x_bte, layers = self.encoder.decode(x_bte, context, cache["layers"])
        return x_bte, cache | {"layers": layers, "next_slot": slot + kept}

    def _within(self, positions: Array) -> Array:
        return jnp.minimum(positions, self.max_length - 1)

    # What a user calls.

    @nn.nowrap
    def attention_weights(self, params: Params, batch: Batch) -> dict[str, Array]:
        """As every encoder; of a batch for decoders the name is `decoder`."""
        (weights,) = super().attention_weights(params, batch).values()
        return {"decoder" if "decoder_input_tokens" in batch else "encoder": weights}

    @nn.nowrap
    def logits(self, params: Params, batch: Batch) -> Array:
        """Logits of the next token without dropout, float32 `[b, t, v]`.

        Args:
          params: as `init` makes them.
          batch: for decoders, see `models.language_model.LanguageModel`.
        """
        found: Any = self.apply({"params": params}, **batch, method="next_logits")
        return found

    @nn.nowrap
    def decoding_params(self, params: Params) -> Params:
        """The parameters laid out for decoding; call it once, before the loop."""
        encoder = fused_projections.join(
            stack.unstack_layers(params["encoder"]), {"self_attention": SELF_PROJECTIONS}
        )
        return {**params, "encoder": encoder}

    @nn.nowrap
    def init_cache(self, params: Params, batch: Batch, max_decode_length: int) -> Cache:
        """The decoding state after the prompt, see `models.language_model.LanguageModel`.

        Args:
          params: as `init` or `decoding_params` gives them.
          batch: a prompt `decoder_input_tokens`, `[b, p]`, padded on the left. With
            `decoder_causal_attention` it is the first segment of a pair, and else the beginning of
            a row that is seen from the left.
          max_decode_length: how many tokens will be held, the prompt included.
        """
        cache: Any = self.apply({"params": params}, batch, max_decode_length, method="prefill")
        return cache

    @nn.nowrap
    def decode_step(self, params: Params, cache: Cache, tokens: Array) -> tuple[Array, Cache]:
        """One more token a row: int32 `[b]` to logits float32 `[b, v]`, and the new cache."""
        found: Any = self.apply({"params": params}, cache, tokens, method="step")
        return found


def _kind(features: Mapping[str, Any], rows: int) -> Array:
    """How each row is seen; in both directions where the batch does not say."""
    kind_b = features.get("row_mask_kind")
    return jnp.full((rows,), BIDIRECTIONAL) if kind_b is None else kind_b


def _as_rows(features: Mapping[str, Any]) -> dict[str, Any]:
    """A batch for decoders as one of rows with masks; another as it is."""
    if "decoder_input_tokens" not in features:
        return dict(features)
    tokens_bt = features["decoder_input_tokens"]
    b, t = tokens_bt.shape
    ids_bt = features.get("decoder_segment_ids")
    # The start token may be the one that pads: what is padding only segments can tell.
    ids_bt = jnp.ones_like(tokens_bt) if ids_bt is None else ids_bt
    positions_bt = features.get("decoder_positions")
    if positions_bt is None:
        positions_bt = jnp.maximum(jnp.cumsum(ids_bt != 0, axis=1) - 1, 0)
    prefix_bt = features.get("decoder_causal_attention")
    kind = LEFT_TO_RIGHT if prefix_bt is None else SEQUENCE_TO_SEQUENCE
    prefix_bt = jnp.zeros_like(tokens_bt) if prefix_bt is None else (prefix_bt != 0).astype("int32")
    rest = {name: x for name, x in features.items() if not name.startswith("decoder_")}
    return rest | {
        "encoder_input_tokens": tokens_bt,
        "encoder_segment_ids": ids_bt,
        "encoder_positions": positions_bt,
        "encoder_token_types": 1 - prefix_bt,
        "row_mask_kind": jnp.full((b,), kind, jnp.int32),
        "row_prefix_length": (prefix_bt * (jnp.arange(t) + 1)).max(axis=1, initial=0),
    }
