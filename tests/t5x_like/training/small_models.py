"""Small models of the kinds that a language model is not: two terms, a teacher, a carry."""

from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from models.layers.embeddings import Embed
from models.layers.linear import normal
from models.model import Model


class TwoTerms(Model, kw_only=True):
    """A loss over tokens and one over rows, whose weights have nothing to do with each other."""

    input_features: ClassVar = ("encoder_input_tokens",)
    batch_format: ClassVar = "masked_language_model"
    loss_terms: ClassVar = {"tokens": 1.0, "pairs": 0.25}

    width: int = 8

    def setup(self):
        self.token_embedder = Embed(self.vocab_size, self.width, normal(1.0), self.dtype)

    def __call__(self, encoder_input_tokens, **_):
        x_bte = jnp.tanh(self.token_embedder(encoder_input_tokens))
        return x_bte @ self.token_embedder.output_kernel(), x_bte.mean(axis=(1, 2))

    @nn.nowrap
    def loss_weights(self, batch):
        return {
            "tokens": batch["encoder_loss_weights"].sum().astype(jnp.float32),
            "pairs": batch["pair_weight"].sum().astype(jnp.float32),
        }

    @nn.nowrap
    def loss(self, params, batch, rng=None):
        logits_btv, score_b = self.apply({"params": params}, **batch)
        log_probs_btv = jax.nn.log_softmax(logits_btv)
        target_bt = batch["encoder_target_tokens"]
        chosen_bt = jnp.take_along_axis(log_probs_btv, target_bt[..., None], -1)[..., 0]
        sums = {
            "tokens": -(chosen_bt * batch["encoder_loss_weights"]).sum(),
            "pairs": (jnp.square(score_b - batch["pair_label"]) * batch["pair_weight"]).sum(),
        }
        weights = self.loss_weights(batch)
        return sums, {name: (sums[name], weights[name]) for name in sums}


class Taught(Model, kw_only=True):
    """Learns a teacher's logits; the teacher's parameters are frozen."""

    teacher: Model
    student: Model

    input_features: ClassVar = ("decoder_input_tokens",)

    def setup(self):
        self.inner = self.student.clone(parent=None, name="inner")

    def __call__(self, **features):
        return self.inner(**features)

    @property
    def batch_format(self):
        return self.student.batch_format

    @property
    def frozen_models(self):
        return {"teacher": self.teacher}

    @nn.nowrap
    def loss_weights(self, batch):
        return {"loss": batch["decoder_loss_weights"].sum().astype(jnp.float32)}

    @nn.nowrap
    def loss_with_frozen(self, params, batch, frozen, rng=None):
        wanted_btv = jax.nn.softmax(self.teacher.logits(frozen["teacher"], batch))
        found_btv = jax.nn.log_softmax(self.apply({"params": params}, **batch))
        cross_bt = -(wanted_btv * found_btv).sum(-1) * batch["decoder_loss_weights"]
        weight = self.loss_weights(batch)["loss"]
        return {"loss": cross_bt.sum()}, {"loss": (cross_bt.sum(), weight)}


class Counting(Model, kw_only=True):
    """Predicts from the last token and from all that its row has read since the track began."""

    input_features: ClassVar = ("decoder_input_tokens",)
    batch_format: ClassVar = "contiguous_language_model"
    carries: ClassVar = True

    width: int = 8

    def setup(self):
        self.token_embedder = Embed(self.vocab_size, self.width, normal(1.0), self.dtype)

    def __call__(self, decoder_input_tokens, carry=None, row_continues=None, **_):
        x_bte = self.token_embedder(decoder_input_tokens)
        if carry is None:
            carry = self.initial_carry(x_bte.shape[0])
        sum_be = carry["sum"]
        if row_continues is not None:
            sum_be = sum_be * row_continues[:, None]
        sums_bte = sum_be[:, None] + jnp.cumsum(x_bte, axis=1)
        logits_btv = jnp.tanh(x_bte + 0.1 * sums_bte) @ self.token_embedder.output_kernel()
        return logits_btv, {"sum": jax.lax.stop_gradient(sums_bte[:, -1])}

    @nn.nowrap
    def initial_carry(self, rows):
        return {"sum": jnp.zeros((rows, self.width))}

    @nn.nowrap
    def loss_weights(self, batch):
        return {"loss": batch["decoder_loss_weights"].sum().astype(jnp.float32)}

    @nn.nowrap
    def loss_and_carry(self, params, batch, carry, rng=None):
        logits_btv, carry = self.apply({"params": params}, carry=carry, **batch)
        target_bt = batch["decoder_target_tokens"]
        chosen_bt = jnp.take_along_axis(jax.nn.log_softmax(logits_btv), target_bt[..., None], -1)[
            ..., 0
        ]
        loss = -(chosen_bt * batch["decoder_loss_weights"]).sum()
        weight = self.loss_weights(batch)["loss"]
        return {"loss": loss}, {"loss": (loss, weight)}, carry
