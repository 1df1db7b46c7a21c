"""Recurrent layers, one after the other."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.ad_checkpoint import checkpoint_name

from models.layers import auxiliary_losses, parts
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
      weight_dropout: of the recurrent matrices, one draw for all rows and tokens of a batch
        (DropConnect, Wan et al. 2013; Merity et al. 2018, section 2).
    """

    part: ClassVar[str] = parts.RECURRENCE

    cell: Cell
    units: int
    param_init: Initializer
    unroll: int = 1
    dtype: str = "float32"
    weight_dropout: Dropout = NO_DROPOUT

    @nn.compact
    def __call__(
        self,
        x_bte: jax.Array,
        state: State,
        steps: Steps | None = None,
        weight_key: jax.Array | None = None,
    ) -> tuple[jax.Array, State]:
        """The hidden state at each token, `[b, t, f]`, and the state after the last one.

        Args:
          x_bte: the input.
          state: before the first token.
          steps: where the state does something else; None is nowhere.
          weight_key: for `weight_dropout`, of which there is none without it.
        """
        gates = self.cell.gates
        kernel_eqf = self._param("kernel", ("embed", None, "mlp"), (x_bte.shape[-1], gates))
        bias_qf = self._param("bias", (None, "mlp"), (gates,))
        hidden = self.cell.projection or self.units
        kernel_fqf = self._param("recurrent_kernel", ("embed", None, "mlp"), (hidden, gates))
        recurrent_qf = None
        if count := self.cell.recurrent_biases:
            recurrent_qf = self._param("recurrent_bias", (None, "mlp"), (count,))
            recurrent_qf = jnp.pad(recurrent_qf, ((gates - count, 0), (0, 0)))

        x_tbe = jnp.swapaxes(x_bte, 0, 1).astype(self.dtype)
        x_tbqf = jnp.einsum("tbe,eqf->tbqf", x_tbe, kernel_eqf) + bias_qf
        x_tbqf = checkpoint_name(x_tbqf, STORED_PRODUCT)
        x_tbqf = nn.with_logical_constraint(x_tbqf, (None, "batch", None, "mlp"))
        kernel_fqf = self.weight_dropout(kernel_fqf, weight_key)
        # Gathered once, where FSDP divides it, and not for each token.
        kernel_fqf = nn.with_logical_constraint(kernel_fqf, (None, None, "mlp"))
        kernels: tuple[jax.Array, ...] = (kernel_fqf,)
        if self.cell.projection:
            init = axis_names(("mlp", "embed"), self.param_init)
            projection_fp = self.param("projection", init, (self.units, hidden), jnp.float32)
            kernels += (projection_fp.astype(self.dtype)[:, None],)
        steps = jax.tree.map(lambda a_bt: jnp.swapaxes(a_bt, 0, 1), steps)
        hidden_tbf, state = time_scan(
            self.cell, self.unroll, x_tbqf, kernels, recurrent_qf, state, steps
        )
        hidden_btf = jnp.swapaxes(hidden_tbf.astype(self.dtype), 0, 1)
        return nn.with_logical_constraint(hidden_btf, ("batch", "length", "embed")), state

    def _param(self, name: str, axes: tuple[str | None, ...], shape: tuple[int, ...]) -> jax.Array:
        init = axis_names(axes, self.param_init)
        return self.param(name, init, (*shape, self.units), jnp.float32).astype(self.dtype)


@dataclasses.dataclass(frozen=True)
class StackDropout:
    """What is dropped in a stack of recurrent layers, and never the state.

    Attributes:
      inputs: of what goes into the first layer.
      between: of what goes from layer to layer.
      outputs: of what comes out of the last one.
      weights: of the recurrent matrices, see `RecurrentLayer`.
    """

    inputs: Dropout = NO_DROPOUT
    between: Dropout = NO_DROPOUT
    outputs: Dropout = NO_DROPOUT
    weights: Dropout = NO_DROPOUT


class RecurrentStack(nn.Module):
    """Layers of one kind, each of which may be of another width.

    Dropout acts on what goes into a layer and on what comes out of the last one, and never on
    what goes from token to token (Zaremba et al. 2014, section 3.1); matrices may be dropped.

    Attributes:
      cell: of every layer.
      units: of each layer, from the first to the last.
      param_init: see `RecurrentLayer`.
      dropout: see above.
      remat_policy: see `layers.stacks.stack.Stack`; "dots" stores the states of the layers too.
      unroll: see `RecurrentLayer`.
      dtype: see `RecurrentLayer`.
      activation_penalty: added to the loss in training for each unit of the mean square of what
        comes out, once it is dropped (Merity et al. 2018, section 4.6).
      temporal_penalty: likewise of its change from token to token, before it is dropped.
    """

    cell: Cell
    units: tuple[int, ...]
    param_init: Initializer
    dropout: StackDropout = StackDropout()
    remat_policy: str = "dots"
    unroll: int = 1
    dtype: str = "float32"
    activation_penalty: float = 0.0
    temporal_penalty: float = 0.0

    def setup(self) -> None:
        """Makes `layers_0`, `layers_1` and so on."""
        layer = RecurrentLayer
        policy = policy_of(self.remat_policy)
        if policy is not None:
            layer = nn.remat(RecurrentLayer, policy=policy)
        self.layers = [
            layer(self.cell, units, self.param_init, self.unroll, self.dtype, self.dropout.weights)
            for units in self.units
        ]

    def __call__(
        self,
        x_bte: jax.Array,
        states: States,
        steps: Steps | None,
        enable_dropout: bool,
        text_bt: jax.Array | None = None,
    ) -> tuple[jax.Array, States]:
        """The hidden states of the last layer, `[b, t, f]`, and all layers' last states.

        `text_bt` says where rows without `steps` are no padding, which penalties are not of.
        """
        final = {}
        before = self.dropout.inputs
        for i, layer in enumerate(self.layers):
            name = f"layers_{i}"
            x_bte = before(x_bte, self._key(before, enable_dropout))
            weight_key = self._key(self.dropout.weights, enable_dropout)
            x_bte, final[name] = layer(x_bte, states[name], steps, weight_key)
            before = self.dropout.between
        outputs = self.dropout.outputs
        dropped_bte = outputs(x_bte, self._key(outputs, enable_dropout))
        if enable_dropout:  # only then the model is trained
            self._penalize(x_bte, dropped_bte, steps, text_bt)
        return dropped_bte, final

    def _penalize(
        self,
        x_bte: jax.Array,
        dropped_bte: jax.Array,
        steps: Steps | None,
        text_bt: jax.Array | None,
    ) -> None:
        """Adds to the loss what `activation_penalty` and `temporal_penalty` say."""
        if steps is not None:
            valid_bt = steps.valid
        else:
            valid_bt = jnp.ones(x_bte.shape[:2], jnp.bool_) if text_bt is None else text_bt
        losses = {}
        if self.activation_penalty:
            square = _mean_square(dropped_bte, valid_bt)
            losses["activation_penalty"] = self.activation_penalty * square
        if self.temporal_penalty:
            follows_bt = valid_bt[:, 1:] & valid_bt[:, :-1]
            if steps is not None:
                follows_bt &= ~steps.reset[:, 1:]
            change_bte = x_bte[:, 1:] - x_bte[:, :-1]
            losses["temporal_penalty"] = self.temporal_penalty * _mean_square(
                change_bte, follows_bt
            )
        if losses:
            auxiliary_losses.report(self, losses, {})

    def _key(self, dropout: Dropout, enable_dropout: bool) -> jax.Array | None:
        return self.make_rng("dropout") if enable_dropout and dropout.rate else None


def _mean_square(x_bte: jax.Array, valid_bt: jax.Array) -> jax.Array:
    """Over units and those tokens, a float32 scalar."""
    square_bt = jnp.square(x_bte.astype(jnp.float32)).mean(axis=-1)
    return jnp.where(valid_bt, square_bt, 0).sum() / jnp.maximum(valid_bt.sum(), 1)


def continued(states: States, row_continues: jax.Array | None) -> States:
    """The states that rows begin with: zeros on those that begin anew.

    Args:
      states: `[b, f]` each, of the batch before.
      row_continues: int `[b]`, 0 on the rows that begin anew; None is 1 on all.
    """
    if row_continues is None:
        return states
    begins_b1 = row_continues[:, None] == 0
    return jax.tree.map(lambda a_bf: jnp.where(begins_b1, 0, a_bf), states)


def initial_states(cell: Cell, rows: int, units: Sequence[int]) -> States:
    """Every layer's state before the first token, by name."""
    return {f"layers_{i}": cell.initial_state(rows, width) for i, width in enumerate(units)}
