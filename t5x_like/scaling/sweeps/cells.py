"""One run of a sweep: an ordinary MODEL_DIR with the gin file that `t5x-like train` runs."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from t5x_like import config
from t5x_like.checkpoints import layout
from t5x_like.config.gin_files import find_gin_file, packaged_gin_configs
from t5x_like.errors import UserError, on_one_line
from t5x_like.scaling.family import Family, Shape, Size
from t5x_like.scaling.recipe import Training

# What all runs share, first of a sweep's `Family.gin_files`: the later ones can override it.
CELL_FILE = "sweeps/cell.gin"
GIN_FILE = "cell.gin"
LOG_FILE = "log.txt"


@dataclasses.dataclass(frozen=True)
class Stem:
    """A step of a run, from which another run starts.

    Attributes:
      cell: its name.
      step: of its checkpoint.
    """

    cell: str
    step: int


@dataclasses.dataclass(frozen=True)
class Cell:
    """A planned run of a sweep.

    Attributes:
      name: of its directory, below `cells/`.
      variant: its name; "" where a sweep has one only.
      family: the family, and its changes.
      shape: None if the base's gin files define the model.
      size: numbers of parameters.
      training: batch, steps, rate, warm-up.
      budget: its IsoFLOP budget, if it has one.
      model_flops: exact FLOPs of the run, forward and backward.
      bindings: everything set for it, gin name -> value; rendered in `cell.gin`.
      seed: of initialization and data.
      stem: the run it branches off, with its state; None if there is none.
      start: the run of the stage before, with whose parameters it starts; None if there is none.
      imports: lines for the modules that `bindings` name.
      exact: whether its compute is counted by `model_flops`, as its budget is, and not by 6ND.
    """

    name: str
    variant: str
    family: Family
    shape: Shape | None
    size: Size
    training: Training
    budget: float | None
    model_flops: float
    bindings: Mapping[str, Any]
    seed: int
    stem: Stem | None = None
    start: Stem | None = None
    imports: tuple[str, ...] = ()
    exact: bool = False

    @property
    def flops(self) -> float:
        """6ND, with N the active parameters; the exact FLOPs where the budget is of these."""
        return self.model_flops if self.exact else self.six_n_d

    @property
    def six_n_d(self) -> float:
        """6ND, with N the active parameters: what a recipe's rules depend on."""
        return 6.0 * self.size.active * self.training.tokens

    @property
    def cost(self) -> float:
        """The FLOPs of the steps that this run makes itself."""
        done = self.stem.step / self.training.steps if self.stem else 0.0
        return self.flops * (1 - done)

    def directory(self, sweep_dir: Path) -> Path:
        """Its MODEL_DIR."""
        return cell_directory(sweep_dir, self.name)

    def gin_text(self, sweep_name: str, sweep_dir: Path) -> str:
        """The text of its `cell.gin`, which runs on its own, from any directory."""
        directory = self.directory(sweep_dir)
        bindings = {**self.bindings, "MODEL_DIR": str(directory)}
        if self.stem:
            bindings["train.train.initial_checkpoint"] = "@checkpoints.Branch()"
            stem = cell_directory(sweep_dir, self.stem.cell)
            bindings["checkpoints.Branch.model_dir"] = str(stem)
            bindings["checkpoints.Branch.step"] = self.stem.step
        if self.start:
            bindings["train.train.initial_checkpoint"] = "@checkpoints.InitialCheckpoint()"
            path = cell_directory(sweep_dir, self.start.cell) / layout.DIRECTORY
            bindings["checkpoints.InitialCheckpoint.path"] = str(path / str(self.start.step))
        described = f"{self.size.parameters:,} parameters, {self.training.tokens:,} tokens"
        cost = f"{self.flops:.4g} FLOPs."
        lines = [
            on_one_line(f"# Cell {self.name} of the sweep {sweep_name}: {described}, {cost}"),
            on_one_line(f"# t5x-like train --gin_file={directory / GIN_FILE}"),
            "from __gin__ import dynamic_registration",
            "",
            *self.imports,
            "",
            *(f"include {included(name)!r}" for name in self.files),
            "",
            *(f"{name} = {config.written_value(value)}" for name, value in bindings.items()),
        ]
        return "\n".join(lines) + "\n"

    def whole_text(self, sweep_name: str, sweep_dir: Path) -> str:
        """Everything that `cell.gin` and its includes bind, as a gin file.

        A comment after each value says where it is from, as in `t5x-like train --dry_run`.
        """
        text = self.gin_text(sweep_name, sweep_dir)
        head = [line for line in text.splitlines() if line.startswith("#")]
        with config.isolated():
            config.parse([config.GinText(str(self.directory(sweep_dir) / GIN_FILE), text)])
            return "\n".join([*head, config.full_text(sources=True)])

    @property
    def files(self) -> tuple[str, ...]:
        """Its gin files, in order."""
        return self.family.files_of(self.shape)

    def record(self) -> dict[str, Any]:
        """Its record in `sweep.json`."""
        shape = self.shape
        return {
            "name": self.name,
            "variant": self.variant,
            "family": self.family.name,
            "budget": self.budget,
            "parameters": self.size.parameters,
            "parameters_without_embeddings": self.size.without_embeddings,
            "active_parameters": self.size.active,
            "tokens": self.training.tokens,
            "flops": self.flops,
            "cost": self.cost,
            "model_flops": self.model_flops,
            "steps": self.training.steps,
            "batch_tokens": self.training.batch_tokens,
            "learning_rate": self.training.learning_rate,
            "warmup_fraction": self.training.warmup_steps / self.training.steps,
            "seed": self.seed,
            "num_layers": shape.num_layers if shape else None,
            "embed_dim": shape.embed_dim if shape else None,
            "num_heads": shape.num_heads if shape else None,
            "stem": dataclasses.asdict(self.stem) if self.stem else None,
            "start": dataclasses.asdict(self.start) if self.start else None,
        }


def cell_directory(sweep_dir: Path, name: str) -> Path:
    """The MODEL_DIR of a cell."""
    return sweep_dir / "cells" / name


def included(name: str) -> str:
    """The name by which a gin file can be included from any directory."""
    path = Path(str(find_gin_file(name)))
    packaged = packaged_gin_configs()
    inside = path.is_relative_to(packaged)
    return path.relative_to(packaged).as_posix() if inside else os.path.abspath(path)


@contextlib.contextmanager
def naming_run(sweep: str, variant: str) -> Iterator[None]:
    """Adds to an error which run cannot be built."""
    try:
        yield
    except ValueError as error:
        if not hasattr(error, "exit_code"):
            raise
        whose = f", variant '{variant}'" if variant else ""
        raise UserError(f"a run of sweep '{sweep}'{whose} cannot be built: {error}") from error
