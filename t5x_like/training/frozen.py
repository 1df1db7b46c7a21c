"""Parameters of other models that a loss reads: a teacher, a reference, a reward."""

from collections.abc import Mapping

import jax

from t5x_like.errors import UserError
from t5x_like.partitioning import Partitioner, path_name
from t5x_like.protocols import FrozenSource, Model, Params, frozen_models
from t5x_like.training.state import placed_params


def load_frozen(
    model: Model, sources: Mapping[str, FrozenSource], partitioner: Partitioner
) -> dict[str, Params]:
    """The frozen parameters, divided over the mesh by the same rules as the model's own.

    Args:
      model: whose `frozen_models` are loaded.
      sources: where each is, by name.
      partitioner: the mesh.

    Raises:
      UserError: there are no parameters, or they are another model's.
    """
    loaded = {}
    for name, other in frozen_models(model).items():
        target = placed_params(other, partitioner)
        found = sources[name].host_params(other)
        _check_shapes(name, target, found)
        # Array by array, so that the host holds no second copy of what a device has.
        loaded[name] = jax.tree.map(
            lambda leaf, wanted: jax.device_put(leaf, wanted.sharding), found, target
        )
    return loaded


def _check_shapes(name: str, target: Params, found: Params) -> None:
    wanted = {path_name(p): x.shape for p, x in jax.tree_util.tree_leaves_with_path(target)}
    given = {path_name(p): x.shape for p, x in jax.tree_util.tree_leaves_with_path(found)}
    for parameter in sorted(wanted.keys() | given.keys()):
        if wanted.get(parameter) != given.get(parameter):
            raise UserError(
                f"train.frozen['{name}']: parameter '{parameter}' is "
                f"{given.get(parameter, 'absent')} there and {wanted.get(parameter, 'absent')} in "
                "the model: it is another model's checkpoint."
            )
