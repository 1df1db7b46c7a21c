"""What all encoder families share: one stack that reads a whole row in both directions."""

from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from models import losses
from models.heads import Head, HeadOutput, Spans
from models.layers import intermediates
from models.layers.attention.masks import Mask
from models.layers.block import Context
from models.layers.dropout import Dropout
from models.layers.linear import Initializer
from models.model import Array, Batch, Model, Params

# The beginning of the names of features with a value for each token.
_OF_TOKENS = "encoder_"
# What a head gives of a row without tokens; its square is a float32 too.
_NO_ROW = -1e9
# What `embed` is given of a batch.
LOOKED_UP = ("encoder_input_tokens", "encoder_token_types", "encoder_positions")


class EncoderOnly(Model, kw_only=True):
    """The base class of encoder families.

    A family's `setup` makes `encoder` (a `Stack` or what is called like one) and calls `make_head`;
    it writes `embed`, `pooled`, and the heads of its pre-training, which are its own. With a `head`
    of `models.heads` it is a model for a task of a user's, whose loss and predictions are this
    class's, and what only pre-training needs is left out.

    Batches hold `encoder_input_tokens`, int32 `[b, s]`, and as a family needs them
    `encoder_token_types`, `encoder_positions` and `encoder_segment_ids`: tokens of different
    segments do not see each other, and segment 0 is padding. Without segments `pad_id` pads.

    Attributes:
      head: for fine-tuning, such as `heads.Classification`; None is the family's pre-training.
    """

    input_features: ClassVar[tuple[str, ...]] = ("encoder_input_tokens",)

    head: Head | None = None

    @property
    def batch_format(self) -> str:
        """The head's; without one, text in which tokens are hidden."""
        return "masked_language_model" if self.head is None else self.head.batch_format

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

    def encode(self, x_bse: Array, context: Context) -> Array:
        """What the stack makes of a row."""
        return self.encoder(x_bse, context)

    def pooled(self, x_bse: Array, enable_dropout: bool = False) -> Array:
        """The vector that a row is classified by, `[b, e]`, of what leaves the stack."""
        raise NotImplementedError

    def pooled_rows(
        self, x_bse: Array, features: Mapping[str, Any], enable_dropout: bool = False
    ) -> Array:
        """`pooled`; a family whose vector is not at the same place in all rows has its own."""
        return self.pooled(x_bse, enable_dropout)

    @intermediates.within(intermediates.ENCODER)
    def hidden_states(self, **features: Any) -> Array:
        """What leaves the stack, `[b, s, e]`, of a batch's features."""
        return self.encode(*self.entering(**features))

    def entering(self, **features: Any) -> tuple[Array, Context]:
        """What enters the stack, `[b, s, e]`, and what all of its layers read."""
        context = self.context_of(**features)
        ids: list[Any] = [features.get(name) for name in LOOKED_UP]
        x_bse = self.embed(*ids)
        return self.dropped_and_widened(x_bse, context.enable_dropout), context

    def context_of(
        self,
        *,
        encoder_input_tokens: Array,
        encoder_segment_ids: Array | None = None,
        encoder_positions: Array | None = None,
        enable_dropout: bool = False,
        **_: Any,
    ) -> Context:
        """What all layers read."""
        if encoder_segment_ids is None:
            mask = Mask(key_valid_bs=encoder_input_tokens != self.pad_id)
        else:
            mask = Mask(query_segments_bt=encoder_segment_ids, key_segments_bs=encoder_segment_ids)
        return Context(mask, positions_bt=encoder_positions, enable_dropout=enable_dropout)

    def dropped_and_widened(self, x_bse: Array, enable_dropout: bool) -> Array:
        """What `embed` gives, after its dropout, in the width of the stack."""
        draw = enable_dropout and self.dropout_rate
        x_bse = Dropout(self.dropout_rate)(x_bse, self.make_rng("dropout") if draw else None)
        return self.widened(x_bse)

    @nn.nowrap
    def tokens_in(self, batch: Batch) -> Array:
        """Where rows have a token, and not padding, bool `[b, s]`."""
        segments_bs = batch.get("encoder_segment_ids")
        if segments_bs is None:
            return batch["encoder_input_tokens"] != self.pad_id
        return segments_bs != 0

    # With a head.

    def make_head(self, kernel_init: Initializer) -> None:
        """Makes the head's layers, for `setup` to call; nothing without a head.

        Raises:
          ModelError: a head that only a model of several tasks makes.
        """
        if getattr(self.head, "of_several_tasks", False):
            raise self.refused("head", "it is one of the heads of MTDNN, mt_dnn.MTDNN.heads, alone")
        if self.head is not None:
            self.output_head = HeadOutput(self.head.outputs, kernel_init, self.head_dropout_rate)

    @property
    def head_dropout_rate(self) -> float:
        """Of what the head reads: its own, or the model's."""
        own = None if self.head is None else self.head.dropout_rate
        return self.dropout_rate if own is None else own

    def head_logits(self, *, enable_dropout: bool = False, **features: Any) -> Array:
        """What the head gives, float32 `[b, outputs]`, or `[b, s, outputs]` for each token.

        Where the batch has several rows for each example, `[b, rows, s]`, these are an axis of what
        is given too.

        Raises:
          ModelError: a feature is missing.
        """
        return self._with_head(enable_dropout=enable_dropout, **features)[0]

    def _with_head(
        self, *, enable_dropout: bool = False, **features: Any
    ) -> tuple[Array, dict[str, Array]]:
        """The head's logits, and the vectors that they are made of, by name."""
        assert self.head is not None
        self.check_features(features)
        tokens = features["encoder_input_tokens"]
        *axes, length = tokens.shape
        if len(axes) > 1:
            features |= {
                name: x.reshape(-1, length)
                for name, x in features.items()
                if name.startswith(_OF_TOKENS)
            }
        x_bse = self.hidden_states(**features, enable_dropout=enable_dropout)
        vectors = {"hidden_states": x_bse}
        if self.head.reads_row:
            vectors["pooled"] = self.pooled_rows(x_bse, features, enable_dropout)
        read = vectors["pooled" if self.head.reads_row else "hidden_states"]
        logits = self.scored(read, features, enable_dropout)
        if len(axes) == 1:
            return logits, vectors
        # Several rows for each example, of which some may be without a token.
        vectors = {name: x.reshape(*axes, *x.shape[1:]) for name, x in vectors.items()}
        logits = logits.reshape(*axes, *logits.shape[1:])
        segments = features.get("encoder_segment_ids")
        real = tokens != self.pad_id if segments is None else segments.reshape(tokens.shape) != 0
        return jnp.where(real.any(axis=-1)[..., None], logits, _NO_ROW), vectors

    def scored(self, x: Array, features: Mapping[str, Any], enable_dropout: bool) -> Array:
        """What the head's layers make of the vectors that it reads; a family may add layers."""
        scores: Array = self.output_head(x, enable_dropout)
        return scores

    @property
    def loss_terms(self) -> Mapping[str, float]:
        """The head's one term."""
        return {"loss": 1.0}

    @property
    def label_names(self) -> Mapping[str, tuple[str, ...]]:
        """Of predictions that are numbers of classes, the classes' names."""
        return {} if self.head is None else self.head.label_names

    @property
    def span_rules(self) -> Spans | None:
        """The head that marks spans, which says how they are chosen; None for any other."""
        return self.head if isinstance(self.head, Spans) else None

    @nn.nowrap
    def loss_weights(self, batch: Batch) -> dict[str, Array]:
        """What the head counts: rows, or tokens."""
        assert self.head is not None
        return {"loss": self.head.weight(batch)}

    @nn.nowrap
    def loss(
        self, params: Params, batch: Batch, rng: Array | None = None
    ) -> tuple[dict[str, Array], losses.Metrics]:
        """The head's loss summed over the batch, and its metrics; see `models.heads`.

        Args:
          params: as `init` makes them.
          batch: of `batch_format`.
          rng: for dropout, of which there is none without it.
        """
        assert self.head is not None
        logits: Any = self.apply(
            {"params": params},
            **batch,
            enable_dropout=rng is not None,
            rngs={} if rng is None else {"dropout": rng},
            method="head_logits",
        )
        loss, metrics = self.head.loss(logits, batch)
        return {"loss": loss}, metrics

    @nn.nowrap
    def predict(self, params: Params, batch: Batch) -> dict[str, Array]:
        """What the head says, without dropout, and the vectors that it reads.

        Args:
          params: as `init` makes them.
          batch: as for `__call__`.

        Returns:
          The head's `predictions`, and float32 `hidden_states` `[b, s, e]` and, where the head
          reads it, `pooled` `[b, e]`; with the axis of an example's rows, if it has several.
        """
        assert self.head is not None
        found: Any = self.apply({"params": params}, **batch, method="_with_head")
        logits, vectors = found
        vectors = {name: x.astype(jnp.float32) for name, x in vectors.items()}
        return vectors | self.head.predictions(logits)

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
