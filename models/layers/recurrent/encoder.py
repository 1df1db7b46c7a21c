"""Recurrent layers that read a text in both directions, and layers in one direction above them."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import linen as nn

from models.layers.dropout import NO_DROPOUT, Dropout
from models.layers.linear import Initializer
from models.layers.recurrent.cells import Cell
from models.layers.recurrent.stack import RecurrentLayer
from models.layers.recurrent.time_scan import steps_of_segments
from models.layers.stacks.stack import policy_of

FIRST_RESIDUAL = 2  # the third layer is the first whose input is added to its output


@dataclasses.dataclass(frozen=True)
class EncoderShape:
    """How many layers of which width an encoder has.

    Attributes:
      num_bidirectional: layers in both directions, 1 or more.
      units_each_way: of each direction.
      num_above: layers in one direction above them.
      units_above: of each of these.
    """

    num_bidirectional: int
    units_each_way: int
    num_above: int = 0
    units_above: int = 0

    @property
    def output_dim(self) -> int:
        """Units of the last layer."""
        return self.units_above if self.num_above else 2 * self.units_each_way


class BidirectionalLayer(nn.Module):
    """Two recurrent layers over the same input, one from each end.

    Attributes:
      cell: of both.
      units: of each.
      param_init: see `RecurrentLayer`.
      remat_policy: see `RecurrentEncoder`.
      unroll: see `RecurrentLayer`.
      dtype: see `RecurrentLayer`.
    """

    cell: Cell
    units: int
    param_init: Initializer
    remat_policy: str = "dots"
    unroll: int = 1
    dtype: str = "float32"

    def setup(self) -> None:
        """Makes `forward` and `backward`."""
        layer = recurrent_layer(self.remat_policy)
        fields = self.cell, self.units, self.param_init, self.unroll, self.dtype
        self.forward, self.backward = layer(*fields), layer(*fields)

    def __call__(self, x_bse: jax.Array, segments_bs: jax.Array) -> tuple[jax.Array, jax.Array]:
        """What each direction has read up to each token, `[b, s, f]` each: forward, backward."""
        states = []
        for layer, turn in ((self.forward, slice(None)), (self.backward, slice(None, None, -1))):
            zeros = self.cell.initial_state(x_bse.shape[0], self.units)
            steps = steps_of_segments(segments_bs[:, turn])
            states.append(layer(x_bse[:, turn], zeros, steps)[0][:, turn])
        return states[0], states[1]


class RecurrentEncoder(nn.Module):
    """Layers in both directions, and above them layers from left to right.

    Attributes:
      cell: of every layer.
      shape: how many of which width.
      param_init: see `RecurrentLayer`.
      dropout: on what goes into each layer.
      residual: whether from the third layer on a layer's input is added to its output, where they
        are of one width (Wu et al. 2016, section 3.1).
      remat_policy: see `layers.recurrent.stack.RecurrentStack`.
      unroll: see `RecurrentLayer`.
      dtype: see `RecurrentLayer`.
    """

    cell: Cell
    shape: EncoderShape
    param_init: Initializer
    dropout: Dropout = NO_DROPOUT
    residual: bool = False
    remat_policy: str = "dots"
    unroll: int = 1
    dtype: str = "float32"

    def setup(self) -> None:
        """Makes `layers_0`, `layers_1` and so on."""
        shape, last = self.shape, (self.remat_policy, self.unroll, self.dtype)
        both = [
            BidirectionalLayer(self.cell, shape.units_each_way, self.param_init, *last)
            for _ in range(shape.num_bidirectional)
        ]
        layer = recurrent_layer(self.remat_policy)
        above = [
            layer(self.cell, shape.units_above, self.param_init, self.unroll, self.dtype)
            for _ in range(shape.num_above)
        ]
        self.layers = [*both, *above]

    def __call__(
        self, x_bse: jax.Array, segments_bs: jax.Array, enable_dropout: bool
    ) -> tuple[jax.Array, jax.Array]:
        """The states of the last layer, and those that read backward in the last such layer.

        Args:
          x_bse: the source's vectors.
          segments_bs: int `[b, s]`, the number of each token's text; 0 is padding.
          enable_dropout: needs an rng `dropout`.

        Returns:
          `[b, s, f]` each.
        """
        backward_bsf = x_bse
        for i, layer in enumerate(self.layers):
            key = self.make_rng("dropout") if enable_dropout and self.dropout.rate else None
            read_bse = self.dropout(x_bse, key)
            if i < self.shape.num_bidirectional:
                forward_bsf, backward_bsf = layer(read_bse, segments_bs)
                y_bse = jnp.concatenate([forward_bsf, backward_bsf], axis=-1)
            else:
                zeros = self.cell.initial_state(x_bse.shape[0], self.shape.units_above)
                y_bse = layer(read_bse, zeros, steps_of_segments(segments_bs))[0]
            if self.residual and i >= FIRST_RESIDUAL and x_bse.shape == y_bse.shape:
                y_bse += x_bse
            x_bse = y_bse
        return x_bse, backward_bsf


def recurrent_layer(remat_policy: str) -> type[RecurrentLayer]:
    """A recurrent layer that stores what the named policy says for its backward pass."""
    policy = policy_of(remat_policy)
    return RecurrentLayer if policy is None else nn.remat(RecurrentLayer, policy=policy)
