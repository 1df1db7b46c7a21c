"""A family of models of any shape, as gin files have it, and what a shape of it counts.

A family has a file `gin_configs/models/FAMILY/shape.gin`, which expresses the shape in a few
macros. Parameters are counted by building the model, so that biases, gates and relative positions
are included for any family.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

from t5x_like import config
from t5x_like.config.gin_files import nearest, packaged_gin_configs
from t5x_like.errors import UserError


class NoModel(UserError):
    """The family has no such model, or there is no such training of it."""


SHAPE_FILE = "models/{}/shape.gin"

Bindings = Mapping[str, Any]
"""gin names, macros mostly, and their values."""


@dataclasses.dataclass(frozen=True)
class Family:
    """A family of models, with the changes that a sweep makes to it.

    Attributes:
      name: a folder of `gin_configs/models` with a `shape.gin`; None where `gin_files` define the
        whole model.
      gin_files: read after it; the rest of a run's configuration.
      bindings: applied last; pairs of names and values as gin text, which `gin_pairs` makes.
      modules: Python modules that are imported first.
    """

    name: str | None
    gin_files: tuple[str, ...] = ()
    bindings: tuple[tuple[str, str], ...] = ()
    modules: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.name is not None and self.name not in families():
            if next(packaged_gin_configs().glob(f"models/{self.name}/*.gin"), None) is not None:
                raise UserError(
                    f"the family '{self.name}' has no file of shapes, from which plans and sweeps "
                    f"choose a model's size; those that have: {', '.join(families())}."
                )
            raise UserError(
                f"no family '{self.name}': there are {', '.join(families())}."
                f"{nearest(self.name, families())}"
            )

    @property
    def files(self) -> tuple[str, ...]:
        """All gin files of the model, in order.

        Raises:
          UserError: it has no name, and so no file of shapes.
        """
        if self.name is None:
            raise UserError(
                "its grid chooses shapes, for which the sweep must name a family "
                f"(sweep.Sweep.family): {', '.join(families())}."
            )
        return SHAPE_FILE.format(self.name), *self.gin_files

    def files_of(self, shape: "Shape | None") -> tuple[str, ...]:
        """All gin files of a run; None is the shape of a model that `gin_files` define."""
        return self.files if shape else self.gin_files


@dataclasses.dataclass(frozen=True)
class Size:
    """The numbers of parameters of a model.

    Attributes:
      parameters: all of them.
      without_embeddings: excluding those of tokens and positions.
      active: those used for one token; `parameters` if there are no experts.
    """

    parameters: int
    without_embeddings: int
    active: int


@dataclasses.dataclass(frozen=True)
class Shape:
    """The shape of a model that can be built.

    Attributes:
      num_layers: of the decoder, and of the encoder where there is one.
      embed_dim: d_model.
      num_heads: attention heads.
      head_dim: units of one head.
      mlp_dim: hidden units of the MLP.
    """

    num_layers: int
    embed_dim: int
    num_heads: int
    head_dim: int
    mlp_dim: int

    @property
    def bindings(self) -> dict[str, int]:
        """Returns the macros of a family's `shape.gin`."""
        return {field.upper(): value for field, value in dataclasses.asdict(self).items()}


@functools.cache
def families() -> tuple[str, ...]:
    """Lists the families that have a `shape.gin`."""
    found = packaged_gin_configs().glob(SHAPE_FILE.format("*"))
    return tuple(sorted(path.parent.name for path in found))


def model_of(family: Family, shape: Shape) -> Any:
    """Builds the Linen module."""
    with config.isolated():
        _parse(family, shape.bindings)
        return config.macro("MODEL")


@functools.cache
def size_of(family: Family, shape: Shape) -> Size:
    """Counts the parameters exactly, by building the model."""
    model = model_of(family, shape)
    return Size(
        parameters=model.parameter_count(),
        without_embeddings=model.parameter_count(embeddings=False),
        active=active_count(family, shape),
    )


@functools.cache
def active_count(family: Family, shape: Shape) -> int:
    """Counts the parameters that one token meets."""
    model = model_of(family, shape)
    return getattr(model, "active_parameter_count", model.parameter_count)()


def count_of_depth(family: Family, shape: Shape) -> float:
    """The active parameters as a linear function of depth, from two models of one width."""
    _, multiple = shape_rules(family)
    one, two = (
        active_count(family, dataclasses.replace(shape, num_layers=depth))
        for depth in (multiple, 2 * multiple)
    )
    return one + (two - one) * (shape.num_layers / multiple - 1)


@functools.cache
def shape_rules(family: Family) -> tuple[float, int]:
    """Reads MLP_RATIO, over the width, and LAYERS_MULTIPLE, of the number of layers."""
    with config.isolated():
        _parse(family, {})
        return float(config.macro("MLP_RATIO")), int(config.macro("LAYERS_MULTIPLE"))


def _parse(family: Family, bindings: Bindings) -> None:
    pairs = (*gin_pairs(bindings), *family.bindings)
    config.parse(family.files, pairs, module_imports=family.modules)


def gin_pairs(bindings: Bindings) -> tuple[tuple[str, str], ...]:
    """Converts bindings to pairs for `config.parse`; the text `@f()` is a reference."""
    return tuple((name, config.written_value(value)) for name, value in bindings.items())
