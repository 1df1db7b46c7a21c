"""What every family is: a Linen module that knows its loss, its size and how to decode."""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from models import field_checks, flops, losses
from models.errors import ModelError
from models.layers import auxiliary_losses, embeddings, fused_projections, intermediates, mlps
from models.layers.attention import attention
from models.layers.stacks import stack

Array = jax.Array
Batch = Mapping[str, Any]
Cache = dict[str, Any]
Params = Any

_DTYPES = ("float32", "bfloat16", "float16", "float64")
_LARGEST = 2**31 - 1  # what an index of 32 bits reaches

# Where `decoding_params` keeps the matrix from the residual stream to logits.
OUTPUT_KERNEL = "output_kernel"


class LanguageModel(nn.Module, kw_only=True):
    """The base class of the families; fulfils `LanguageModel` of the engine's protocols.

    A family writes `setup`, in which what decodes is named `decoder`, and four methods that
    run inside the module: `hidden_states`, `output_kernel`, `prefill` and `decode`.

    Batches hold T5X's features, int32 `[b, length]`: `decoder_input_tokens` and, as the
    family needs them, `encoder_input_tokens`, `{encoder,decoder}_segment_ids`,
    `{encoder,decoder}_positions` and `decoder_causal_attention`; the loss adds
    `decoder_target_tokens` and `decoder_loss_weights`. Token 0 pads.

    Attributes:
      vocab_size: how many tokens, with the padding of the vocabulary's table.
      dropout_rate: of every dropout in the model.
      dtype: of the computation; parameters, norms, softmax, logits and loss are float32.
      remat_policy: see `layers.stack.Stack`.
      scan_unroll: see `layers.stack.Stack`.
      z_loss: see `losses.summed_cross_entropy`.
      label_smoothing: see `losses.summed_cross_entropy`.
      logit_chunks: see `losses.output_cross_entropy`.
    """

    architecture: ClassVar[Literal["encoder_decoder", "decoder_only"]]
    # Fields that may be 0, where every other whole number is a size.
    offsets: ClassVar[tuple[str, ...]] = ("position_offset",)
    # Most tokens of a decoder row; families with a table of positions have a field instead.
    max_length = None

    vocab_size: int
    dropout_rate: float = 0.0
    dtype: str = "float32"
    remat_policy: str = "dots"
    scan_unroll: int = 1
    z_loss: float = 0.0
    label_smoothing: float = 0.0
    logit_chunks: int | None = None

    def __post_init__(self) -> None:
        """Checks what no family can be built with.

        Raises:
          ModelError: a value of the wrong type, a size below 1, a rate outside of [0, 1), or a
            dtype of no real numbers.
        """
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not field_checks.is_of(value, field.type):
                raise self._refused(field.name, f"its type is {field_checks.named(field.type)}")
            lowest = 0 if field.name in self.offsets else 1
            if type(value) is int and not lowest <= value <= _LARGEST:
                raise self._refused(field.name, f"it must be {lowest} or more, below 2**31")
        for name in ("dropout_rate", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise self._refused(name, "it must be at least 0 and below 1")
        if self.dtype not in _DTYPES:
            raise self._refused("dtype", f"it must be one of {', '.join(_DTYPES)}")
        super().__post_init__()

    def _refused(self, name: str, accepted: str) -> ModelError:
        return ModelError(f"{type(self).__name__}.{name} is {getattr(self, name)!r}: {accepted}.")

    # What a family writes. These run inside `apply`.

    def hidden_states(self, *, enable_dropout: bool = False, **features: Array) -> Array:
        """The residual stream that the output reads, `[b, t, e]`, from a batch's features."""
        raise NotImplementedError

    def output_kernel(self) -> Array:
        """The matrix from `hidden_states` to logits, float32 `[e, v]`."""
        raise NotImplementedError

    def prefill(self, batch: Batch, max_decode_length: int) -> Cache:
        """See `init_cache`."""
        raise NotImplementedError

    def decode(self, cache: Cache, tokens_bt: Array) -> tuple[Array, Cache]:
        """`hidden_states` of tokens that follow those in the cache, and the cache with them."""
        raise NotImplementedError

    # What a user calls.

    def __call__(self, **features: Any) -> Array:
        """Logits, float32 `[b, t, v]`; what the family does not read is left aside.

        Raises:
          ModelError: a feature is missing.
        """
        x_bte, kernel_ev = self._output_factors(**features)
        with jax.named_scope(flops.HEAD):
            logits_btv = embeddings.logits(x_bte, kernel_ev)
        return nn.with_logical_constraint(logits_btv, ("batch", "length", "vocab"))

    def _output_factors(self, **features: Any) -> tuple[Array, Array]:
        """What the logits are the product of: `hidden_states` and `output_kernel`."""
        for side in (
            ("encoder", "decoder") if self.architecture == "encoder_decoder" else ("decoder",)
        ):
            if f"{side}_input_tokens" not in features:
                raise ModelError(
                    f"the batch has {sorted(features)}, but {type(self).__name__} reads "
                    f"{side}_input_tokens: is the task made for an {self.architecture} model?"
                )
        return self.hidden_states(**features), self.output_kernel()

    @nn.nowrap
    def init(self, rng: Array, batch: Batch | None = None) -> dict[str, Params]:
        """Fresh variables `{"params": tree of float32 arrays}`, the same for any batch."""
        return nn.unbox(self._boxed_init(rng))

    @nn.nowrap
    def _boxed_init(self, rng: Array) -> dict[str, Params]:
        # Shapes of parameters do not depend on the batch: one token of everything will do.
        one = jnp.ones((1, 1), jnp.int32)
        batch = {"decoder_input_tokens": one}
        if self.architecture == "encoder_decoder":
            batch["encoder_input_tokens"] = one
        return super().init({"params": rng}, mutable=["params"], **batch)

    @nn.nowrap
    def logits(self, params: Params, batch: Batch) -> Array:
        """Logits without dropout, float32 `[b, t, v]`."""
        return self.apply({"params": params}, **batch)

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
        names = {
            "encoder": ("encoder", "self_attention"),
            "decoder": ("decoder", "self_attention"),
            "cross": ("decoder", "cross_attention"),
        }
        found = self._recorded(params, batch, intermediates.ATTENTION)
        return {
            name: jnp.stack(list(found[key].values()))
            for name, key in names.items()
            if key in found
        }

    @nn.nowrap
    def routing(self, params: Params, batch: Batch) -> dict[str, dict[int, dict[str, Array]]]:
        """What the routers of experts decide, with the capacity of evaluation.

        Padding is routed too, and takes its turn like any token.

        Args:
          params: as `init` makes them.
          batch: as for `logits`.

        Returns:
          Side (`encoder`, `decoder`), then layer (from 0; those with experts), then `experts`,
          `gates`, `served` and `probabilities` as `layers.moe.MixtureOfExperts` has them. Empty
          for a model without experts.
        """
        found = self._recorded(params, batch, intermediates.ROUTING)
        return {side: layers for (side, _), layers in found.items()}

    def _recorded(
        self, params: Params, batch: Batch, collection: str
    ) -> dict[tuple[str, str], dict[int, Any]]:
        _, found = self.apply(
            {"params": params}, **batch, mutable=[collection], method="_output_factors"
        )
        return intermediates.by_layer(found.get(collection, {}), params, stack.LAYERS)

    @nn.nowrap
    def loss(
        self, params: Params, batch: Batch, rng: Array | None = None
    ) -> tuple[Array, losses.Metrics]:
        """The loss summed over the target tokens, and summed metrics with their weights.

        What layers add to the loss (`layers.auxiliary`) is a mean over tokens; here it is
        multiplied by the sum of the weights, by which the engine will divide.

        Args:
          params: as `init` makes them.
          batch: without `decoder_loss_weights`, targets other than 0 count 1.
          rng: for dropout, of which there is none without it.

        Returns:
          See `losses.summed_cross_entropy`; and the layers' own metrics.
        """
        targets_bt = batch["decoder_target_tokens"]
        weights_bt = batch.get("decoder_loss_weights")
        if weights_bt is None:
            weights_bt = targets_bt != 0
        (x_bte, kernel_ev), reported = self.apply(
            {"params": params},
            **batch,
            enable_dropout=rng is not None,
            rngs={} if rng is None else {"dropout": rng},
            mutable=[auxiliary_losses.AUXILIARY],
            method="_output_factors",
        )
        loss, metrics = losses.output_cross_entropy(
            x_bte,
            kernel_ev,
            targets_bt,
            weights_bt,
            z_loss=self.z_loss,
            label_smoothing=self.label_smoothing,
            num_chunks=self.logit_chunks,
        )
        return losses.with_auxiliary(loss, metrics, *auxiliary_losses.collect(reported))

    @nn.nowrap
    def decoding_params(self, params: Params) -> Params:
        """The parameters laid out for decoding; call it once, before the loop.

        `init_cache` and `decode_step` take this or the trained tree; inside a loop the
        latter costs a copy of every layer's parameters each step.
        """
        decoder = fused_projections.join(
            stack.unstack_layers(params["decoder"]),
            {"self_attention": attention.SELF_PROJECTIONS, "mlp": mlps.GATED_INPUTS},
        )
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
        return self.apply({"params": params}, batch, max_decode_length, method="prefill")

    @nn.nowrap
    def decode_step(self, params: Params, cache: Cache, tokens: Array) -> tuple[Array, Cache]:
        """One more token a row: int32 `[b]` to logits float32 `[b, v]`, and the new cache."""
        logits_b1v, cache = self.apply(
            {"params": params}, cache, tokens[:, None], method="_extended_logits"
        )
        return logits_b1v[:, 0], cache

    def _extended_logits(self, cache: Cache, tokens_bt: Array) -> tuple[Array, Cache]:
        x_bte, cache = self.decode(cache, tokens_bt)
        kernel_ev = self.variables["params"].get(OUTPUT_KERNEL)
        if kernel_ev is None:
            kernel_ev = self.output_kernel()
        return embeddings.logits(x_bte, kernel_ev), cache

    @nn.nowrap
    def abstract_params(self) -> Params:
        """Boxes `nn.LogicallyPartitioned` of `ShapeDtypeStruct`s; allocates nothing."""
        return _abstract_params(self)

    @nn.nowrap
    def axis_blocks(self) -> dict[str, int]:
        """Units that a logical axis of parameters holds together: those of one head."""
        head_dim = getattr(self, "head_dim", None) or self.embed_dim // self.num_heads
        return {"joined_kv": head_dim}

    @nn.nowrap
    def parameter_count(self, *, embeddings: bool = True) -> int:
        """How many parameters; without `embeddings`, less those of tokens and positions."""
        boxes = jax.tree.leaves(
            self.abstract_params(), is_leaf=lambda x: isinstance(x, nn.LogicallyPartitioned)
        )
        return sum(
            math.prod(box.value.shape)
            for box in boxes
            if embeddings or not {"vocab", "positions"} & set(box.names)
        )

    @nn.nowrap
    def forward_flops(self, batch_shapes: Mapping[str, tuple[int, ...]]) -> dict[str, flops.Flops]:
        """FLOPs of one forward pass in training, by part (`flops.PARTS`): in full, and needed.

        Matrix products only; looking up embeddings is none. The head is the product with
        `output_kernel`. In full, attention is computed for every pair of query and key, and an
        expert's slots are all filled. A prefix's pairs are known at run time only: all are needed.

        Args:
          batch_shapes: shape of each feature.
        """
        batch = {
            name: jax.ShapeDtypeStruct(shape, jnp.int32) for name, shape in batch_shapes.items()
        }
        params = jax.eval_shape(self.init, jax.random.key(0))["params"]

        def forward(params: Params, batch: Batch, rng: Array) -> Array:
            return self.apply(
                {"params": params}, **batch, enable_dropout=True, rngs={"dropout": rng}
            )

        return flops.matmul_flops(forward, params, batch, jax.random.key(0))

    @nn.nowrap
    def step_flops(self, batch_shapes: Mapping[str, tuple[int, ...]]) -> float:
        """Model FLOPs of one training step, forward and backward.

        Those of `forward_flops` in full, recomputation not counted; the backward pass does each
        product of the forward pass twice.

        Args:
          batch_shapes: shape of each feature.
        """
        return 3.0 * sum(part.full for part in self.forward_flops(batch_shapes).values())


@functools.lru_cache(maxsize=128)
def _abstract_params(model: LanguageModel) -> Params:
    # Tracing takes a good part of a second, and a program asks several times.
    return jax.eval_shape(model._boxed_init, jax.random.key(0))["params"]
