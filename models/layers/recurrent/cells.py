"""Recurrent cells: the state after a token from the state before it and the token's input.

A cell is a plain object without parameters; `layers.recurrent.stack.RecurrentLayer` makes them.
`q` is the axis of a cell's gates, `f` that of its units.
"""

import dataclasses
from collections.abc import Callable
from typing import ClassVar

import jax
import jax.numpy as jnp

from models.errors import ModelError

State = dict[str, jax.Array]
"""Name to float32 `[b, f]`; `hidden` is what the layer outputs."""

Product = Callable[[jax.Array, slice], jax.Array]
"""`(left_bf, gates) -> [b, q, f]`: the left side times the recurrent matrices of these gates, with
their recurrent biases. A cell asks for every gate once, in their order."""

ALL_GATES = slice(None)


@dataclasses.dataclass(frozen=True)
class Cell:
    """The base class of cells.

    Attributes:
      gates: how many matrices there are for the input, and as many for the hidden state.
      state_names: of the arrays of a state.
      recurrent_biases: how many of the last gates add a bias to the product with the hidden
        state too. Elsewhere a second bias would only be added to the first.
    """

    gates: ClassVar[int]
    state_names: ClassVar[tuple[str, ...]] = ("hidden",)

    @property
    def projection(self) -> int | None:
        """Units of a hidden state that a matrix makes of the cell's; None where there is none."""
        return None

    @property
    def recurrent_biases(self) -> int:
        """See the class."""
        return 0

    def initial_state(self, rows: int, units: int) -> State:
        """The state before the first token: zeros, float32 `[rows, units]`."""
        sizes = dict.fromkeys(self.state_names, units) | {"hidden": self.projection or units}
        return {name: jnp.zeros((rows, size), jnp.float32) for name, size in sizes.items()}

    def __call__(self, state: State, x_bqf: jax.Array, product: Product) -> State:
        """The state after one more token a row.

        Args:
          state: before it.
          x_bqf: the input times each gate's matrix, with its bias.
          product: multiplies by the recurrent matrices.
        """
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class RNN(Cell):
    """`h' = tanh(W x + U h + b)`, the vanilla recurrent network."""

    gates = 1

    def activation(self, x: jax.Array) -> jax.Array:
        """Elementwise."""
        return jnp.tanh(x)

    def __call__(self, state: State, x_bqf: jax.Array, product: Product) -> State:
        """See `Cell`."""
        sum_bqf = _sum(x_bqf, product(state["hidden"], ALL_GATES))
        return {"hidden": self.activation(sum_bqf[:, 0])}


@dataclasses.dataclass(frozen=True)
class SigmoidRNN(RNN):
    """`h' = sigmoid(W x + U h + b)` (Elman 1990)."""

    def activation(self, x: jax.Array) -> jax.Array:
        """Elementwise."""
        return jax.nn.sigmoid(x)


@dataclasses.dataclass(frozen=True)
class LSTM(Cell):
    """Long short-term memory with a forget gate and no peepholes (Zaremba et al. 2014, section 3).

    Gates in the order i, f, g, o, each of `W x + U h + b`: `i`, `f` and `o` are sigmoids, `g` a
    tanh; `c' = f c + i g` and `h' = o tanh(c')`.
    """

    gates = 4
    state_names = ("hidden", "cell")

    def __call__(self, state: State, x_bqf: jax.Array, product: Product) -> State:
        """See `Cell`."""
        o, cell = self.output_and_cell(state, x_bqf, product)
        return {"hidden": o * jnp.tanh(cell), "cell": cell}

    def output_and_cell(
        self, state: State, x_bqf: jax.Array, product: Product
    ) -> tuple[jax.Array, jax.Array]:
        """`o` and `c'`."""
        sum_bqf = _sum(x_bqf, product(state["hidden"], ALL_GATES))
        i, f, g, o = (sum_bqf[:, gate] for gate in range(4))
        cell = jax.nn.sigmoid(f) * state["cell"] + jax.nn.sigmoid(i) * jnp.tanh(g)
        return jax.nn.sigmoid(o), cell


@dataclasses.dataclass(frozen=True)
class ProjectedLSTM(LSTM):
    """An `LSTM` whose hidden state is a projection: `h' = P (o tanh(c'))` (Sak et al. 2014).

    Both `c'` and `h'` are cut to a range, as in the released code of ELMo (Peters et al. 2018).

    Attributes:
      projection_dim: units of the hidden state.
      cell_clip: `c'` is cut to between minus and plus this; None leaves it as it is.
      projection_clip: `h'` likewise.
    """

    projection_dim: int = 512
    cell_clip: float | None = 3.0
    projection_clip: float | None = 3.0

    def __post_init__(self) -> None:
        if type(self.projection_dim) is not int or self.projection_dim < 1:
            raise ModelError(
                f"ProjectedLSTM.projection_dim is {self.projection_dim!r}: a whole number of 1 or "
                "more is needed."
            )
        for name in ("cell_clip", "projection_clip"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ModelError(
                    f"ProjectedLSTM.{name} is {value!r}: a number above 0 is needed; None cuts "
                    "nothing."
                )

    @property
    def projection(self) -> int:
        """See `Cell`."""
        return self.projection_dim

    def __call__(
        self, state: State, x_bqf: jax.Array, product: Product, project: Product | None = None
    ) -> State:
        """See `Cell`; `project` multiplies by P, which is a matrix of one gate."""
        assert project is not None
        o, cell = self.output_and_cell(state, x_bqf, product)
        cell = _cut(cell, self.cell_clip)
        hidden = project(o * jnp.tanh(cell), ALL_GATES)[:, 0].astype(jnp.float32)
        return {"hidden": _cut(hidden, self.projection_clip), "cell": cell}


def _cut(x: jax.Array, limit: float | None) -> jax.Array:
    return x if limit is None else jnp.clip(x, -limit, limit)


@dataclasses.dataclass(frozen=True)
class GRU(Cell):
    """Gated recurrent unit, with the reset gate after the recurrent product or before it.

    Gates in the order r, z, n; `r` and `z` are sigmoids of `W x + U h + b`, and
    `h' = (1 - z) n + z h`. The candidate `n` is `tanh(W x + b + r (U h + b'))` with the reset
    after the product, as cuDNN, PyTorch and Flax have it, and `tanh(W x + U (r h) + b)` with the
    reset before it (Cho et al. 2014, equation 8).

    Attributes:
      reset_after: which of the two; only the first has the bias `b'`.
    """

    gates = 3

    reset_after: bool = True

    @property
    def recurrent_biases(self) -> int:
        """That of the candidate, where the reset gate comes between it and the other bias."""
        return int(self.reset_after)

    def __call__(self, state: State, x_bqf: jax.Array, product: Product) -> State:
        """See `Cell`."""
        h_bf = state["hidden"]
        x_bqf = x_bqf.astype(jnp.float32)
        if self.reset_after:
            u_bqf = product(h_bf, ALL_GATES).astype(jnp.float32)
            r, z = (jax.nn.sigmoid(x_bqf[:, gate] + u_bqf[:, gate]) for gate in range(2))
            n = jnp.tanh(x_bqf[:, 2] + r * u_bqf[:, 2])
        else:
            u_bqf = product(h_bf, slice(0, 2))
            r, z = (jax.nn.sigmoid(x_bqf[:, gate] + u_bqf[:, gate]) for gate in range(2))
            n = jnp.tanh(x_bqf[:, 2] + product(r * h_bf, slice(2, 3))[:, 0])
        return {"hidden": (1 - z) * n + z * h_bf}


def _sum(x_bqf: jax.Array, product_bqf: jax.Array) -> jax.Array:
    """Both in float32, whatever the dtype of the products."""
    return x_bqf.astype(jnp.float32) + product_bqf.astype(jnp.float32)
