"""Positions as the sum of vectors for each axis of a grid that the row is read from."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from models.layers.attention.positions import check_length
from models.layers.linear import Initializer, axis_names


class AxialPositions(nn.Module):
    """Learned vectors for the row, the column, … of each place, added to the embeddings.

    Child et al. 2019, section 5.3: an image has rows, columns and channels; a text is laid out in
    rows as long as the stride of its attention.

    Attributes:
      shape: places along each axis, the slowest first; their product is the longest row.
      embedding_init: initial values.
      dtype: of the result.
    """

    shape: tuple[int, ...]
    embedding_init: Initializer
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x_bte: jax.Array, positions_bt: jax.Array | None) -> jax.Array:
        """Adds the vectors of each position to `x_bte`; positions None are 0, 1, 2 and so on.

        Raises:
          ModelError: the row is longer than the grid.
        """
        if positions_bt is None:
            check_length(x_bte.shape[1], math.prod(self.shape))
            positions_bt = jnp.arange(x_bte.shape[1])[None]
        for axis, size in enumerate(self.shape):
            table_ne = self.param(
                f"axis_{axis}",
                axis_names(("positions", "embed"), self.embedding_init),
                (size, x_bte.shape[-1]),
            )
            places_bt = positions_bt // int(np.prod(self.shape[axis + 1 :])) % size
            x_bte += jnp.take(table_ne, places_bt, axis=0).astype(self.dtype)
        return x_bte
