"""Grids: which models a sweep trains, and on how many tokens."""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from t5x_like.errors import UserError
from t5x_like.scaling.family import Family, Shape, gin_pairs, size_of
from t5x_like.scaling.recipe import Recipe
from t5x_like.scaling.sweeps.facts import model_facts

# The label of the point of a `Product` of nothing.
ONLY_POINT = "base"


@dataclasses.dataclass(frozen=True)
class Point:
    """One point of a grid.

    Attributes:
      label: a unique name, valid as a file name.
      shape: of the model; None if the base's gin files define it.
      tokens: to train on; None if the base's TRAIN_STEPS decides.
      budget: the FLOPs that all points to compare share; None if there are none.
      bindings: gin names and values of this point only.
      exact: whether the budget is of the exact FLOPs, and not of 6ND.
      num_seeds: with how many of the sweep's seeds, the first ones; None for all.
    """

    label: str
    shape: Shape | None = None
    tokens: float | None = None
    budget: float | None = None
    bindings: tuple[tuple[str, Any], ...] = ()
    exact: bool = False
    num_seeds: int | None = None

    @property
    def placeholders(self) -> dict[str, Any]:
        """Its own bindings, with values for macros that a run sets later."""
        steps = {} if self.tokens is None else {"TRAIN_STEPS": 1}
        return {"CHECKPOINT_PERIOD": 1, **steps, **dict(self.bindings)}


class Grid(Protocol):
    """Makes the points of one variant."""

    def points(self, recipe: Recipe, family: Family) -> Iterator[Point]:
        """The points, in the order in which to list them."""


@dataclasses.dataclass(frozen=True)
class IsoFLOP:
    """Budgets x sizes (Hoffmann et al. 2022, section 3.2): N differs at constant 6ND.

    Attributes:
      budgets: FLOPs, 6ND with N the active parameters, embeddings included.
      sizes: parameters for the first budget, or a list of them for each budget. Sizes with the
        same nearest model count once.
      growth: the sizes of the first budget grow with it by this exponent, 0.5 if it is None, so
        that the grid follows the minimum; 0 keeps them. It biases the fitted exponent only if a
        minimum is outside its grid, which the fit reports.
      exact: whether budgets are the exact FLOPs of training, with attention and the output, rather
        than 6ND: for variants of which some meet a token with all of their parameters and some,
        as encoder-decoders, with half.
      num_seeds: for each budget, with how many of the sweep's seeds its runs are repeated, since
        those of small budgets cost least; None for all.
    """

    budgets: Sequence[float]
    sizes: Sequence[float] | Sequence[Sequence[float]]
    growth: float | None = None
    exact: bool = False
    num_seeds: Sequence[int] | None = None

    def __post_init__(self) -> None:
        all_positive("budgets", self.budgets)
        if self.num_seeds is not None:
            all_positive("num_seeds", self.num_seeds)
            if len(self.num_seeds) != len(self.budgets):
                raise UserError(
                    f"IsoFLOP.num_seeds {self.num_seeds}: give a number for each of "
                    f"{len(self.budgets)} budgets."
                )
        for sizes in self._sizes_of_budgets():
            all_positive("sizes", sizes)

    def points(self, recipe: Recipe, family: Family) -> Iterator[Point]:
        """See `Grid`."""
        for i, (budget, sizes) in enumerate(
            zip(self.budgets, self._sizes_of_budgets(), strict=True)
        ):
            count = None if self.num_seeds is None else self.num_seeds[i]
            for shape in _shapes(recipe, family, sizes):
                tokens = budget / _flops_per_token(family, shape, self.exact)
                label = f"c{short(budget)}-{_named(shape)}"
                yield Point(label, shape, tokens, budget, exact=self.exact, num_seeds=count)

    def _sizes_of_budgets(self) -> list[list[float]]:
        lists = [list(sizes) for sizes in self.sizes if isinstance(sizes, Sequence)]
        if not lists:
            growth = 0.5 if self.growth is None else self.growth
            scales = [(budget / self.budgets[0]) ** growth for budget in self.budgets]
            return [[size * scale for size in self.sizes] for scale in scales]
        if not len(lists) == len(self.sizes) == len(self.budgets):
            raise UserError(
                f"IsoFLOP.sizes {self.sizes}: give numbers for the first budget, or a list of "
                f"numbers for each of {len(self.budgets)} budgets."
            )
        if self.growth is not None:
            raise UserError(
                f"IsoFLOP.growth is {self.growth}, and sizes are given for each budget: leave the "
                "growth out, or bind it to None."
            )
        return lists


@dataclasses.dataclass(frozen=True)
class Parametric:
    """Sizes x numbers of tokens per parameter, for a fit of L(N, D).

    Attributes:
      sizes: (active) parameters.
      tokens_per_parameter: D / N.
    """

    sizes: Sequence[float]
    tokens_per_parameter: Sequence[float]

    def __post_init__(self) -> None:
        all_positive("sizes", self.sizes)
        all_positive("tokens_per_parameter", self.tokens_per_parameter)

    def points(self, recipe: Recipe, family: Family) -> Iterator[Point]:
        """See `Grid`."""
        for shape in _shapes(recipe, family, self.sizes):
            for ratio in self.tokens_per_parameter:
                tokens = ratio * size_of(family, shape).active
                yield Point(f"{_named(shape)}-r{short(ratio)}", shape, tokens)


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Every size on the same tokens, for sample efficiency and double descent.

    Attributes:
      sizes: (active) parameters. Sizes with the same nearest model count once.
      tokens: of every run.
    """

    sizes: Sequence[float]
    tokens: float

    def __post_init__(self) -> None:
        all_positive("sizes", self.sizes)
        all_positive("tokens", [self.tokens])

    def points(self, recipe: Recipe, family: Family) -> Iterator[Point]:
        """See `Grid`."""
        for shape in _shapes(recipe, family, self.sizes):
            yield Point(_named(shape), shape, self.tokens)


@dataclasses.dataclass(frozen=True)
class Depths:
    """Depth against width at fixed N and D (Kaplan et al. 2020, section 3.1, figure 5).

    Attributes:
      parameters: of every model, as closely as the widths allow.
      depths: numbers of layers.
      tokens: of every run.
    """

    parameters: float
    depths: Sequence[int]
    tokens: float

    def __post_init__(self) -> None:
        all_positive("depths", self.depths)

    def points(self, recipe: Recipe, family: Family) -> Iterator[Point]:
        """See `Grid`."""
        for depth in self.depths:
            shapes = [recipe.shape_of_width(family, width, depth) for width in recipe.widths()]
            low, high = 0, len(shapes) - 1
            while low < high:  # the first width whose model is not smaller
                middle = (low + high) // 2
                smaller = size_of(family, shapes[middle]).active < self.parameters
                low, high = (middle + 1, high) if smaller else (low, middle)
            near = shapes[max(low - 1, 0) : low + 1]
            shape = min(near, key=lambda s: abs(size_of(family, s).active - self.parameters))
            yield Point(_named(shape), shape, self.tokens)


@dataclasses.dataclass(frozen=True)
class Product:
    """Every combination of values of gin bindings; the base defines the model and the steps.

    Attributes:
      values: gin name -> the values to try.
    """

    values: Mapping[str, Sequence[Any]]

    def __post_init__(self) -> None:
        for name, values in self.values.items():
            if not values:
                raise UserError(f"grids.Product has no value of {name}: the grid is empty.")

    def points(self, recipe: Recipe, family: Family) -> Iterator[Point]:
        """See `Grid`."""
        del recipe, family
        for values in itertools.product(*self.values.values()):
            pairs = tuple(zip(self.values, values, strict=True))
            label = "-".join(f"{name.rpartition('.')[2].lower()}_{value}" for name, value in pairs)
            plain = "".join(c if c.isalnum() or c in "-_.+" else "_" for c in label)
            yield Point(plain or ONLY_POINT, bindings=pairs)


@dataclasses.dataclass(frozen=True)
class OnePoint(Grid):
    """A grid of one model of about these parameters, for a budget; `exact` as of `IsoFLOP`."""

    budget: float
    parameters: float
    label: str
    exact: bool = False

    def points(self, recipe: Recipe, family: Family) -> Iterator[Point]:
        """See `Grid`."""
        shape = recipe.shape(family, self.parameters)
        tokens = self.budget / _flops_per_token(family, shape, self.exact)
        yield Point(self.label, shape, tokens, exact=self.exact)


def groups(points: Iterable[Point]) -> list[list[Point]]:
    """Groups the points of the same model and bindings, which differ only in their tokens."""
    found: dict[Any, list[Point]] = {}
    for point in points:
        found.setdefault((point.shape, repr(point.bindings)), []).append(point)
    return list(found.values())


def short(value: float) -> str:
    """Formats `1.2e+12` as `1.2e12`, and `100` as `100`."""
    return f"{value:.3g}".replace("e+", "e")


def _named(shape: Shape) -> str:
    return f"d{shape.embed_dim}-l{shape.num_layers}"


def _shapes(recipe: Recipe, family: Family, sizes: Sequence[float]) -> list[Shape]:
    return list(dict.fromkeys(recipe.shape(family, size) for size in sizes))


def _flops_per_token(family: Family, shape: Shape, exact: bool) -> float:
    """6N, or the exact FLOPs of a row for each of its positions."""
    if not exact:
        return 6.0 * size_of(family, shape).active
    facts = model_facts(family, shape, gin_pairs(Point("", shape, 1.0).placeholders))
    return facts.row_flops / facts.row_tokens


def all_positive(name: str, values: Sequence[float]) -> None:
    """Raises a `UserError` unless there are values, and all are numbers above 0."""
    if not values:
        raise UserError(f"the sweep's grid is empty: its {name} are {list(values)!r}.")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise UserError(f"the sweep's {name} hold {value!r}: all must be numbers above 0.")
