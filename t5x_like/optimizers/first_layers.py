"""Training of the first layers alone, of parameters that are stacked with those of others."""

import re
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from t5x_like.errors import UserError
from t5x_like.optimizers.axes import Axes
from t5x_like.optimizers.optimizer import Optimizer, check_no_average

_LAYERS = "layers"


def first_layers(optimizer: Optimizer, parameters: Sequence[str], layers: int = 1) -> Optimizer:
    """Another optimizer, under which of some stacked parameters only the first layers are trained.

    The others neither move nor decay: their gradients are taken as 0, also in the norm that
    gradients are clipped by. BART's translation begins so, with the input projections of the
    encoder's first layer (Lewis et al. 2019, section 3.4). Parameters that stay as they are in
    every layer are a matter of the model's `tuning`.

    Args:
      optimizer: what updates those that are trained.
      parameters: regular expressions that are found in the paths of the stacked parameters, such as
        `^encoder/layers/self_attention/`.
      layers: how many of the first are trained.

    Raises:
      UserError: no layer, no expression or none that can be read; when built, one that finds
        nothing, or parameters that are not stacked.
    """
    check_no_average(optimizer, "first_layers")
    if layers < 1:
        raise UserError(f"first_layers.layers is {layers}: 1 or more is needed.")
    if isinstance(parameters, str) or not parameters:
        raise UserError(
            f"first_layers.parameters is {parameters!r}: a list of regular expressions is needed."
        )
    try:
        patterns = [re.compile(pattern) for pattern in parameters]
    except (re.error, TypeError) as error:
        raise UserError(
            f"first_layers.parameters is {list(parameters)!r}: not regular expressions ({error})."
        ) from error

    def build(axes: Any) -> optax.GradientTransformation:
        rule = optimizer.build(axes)
        known = jax.tree_util.tree_leaves_with_path(
            axes, is_leaf=lambda node: isinstance(node, tuple)
        )
        for pattern in patterns:
            found = [(_name(path), one) for path, one in known if pattern.search(_name(path))]
            if not found:
                raise UserError(
                    f"first_layers.parameters: '{pattern.pattern}' finds no parameter, such as "
                    f"'{_name(known[0][0])}'."
                )
            for name, one in found:
                if _LAYERS not in one:
                    raise UserError(
                        f"first_layers.parameters: '{pattern.pattern}' finds '{name}', which is "
                        "not stacked in layers: choose it by the model's tuning."
                    )

        def kept(path: Any, value: jax.Array, one: Axes) -> jax.Array:
            if not any(pattern.search(_name(path)) for pattern in patterns):
                return value
            shape = [value.shape[i] if axis == _LAYERS else 1 for i, axis in enumerate(one)]
            trained = (np.arange(max(shape)) < layers).reshape(shape)
            return jnp.where(trained, value, jnp.zeros((), value.dtype))

        def kept_of(tree: Any) -> Any:
            return jax.tree_util.tree_map_with_path(kept, tree, axes)

        def update(
            gradients: optax.Updates, state: Any, params: optax.Params | None = None
        ) -> tuple[optax.Updates, Any]:
            updates, state = rule.update(kept_of(gradients), state, params)
            return kept_of(updates), state

        return optax.GradientTransformation(rule.init, update)

    return Optimizer(f"{optimizer.name} on some first layers", optimizer.schedule, build)


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
