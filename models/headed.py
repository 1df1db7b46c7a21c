"""The base class of language models that may have a head: the last token's state says the label."""

from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from models import losses
from models.heads import Classification, Head, HeadOutput, MultipleChoice, Regression, Reward
from models.heads.head import LOSS
from models.language_model import LanguageModel
from models.layers import auxiliary_losses, embeddings
from models.layers.linear import normal
from models.model import Array, Batch, Params

HEAD_LOSS, LANGUAGE_MODEL_LOSS = "head_loss", "language_model_loss"
# The beginnings of the names of features with a value for each token.
_OF_TOKENS = ("decoder_", "encoder_")
# The score of a choice or answer that an example has not; its square is a float32 too.
_NO_CHOICE = -1e9
# Heads that compare the rows of an example.
_COMPARE = MultipleChoice | Reward


class HeadedLanguageModel(LanguageModel, kw_only=True):
    """A language model that becomes a classifier of texts with a head (Radford et al. 2018).

    The head reads the vector of each row's last token, which GPT-1 calls the extract token
    (section 3.2). The language-model loss of the same rows may be learned beside it:
    `L3 = L2 + coefficient * L1` (equation 5), where L2 is a mean over examples and L1 over tokens.

    Batches of a decoder with a head are of the format `causal_` and its head's. They hold
    `decoder_input_tokens`, `decoder_segment_ids` (0 is padding, on the right),
    `decoder_target_tokens` and `decoder_loss_weights`, `[b, s]`, or `[b, rows, s]` where an example
    has several rows: a choice or an answer each, which are compared, or both orders of a pair,
    whose vectors are added. An encoder-decoder's are of `encoder_decoder_`: both sides read the
    text, and there is no language-model loss.

    Attributes:
      head: for fine-tuning, such as `heads.Classification`; None is a language model.
      language_model_coefficient: of the language-model loss beside a head's. GPT-1 has 0.5.
    """

    # What the name of the format with a head begins with, and the heads that can be had.
    headed_format: ClassVar[str] = "causal"
    accepted_heads: ClassVar[tuple[type[Any], ...]] = (
        Classification,
        Regression,
        MultipleChoice,
        Reward,
    )

    head: Head | None = None
    language_model_coefficient: float = 0.0

    def __post_init__(self) -> None:
        """Checks what no model can be built with.

        Raises:
          ModelError: a head of another kind, one on a model that carries a state from batch to
            batch, or a negative coefficient.
        """
        if self.head is not None and not isinstance(self.head, self.accepted_heads):
            *names, last = (kind.__name__ for kind in self.accepted_heads)
            raise self.refused("head", f"{', '.join(names)} or {last} is needed")
        if self.head is not None and getattr(self, "carries", False):
            raise self.refused("carries", "a head reads whole texts: set it to False")
        if self.language_model_coefficient < 0:
            raise self.refused("language_model_coefficient", "it must be 0 or more")
        super().__post_init__()

    @property
    def text_format(self) -> str:
        """The name of the batches of the model without a head."""
        raise NotImplementedError

    @property
    def batch_format(self) -> str:
        """The head's, for models of this kind; without one, that of text."""
        if self.head is None:
            return self.text_format
        return f"{self.headed_format}_{self.head.batch_format}"

    @property
    def label_names(self) -> Mapping[str, tuple[str, ...]]:
        """Of predictions that are numbers of classes, the classes' names."""
        return {} if self.head is None else self.head.label_names

    @property
    def head_dropout_rate(self) -> float:
        """Of what the head reads: its own, or the model's."""
        own = None if self.head is None else self.head.dropout_rate
        return self.dropout_rate if own is None else own

    # Inside `apply`.

    def pooled(self, x_bte: Array, valid_bt: Array, enable_dropout: bool = False) -> Array:
        """The vector that a row is classified by, `[b, f]`: that of its last token."""
        return last_valid(x_bte, valid_bt)

    def __call__(self, **features: Any) -> Array:
        """Logits, float32 `[b, t, v]`; of a model with a head what it gives, `[b, outputs]`.

        Raises:
          ModelError: a feature is missing.
        """
        if self.head is None:
            return super().__call__(**features)
        logits, output, _ = self._with_head(**features)
        if self.language_model_coefficient or self.is_initializing():
            # So that `init` makes the output, and `forward_flops` counts what training computes; a
            # compiled program leaves out what nobody reads.
            embeddings.logits(*output)
        return logits

    def _with_head(
        self, *, enable_dropout: bool = False, **features: Any
    ) -> tuple[Array, tuple[Array, Array, Array | None], dict[str, Array]]:
        """The head's logits, what the model's are made of, and vectors by name."""
        assert self.head is not None
        self.check_features(features)
        *axes, _ = features["decoder_input_tokens"].shape
        flat = _rows(features)
        x_bte = self.hidden_states(**flat, enable_dropout=enable_dropout)
        valid_bt = _valid(flat)
        pooled = self.pooled(x_bte, valid_bt, enable_dropout).reshape(*axes, -1)
        several = len(axes) > 1
        if several and not isinstance(self.head, _COMPARE):
            pooled = pooled.sum(axis=1)
        logits = self.head_outputs(pooled, enable_dropout)
        if several and isinstance(self.head, _COMPARE):
            there = valid_bt.any(axis=-1).reshape(*axes, 1)
            logits = jnp.where(there, logits, _NO_CHOICE)
        vectors = {"hidden_states": x_bte.reshape(*axes, *x_bte.shape[1:]), "pooled": pooled}
        return logits, (x_bte, self.output_kernel(), self.output_bias()), vectors

    @nn.compact
    def head_outputs(self, pooled: Array, enable_dropout: bool = False) -> Array:
        """What the head gives for vectors `[..., f]`, float32 `[..., outputs]`."""
        assert self.head is not None
        # As the released code of GPT-1; a reward of variance 1 to begin with, and a little less
        # (Stiennon et al. 2020, appendix C).
        of_reward = isinstance(self.head, Reward)
        stddev = (pooled.shape[-1] + 1) ** -0.5 if of_reward else 0.02
        output = HeadOutput(
            self.head.outputs, normal(stddev), self.head_dropout_rate, name="output_head"
        )
        return output(pooled, enable_dropout)

    def _vectors(self, **features: Any) -> dict[str, Array]:
        self.check_features(features)
        return {"hidden_states": self.hidden_states(**features)}

    # What the engine calls.

    @property
    def loss_terms(self) -> Mapping[str, float]:
        """One; of a head beside which language is learned, a term for each."""
        if self._has_two_terms:
            return {HEAD_LOSS: 1.0, LANGUAGE_MODEL_LOSS: self.language_model_coefficient}
        return super().loss_terms

    @property
    def _has_two_terms(self) -> bool:
        return self.head is not None and bool(self.language_model_coefficient)

    @nn.nowrap
    def loss_weights(self, batch: Batch) -> dict[str, Array]:
        """How many target tokens count; of a head how many examples."""
        if self.head is None:
            return super().loss_weights(batch)
        weight = self.head.weight(batch)
        if not self._has_two_terms:
            return {LOSS: weight}
        tokens = batch["decoder_loss_weights"].astype(jnp.float32).sum()
        return {HEAD_LOSS: weight, LANGUAGE_MODEL_LOSS: tokens}

    @nn.nowrap
    def loss(
        self, params: Params, batch: Batch, rng: Array | None = None
    ) -> tuple[dict[str, Array], losses.Metrics]:
        """The loss summed over the target tokens, or the head's over the examples; and metrics.

        See `LanguageModel.loss`. What layers add to the loss is added to the head's.
        """
        if self.head is None:
            return super().loss(params, batch, rng)
        (logits, output, _), reported = self._applied(params, batch, rng)
        loss, metrics = self.head.loss(logits, batch)
        loss, metrics = losses.with_auxiliary(loss, metrics, *auxiliary_losses.collect(reported))
        if not self._has_two_terms:
            return {LOSS: loss}, metrics
        language, found = self.cross_entropy(losses.output_cross_entropy, output, _rows(batch))
        metrics[HEAD_LOSS] = metrics.pop(LOSS)
        metrics[LANGUAGE_MODEL_LOSS] = found["loss"]
        return {HEAD_LOSS: loss, LANGUAGE_MODEL_LOSS: language}, metrics

    @nn.nowrap
    def row_metrics(self, params: Params, batch: Batch) -> tuple[losses.Metrics, losses.Metrics]:
        """The metrics of `loss` without dropout, of each row, or example of a head, by itself."""
        if self.head is None:
            return super().row_metrics(params, batch)
        head = self.head
        (logits, output, _), reported = self._applied(params, batch, None)
        of_examples = {name: x for name, x in batch.items() if not name.startswith(_OF_TOKENS)}

        def of_one(logits: Array, example: Batch) -> losses.Metrics:
            alone = jax.tree.map(lambda x: x[None], (logits, example))
            return head.loss(*alone)[1]

        rows = jax.vmap(of_one)(logits, of_examples)
        if self._has_two_terms:
            found = self.cross_entropy(losses.row_cross_entropy, output, _rows(batch))
            examples = logits.shape[0]
            value, weight = (x.reshape(examples, -1).sum(axis=1) for x in found["loss"])
            rows[HEAD_LOSS] = rows.pop(LOSS)
            rows[LANGUAGE_MODEL_LOSS] = (value, weight)
        means, metrics = auxiliary_losses.collect(reported)
        one = jnp.float32(1)
        return rows, metrics | {name: (value, one) for name, value in means.items()}

    @nn.nowrap
    def _applied(self, params: Params, batch: Batch, rng: Array | None) -> Any:
        return self.apply(
            {"params": params},
            **batch,
            enable_dropout=rng is not None,
            rngs={} if rng is None else {"dropout": rng},
            mutable=[auxiliary_losses.AUXILIARY],
            method="_with_head",
        )

    @nn.nowrap
    def predict(self, params: Params, batch: Batch) -> dict[str, Array]:
        """What the head says, without dropout, and the vectors that it reads.

        Args:
          params: as `init` makes them.
          batch: of `batch_format`; without a head, as for `logits`.

        Returns:
          Float32 `hidden_states` `[b, t, e]` and, with a head, its `predictions` and `pooled`
          `[b, f]`; with the axis of an example's rows, if it has several that are compared.
        """
        if self.head is None:
            vectors: Any = self.apply({"params": params}, **batch, method="_vectors")
            return {name: x.astype(jnp.float32) for name, x in vectors.items()}
        found: Any = self.apply({"params": params}, **batch, method="_with_head")
        logits, _, vectors = found
        vectors = {name: x.astype(jnp.float32) for name, x in vectors.items()}
        return vectors | self.head.predictions(logits)


def last_valid(x_bte: Array, valid_bt: Array) -> Array:
    """The vector of each row's last token, `[b, e]`; of a row without tokens the first."""
    places_bt = jnp.where(valid_bt, jnp.arange(valid_bt.shape[1]), 0)
    return jnp.take_along_axis(x_bte, places_bt.max(axis=1)[:, None, None], axis=1)[:, 0]


def concat_pooled(x_bte: Array, valid_bt: Array) -> Array:
    """The last vector of each row, and the largest and the mean of each unit over its tokens.

    Source: Howard and Ruder 2018, section 3.3.

    Returns:
      `[b, 3 e]`; of a row without tokens the first vector and zeros.
    """
    valid_bt1 = valid_bt[..., None]
    count_b1 = valid_bt.sum(axis=1)[:, None]
    largest_be = jnp.where(valid_bt1, x_bte, -jnp.inf).max(axis=1)
    largest_be = jnp.where(count_b1 > 0, largest_be, 0)
    mean_be = jnp.where(valid_bt1, x_bte, 0).sum(axis=1) / jnp.maximum(count_b1, 1)
    return jnp.concatenate([last_valid(x_bte, valid_bt), largest_be, mean_be], axis=-1)


def _rows(features: Mapping[str, Any]) -> dict[str, Any]:
    """The features of tokens, `[b, rows, s]`, as rows of their own; other features left out."""
    return {
        name: x.reshape(-1, x.shape[-1])
        for name, x in features.items()
        if name.startswith(_OF_TOKENS)
    }


def _valid(flat: Mapping[str, Any]) -> Array:
    """Where rows have a token, and not padding, bool `[b, s]`."""
    segments_bt = flat.get("decoder_segment_ids")
    return flat["decoder_input_tokens"] != 0 if segments_bt is None else segments_bt != 0
