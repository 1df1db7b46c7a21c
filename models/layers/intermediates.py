"""Recording what happens inside a model, such as attention weights, without touching equations.

Modules only declare: a method what is recorded of its calls (`recorded`) or their place (`within`),
a class that it is a layer (`is_layer = True`). `collect` watches a forward pass and gives each
record its place. Otherwise (training, scoring, decoding) nothing is computed.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from flax import linen as nn

# Kinds of records that the layers here keep; any string will do.
ATTENTION = "attention_weights"
ROUTING = "routing"
# Before the softmax, and what enters a layer.
SCORES = "attention_scores"
ENTERING = "entering"
# Places that they say they are in: the side of a model, and attention to another sequence.
ENCODER = "encoder"
DECODER = "decoder"
CROSS_ATTENTION = "cross_attention"

# The Linen collection of all records; a scan of layers stacks it on the first axis.
COLLECTION = "intermediates"

_TURNS = "turns"

Path = tuple[str, ...]
_Method = TypeVar("_Method", bound=Callable[..., Any])


@dataclasses.dataclass(frozen=True)
class Record:
    """One value from one call of one method.

    Attributes:
      within: the places around the call, outermost first.
      layer: number of the layer around the call, from 0 within the places around the layer; None
        outside of layers.
      value: a tree of arrays.
    """

    within: tuple[str, ...]
    layer: int | None
    value: Any


def recorded(kind: str, make: Callable[..., Any]) -> Callable[[_Method], _Method]:
    """Declares what is recorded of each call of a module's method, which may be several kinds.

    Args:
      kind: by which `collect` asks for it.
      make: from the method's positional arguments to a tree of arrays.
    """

    def declare(method: _Method) -> _Method:
        known = getattr(method, "recorded", {})
        method.recorded = known | {kind: make}  # type: ignore[attr-defined]
        return method

    return declare


def within(place: str) -> Callable[[_Method], _Method]:
    """Declares a place, such as the encoder, around everything that a module's method calls."""

    def declare(method: _Method) -> _Method:
        method.within = place  # type: ignore[attr-defined]
        return method

    return declare


def collect(kind: str, run: Callable[[], Mapping[str, Any]]) -> list[Record]:
    """The records of one kind from one forward pass, in the order of layers.

    Args:
      kind: as in `recorded`.
      run: applies a model with `mutable=[COLLECTION]` and returns the variables.
    """
    return collect_each((kind,), run)[kind]


def collect_each(
    kinds: Sequence[str], run: Callable[[], Mapping[str, Any]]
) -> dict[str, list[Record]]:
    """`collect` of several kinds, from one forward pass."""
    observer = _Observer(kinds)
    with nn.intercept_methods(observer):
        variables = run()
    return {kind: observer.records(kind, variables.get(COLLECTION, {})) for kind in kinds}


@dataclasses.dataclass(frozen=True)
class _Place:
    within: tuple[str, ...] = ()
    layer: Path | None = None


class _Observer:
    """Sees every call of a module's method: keeps values, and notes where they come from.

    A body that is scanned may be traced several times, so places are noted by the module's path.
    """

    def __init__(self, kinds: Sequence[str]) -> None:
        self._kinds = kinds
        self._place = _Place()
        self._layers: dict[Path, _Place] = {}
        self._kept: dict[tuple[Path, str, str], tuple[_Place, Any]] = {}

    def __call__(
        self,
        method: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        context: nn.module.InterceptorContext,
    ) -> Any:
        module, name = context.module, context.method_name
        # A lifted function is called like a method, and is none.
        declared = getattr(type(module), name, None)
        outer = self._place
        try:
            is_layer = name == "__call__" and getattr(type(module), "is_layer", False)
            if is_layer and outer.layer != module.path:
                self._layers[module.path] = outer
                self._place = dataclasses.replace(outer, layer=module.path)
                # Its shape will tell how often the layer ran.
                module.sow(COLLECTION, _TURNS, jnp.zeros((), bool))
            if (place := getattr(declared, "within", None)) is not None:
                self._place = dataclasses.replace(self._place, within=(*outer.within, place))
            makers = getattr(declared, "recorded", {})
            for kind in makers.keys() & set(self._kinds):
                value = makers[kind](*args)
                ranks = jax.tree.map(jnp.ndim, value)
                kept = f"{name}_{kind}"
                self._kept[module.path, kept, kind] = (self._place, ranks)
                module.sow(COLLECTION, kept, value)
            return method(*args, **kwargs)
        finally:
            self._place = outer

    def records(self, wanted: str, variables: Mapping[str, Any]) -> list[Record]:
        """Those of one kind."""
        numbers = self._layer_numbers(variables)
        found = []
        for (path, name, kind), (place, ranks) in self._kept.items():
            if kind != wanted:
                continue
            values = _unstacked(_at(variables, path).get(name, ()), ranks)
            layers = [None] * len(values) if place.layer is None else numbers[place.layer]
            found += [
                Record(place.within, layer, value)
                for layer, value in zip(layers, values, strict=True)
            ]
        return sorted(found, key=lambda record: -1 if record.layer is None else record.layer)

    def _layer_numbers(self, variables: Mapping[str, Any]) -> dict[Path, list[int]]:
        """For each layer module the numbers of the layers that it is, one a turn.

        Modules of one parent that run equally often take turns: they are the group of layers that
        a scan repeats.
        """
        groups: dict[tuple[_Place, Path, int], list[Path]] = {}
        for path, place in self._layers.items():
            marks = _at(variables, path).get(_TURNS, ())
            turns = sum(math.prod(mark.shape) for mark in marks)
            groups.setdefault((place, path[:-1], turns), []).append(path)
        numbers: dict[Path, list[int]] = {}
        counted: dict[_Place, int] = {}
        for (place, _, turns), paths in groups.items():
            first = counted.get(place, 0)
            for i, path in enumerate(paths):
                numbers[path] = [first + turn * len(paths) + i for turn in range(turns)]
            counted[place] = first + turns * len(paths)
        return numbers


def _at(variables: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    for name in path:
        variables = variables.get(name, {})
    return variables


def _unstacked(calls: tuple[Any, ...], ranks: Any) -> list[Any]:
    """The values of each call, and within it of each turn of the scans around it."""

    def turns(leaf: jax.Array, rank: int) -> jax.Array:
        return leaf.reshape(-1, *leaf.shape[leaf.ndim - rank :])

    values = []
    for call in calls:
        stacked = jax.tree.map(turns, call, ranks)
        count = len(jax.tree.leaves(stacked)[0])
        values += [jax.tree.map(lambda leaf, i=i: leaf[i], stacked) for i in range(count)]
    return values
