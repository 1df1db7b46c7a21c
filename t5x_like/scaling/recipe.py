"""Rules that turn (family, N, D) into a model and its training; each can be replaced."""

import bisect
import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from t5x_like import schedules
from t5x_like.scaling.family import (
    Family,
    NoModel,
    Shape,
    active_count,
    count_of_depth,
    shape_rules,
)


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
        ratio, multiple = shape_rules(family)
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
          NoModel: no width of the recipe is near; the model would be off by more than half.
        """
        if isinstance(family, str):
            family = Family(family)
        widths = self.widths()

        def larger(index: int) -> bool:
            shape = self.shape_of_width(family, widths[index])
            return active_count(family, shape) >= parameters

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
        found = active_count(family, best)
        if not 0.5 < found / parameters < 1.5:
            raise NoModel(
                f"no {family.name} of {parameters:.3g} parameters can be built: the "
                f"nearest has {found:,} ({best.num_layers} layers of {best.embed_dim})."
            )
        return best

    def _depths(self, family: Family, embed_dim: int) -> list[Shape]:
        """The rule's depth and those within a quarter of it."""
        _, multiple = shape_rules(family)
        middle = self.shape_of_width(family, embed_dim).num_layers
        reach = middle // 4 // multiple * multiple
        least = max(multiple, middle - reach, self.min_layers)
        depths = range(least, middle + reach + 1, multiple)
        return [self.shape_of_width(family, embed_dim, depth) for depth in depths]

    def _distance(self, family: Family, shape: Shape, parameters: float) -> float:
        """The distance from N and, weighted by a quarter, from the rule's depth; in logarithms."""
        size = abs(math.log(count_of_depth(family, shape) / parameters))
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
          NoModel: there is less than one row for each of `min_steps` updates.
        """
        flops = 6.0 * parameters * tokens
        rows = self.batch_coefficient * flops**self.batch_exponent / row_tokens
        rows = min(rows, tokens / self.min_steps / row_tokens)
        rows_whole = max(1, round(rows / self.rows_multiple)) * self.rows_multiple
        steps = max(1, round(tokens / (rows_whole * row_tokens) / unit_steps)) * unit_steps
        if steps * unit_steps < self.min_steps / 2:
            raise NoModel(
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
