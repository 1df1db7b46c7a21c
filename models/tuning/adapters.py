"""Small networks after a layer's branches, which alone are trained."""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from models.layers.linear import Linear, axis_names, dense, normal
from models.tuning.parts import Parts, is_new

_PREFIX = "adapter_"


@dataclasses.dataclass(frozen=True)
class Adapters(Parts):
    """`y + relu(y D) U` after the last projection of a branch, before it joins the residual stream.

    By default two in each layer, after attention and after the MLP, with biases, and norms are
    trained too (Houlsby et al. 2019, section 2.1). T5 has one in each layer, after the MLP, without
    biases (Raffel et al. 2020, section 3.5.1): `targets=['mlp/wo$']`, `use_bias=False`. U is 0 at
    first: the model begins as the one without, where Houlsby et al. begin close to that.

    Attributes:
      width: of the inner layer, d.
      use_bias: whether both products have one.
      targets: regular expressions, searched in the paths of `Linear`s.
      trained: what is trained beside the adapters: norms, and a head, `['norm', 'output_head']`.
    """

    trained: Sequence[str] = ("norm",)
    width: int = 64
    use_bias: bool = True
    targets: Sequence[str] = ("attention/out$", "mlp/wo$")

    def __post_init__(self) -> None:
        """See `Parts`."""
        super().__post_init__()
        if self.width < 1:
            raise self.refused("width", "it must be 1 or more")
        self.check_patterns("targets")

    @property
    def mergeable(self) -> bool:
        """No: nothing else has a place for them."""
        return False

    def adds(self, name: str) -> bool:
        """Whether a parameter is an adapter's."""
        return name.rpartition("/")[2].startswith(_PREFIX)

    def extended(self, linear: Linear, x: jax.Array, apply: Callable[[], jax.Array]) -> jax.Array:
        """See above."""
        y = apply()
        if not is_new(linear, self.targets, f"{_PREFIX}up"):
            return y
        outputs = linear.axes[1]
        inner = self._product(linear, y, "down", (outputs, None), (linear.features, self.width))
        return y + self._product(
            linear, nn.relu(inner), "up", (None, outputs), (self.width, linear.features)
        )

    def _product(
        self,
        linear: Linear,
        x: jax.Array,
        name: str,
        axes: tuple[str | None, str | None],
        shape: tuple[int, int],
    ) -> jax.Array:
        zeros = nn.initializers.zeros
        # Houlsby et al. 2019, section 3.6, find the size of D's values of little effect up to 1e-2.
        draw = normal(1e-2) if name == "down" else zeros
        kernel = linear.param(f"{_PREFIX}{name}", axis_names(axes, draw), shape, jnp.float32)
        y = dense(x, kernel.astype(x.dtype))
        if self.use_bias:
            bias = linear.param(
                f"{_PREFIX}{name}_bias", axis_names(axes[1:], zeros), shape[1:], jnp.float32
            )
            y += bias.astype(x.dtype)
        return y
