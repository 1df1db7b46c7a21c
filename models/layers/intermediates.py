"""What layers show to someone who looks inside, beside their results.

A layer *records*; a model asks for one kind of record by its collection, and gets it *by layer*.
Where nobody asks (training, scoring, decoding), what would be recorded is not computed.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
from flax import linen as nn

# Linen collections.
ATTENTION = "attention_weights"
ROUTING = "routing"

_VALUE = "recorded"
# How `layers.period` calls its layers, with a number.
BLOCK = "block_"


def record(module: nn.Module, collection: str, make: Callable[[], Any]) -> None:
    """Keeps what `make` gives, if the collection is asked for.

    Args:
      module: the layer.
      collection: `ATTENTION` or `ROUTING`.
      make: gives a tree of arrays.
    """
    if module.is_mutable_collection(collection) and not module.is_initializing():
        module.sow(collection, _VALUE, make())


def by_layer(
    recorded: Mapping[str, Any], params: Mapping[str, Any], layers: str
) -> dict[tuple[str, str], dict[int, Any]]:
    """Records of scanned layers, each layer's apart.

    Args:
      recorded: one collection, as `apply` gives it back.
      params: the model's, which tell how many layers are scanned as one (`layers.period`).
      layers: the name of a stack's scanned layers.

    Returns:
      (side, branch), such as `("decoder", "self_attention")`, to layer, counted within a side
      from 0, to the recorded tree. Layers that recorded nothing are missing.
    """
    found: dict[tuple[str, str], dict[int, Any]] = {}

    def visit(node: Mapping[str, Any], params: Mapping[str, Any], place: _Place) -> None:
        for name, inner in node.items():
            if name == _VALUE:
                of_branch = found.setdefault((place.side, place.branch), {})
                for i, tree in enumerate(_unstacked(inner[0])):
                    of_branch[i * place.period + place.block] = tree
            else:
                visit(inner, params[name], place.below(name, params[name], layers))

    for side, node in recorded.items():
        visit(node, params[side], _Place(side))
    return {key: dict(sorted(of_branch.items())) for key, of_branch in found.items()}


@dataclasses.dataclass(frozen=True)
class _Place:
    """Where in the tree of modules a record stands."""

    side: str
    branch: str = ""
    period: int = 1
    block: int = 0

    def below(self, name: str, params: Mapping[str, Any], layers: str) -> "_Place":
        if name == layers:
            blocks = [inner for inner in params if inner.startswith(BLOCK)]
            return dataclasses.replace(self, period=max(len(blocks), 1))
        if name.startswith(BLOCK):
            return dataclasses.replace(self, block=int(name.removeprefix(BLOCK)))
        return dataclasses.replace(self, branch=name)


def _unstacked(tree: Any) -> list[Any]:
    count = jax.tree.leaves(tree)[0].shape[0]
    return [jax.tree.map(lambda leaf, i=i: leaf[i], tree) for i in range(count)]
