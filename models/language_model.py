"""The base class of the families that generate text: a model with logits and decoding."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax.numpy as jnp
from flax import linen as nn

from models import losses
from models.layers import auxiliary_losses, embeddings, fused_projections, intermediates, mlps
from models.layers.attention import attention
from models.layers.stacks import stack
from models.model import Array, Batch, Model, Params

Cache = dict[str, Any]
Computed = TypeVar("Computed")

_SIDES = (intermediates.ENCODER, intermediates.DECODER)

# Where `decoding_params` keeps the matrix from the residual stream to logits.
OUTPUT_KERNEL = "output_kernel"


class LanguageModel(Model, kw_only=True):
    """The base class of the families that generate text; fulfils the engine's `Decodes`.

    A family writes `setup`, in which what decodes is named `decoder`, and four methods that
    run inside the module: `hidden_states`, `output_kernel`, `prefill` and `decode`.

    Batches hold T5X's features, int32 `[b, length]`: `decoder_input_tokens` and, as the
    family needs them, `encoder_input_tokens`, `{encoder,decoder}_segment_ids`,
    `{encoder,decoder}_positions` and `decoder_causal_attention`; the loss adds
    `decoder_target_tokens` and `decoder_loss_weights`. Token 0 pads.

    Attributes:
      z_loss: see `losses.summed_cross_entropy`.
      label_smoothing: see `losses.summed_cross_entropy`.
      logit_chunks: see `losses.output_cross_entropy`.
    """

    z_loss: float = 0.0
    label_smoothing: float = 0.0
    logit_chunks: int | None = None

    # Written by a family; these run inside `apply`.

    def hidden_states(self, *args: Any, **features: Any) -> Array:
        """Hidden states after the final layer norm, `[b, t, e]`, from a batch's features."""
        raise NotImplementedError

    def output_kernel(self) -> Array:
        """The matrix from `hidden_states` to logits, float32 `[e, v]`."""
        raise NotImplementedError

    def output_bias(self) -> Array | None:
        """What is added to the logits, float32 `[v]`; None where there is none."""
        return None

    def prefill(self, batch: Batch, max_decode_length: int) -> Cache:
        """See `init_cache`."""
        raise NotImplementedError

    def decode(self, cache: Cache, tokens_bt: Array) -> tuple[Array, Cache]:
        """`hidden_states` of tokens that follow those in the cache, and the cache with them."""
        raise NotImplementedError

    def text_states(self, **features: Any) -> Array:
        """The last hidden states of the tokens that `contextual_vectors` are of, `[b, n, e]`."""
        return self.hidden_states(**features)

    # Called by users.

    def __call__(self, **features: Any) -> Array:
        """Logits, float32 `[b, t, v]`; what the family does not read is left aside.

        Raises:
          ModelError: a feature is missing.
        """
        output = self._output_factors(**features)
        logits_btv = embeddings.logits(*output)
        return nn.with_logical_constraint(logits_btv, ("batch", "length", "vocab"))

    def _output_factors(self, **features: Any) -> tuple[Array, Array, Array | None]:
        """What the logits are made of: `hidden_states`, `output_kernel` and `output_bias`."""
        self.check_features(features)
        return self.hidden_states(**features), self.output_kernel(), self.output_bias()

    @nn.nowrap
    def logits(self, params: Params, batch: Batch) -> Array:
        """Logits without dropout, float32 `[b, t, v]`."""
        logits_btv: Any = self.apply({"params": params}, **batch)
        return logits_btv

    @nn.nowrap
    def contextual_vectors(self, params: Params, batch: Batch) -> Array:
        """A vector for each token in its context, without dropout, float32 `[b, n, e]`.

        Those of the encoder's tokens where there is an encoder, else of the decoder's.

        Args:
          params: as `init` makes them.
          batch: as for `logits`.
        """
        states_bne: Any = self.apply({"params": params}, **batch, method="text_states")
        return states_bne.astype(jnp.float32)

    @nn.nowrap
    def attention_weights(self, params: Params, batch: Batch) -> dict[str, Array]:
        """How much each query attends to each key, without dropout.

        Args:
          params: as `init` makes them.
          batch: as for `logits`.

        Returns:
          Float32 `[layers, b, h, t, s]`, rows sum to 1: `decoder` and, with an encoder,
          `encoder` and `cross`, from the decoder's tokens to the encoder's.
        """
        found: dict[str, list[Array]] = {}
        for record in self._recorded(params, batch, intermediates.ATTENTION):
            side = _side(record)
            name = "cross" if intermediates.CROSS_ATTENTION in record.within else side
            found.setdefault(name, []).append(record.value)
        return {name: jnp.stack(layers) for name, layers in found.items()}

    @nn.nowrap
    def routing(self, params: Params, batch: Batch) -> dict[str, dict[int, dict[str, Array]]]:
        """The decisions of the routers of experts in evaluation, where a capacity is rare.

        Padding is routed too, and with a capacity takes its turn like any token.

        Args:
          params: as `init` makes them.
          batch: as for `logits`.

        Returns:
          Side (`encoder`, `decoder`), then layer (from 0; those with experts), then `experts`,
          `gates`, `served` and `probabilities` as `layers.experts.moe.MixtureOfExperts` has them.
          Empty for a model without experts.
        """
        found: dict[str, dict[int, dict[str, Array]]] = {}
        for record in self._recorded(params, batch, intermediates.ROUTING):
            found.setdefault(_side(record), {})[record.layer or 0] = record.value
        return found

    @nn.nowrap
    def _recorded(self, params: Params, batch: Batch, kind: str) -> list[intermediates.Record]:
        if self.tuning is not None and self.tuning.added_length:
            raise self.tuning.unfit(
                self, "attention and routing are shown of tokens, among which a prompt is none"
            )

        def run() -> Mapping[str, Any]:
            mutable = [intermediates.COLLECTION]
            return self.apply(
                {"params": params}, **batch, mutable=mutable, method="_output_factors"
            )[1]

        return intermediates.collect(kind, run)

    @nn.nowrap
    def loss_weights(self, batch: Batch) -> dict[str, Array]:
        """How many target tokens count."""
        return {"loss": target_weights(batch).astype(jnp.float32).sum()}

    @nn.nowrap
    def loss(
        self, params: Params, batch: Batch, rng: Array | None = None
    ) -> tuple[dict[str, Array], losses.Metrics]:
        """The loss summed over the target tokens, and summed metrics with their weights.

        What layers add to the loss (`layers.auxiliary_losses`) is a mean over tokens; here it is
        multiplied by the sum of the weights, by which the engine will divide.

        Args:
          params: as `init` makes them.
          batch: without `decoder_loss_weights`, targets other than 0 count 1.
          rng: for dropout, of which there is none without it.

        Returns:
          See `losses.summed_cross_entropy`; and the layers' own metrics.
        """
        output, reported = self.apply(
            {"params": params},
            **batch,
            enable_dropout=rng is not None,
            rngs={} if rng is None else {"dropout": rng},
            mutable=[auxiliary_losses.AUXILIARY],
            method="_output_factors",
        )
        return self.loss_of(output, batch, reported)

    @nn.nowrap
    def row_metrics(self, params: Params, batch: Batch) -> tuple[losses.Metrics, losses.Metrics]:
        """The metrics of `loss` without dropout, of each row by itself: what evaluation measures.

        The losses that layers add balance a batch in training. They depend on the rows beside a
        row, and are no part of `loss` here.

        Args:
          params: as `init` makes them.
          batch: as for `loss`.

        Returns:
          The metrics of the rows, sums and weights float32 `[b]`; and the layers' own metrics, of
          the whole batch.
        """
        output, reported = self.apply(
            {"params": params},
            **batch,
            mutable=[auxiliary_losses.AUXILIARY],
            method="_output_factors",
        )
        rows = self.cross_entropy(losses.row_cross_entropy, output, batch)
        means, metrics = auxiliary_losses.collect(reported)
        one = jnp.float32(1)
        return rows, metrics | {name: (value, one) for name, value in means.items()}

    @nn.nowrap
    def loss_of(
        self,
        output: tuple[Array, Array, Array | None],
        batch: Batch,
        reported: Mapping[str, Any],
    ) -> tuple[dict[str, Array], losses.Metrics]:
        """`loss`, from what the logits are made of and what layers reported."""
        loss, metrics = self.cross_entropy(losses.output_cross_entropy, output, batch)
        loss, metrics = losses.with_auxiliary(loss, metrics, *auxiliary_losses.collect(reported))
        return {"loss": loss}, metrics

    @nn.nowrap
    def cross_entropy(
        self,
        compute: Callable[..., Computed],
        output: tuple[Array, Array, Array | None],
        batch: Batch,
    ) -> Computed:
        """`losses.output_cross_entropy` or `losses.row_cross_entropy`, as this model is trained.

        Args:
          compute: the one or the other.
          output: what the logits are made of, as `_output_factors` gives it.
          batch: has the targets and, optionally, their weights.
        """
        x_bte, kernel_ev, bias_v = output
        return compute(
            x_bte,
            kernel_ev,
            batch["decoder_target_tokens"],
            target_weights(batch),
            bias_v=bias_v,
            z_loss=self.z_loss,
            label_smoothing=self.label_smoothing,
            num_chunks=self.logit_chunks,
        )

    @nn.nowrap
    def decoding_params(self, params: Params) -> Params:
        """The parameters laid out for decoding; call it once, before the loop.

        `init_cache` and `decode_step` take this or the trained tree; inside a loop the
        latter costs a copy of every layer's parameters each step.
        """
        if self.tuning is not None:
            params = self.tuning.merged(params)
        params = self.params_in_use(params)
        decoder = stack.unstack_layers(params["decoder"])
        if self.quantization is None:
            groups = {"self_attention": attention.SELF_PROJECTIONS, "mlp": mlps.GATED_INPUTS}
            decoder = fused_projections.join(decoder, groups)
        # A tied output is the embeddings' transpose: written out once, it is read in order.
        kernel_ev = self.apply({"params": params}, method="output_kernel")
        return {**params, "decoder": decoder, OUTPUT_KERNEL: kernel_ev}

    @nn.nowrap
    def init_cache(self, params: Params, batch: Batch, max_decode_length: int) -> Cache:
        """The decoding state after the encoder and the prompt have been read.

        Args:
          params: as `init` or `decoding_params` gives them.
          batch: `encoder_input_tokens` and its companions (encoder-decoder) and, optionally,
            a prompt `decoder_input_tokens` `[b, p]`, padded on the left, with
            `decoder_segment_ids` (0 on the padding; absent: no padding),
            `decoder_positions` and `decoder_causal_attention`. A decoder-only model without
            a prompt needs `decoder_input_tokens` of shape `[b, 0]`, for the batch's size.
          max_decode_length: how many tokens will be held, the prompt included.

        Returns:
          A pytree whose leaves of rank 1 and more have the batch as their first axis.
        """
        cache: Any = self.apply({"params": params}, batch, max_decode_length, method="prefill")
        return cache

    @nn.nowrap
    def decode_step(self, params: Params, cache: Cache, tokens: Array) -> tuple[Array, Cache]:
        """One more token a row: int32 `[b]` to logits float32 `[b, v]`, and the new cache."""
        logits_b1v, cache = self.extend(params, cache, tokens[:, None])
        return logits_b1v[:, 0], cache

    @nn.nowrap
    def extend(self, params: Params, cache: Cache, tokens: Array) -> tuple[Array, Cache]:
        """Several more tokens a row at once: int32 `[b, n]` to logits float32 `[b, n, v]`.

        See the engine's protocol `Extends`.
        """
        extended: Any = self.apply({"params": params}, cache, tokens, method="_extended_logits")
        return extended

    def _extended_logits(self, cache: Cache, tokens_bt: Array) -> tuple[Array, Cache]:
        x_bte, cache = self.decode(cache, tokens_bt)
        kernel_ev = self.variables["params"].get(OUTPUT_KERNEL)
        if kernel_ev is None:
            kernel_ev = self.output_kernel()
        return embeddings.logits(x_bte, kernel_ev, self.output_bias()), cache


def target_weights(batch: Batch) -> Array:
    """What each target counts, `[b, t]`: as the batch says, or 1 of all that are not 0."""
    weights_bt = batch.get("decoder_loss_weights")
    return batch["decoder_target_tokens"] != 0 if weights_bt is None else weights_bt


def _side(record: intermediates.Record) -> str:
    # `hidden_states` is the decoder's, and runs the encoder.
    return next((place for place in reversed(record.within) if place in _SIDES), "decoder")
