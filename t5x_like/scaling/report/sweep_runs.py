"""Reads the runs of a sweep in the form that the report uses."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from t5x_like.errors import UserError
from t5x_like.scaling.published_tables import PublishedStudy, published
from t5x_like.scaling.sweeps import results

STATUSES = ("done", "running", "failed", "waiting")
# Numeric columns, even if all of their values are missing.
NUMBERS = (
    *("budget", "parameters", "parameters_without_embeddings", "active_parameters", "tokens"),
    *("flops", "model_flops", "steps", "step", "loss", "train_loss", "learning_rate", "seconds"),
    *("batch_tokens", "warmup_fraction", "tokens_per_second"),
    *("num_layers", "embed_dim", "num_heads", "seed"),
)


@dataclasses.dataclass(frozen=True)
class SweepRuns:
    """The runs of a sweep so far.

    Attributes:
      name: of the sweep.
      directory: where it is.
      family: of the models; "" where the sweep names none.
      baseline: the variant that others are compared with.
      cells: `results.sweep_results`, a row a run; paths are below `directory`.
      curves: `results.training_curves`, a row a record.
      gin_texts: each run's gin file, by the run's name.
      measured: `results.sweep_measurements`, a row a value; empty where nothing was measured.
      published: what a paper prints of the same study; None where the sweep names nothing.
    """

    name: str
    directory: str
    family: str
    baseline: str
    cells: pd.DataFrame
    curves: pd.DataFrame
    gin_texts: Mapping[str, str]
    measured: pd.DataFrame = dataclasses.field(default_factory=pd.DataFrame)
    published: PublishedStudy | None = None

    @property
    def done(self) -> pd.DataFrame:
        """The finished runs with a loss."""
        return self.cells[(self.cells["status"] == "done") & np.isfinite(self.cells["loss"])]

    @property
    def variants(self) -> list[str]:
        """Their names in the sweep's order; one that is "" where there are none."""
        return list(dict.fromkeys(self.cells["variant"]))

    @property
    def compares(self) -> bool:
        """Whether its settings are compared over seeds, rather than a law fitted to its sizes.

        So of runs of several stages, and of repeated runs of a grid that chooses no shapes, or one
        for each variant.
        """
        shapes = self.cells["num_layers"].notna().any()
        sizes = self.cells.groupby("variant")["parameters"].nunique().max()
        chosen = bool(shapes and sizes > 1) or self.cells["budget"].notna().any()
        repeated = self.cells["seed"].nunique() > 1
        return self.staged or bool(repeated and not chosen)

    @property
    def staged(self) -> bool:
        """Whether its runs start from those of an earlier stage."""
        return "start" in self.cells and bool(self.cells["start"].notna().any())

    @property
    def has_experts(self) -> bool:
        """Whether some run has fewer active parameters than parameters."""
        return bool((self.cells["active_parameters"] < self.cells["parameters"]).any())

    def counts(self) -> dict[str, int]:
        """The number of runs that are done, running, failed and waiting."""
        found = self.cells["status"].value_counts()
        return {name: int(found.get(name, 0)) for name in STATUSES}


def read_sweep_runs(sweep_dir: str | Path) -> SweepRuns:
    """Reads a sweep, finished or not.

    Raises:
      UserError: it is not a sweep's directory, or no run is planned yet.
    """
    plan = results.read_sweep(sweep_dir)
    cells, curves = results.sweep_results(sweep_dir), results.training_curves(sweep_dir)
    if cells.empty:
        raise UserError(
            f"the sweep in '{sweep_dir}' has planned no run yet: its search of a learning rate "
            "comes first. Start it again to resume it."
        )
    gin_files = {row["name"]: Path(row["gin_file"]) for row in cells.to_dict("records")}
    # Relative to the sweep's directory, which may have moved.
    for column in ("gin_file", "directory"):
        cells[column] = [Path(path).relative_to(sweep_dir).as_posix() for path in cells[column]]
    return from_frames(
        cells,
        curves,
        name=plan["name"],
        directory=str(sweep_dir),
        family=plan["family"] or "",
        baseline=plan.get("baseline"),
        gin_texts={name: _text(path, Path(sweep_dir)) for name, path in gin_files.items()},
        measured=results.sweep_measurements(sweep_dir),
        published_name=plan.get("published"),
    )


def from_frames(
    cells: pd.DataFrame,
    curves: pd.DataFrame,
    *,
    name: str,
    directory: str = "",
    family: str = "",
    baseline: str | None = None,
    gin_texts: Mapping[str, str] | None = None,
    measured: pd.DataFrame | None = None,
    published_name: str | None = None,
) -> SweepRuns:
    """The runs of frames as `results` has them; the first variant is the baseline by default.

    Raises:
      UserError: no published study has the name.
    """
    numbers = {column: pd.to_numeric(cells[column]).astype(np.float64) for column in NUMBERS}
    cells = cells.assign(**numbers)
    return SweepRuns(
        name=name,
        directory=directory,
        family=family,
        baseline=str(cells["variant"].iloc[0]) if baseline is None else baseline,
        cells=cells,
        curves=curves,
        gin_texts=gin_texts or {},
        measured=pd.DataFrame() if measured is None else measured,
        published=None if published_name is None else published(published_name),
    )


def _text(path: Path, sweep_dir: Path) -> str:
    """A gin file, with a placeholder for the sweep's directory; empty if not written yet.

    So a report that is passed on reveals no path of the machine. Nor a file of it: a link is not
    followed out of the sweep.
    """
    if not path.is_file() or not path.resolve().is_relative_to(sweep_dir.resolve()):
        return ""
    text = path.read_text(encoding="utf-8", errors="replace")
    return text.replace(str(sweep_dir.absolute()), "SWEEP_DIR")
