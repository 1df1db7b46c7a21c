"""What the logical axes of parameters say about them: what is stacked, what decays."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

Axes = tuple[str | None, ...]

# Axes along which parameters are stacked; not dimensions of the matrix.
STACKED_AXES = ("layers", "expert")
# One of these is an axis of every matrix; the gates' biases of an LSTM have two axes, and neither.
_WIDTHS = frozenset({"embed", "rank"})


def own_dimensions(axes: Axes) -> tuple[int, ...]:
    """The dimensions of a single layer's or expert's parameter, without those that stack it."""
    return tuple(i for i, axis in enumerate(axes) if axis not in STACKED_AXES)


def decays(axes: Axes) -> bool:
    """Whether weight decay applies: to matrices and tables of vectors.

    Not to biases, norms, and what attention heads add for distances and segments.
    """
    return len(own_dimensions(axes)) >= 2 and not _WIDTHS.isdisjoint(axes)


def rms(value: jax.Array, axes: Axes) -> jax.Array:
    """The root mean square of each layer and expert, with its dimensions kept as 1."""
    return jnp.sqrt(jnp.mean(jnp.square(value), axis=own_dimensions(axes), keepdims=True))


def map_axes(function: Callable[[Axes], Any], axes: Any) -> Any:
    """Applies `function` to every parameter's axes; a tuple of names is a leaf, not a subtree."""
    return jax.tree.map(function, axes, is_leaf=lambda node: isinstance(node, tuple))
