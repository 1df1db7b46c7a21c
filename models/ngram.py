"""n-gram language models: counted in one pass over a corpus, and not trained.

Shapes: `b` rows, `t` positions, `v` vocabulary, `r` rows and positions together.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from models import flops, losses
from models.errors import ModelError
from models.model import Array, Batch, Model, Params
from models.ngrams import arpa, lookup
from models.ngrams.counts import NGramCounts, check_order, count_batches, predictable_tokens
from models.ngrams.smoothing import ModifiedKneserNey, Smoothing
from models.ngrams.table import Table, estimated_table, level_name

Cache = dict[str, Array]


class NGram(Model, kw_only=True):
    """A language model that looks at the last tokens alone, and knows by heart what follows them.

    Its parameters are a table (`ngrams.table`), which `Counter` makes. The probability of a token
    is that of the longest n-gram which ends with it and was seen; for each longer context that was
    seen without it there is a factor, the context's weight. Every way of smoothing comes to this.
    Fulfils the engine's `Decodes`, `Extends` and `MeasuresRows`.

    A text begins with one start token, before which there is nothing. Tokens of other segments of a
    packed row are not looked at.

    Attributes:
      order: tokens of the longest n-grams, the predicted one included.
      num_ngrams: how many of each order the table has, from 1, of which there are `vocab_size`.
      zero_is_token: whether token 0 is predicted, and not padding.
      backs_off: see `ngrams.smoothing.Smoothing`.
    """

    input_features: ClassVar[tuple[str, ...]] = ("decoder_input_tokens",)

    order: int
    num_ngrams: tuple[int, ...]
    zero_is_token: bool = False
    backs_off: bool = True

    def __post_init__(self) -> None:
        """Checks the table's sizes.

        Raises:
          ModelError: an order that is not counted, or sizes that are not of so many orders.
        """
        check_order(self.order)
        sizes = tuple(self.num_ngrams)
        if len(sizes) != self.order or sizes[0] != self.vocab_size or min(sizes) < 1:
            raise self.refused(
                "num_ngrams",
                f"it must be {self.order} numbers above 0, the first of them vocab_size, as "
                "`t5x-like ngram` writes them",
            )
        super().__post_init__()

    @property
    def batch_format(self) -> str:
        """Packed or separate texts."""
        return "causal_language_model"

    # -- Parameters

    @nn.nowrap
    def init(  # type: ignore[override]  # as the base class's
        self, rng: Array, batch: Batch | None = None
    ) -> dict[str, Params]:
        """Refuses: there is nothing to begin with.

        Raises:
          ModelError: always.
        """
        raise ModelError(
            "an n-gram model is counted and not trained: `t5x-like ngram` makes one of a task."
        )

    @nn.nowrap
    def abstract_params(self) -> Params:
        """See `Model`; the whole table is on every device."""

        def box(size: int, dtype: type) -> nn.LogicallyPartitioned:
            return nn.LogicallyPartitioned(jax.ShapeDtypeStruct((size,), dtype), (None,))

        params: dict[str, dict[str, Any]] = {}
        for order, size in enumerate(self.num_ngrams, 1):
            arrays = {"probability": box(size, jnp.float32)}
            if order < self.order:
                arrays["backoff"] = box(size, jnp.float32)
            if order > 1:
                arrays["token"] = box(size, jnp.int32)
                arrays["first"] = box(self.num_ngrams[order - 2] + 1, jnp.int32)
            params[level_name(order)] = arrays
        return params

    @nn.nowrap
    def parameter_count(self, *, embeddings: bool = True) -> int:
        """How many n-grams there are; without `embeddings` those of two tokens and more."""
        return sum(self.num_ngrams if embeddings else self.num_ngrams[1:])

    @nn.nowrap
    def forward_flops(self, batch_shapes: Mapping[str, tuple[int, ...]]) -> dict[str, flops.Flops]:
        """None: a table is looked up in, without a product of matrices."""
        return {}

    # -- Probabilities

    def __call__(self, **features: Any) -> Array:
        """Logits, float32 `[b, t, v]`: the logarithms of the probabilities."""
        self.check_features(features)
        return self.logits(self.variables["params"], features)

    @nn.nowrap
    def logits(self, params: Params, batch: Batch) -> Array:
        """The logarithms of the probabilities of all tokens, float32 `[b, t, v]`."""
        tokens_bt, joined_bt = _joined(batch)
        contexts = self._contexts(params, tokens_bt, joined_bt)
        return self._log_distributions(params, contexts, tokens_bt.shape)

    @nn.nowrap
    def log_likelihoods(self, params: Params, batch: Batch) -> Array:
        """The natural log-probability of each target, float32 `[b, t]`; 0 where nothing counts."""
        targets_bt = jnp.asarray(batch["decoder_target_tokens"])
        contexts = self._contexts(params, *_joined(batch))
        p_bt = params[level_name(1)]["probability"][targets_bt]
        for size, context in enumerate(contexts, 1):
            level = params[level_name(size + 1)]
            place_bt = lookup.places(level, context.place, targets_bt, self.vocab_size)
            other_bt = self._of_unseen(params[level_name(size)]["backoff"], context, p_bt)
            p_bt = jnp.where(place_bt >= 0, level["probability"][place_bt], other_bt)
        return jnp.where(_weights(batch) > 0, jnp.log(p_bt), 0.0)

    @nn.nowrap
    def _of_unseen(self, backoff_n: Array, context: "_Context", shorter: Array) -> Array:
        """What tokens that were not seen after a context have; `shorter` of the next shorter one.

        `shorter` may have the vocabulary as a last axis more than the context's arrays.
        """
        weight = jnp.where(context.place >= 0, backoff_n[context.place], 1.0)
        exists = context.exists
        if shorter.ndim > weight.ndim:
            weight, exists = weight[..., None], exists[..., None]
        if self.backs_off:
            return weight * shorter
        may = jnp.arange(self.vocab_size) > 0 if shorter.ndim > context.place.ndim else True
        uniform = jnp.where(self.zero_is_token | may, 1 / self._num_predictable, 0.0)
        return jnp.where(exists, weight * uniform, shorter)

    @property
    def _num_predictable(self) -> int:
        return self.vocab_size - (not self.zero_is_token)

    @nn.nowrap
    def _contexts(self, params: Params, tokens_bt: Array, joined_bt: Array) -> list["_Context"]:
        """The last 1, 2, ... `order - 1` tokens up to each, as n-grams of the table.

        Args:
          params: the table.
          tokens_bt: int32, -1 where there is none.
          joined_bt: whether each token continues the text of the one before it.
        """
        contexts: list[_Context] = []
        for size in range(1, self.order):
            if size == 1:
                contexts.append(_Context(tokens_bt, tokens_bt >= 0))
                continue
            before = contexts[-1]
            exists_bt = joined_bt & _shifted(before.exists, False)
            place_bt = jnp.where(exists_bt, _shifted(before.place, lookup.NOTHING), lookup.NOTHING)
            found_bt = lookup.places(params[level_name(size)], place_bt, tokens_bt, self.vocab_size)
            contexts.append(_Context(found_bt, exists_bt))
        return contexts

    @nn.nowrap
    def _log_distributions(
        self, params: Params, contexts: list["_Context"], shape: tuple[int, ...]
    ) -> Array:
        """Float32 `[*shape, v]`."""
        p_v = params[level_name(1)]["probability"]
        p_rv = jnp.broadcast_to(p_v, (math.prod(shape), self.vocab_size))
        for size, context in enumerate(contexts, 1):
            flat = _Context(context.place.reshape(-1), context.exists.reshape(-1))
            p_rv = self._of_unseen(params[level_name(size)]["backoff"], flat, p_rv)
            p_rv = lookup.with_continuations(params[level_name(size + 1)], flat.place, p_rv)
        return jnp.log(p_rv).reshape(*shape, self.vocab_size)

    # -- The loss

    @nn.nowrap
    def loss_weights(self, batch: Batch) -> dict[str, Array]:
        """How many target tokens count."""
        return {"loss": _weights(batch).astype(jnp.float32).sum()}

    @nn.nowrap
    def loss(
        self, params: Params, batch: Batch, rng: Array | None = None
    ) -> tuple[dict[str, Array], losses.Metrics]:
        """The loss summed over the target tokens in nats, and its metrics; nothing is drawn."""
        rows, _ = self.row_metrics(params, batch)
        metrics = {name: (value.sum(), weight.sum()) for name, (value, weight) in rows.items()}
        return {"loss": metrics["loss"][0]}, metrics

    @nn.nowrap
    def row_metrics(self, params: Params, batch: Batch) -> tuple[losses.Metrics, losses.Metrics]:
        """`loss` and `cross_entropy`, the same, of each row: sums and weights float32 `[b]`."""
        weights_bt = _weights(batch).astype(jnp.float32)
        found_bt = self.log_likelihoods(params, batch)
        counted_bt = jnp.where(weights_bt > 0, found_bt * weights_bt, 0.0)
        pair = (-counted_bt.sum(axis=1), weights_bt.sum(axis=1))
        return {"loss": pair, "cross_entropy": pair}, {}

    # -- Decoding

    @nn.nowrap
    def decoding_params(self, params: Params) -> Params:
        """The table as it is."""
        return params

    @nn.nowrap
    def init_cache(self, params: Params, batch: Batch, max_decode_length: int) -> Cache:
        """The last tokens of each prompt, int32 `[b, order - 1]`, -1 where there are fewer."""
        tokens_bp = jnp.asarray(batch["decoder_input_tokens"])
        segments_bp = batch.get("decoder_segment_ids")
        if segments_bp is not None:
            tokens_bp = jnp.where(jnp.asarray(segments_bp) == 0, lookup.NOTHING, tokens_bp)
        kept = self.order - 1
        padded = jnp.pad(tokens_bp, ((0, 0), (kept, 0)), constant_values=lookup.NOTHING)
        return {"tokens": padded[:, padded.shape[1] - kept :].astype(jnp.int32)}

    @nn.nowrap
    def decode_step(self, params: Params, cache: Cache, tokens: Array) -> tuple[Array, Cache]:
        """One more token a row: int32 `[b]` to logits float32 `[b, v]`, and the new cache."""
        logits_b1v, cache = self.extend(params, cache, tokens[:, None])
        return logits_b1v[:, 0], cache

    @nn.nowrap
    def extend(self, params: Params, cache: Cache, tokens: Array) -> tuple[Array, Cache]:
        """Several more tokens a row: int32 `[b, n]` to logits float32 `[b, n, v]`."""
        rows_bt = jnp.concatenate([cache["tokens"], tokens], axis=1)
        joined_bt = (rows_bt >= 0) & (_shifted(rows_bt, lookup.NOTHING) >= 0)
        kept = self.order - 1
        contexts = [
            _Context(one.place[:, kept:], one.exists[:, kept:])
            for one in self._contexts(params, rows_bt, joined_bt)
        ]
        logits_bnv = self._log_distributions(params, contexts, tokens.shape)
        return logits_bnv, {"tokens": rows_bt[:, rows_bt.shape[1] - kept :]}


class _Context(NamedTuple):
    """Contexts of one length.

    Attributes:
      place: of each among the n-grams of this length, int32; -1 of one that was not counted.
      exists: whether the text has so many tokens.
    """

    place: Array
    exists: Array


def _weights(batch: Batch) -> Array:
    weights_bt = batch.get("decoder_loss_weights")
    return jnp.asarray(batch["decoder_target_tokens"] != 0 if weights_bt is None else weights_bt)


def _joined(batch: Batch) -> tuple[Array, Array]:
    """A batch's input tokens, and whether each continues the text of the one before it."""
    tokens_bt = jnp.asarray(batch["decoder_input_tokens"])
    joined_bt = jnp.arange(tokens_bt.shape[1]) > 0
    segments_bt = batch.get("decoder_segment_ids")
    if segments_bt is not None:
        segments_bt = jnp.asarray(segments_bt)
        joined_bt = joined_bt & (segments_bt == _shifted(segments_bt, 0))
    return tokens_bt, jnp.broadcast_to(joined_bt, tokens_bt.shape)


def _shifted(values_bt: Array, first: Any) -> Array:
    """Each position's value of the position before it."""
    return jnp.pad(values_bt[:, :-1], ((0, 0), (1, 0)), constant_values=first)


# -- Counting --------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Counter:
    """Makes an n-gram model of a corpus; fulfils the engine's `Counts`.

    Attributes:
      order: tokens of the longest n-grams.
      smoothing: one of `ngrams.smoothing`.
    """

    order: int = 5
    smoothing: Smoothing = ModifiedKneserNey()  # noqa: RUF009 (frozen)

    batch_format: ClassVar[str] = "causal_language_model"

    def __post_init__(self) -> None:
        """Checks what no model can be counted with.

        Raises:
          ModelError: an order that is not counted, or a smoothing that is none.
        """
        check_order(self.order)
        if not isinstance(self.smoothing, Smoothing):
            raise ModelError(
                f"Counter.smoothing is {self.smoothing!r}: give one of ngrams.smoothing, such as "
                "smoothing.ModifiedKneserNey()."
            )

    def count(
        self,
        batches: Iterable[Batch],
        *,
        vocab_size: int,
        zero_is_token: bool,
        start_id: int,
        end_id: int,
    ) -> tuple[NGram, Table, list[str]]:
        """The model of a corpus, its parameters, and what a user should know of it.

        Args:
          batches: of `batch_format`, not packed, each text once.
          vocab_size: of the vocabulary.
          zero_is_token: whether token 0 is one, and not padding.
          start_id: not needed: the batches have it.
          end_id: not needed, likewise.

        Raises:
          ModelError: as `ngrams.counts.count_ngrams`.
        """
        counts = count_batches(
            batches, order=self.order, vocab_size=vocab_size, zero_is_token=zero_is_token
        )
        return self.model_of(counts)

    def model_of(self, counts: NGramCounts) -> tuple[NGram, Table, list[str]]:
        """As `count`, of n-grams that are counted already."""
        table, notes = estimated_table(counts, self.smoothing)
        model = NGram(
            vocab_size=counts.vocab_size,
            order=counts.order,
            num_ngrams=tuple(level.tokens.size for level in counts.levels),
            zero_is_token=counts.zero_is_token,
            backs_off=self.smoothing.backs_off,
        )
        return model, table, notes


@dataclasses.dataclass(frozen=True)
class ARPAFile:
    """Reads an n-gram model that was counted elsewhere; in the place of a `Counter`.

    Attributes:
      path: see `ngrams.arpa.read_arpa`.
    """

    path: str

    batch_format: ClassVar[str] = Counter.batch_format

    def count(
        self,
        batches: Iterable[Batch],
        *,
        vocab_size: int,
        zero_is_token: bool,
        start_id: int,
        end_id: int,
    ) -> tuple[NGram, Table, list[str]]:
        """See `Counter.count`; no batch is read.

        Raises:
          ModelError: the file cannot be read.
        """
        predictable = predictable_tokens(vocab_size, zero_is_token)
        table = arpa.read_arpa(self.path, predictable, start_id=start_id, end_id=end_id)
        model = NGram(
            vocab_size=vocab_size,
            order=len(table),
            num_ngrams=tuple(level["probability"].size for level in table.values()),
            zero_is_token=zero_is_token,
        )
        return model, table, []
