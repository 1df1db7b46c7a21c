"""Rules that turn (family, N, D) into a model and its training; each can be replaced.

A family has a file `gin_configs/models/FAMILY/shape.gin`, which expresses the shape in a few
macros. The recipe chooses their values, and counts parameters by building the model, so that
biases, gates and relative positions are included for any family.
"""

import bisect
import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from t5x_like import config, schedules
from t5x_like.config.gin_files import nearest, packaged_gin_configs
from t5x_like.errors import UserError

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


@dataclasses.dataclass(frozen=True)
class Training:
    """Batch size, steps and learning rate of a run.

    Attributes:
      batch_tokens: target tokens of a batch.
      steps: updates.
      learning_rate: peak.
      warmup_steps: updates over which the rate rises.
    """

    batch_tokens: int
    steps: int
    learning_rate: float
    warmup_steps: int

    @property
    def tokens(self) -> int:
        """The number of tokens over all steps."""
        return self.batch_tokens * self.steps

    def bindings(self, row_tokens: int) -> dict[str, Any]:
        """The macros of a gin file that say the same, of rows of so many tokens."""
        return {
            "BATCH_SIZE": self.batch_tokens // row_tokens,
            "TRAIN_STEPS": self.steps,
            "LEARNING_RATE": self.learning_rate,
            "WARMUP_STEPS": self.warmup_steps,
        }


@functools.cache
def families() -> tuple[str, ...]:
    """Lists the families that have a `shape.gin`."""
    found = packaged_gin_configs().glob(SHAPE_FILE.format("*"))
    return tuple(sorted(path.parent.name for path in found))


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The rules; a subclass or a field can replace each.

    Shape. `embed_dim / num_layers` is `aspect * (embed_dim / 512) ** aspect_growth`, which meets
    Gopher's 44M (8 layers of 512), GPT-3 175B (96 of 12,288) and Chinchilla 70B (80 of 8,192)
    within a tenth; heads are as wide as published models of that width have them; the depth is
    then moved by up to a quarter to come closest to N.

    Batch and learning rate. Power laws in the budget C = 6ND, fitted by Bi et al. 2024
    (DeepSeek LLM, section 3.1, equation 1) to sweeps of 1e17 to 2e19 FLOPs: batch
    0.2920 C^0.3271 tokens, peak rate 0.3118 C^-0.1250; for AdamW. Below that range they are an
    extrapolation, which a sweep can check and correct by `LearningRateSearch`.

    Attributes:
      aspect: width over depth at width 512.
      aspect_growth: how it grows with the width.
      head_dims: (minimum width, units of one head), descending.
      heads_multiple: the number of heads is a multiple of this, so that a smaller number of
        key-value heads can divide it.
      min_layers: models of one layer are far worse for their size (Kaplan et al. 2020, figure 6).
      learning_rate_coefficient: of C to `learning_rate_exponent`.
      learning_rate_exponent: see above.
      learning_rate_factor: multiplies the rate.
      searched_factors: what a search finds: values of C, ascending, each with a factor that
        multiplies the rate too. Between them it is interpolated, linearly in logarithms; below
        them it is constant; above them the last two are extrapolated if they decrease.
      max_learning_rate: upper limit of the rate.
      batch_coefficient: of C to `batch_exponent`, in tokens.
      batch_exponent: see above.
      min_steps: minimum number of updates; batches shrink to reach it.
      rows_multiple: batches are whole multiples of this many rows.
      warmup_fraction: of a run's updates.
      max_warmup_steps: at most.
    """

    aspect: float = 64.0
    aspect_growth: float = 0.2
    head_dims: Sequence[tuple[int, int]] = ((2048, 128), (384, 64), (96, 32), (64, 16), (0, 8))
    heads_multiple: int = 1
    min_layers: int = 2
    learning_rate_coefficient: float = schedules.RATE_COEFFICIENT
    learning_rate_exponent: float = schedules.RATE_EXPONENT
    learning_rate_factor: float = 1.0
    searched_factors: Sequence[tuple[float, float]] = ()
    max_learning_rate: float = 0.02
    batch_coefficient: float = 0.2920
    batch_exponent: float = 0.3271
    min_steps: int = 200
    rows_multiple: int = 1
    warmup_fraction: float = 0.05
    max_warmup_steps: int = 2000

    # -- The shape -------------------------------------------------------------------------------

    def num_layers(self, embed_dim: int) -> float:
        """The depth for a width, before rounding."""
        depth = embed_dim / (self.aspect * (embed_dim / 512) ** self.aspect_growth)
        return max(depth, self.min_layers)

    def head_dim(self, embed_dim: int) -> int:
        """The units of one head for a width."""
        return next(units for width, units in self.head_dims if embed_dim >= width)

    def mlp_dim(self, embed_dim: int, ratio: float) -> int:
        """The hidden units of the MLP for a width, rounded up to what a matrix unit divides."""
        multiple = 256 if embed_dim >= 1024 else 64 if embed_dim >= 256 else 8
        return math.ceil(round(ratio * embed_dim, 6) / multiple) * multiple

    def widths(self) -> list[int]:
        """The widths to choose from, ascending; each is divisible by the number of heads."""
        grid = [(16, 64, 8), (64, 128, 16), (128, 512, 32), (512, 1024, 64), (1024, 4096, 128)]
        grid += [(4096, 8192, 256), (8192, 32768 + 1, 512)]
        widths = [width for start, end, step in grid for width in range(start, end, step)]
        return [
            width for width in widths if width % (self.head_dim(width) * self.heads_multiple) == 0
        ]

    def shape_of_width(
        self, family: Family, embed_dim: int, num_layers: int | None = None
    ) -> Shape:
        """The shape with this width, and the rule's depth unless one is given."""
        ratio, multiple = _family_rules(family)
        if num_layers is None:
            num_layers = max(1, round(self.num_layers(embed_dim) / multiple)) * multiple
        head_dim = self.head_dim(embed_dim)
        return Shape(
            num_layers=num_layers,
            embed_dim=embed_dim,
            num_heads=max(1, embed_dim // head_dim),
            head_dim=head_dim,
            mlp_dim=self.mlp_dim(embed_dim, ratio),
        )

    def shape(self, family: Family | str, parameters: float) -> Shape:
        """The shape whose active parameters, embeddings included, are nearest to a number.

        Args:
          family: a family, or its name.
          parameters: the number wanted.

        Raises:
          UserError: no width of the recipe is near; the model would be off by more than half.
        """
        if isinstance(family, str):
            family = Family(family)
        widths = self.widths()

        def larger(index: int) -> bool:
            shape = self.shape_of_width(family, widths[index])
            return _active(family, shape) >= parameters

        # From an estimate, 12 d^2 for each layer, to the first width whose model is not smaller.
        guesses = [12 * self.num_layers(width) * width**2 for width in widths]
        first = min(bisect.bisect_left(guesses, parameters), len(widths) - 1)
        while first > 0 and larger(first - 1):
            first -= 1
        while first < len(widths) - 1 and not larger(first):
            first += 1
        near = range(max(first - 2, 0), min(first + 2, len(widths)))
        candidates = [shape for index in near for shape in self._depths(family, widths[index])]
        best = min(candidates, key=lambda s: self._distance(family, s, parameters))
        found = _active(family, best)
        if not 0.5 < found / parameters < 1.5:
            raise UserError(
                f"no {family.name} of {parameters:.3g} parameters can be built: the "
                f"nearest has {found:,} ({best.num_layers} layers of {best.embed_dim})."
            )
        return best

    def _depths(self, family: Family, embed_dim: int) -> list[Shape]:
        """The rule's depth and those within a quarter of it."""
        _, multiple = _family_rules(family)
        middle = self.shape_of_width(family, embed_dim).num_layers
        reach = middle // 4 // multiple * multiple
        least = max(multiple, middle - reach, self.min_layers)
        depths = range(least, middle + reach + 1, multiple)
        return [self.shape_of_width(family, embed_dim, depth) for depth in depths]

    def _distance(self, family: Family, shape: Shape, parameters: float) -> float:
        """The distance from N and, weighted by a quarter, from the rule's depth; in logarithms."""
        size = abs(math.log(_count_of_depth(family, shape) / parameters))
        depth = abs(math.log(shape.num_layers / self.num_layers(shape.embed_dim)))
        return size + 0.25 * depth

    # -- The training ----------------------------------------------------------------------------

    def learning_rate(self, flops: float) -> float:
        """The peak rate for a budget C = 6ND, before its upper limit."""
        rate = self.learning_rate_coefficient * flops**self.learning_rate_exponent
        if self.searched_factors:
            searched, factors = np.log(np.asarray(self.searched_factors)).T
            log_factor = np.interp(math.log(flops), searched, factors)
            if len(searched) > 1 and factors[-1] < factors[-2]:
                slope = (factors[-1] - factors[-2]) / (searched[-1] - searched[-2])
                log_factor += slope * max(0.0, math.log(flops) - searched[-1])
            rate *= math.exp(log_factor)
        return rate * self.learning_rate_factor

    def training(
        self,
        parameters: float,
        tokens: float,
        *,
        row_tokens: int = 2048,
        unit_steps: int = 1,
    ) -> Training:
        """The batch, learning rate and steps for N (active) parameters and D tokens.

        Args:
          parameters: N.
          tokens: D; the training's tokens differ by less than half a batch.
          row_tokens: target tokens of one row.
          unit_steps: the number of steps is a multiple of this.

        Raises:
          UserError: there is less than one row for each of `min_steps` updates.
        """
        flops = 6.0 * parameters * tokens
        rows = self.batch_coefficient * flops**self.batch_exponent / row_tokens
        rows = min(rows, tokens / self.min_steps / row_tokens)
        rows_whole = max(1, round(rows / self.rows_multiple)) * self.rows_multiple
        steps = max(1, round(tokens / (rows_whole * row_tokens) / unit_steps)) * unit_steps
        if steps * unit_steps < self.min_steps / 2:
            raise UserError(
                f"{tokens:.3g} tokens are {steps} updates of {rows_whole} rows of {row_tokens}, "
                f"fewer than min_steps {self.min_steps}: raise the budget, or shorten the rows."
            )
        rate = min(float(f"{self.learning_rate(flops):.3g}"), self.max_learning_rate)
        return Training(
            batch_tokens=rows_whole * row_tokens,
            steps=steps,
            learning_rate=rate,
            warmup_steps=max(1, min(round(self.warmup_fraction * steps), self.max_warmup_steps)),
        )


# -- Counting ------------------------------------------------------------------------------------


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
        active=_active(family, shape),
    )


@functools.cache
def _active(family: Family, shape: Shape) -> int:
    model = model_of(family, shape)
    return getattr(model, "active_parameter_count", model.parameter_count)()


def _count_of_depth(family: Family, shape: Shape) -> float:
    """The active parameters as a linear function of depth, from two models of one width."""
    _, multiple = _family_rules(family)
    one, two = (
        _active(family, dataclasses.replace(shape, num_layers=depth))
        for depth in (multiple, 2 * multiple)
    )
    return one + (two - one) * (shape.num_layers / multiple - 1)


@functools.cache
def _family_rules(family: Family) -> tuple[float, int]:
    """Reads MLP_RATIO and LAYERS_MULTIPLE of a family."""
    with config.isolated():
        _parse(family, {})
        return float(config.macro("MLP_RATIO")), int(config.macro("LAYERS_MULTIPLE"))


def _parse(family: Family, bindings: Bindings) -> None:
    pairs = (*gin_pairs(bindings), *family.bindings)
    config.parse(family.files, pairs, module_imports=family.modules)


def gin_pairs(bindings: Bindings) -> tuple[tuple[str, str], ...]:
    """Converts bindings to pairs for `config.parse`; the text `@f()` is a reference."""
    return tuple((name, config.written_value(value)) for name, value in bindings.items())
