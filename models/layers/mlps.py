"""The position-wise feed-forward networks."""

from collections.abc import Callable, Mapping
from typing import ClassVar

import jax
from flax import linen as nn

from models.layers import parts
from models.layers.dropout import NO_DROPOUT, Dropout
from models.layers.fused_projections import part_of_joined
from models.layers.linear import Initializer, Linear

Activation = Callable[[jax.Array], jax.Array]


def exact_gelu(x: jax.Array) -> jax.Array:
    """`x Φ(x)` by the error function, where `nn.gelu` takes its approximation by tanh."""
    return nn.gelu(x, approximate=False)


# Of an encoder's MLPs and heads, by the names of their fields; the first is BERT's.
ACTIVATIONS: Mapping[str, Activation] = {
    "gelu": exact_gelu,
    "gelu_tanh": nn.gelu,
    "relu": nn.relu,
}


class MLP(nn.Module):
    """`W_o φ(W_i x)` (Vaswani et al. 2017, eq. 2).

    Attributes:
      hidden_dim: units of the hidden layer.
      activation: φ.
      input_init: initial values of `W_i`.
      output_init: initial values of `W_o`.
      use_bias: whether both products add a bias.
      dropout: on the hidden layer.
      dtype: of the computation.
    """

    part: ClassVar[str] = parts.MLP

    hidden_dim: int
    activation: Activation
    input_init: Initializer
    output_init: Initializer
    use_bias: bool = False
    dropout: Dropout = NO_DROPOUT
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x_bte: jax.Array, *, enable_dropout: bool = False) -> jax.Array:
        """`[b, t, e]` to the same shape."""
        y_btf = self.activation(self._input("wi")(x_bte))
        return self._output(y_btf, x_bte.shape[-1], enable_dropout)

    def _input(self, name: str) -> Linear:
        return Linear(
            self.hidden_dim, ("embed", "mlp"), self.input_init, self.use_bias, self.dtype, name=name
        )

    def _output(self, y_btf: jax.Array, features: int, enable_dropout: bool) -> jax.Array:
        y_btf = nn.with_logical_constraint(y_btf, ("batch", "length", "mlp"))
        y_btf = self.dropout(y_btf, self.make_rng("dropout") if enable_dropout else None)
        return Linear(
            features, ("mlp", "embed"), self.output_init, self.use_bias, self.dtype, name="wo"
        )(y_btf)


# A gated layer's projections of one input, which decoding may fuse.
GATED_INPUTS = ("wi_0", "wi_1")


class GatedMLP(MLP):
    """`W_o (φ(W_0 x) ⊙ W_1 x)`: GEGLU, SwiGLU and their kind (Shazeer 2020, eq. 6)."""

    @nn.compact
    def __call__(self, x_bte: jax.Array, *, enable_dropout: bool = False) -> jax.Array:
        """`[b, t, e]` to the same shape."""
        gate_btf, value_btf = (self._gated_input(x_bte, name) for name in GATED_INPUTS)
        y_btf = self.activation(gate_btf) * value_btf
        return self._output(y_btf, x_bte.shape[-1], enable_dropout)

    def _gated_input(self, x_bte: jax.Array, name: str) -> jax.Array:
        y_btf = part_of_joined(self, x_bte, GATED_INPUTS.index(name), self.dtype)
        return self._input(name)(x_bte) if y_btf is None else y_btf
