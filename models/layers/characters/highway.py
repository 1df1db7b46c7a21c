"""Layers that carry a part of their input on."""

import jax
from flax import linen as nn

from models.layers.linear import Linear, axis_names, normal

# Of the released code of ELMo: at first most of the input is carried on.
_GATE_BIAS = -2.0


class Highway(nn.Module):
    """`g ReLU(W x + b) + (1 - g) x` with `g = sigmoid(W' x + b')` (Srivastava et al. 2015, eq. 3).

    Attributes:
      dtype: of the computation and the result; the parameters are float32.
    """

    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[..., f]` to the same shape."""
        width = x.shape[-1]
        axes, init = ("embed", "mlp"), normal(width**-0.5)
        transform = Linear(width, axes, init, use_bias=True, dtype=self.dtype, name="transform")
        gate = Linear(width, axes, init, dtype=self.dtype, name="gate")
        bias_init = axis_names(("mlp",), nn.initializers.constant(_GATE_BIAS))
        bias_f = self.param("gate_bias", bias_init, (width,))
        g = nn.sigmoid(gate(x) + bias_f.astype(self.dtype))
        return g * nn.relu(transform(x)) + (1 - g) * x
