"""Recurrent layers, one after the other."""

from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.ad_checkpoint import checkpoint_name

from models.layers import parts
from models.layers.dropout import NO_DROPOUT, Dropout
from models.layers.linear import STORED_PRODUCT, Initializer, axis_names
from models.layers.recurrent.cells import Cell, State
from models.layers.recurrent.time_scan import Steps, time_scan
from models.layers.stacks.stack import policy_of

States = dict[str, State]
"""The name of a layer to its state."""


class RecurrentLayer(nn.Module):
    """A cell with its parameters, run over rows of tokens.

    The input's products are one matrix product for all tokens, outside of the loop. Gates have an
    axis of their own, so that units can be divided among devices; the axis along which a
    recurrent matrix reads the hidden state is called `embed`, like that of the input's.

    Attributes:
      cell: which one.
      units: of the hidden state.
      param_init: initial values of matrices and biases.
      unroll: tokens for each turn of the loop.
      dtype: of the products; the state and the parameters are float32.
    """

    part: ClassVar[str] = parts.RECURRENCE

    cell: Cell
    units: int
    param_init: Initializer
    unroll: int = 1
    dtype: str = "float32"

    @nn.compact
    def __call__(
        self, x_bte: jax.Array, state: State, steps: Steps | None = None
    ) -> tuple[jax.Array, State]:
        """The hidden state at each token, `[b, t, f]`, and the state after the last one."""
        gates = self.cell.gates
        kernel_eqf = self._param("kernel", ("embed", None, "mlp"), (x_bte.shape[-1], gates))
        bias_qf = self._param("bias", (None, "mlp"), (gates,))
        kernel_fqf = self._param("recurrent_kernel", ("embed", None, "mlp"), (self.units, gates))
        recurrent_qf = None
        if count := self.cell.recurrent_biases:
            recurrent_qf = self._param("recurrent_bias", (None, "mlp"), (count,))
            recurrent_qf = jnp.pad(recurrent_qf, ((gates - count, 0), (0, 0)))

        x_tbe = jnp.swapaxes(x_bte, 0, 1).astype(self.dtype)
        x_tbqf = jnp.einsum("tbe,eqf->tbqf", x_tbe, kernel_eqf) + bias_qf
        x_tbqf = checkpoint_name(x_tbqf, STORED_PRODUCT)
        x_tbqf = nn.with_logical_constraint(x_tbqf, (None, "batch", None, "mlp"))
        # Gathered once, where FSDP divides it, and not for each token.
        kernel_fqf = nn.with_logical_constraint(kernel_fqf, (None, None, "mlp"))
        steps = jax.tree.map(lambda a_bt: jnp.swapaxes(a_bt, 0, 1), steps)
        hidden_tbf, state = time_scan(
            self.cell, self.unroll, x_tbqf, kernel_fqf, recurrent_qf, state, steps
        )
        hidden_btf = jnp.swapaxes(hidden_tbf.astype(self.dtype), 0, 1)
        return nn.with_logical_constraint(hidden_btf, ("batch", "length", "embed")), state

    def _param(self, name: str, axes: tuple[str | None, ...], shape: tuple[int, ...]) -> jax.Array:
        init = axis_names(axes, self.param_init)
        return self.param(name, init, (*shape, self.units), jnp.float32).astype(self.dtype)


class RecurrentStack(nn.Module):
    """Layers of one kind, the first of which may read another width.

    Dropout acts on what goes into a layer and on what comes out of the last one, and never on
    what goes from token to token (Zaremba et al. 2014, section 3.1).

    Attributes:
      cell: of every layer.
      units: of every layer.
      num_layers: how many.
      param_init: see `RecurrentLayer`.
      dropout: see above.
      remat_policy: see `layers.stacks.stack.Stack`; "dots" stores the states of the layers too.
      unroll: see `RecurrentLayer`.
      dtype: see `RecurrentLayer`.
    """

    cell: Cell
    units: int
    num_layers: int
    param_init: Initializer
    dropout: Dropout = NO_DROPOUT
    remat_policy: str = "dots"
    unroll: int = 1
    dtype: str = "float32"

    def setup(self) -> None:
        """Makes `layers_0`, `layers_1` and so on."""
        layer = RecurrentLayer
        policy = policy_of(self.remat_policy)
        if policy is not None:
            layer = nn.remat(RecurrentLayer, policy=policy)
        self.layers = [
            layer(self.cell, self.units, self.param_init, self.unroll, self.dtype)
            for _ in range(self.num_layers)
        ]

    def __call__(
        self, x_bte: jax.Array, states: States, steps: Steps | None, enable_dropout: bool
    ) -> tuple[jax.Array, States]:
        """The hidden states of the last layer, `[b, t, f]`, and all layers' last states."""
        final = {}
        x_bte = self._dropped(x_bte, enable_dropout)
        for i, layer in enumerate(self.layers):
            name = f"layers_{i}"
            x_bte, final[name] = layer(x_bte, states[name], steps)
            x_bte = self._dropped(x_bte, enable_dropout)
        return x_bte, final

    def _dropped(self, x_bte: jax.Array, enable_dropout: bool) -> jax.Array:
        draw = enable_dropout and self.dropout.rate
        return self.dropout(x_bte, self.make_rng("dropout") if draw else None)


def initial_states(cell: Cell, num_layers: int, rows: int, units: int) -> States:
    """Every layer's state before the first token, by name."""
    return {f"layers_{i}": cell.initial_state(rows, units) for i in range(num_layers)}
