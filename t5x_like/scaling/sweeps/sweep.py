"""The description of a sweep in gin, and the runs that follow from it."""

import dataclasses
import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from t5x_like.config.gin_files import find_gin_file
from t5x_like.errors import UserError
from t5x_like.scaling.family import Family, gin_pairs
from t5x_like.scaling.published_tables import published
from t5x_like.scaling.recipe import Recipe, Training
from t5x_like.scaling.sweeps.cells import CELL_FILE, Cell, Stem, naming_run
from t5x_like.scaling.sweeps.facts import model_facts
from t5x_like.scaling.sweeps.grids import Grid, OnePoint, Point, groups, short
from t5x_like.scaling.sweeps.learning_rate_search import Factors, LearningRateSearch
from t5x_like.scaling.sweeps.plan_format import is_name

CHECKPOINTS_PER_RUN = 4


@dataclasses.dataclass(frozen=True)
class Stage:
    """A part of every run, such as pre-training, or the fine-tuning after it.

    The first trains as long as the grid says. Each later one starts from the parameters at the end
    of the one before, and its files or bindings say TRAIN_STEPS.

    Attributes:
      name: part of folders' names.
      gin_files: read after the sweep's base, before those of a variant.
      bindings: gin name -> value, over the sweep's, below a variant's.
    """

    name: str = ""
    gin_files: Sequence[str] = ()
    bindings: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Variant:
    """One of the models that a sweep compares, by its differences from the base.

    Attributes:
      name: in tables and legends; valid as a file name.
      gin_files: read after the family's `shape.gin` and the sweep's base.
      bindings: gin name -> value, applied last.
      family: instead of the sweep's.
      stage: the one stage that it changes; earlier ones it shares with other variants. All of them
        when None.
      stage_bindings: name of a stage -> further bindings, of that stage alone.
    """

    name: str = ""
    gin_files: Sequence[str] = ()
    bindings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    family: str | None = None
    stage: str | None = None
    stage_bindings: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)


Scheduled = tuple[Training, dict[str, Any], int | None]
"""A training, its bindings, and the step at which it branches off the longest, if it does."""


class ScheduleRule(Protocol):
    """How to schedule the runs of one model on different numbers of tokens."""

    def trainings(
        self, recipe: Recipe, parameters: float, tokens: Sequence[float], row_tokens: int
    ) -> list[Scheduled]:
        """For each number of tokens: the training, its bindings, and the step to branch at.

        A run branches off the one with most tokens; None if it starts from scratch.
        """


@dataclasses.dataclass(frozen=True)
class MatchedCosine:
    """A separate run for each number of tokens, with a cosine of its length (Chinchilla)."""

    def trainings(
        self, recipe: Recipe, parameters: float, tokens: Sequence[float], row_tokens: int
    ) -> list[Scheduled]:
        """See `ScheduleRule`."""
        bindings = {"SCHEDULE": "@schedules.Cosine()"}
        found = [recipe.training(parameters, count, row_tokens=row_tokens) for count in tokens]
        return [(training, dict(bindings), None) for training in found]


@dataclasses.dataclass(frozen=True)
class StableThenDecay:
    """One run at a constant rate, with short linear decays off it (Hägele et al. 2024).

    Batch and rate are the recipe's for the geometric mean of the numbers of tokens, because all
    runs share them.

    Attributes:
      decay_fraction: the fraction of each run's updates in which the rate decays to 0.
    """

    decay_fraction: float = 0.2

    def __post_init__(self) -> None:
        if not 0 < self.decay_fraction < 1:
            raise UserError(f"a decay over {self.decay_fraction} of a run: it is between 0 and 1.")

    def trainings(
        self, recipe: Recipe, parameters: float, tokens: Sequence[float], row_tokens: int
    ) -> list[Scheduled]:
        """See `ScheduleRule`."""
        middle = statistics.geometric_mean(tokens)
        shared = recipe.training(parameters, middle, row_tokens=row_tokens)
        found = []
        for count in tokens:
            steps = max(2, round(count / shared.batch_tokens))
            training = dataclasses.replace(shared, steps=steps)
            decay = max(1, round(self.decay_fraction * steps))
            bindings = {"SCHEDULE": "@schedules.WarmupStableDecay()", "DECAY_STEPS": decay}
            found.append((training, bindings, steps - decay if count < max(tokens) else None))
        return found


@dataclasses.dataclass(frozen=True)
class Sweep:
    """A sweep: a grid of models for each variant.

    Attributes:
      name: of the sweep.
      family: a folder of `gin_configs/models` with a `shape.gin`; None for a grid that chooses no
        shapes, where the base defines the model.
      base: gin files of every run: the task, the optimizer, the hardware.
      grid: which models, on how many tokens.
      variants: what is compared; the first is the baseline.
      recipe: from (family, N, D) to a run.
      schedule: how the runs of one model are scheduled.
      seeds: every cell is run with each.
      bindings: gin name -> value, for every run.
      learning_rate_search: run first; None uses the recipe's rate.
      stages: of every run, two or more, such as pre-training and fine-tuning; () for one.
      modules: Python modules that every run imports first, as `--module_import` does.
      vectorize: whether runs that differ only in seed and learning rate share a program.
      published: what a paper prints of the same study (`published_tables.published`), which the
        report shows beside it; None for nothing.
    """

    name: str
    base: Sequence[str]
    grid: Grid
    family: str | None = None
    variants: Sequence[Variant] = (Variant(),)
    recipe: Recipe = dataclasses.field(default_factory=Recipe)
    schedule: ScheduleRule = dataclasses.field(default_factory=MatchedCosine)
    seeds: Sequence[int] = (0,)
    bindings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    learning_rate_search: LearningRateSearch | None = None
    stages: Sequence[Stage] = ()
    modules: Sequence[str] = ()
    vectorize: bool = False
    published: str | None = None

    def __post_init__(self) -> None:
        if self.published is not None:
            published(self.published)
        names = [variant.name for variant in self.variants]
        for name in names:
            if name and not is_name(name):
                raise UserError(f"the variant '{name}': its name is part of a folder's name.")
        if not names or len(set(names)) != len(names):
            raise UserError(f"the sweep's variants are {names}: give at least one, each its name.")
        if not self.seeds:
            raise UserError("the sweep has no seeds: give at least one.")
        for name in self.base:
            find_gin_file(name)
        self._check_stages()

    def _check_stages(self) -> None:
        names = [stage.name for stage in self.stages]
        if len(names) == 1 or len(set(names)) != len(names) or not all(map(is_name, names)):
            raise UserError(f"the sweep's stages are {names}: give two or more, each its name.")
        if names and self.learning_rate_search is not None:
            raise UserError("a sweep of stages has no learning_rate_search: bind their rates.")
        for variant in self.variants:
            changed = [*filter(None, [variant.stage]), *variant.stage_bindings]
            for name in changed:
                if name not in names:
                    known = ", ".join(names) or "none"
                    raise UserError(
                        f"the variant '{variant.name}' changes the stage '{name}': there are "
                        f"{known}."
                    )
            if variant.stage is not None and variant.family:
                raise UserError(f"the variant '{variant.name}': a family is that of all stages.")

    def cells(self, factors: Mapping[str, Factors] | None = None) -> list[Cell]:
        """The runs to compare, in the order of variants, grid and seeds; see `stage_cells`."""
        return self.stage_cells(factors)[-1]

    def stage_cells(self, factors: Mapping[str, Factors] | None = None) -> list[list[Cell]]:
        """The runs of each stage, in the order of variants, grid and seeds.

        A run of an earlier stage, which several of the next start from, is there once.

        Args:
          factors: variant -> what its search found (`Recipe.searched_factors`).

        Raises:
          UserError: a cell cannot be built; the message says which and why.
        """
        stages: list[list[Cell]] = []
        for number in range(max(1, len(self.stages))):
            before = {cell.name: cell for cell in stages[-1]} if stages else {}
            found = self._cells_of(number, before, factors or {})
            if number < len(self.stages) - 1:
                found = [cell for i, cell in enumerate(found) if cell not in found[:i]]
            stages.append(found)
        names = [cell.name for stage in stages for cell in stage]
        doubles = sorted({name for name in names if names.count(name) > 1})
        if doubles:
            raise UserError(f"two runs of the sweep are called {doubles[0]}.")
        return stages

    def _cells_of(
        self, number: int, before: Mapping[str, Cell], factors: Mapping[str, Factors]
    ) -> list[Cell]:
        """The runs of one stage, which start from those before."""
        found = []
        for variant in self.variants:
            recipe = dataclasses.replace(
                self.recipe, searched_factors=tuple(factors.get(variant.name, ()))
            )
            with naming_run(self.name, variant.name):
                found += self._variant_cells(
                    variant, recipe, self.grid, number=number, before=before
                )
        return found

    def search_cells(self) -> list[Cell]:
        """The runs of the learning rate search: variant by variant, budget by budget."""
        search = self.learning_rate_search
        if search is None:
            return []
        exact = getattr(self.grid, "exact", False)
        found = []
        for variant, (budget, parameters), factor in itertools.product(
            self.variants, search.models, search.factors
        ):
            recipe = dataclasses.replace(
                self.recipe,
                learning_rate_factor=self.recipe.learning_rate_factor * factor,
                # Clipped rates would make the factors equal.
                max_learning_rate=math.inf,
            )
            label = f"rate-c{short(budget)}-x{short(factor)}"
            grid = OnePoint(budget, parameters, label, exact)
            found += self._variant_cells(variant, recipe, grid, self.seeds[:1])
        return found

    def _variant_cells(
        self,
        variant: Variant,
        recipe: Recipe,
        grid: Grid,
        seeds: Sequence[int] | None = None,
        number: int = 0,
        before: Mapping[str, Cell] | None = None,
    ) -> list[Cell]:
        stage = self.stages[number] if self.stages else Stage()
        changed = variant if variant.stage in (None, stage.name) else Variant()
        own = changed.stage_bindings.get(stage.name, {})
        changes = {**self.bindings, **stage.bindings, **changed.bindings, **own}
        family = Family(
            variant.family or self.family,
            (CELL_FILE, *self.base, *stage.gin_files, *changed.gin_files),
            gin_pairs(changes),
            tuple(self.modules),
        )
        points = list(grid.points(recipe, family))
        if number:  # only the first stage is as long as the grid says
            points = [dataclasses.replace(point, tokens=None, budget=None) for point in points]
        if not points:
            raise UserError(f"the grid of sweep '{self.name}' is empty.")
        order = {point.label: i for i, point in enumerate(points)}
        found: list[tuple[int, Cell]] = []
        for group in groups(points):
            made = model_facts(family, group[0].shape, gin_pairs(group[0].placeholders))
            rows: list[Scheduled]
            if group[0].shape is None or group[0].tokens is None:
                if made.training.warmup_steps > made.training.steps:
                    raise UserError(
                        f"its WARMUP_STEPS, {made.training.warmup_steps:,}, are more than its "
                        f"TRAIN_STEPS, {made.training.steps:,}."
                    )
                rows = [(made.training, {}, None)] * len(group)
            else:
                wanted = [point.tokens or 0.0 for point in group]
                rows = self.schedule.trainings(recipe, made.size.active, wanted, made.row_tokens)
            longest = max(range(len(group)), key=lambda i: rows[i][0].steps)
            branch_steps = tuple(sorted(step for *_, step in rows if step is not None))
            chosen = seeds or self.seeds
            counts = self._seed_counts(group, len(chosen), branched=bool(branch_steps))
            for place, seed in enumerate(chosen):
                names = [self._name(variant, point, seed, number) for point in group]
                starts = [self._name(variant, point, seed, number - 1) for point in group]
                for i, point in enumerate(group):
                    if place >= counts[i]:
                        continue
                    training, scheduled, branch = rows[i]
                    ours = dict(scheduled)
                    if group[0].tokens is not None:
                        ours |= training.bindings(made.row_tokens)
                    _check_free({**ours, "SEED": seed}, changes)
                    if i == longest and branch_steps:
                        ours["CHECKPOINT_STEPS"] = branch_steps
                    cell = Cell(
                        name=names[i],
                        variant=variant.name if self._differs(variant, number) else "",
                        family=family,
                        shape=point.shape,
                        size=made.size,
                        training=training,
                        budget=point.budget,
                        model_flops=made.row_flops * training.tokens / made.row_tokens,
                        bindings={
                            **(point.shape.bindings if point.shape else {}),
                            **ours,
                            "CHECKPOINT_PERIOD": max(1, training.steps // CHECKPOINTS_PER_RUN),
                            "SEED": seed,
                            **changes,
                            **dict(point.bindings),
                        },
                        seed=seed,
                        stem=Stem(names[longest], branch) if branch is not None else None,
                        start=(
                            Stem(starts[i], before[starts[i]].training.steps) if before else None
                        ),
                        imports=made.imports,
                        exact=point.exact,
                    )
                    found.append((order[point.label], cell))
        return [cell for _, cell in sorted(found, key=lambda pair: pair[0])]

    def _seed_counts(self, group: Sequence[Point], given: int, *, branched: bool) -> list[int]:
        """With how many of the seeds each point of a group is run.

        Raises:
          UserError: there are fewer seeds; runs that branch off one another differ.
        """
        counts = [given if point.num_seeds is None else point.num_seeds for point in group]
        if max(counts) > given:
            raise UserError(f"num_seeds asks for {max(counts)} seeds, and the sweep has {given}.")
        if branched and len(set(counts)) > 1:
            raise UserError(
                "num_seeds differs between budgets of which runs branch off one another: give all "
                "as many, or take sweep.MatchedCosine()."
            )
        return counts

    def _differs(self, variant: Variant, number: int) -> bool:
        """Whether a variant's runs of a stage are its own: it, or an earlier one, is changed."""
        if number >= len(self.stages) - 1 or variant.stage is None:
            return True
        return [stage.name for stage in self.stages].index(variant.stage) <= number

    def _name(self, variant: Variant, point: Point, seed: int, number: int) -> str:
        """The name of a run: of its folder, too."""
        parts = [
            self.stages[number].name if 0 <= number < len(self.stages) - 1 else "",
            variant.name if self._differs(variant, number) else "",
            point.label,
            f"s{seed}" if len(self.seeds) > 1 else "",
        ]
        return "-".join(part for part in parts if part)


def _check_free(planned: Mapping[str, Any], changes: Mapping[str, Any]) -> None:
    """Raises where bindings set what is planned of each run, whose records would say otherwise."""
    for name in sorted(planned.keys() & changes.keys()):
        raise UserError(
            f"bindings of the sweep, a variant or a stage set {name}, which the sweep plans for "
            "each run: take it out, and change seeds, schedule or a field of recipe.Recipe."
        )
