"""The base class of every family: a Linen module with its loss, its size and its FLOPs."""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from models import field_checks, flops
from models.errors import ModelError
from models.layers import mesh_context, parts
from models.layers import quantization as quantized_products
from models.layers.quantization import Quantization
from models.losses import Metrics
from models.tuning import Parts

Array = jax.Array
Batch = Mapping[str, Any]
Params = Any

_DTYPES = ("float32", "bfloat16", "float16", "float64")
# Logical names of the rows of tables that things are looked up in.
_TABLES = {"vocab", "token_types", "characters", "positions"}
_LARGEST = 2**31 - 1  # what an index of 32 bits reaches
_NOT_NEGATIVE = ("norm_epsilon", "z_loss", "load_balance", "router_z_loss")
_SHARES = ("label_smoothing", "router_jitter")  # and every rate of dropout


class Model(nn.Module, kw_only=True):
    """The base class of all families; fulfils `Model` of the engine's protocols.

    A family writes `setup`, `__call__` (or what a base class of its kind asks for), `loss_terms`,
    `loss_weights` and `loss`, and says which `batch_format` it takes and which features of it
    `__call__` cannot do without.

    Attributes:
      vocab_size: how many tokens, with the padding of the vocabulary's table.
      dropout_rate: of every dropout in the model.
      dtype: of the computation; parameters, norms, softmax, logits and loss are float32.
      remat_policy: see `layers.stacks.stack.Stack`.
      scan_unroll: see `layers.stacks.stack.Stack`.
      tuning: which parameters training changes, and what it adds to the model; None for all, and
        nothing.
      quantization: which products are of 8 bits; None for none.
    """

    # Features of a batch, int32 `[b, length]`, that the module reads in any case.
    input_features: ClassVar[tuple[str, ...]]
    # The method whose FLOPs are those of a forward pass in training.
    trained: ClassVar[str] = "__call__"
    # Fields that may be 0, where every other whole number is a size.
    offsets: ClassVar[tuple[str, ...]] = ("position_offset",)
    # Whether vectors may stand before the tokens of its rows, see `tuning.Prompt`.
    reads_prompts: ClassVar[bool] = False

    vocab_size: int
    dropout_rate: float = 0.0
    dtype: str = "float32"
    remat_policy: str = "dots"
    scan_unroll: int = 1
    tuning: Parts | None = None
    quantization: Quantization | None = None

    def __post_init__(self) -> None:
        """Checks what no family can be built with.

        Raises:
          ModelError: a value of the wrong type, a size below 1, a number that is not finite, a
            rate outside of [0, 1), or a dtype of no real numbers.
        """
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not field_checks.is_of(value, field.type):
                raise self.refused(field.name, f"its type is {field_checks.named(field.type)}")
            lowest = 0 if field.name in self.offsets else 1
            is_size = type(value) is int and not field_checks.is_of(0.5, field.type)
            if is_size and not lowest <= value <= _LARGEST:
                raise self.refused(field.name, f"it must be {lowest} or more, below 2**31")
            if isinstance(value, float) and not math.isfinite(value):
                raise self.refused(field.name, "it must be a finite number")
        for name in _NOT_NEGATIVE:
            if getattr(self, name, 0) < 0:
                raise self.refused(name, "it must not be negative")
        if getattr(self, "rope_base", 1) <= 0:
            raise self.refused("rope_base", "it must be above 0")
        for field in dataclasses.fields(self):
            is_share = field.name.endswith("dropout_rate") or field.name in _SHARES
            if is_share and not 0 <= (getattr(self, field.name) or 0) < 1:
                raise self.refused(field.name, "it must be at least 0 and below 1")
        if self.dtype not in _DTYPES:
            raise self.refused("dtype", f"it must be one of {', '.join(_DTYPES)}")
        if self.tuning is not None:
            self.tuning.check(self)
        super().__post_init__()

    @property
    def max_length(self) -> int | None:
        """Most tokens of a row; families made for a length have a field instead."""
        return None

    def refused(self, name: str, accepted: str) -> ModelError:
        """The error for a field's value, and what would be accepted."""
        value = getattr(self, name)
        # The whole of another model would be many lines.
        shown = f"a {type(value).__name__}" if isinstance(value, nn.Module) else repr(value)
        return ModelError(f"{type(self).__name__}.{name} is {shown}: {accepted}.")

    # Written by a family, or by the base class of its kind.

    @property
    def batch_format(self) -> str:
        """The name of the batches that it takes, of the engine's `data.formats`."""
        raise NotImplementedError

    @property
    def loss_terms(self) -> Mapping[str, float]:
        """Name of each term of the loss to its coefficient in the total."""
        return {"loss": 1.0}

    @nn.nowrap
    def loss_weights(self, batch: Batch) -> dict[str, Array]:
        """The weight that each term's sum is divided by, float32 scalars."""
        raise NotImplementedError

    @nn.nowrap
    def loss(
        self, params: Params, batch: Batch, rng: Array | None = None
    ) -> tuple[dict[str, Array], Metrics]:
        """Each term of the loss summed over the batch, and summed metrics with their weights.

        Args:
          params: as `init` makes them.
          batch: of `batch_format`.
          rng: for dropout, of which there is none without it.

        Returns:
          The terms, float32 scalars; and metrics, `(sum, weight)` by name, each term under its
          own name among them.
        """
        raise NotImplementedError

    # Called by users.

    def check_features(self, features: Mapping[str, Any]) -> None:
        """Refuses a batch that lacks what `__call__` reads.

        Raises:
          ModelError: names the feature.
        """
        for name in self.input_features:
            if name not in features:
                raise ModelError(
                    f"the batch has {sorted(features)}, but {type(self).__name__} reads {name}: "
                    f"is it a batch of the format '{self.batch_format}'?"
                )

    @nn.nowrap
    def apply(self, variables: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Linen's, with what the tuning adds and with parameters wherever they are used.

        What parts of the model compute has their names (`layers.parts`), in programs and profiles.
        """
        if "params" in variables:
            variables = {**variables, "params": self.params_in_use(variables["params"])}
        with (
            self._tuned(),
            quantized_products.using(self.quantization),
            nn.intercept_methods(parts.scope_of_module),
        ):
            return super().apply(variables, *args, **kwargs)

    @nn.nowrap
    def params_in_use(self, params: Params) -> Params:
        """The tree that modules read, where a family stores parameters of several uses once."""
        return params

    @nn.nowrap
    def params_to_store(self, params: Params) -> Params:
        """Of the tree that modules made what `init` gives; `params_in_use` undoes it."""
        return params

    @nn.nowrap
    def _tuned(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext() if self.tuning is None else self.tuning.watching()

    @nn.nowrap
    def init(  # type: ignore[override]  # Linen's takes a batch, and this one may do without
        self, rng: Array, batch: Batch | None = None
    ) -> dict[str, Params]:
        """Fresh variables `{"params": tree of arrays}`, the same for any batch.

        Raises:
          ModelError: the model has none of the products that its `quantization` is of.
        """
        return nn.unbox(self._boxed_init(rng))

    @nn.nowrap
    def _boxed_init(self, rng: Array) -> dict[str, Params]:
        # Shapes of parameters do not depend on the batch: one token of everything will do.
        batch: Any = dict.fromkeys(self.input_features, jnp.ones((1, 1), jnp.int32))
        with self._tuned(), quantized_products.using(self.quantization) as use:
            made = dict(super().init({"params": rng}, mutable=["params"], **batch))
        if self.quantization is not None and not use.met:
            raise ModelError(
                f"{type(self).__name__} cannot have a quantization: none of its products is with "
                "the matrix of a Linear or of experts."
            )
        made["params"] = self.params_to_store(made["params"])
        if self.tuning is not None:
            made["params"] = self.tuning.stored(made["params"])
        return made

    @nn.nowrap
    def abstract_params(self) -> Params:
        """Boxes `nn.LogicallyPartitioned` of `ShapeDtypeStruct`s; allocates nothing."""
        return _abstract_params(self)

    @nn.nowrap
    def axis_blocks(self) -> dict[str, int]:
        """Units that a logical axis of parameters holds together: those of one head."""
        heads = getattr(self, "num_heads", None)
        if heads is None:
            return {}
        head_dim = getattr(self, "head_dim", None) or self.embed_dim // heads
        return {"joined_kv": head_dim, "joined_shared_kv": head_dim}

    @nn.nowrap
    def parameter_count(self, *, embeddings: bool = True) -> int:
        """How many parameters; without `embeddings`, less those of tables.

        These are of tokens and their types, of characters and of positions.
        """
        boxes = jax.tree.leaves(
            self.abstract_params(), is_leaf=lambda x: isinstance(x, nn.LogicallyPartitioned)
        )
        return sum(
            math.prod(box.value.shape)
            for box in boxes
            if embeddings or not _TABLES & set(box.names)
        )

    @nn.nowrap
    def token_vectors(self, params: Params) -> Array:
        """The vector that each token is looked up as, float32 `[v, e]`.

        Raises:
          ModelError: tokens have no table of their own.
        """
        table = params.get("token_embedder", {}).get("embedding")
        if table is None:
            raise ModelError(f"{type(self).__name__} has no table with a vector for each token.")
        return table

    @nn.nowrap
    def forward_flops(self, batch_shapes: Mapping[str, tuple[int, ...]]) -> dict[str, flops.Flops]:
        """FLOPs of one forward pass in training, by part (`layers.parts`): in full, and needed.

        Matrix products only; looking up embeddings is none. The head is the product with
        `output_kernel`. In full, attention is computed for every pair of query and key, and an
        expert's slots are all filled. A prefix's pairs are known at run time only: all are needed.

        Args:
          batch_shapes: shape of each feature.
        """
        return self._pass_flops(flops.matmul_flops, batch_shapes)

    @nn.nowrap
    def backward_flops(self, batch_shapes: Mapping[str, tuple[int, ...]]) -> dict[str, flops.Flops]:
        """The same of the backward pass, recomputation not counted.

        It does each product of the forward pass twice. Of a model that is tuned it does those
        alone that the gradient of what is trained needs, see `flops.gradient_flops`.

        Args:
          batch_shapes: shape of each feature.
        """
        if self.tuning is None:
            return flops.together([self.forward_flops(batch_shapes)] * 2)
        count = functools.partial(flops.gradient_flops, self.tuning.trains)
        return self._pass_flops(count, batch_shapes)

    @nn.nowrap
    def _pass_flops(
        self,
        count: Callable[..., dict[str, flops.Flops]],
        batch_shapes: Mapping[str, tuple[int, ...]],
    ) -> dict[str, flops.Flops]:
        """What `count` finds in a forward pass, given as a function and its arguments."""
        batch = {
            name: jax.ShapeDtypeStruct(shape, jnp.int32) for name, shape in batch_shapes.items()
        }

        def forward(params: Params, batch: Batch, rng: Array) -> Array:
            result: Any = self.apply(
                {"params": params},
                **batch,
                enable_dropout=True,
                rngs={"dropout": rng},
                method=self.trained,
            )
            return result

        with mesh_context.shapes_alone():
            rng = jax.eval_shape(lambda: jax.random.key(0))
            return count(forward, nn.unbox(self.abstract_params()), batch, rng)

    @nn.nowrap
    def step_flops(self, batch_shapes: Mapping[str, tuple[int, ...]]) -> float:
        """Model FLOPs of one training step: `forward_flops` and `backward_flops`, in full.

        Args:
          batch_shapes: shape of each feature.
        """
        return flops.in_full(self.forward_flops(batch_shapes), self.backward_flops(batch_shapes))


@functools.lru_cache(maxsize=128)
def _abstract_params(model: Model) -> Params:
    # Tracing takes a good part of a second, and a program asks several times.
    with mesh_context.shapes_alone():
        return jax.eval_shape(lambda: model._boxed_init(jax.random.key(0)))["params"]
