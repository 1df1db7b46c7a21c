"""Low-rank adaptation of matrices."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from models.layers.dropout import Dropout
from models.layers.linear import Linear, axis_names, dense, uniform
from models.tuning.parts import Parts, is_new

DOWN, UP = "lora_a", "lora_b"


@dataclasses.dataclass(frozen=True)
class LoRA(Parts):
    """`x W + (alpha / rank) drop(x) A B`, where W stays as it is (Hu et al. 2022, section 4.1).

    A is drawn as in the released code, evenly from between -1 and 1 over the root of the number of
    inputs, and B is 0: the model begins as the one without.

    Attributes:
      rank: of the product of both factors.
      alpha: see above; where it is kept, the product has the same scale at any rank.
      dropout_rate: of the input of the factors, in training.
      targets: regular expressions, searched in the paths of `Linear`s; queries and values by
        default, as in the paper; `['.']` is all.
      trained: what is trained beside the factors, a head for example.
    """

    rank: int = 8
    alpha: float = 16.0
    dropout_rate: float = 0.0
    targets: Sequence[str] = ("/query$", "/value$")

    def __post_init__(self) -> None:
        """See `Parts`."""
        super().__post_init__()
        if self.rank < 1:
            raise self.refused("rank", "it must be 1 or more")
        if not 0 <= self.dropout_rate < 1:
            raise self.refused("dropout_rate", "it must be at least 0 and below 1")
        self.check_patterns("targets")

    @property
    def scale(self) -> float:
        """What the factors' product is multiplied by."""
        return self.alpha / self.rank

    def adds(self, name: str) -> bool:
        """Whether a parameter is a factor."""
        return name.rpartition("/")[2] in (DOWN, UP)

    def extended(self, linear: Linear, x: jax.Array, apply: Callable[[], jax.Array]) -> jax.Array:
        """See above."""
        y = apply()
        if not is_new(linear, self.targets, UP):
            return y
        inputs, outputs = linear.axes
        bound = x.shape[-1] ** -0.5
        down = linear.param(
            DOWN,
            axis_names((inputs, "rank"), uniform(bound)),
            (x.shape[-1], self.rank),
            jnp.float32,
        )
        up = linear.param(
            UP,
            axis_names(("rank", outputs), nn.initializers.zeros),
            (self.rank, linear.features),
            jnp.float32,
        )
        x = x.astype(linear.dtype)
        if self.dropout_rate and linear.has_rng("dropout"):
            x = Dropout(self.dropout_rate)(x, linear.make_rng("dropout"))
        low = dense(dense(x, down.astype(linear.dtype)), up.astype(linear.dtype))
        return y + low * jnp.asarray(self.scale, y.dtype)

    def merged(self, params: Any, dtype: str | None = None) -> Any:
        """Parameters without factors: `W + (alpha / rank) A B` in the place of W.

        The sum is formed in float32.
        """
        if not isinstance(params, Mapping):
            return params
        inner = {
            name: self.merged(one, dtype) for name, one in params.items() if name not in (DOWN, UP)
        }
        if DOWN in params:
            xp: Any = jnp if isinstance(params[UP], jax.Array) else np
            product = xp.matmul(params[DOWN].astype("float32"), params[UP].astype("float32"))
            kernel = params["kernel"]
            inner["kernel"] = (kernel + self.scale * product).astype(dtype or kernel.dtype)
        return inner
