"""The data series that figures and page draw."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from t5x_like.scaling import named_laws
from t5x_like.scaling.comparison import VALIDATION
from t5x_like.scaling.downstream import AVERAGE
from t5x_like.scaling.fitting import Fit
from t5x_like.scaling.fitting.result import interval
from t5x_like.scaling.report.analysis import METHODS, Analysis
from t5x_like.scaling.report.style import short, span

Array = np.ndarray
POINTS = 60
# Published laws are drawn up to this factor beyond the budgets on either side.
DECADES_BEYOND = 0.5
# A published law is shown in full where it is within this factor of the runs and their laws.
BESIDE = 5.0
# A law whose N is off by this factor from every run is undetermined, and may leave the axes.
FAR = 100.0

# Active parameters, the N of C = 6·N·D.
N = "active_parameters"
MINIMA = (
    *("budget", "parameters", "parameters_low", "parameters_high"),
    *("tokens", "tokens_low", "tokens_high", "loss", "loss_low", "loss_high", "inside", "used"),
)

PUBLISHED = {
    "kaplan2020": "Kaplan 2020 (N without embeddings)",
    "hoffmann2022_approach1": "Hoffmann 2022, approach 1",
    "hoffmann2022_approach2": "Hoffmann 2022, approach 2",
    "hoffmann2022_approach3": "Hoffmann 2022, approach 3",
    "besiroglu2024": "Besiroglu 2024",
}


@dataclasses.dataclass(frozen=True)
class IsoFlop:
    """One budget of one variant.

    Attributes:
      budget: FLOPs.
      runs: its finished cells.
      parameters: of the parabola, `[POINTS]`; empty without one.
      loss: on it, nats.
      minimum: the row of `Fit.minima`; None without one.
    """

    budget: float
    runs: pd.DataFrame
    parameters: Array
    loss: Array
    minimum: Mapping[str, float] | None


@dataclasses.dataclass(frozen=True)
class Optimum:
    """The optimal N and D by a law, for each budget.

    Attributes:
      label: for the legend.
      flops: `[POINTS]`.
      parameters: N; `low` and `high` are its 95% interval, NaN without one. All `[3, POINTS]`:
        estimate, low, high.
      tokens: D, the same.
      published: whether it is from a paper.
    """

    label: str
    flops: Array
    parameters: Array
    tokens: Array
    published: bool


def isoflops(analysis: Analysis, variant: str) -> list[IsoFlop]:
    """The budgets of a variant, ascending; empty if it has none."""
    runs = analysis.sweep.done
    runs = runs[(runs["variant"] == variant) & np.isfinite(runs["budget"])]
    found = minima(analysis, variant)
    groups = []
    for budget, group in runs.groupby("budget"):
        near = found[np.isclose(found["budget"], float(budget), rtol=1e-6)]  # type: ignore[arg-type]
        parameters = loss = np.empty(0)
        if group[N].nunique() >= 3:
            logs = np.log(group[N].to_numpy(np.float64))
            line = np.linspace(logs.min(), logs.max(), POINTS)
            centre = logs.mean()
            fitted = np.polyfit(logs - centre, group["loss"].to_numpy(np.float64), 2)
            parameters, loss = np.exp(line), np.polyval(fitted, line - centre)
        minimum = None if near.empty else near.iloc[0].to_dict()
        groups.append(IsoFlop(float(budget), group, parameters, loss, minimum))  # type: ignore[arg-type]
    return groups


def minima(analysis: Analysis, variant: str) -> pd.DataFrame:
    """The minima of approach 2 with their intervals, NaN without a bootstrap; may be empty."""
    found = analysis.fits.get((variant, "approach2"))
    frame = pd.DataFrame() if found is None or found.minima is None else found.minima
    return frame.reindex(columns=MINIMA)


def optima(analysis: Analysis, variant: str) -> list[Optimum]:
    """The lines of N and D against C: those of the sweep's fits, then the published ones."""
    fits = analysis.fits_of(variant)
    cells = analysis.sweep.cells
    flops = cells.loc[cells["variant"] == variant, "flops"].to_numpy(np.float64)
    flops = flops[np.isfinite(flops) & (flops > 0)]
    if not len(flops):
        return []
    beyond = 10**DECADES_BEYOND
    grid = np.geomspace(flops.min() / beyond, flops.max() * beyond, POINTS)
    lines = []
    for method, found in fits.items():
        label = METHODS[method].partition(",")[0]
        parameters, tokens = _allocation(found, grid)
        low, high = _near(cells, N)
        near = (parameters[0] > low) & (parameters[0] < high)
        if found.undetermined or not near.any():
            # Its interval would fill the axes and hide the rest.
            label += " (undetermined)"
            parameters[1:] = tokens[1:] = np.nan
        lines.append(Optimum(label, grid, parameters, tokens, published=False))
    for name, label in PUBLISHED.items():
        parameters, tokens = named_laws.named(name).optimum(grid)
        nothing = np.full_like(grid, np.nan)
        lines.append(
            Optimum(
                label,
                grid,
                np.stack([parameters, nothing, nothing]),
                np.stack([tokens, nothing, nothing]),
                True,
            )
        )
    return lines


def window(analysis: Analysis, lines: Sequence[Optimum], quantity: str) -> tuple[float, float]:
    """The range of N or D to show: of the runs, their laws, and published laws not far from both.

    An undetermined law of the sweep may leave the axes; a published one further than `BESIDE` from
    everything else would squeeze the rest into a strip, and is left outside.
    """
    column = N if quantity == "parameters" else "tokens"
    cells = analysis.sweep.cells
    own = [getattr(line, quantity)[0] for line in lines if not line.published]
    drawn = np.concatenate([*own, cells[column].to_numpy(np.float64)])
    drawn = np.clip(drawn, *_near(cells, column))
    low, high = np.nanmin(drawn) / BESIDE, np.nanmax(drawn) * BESIDE
    published = [getattr(line, quantity)[0] for line in lines if line.published]
    near = [values for values in published if low <= values.min() and values.max() <= high]
    return span(np.concatenate([drawn, *near]))


def label_within(line: Optimum, quantity: str, limits: tuple[float, float]) -> str:
    """The legend's label of a law, which says so if it is drawn outside of the axes."""
    values = getattr(line, quantity)[0]
    outside = (values.max() < limits[0]) or (values.min() > limits[1])
    return f"{line.label}, off the axes" if outside else line.label


def _near(cells: pd.DataFrame, column: str) -> tuple[float, float]:
    """Between what is near some run and what is `FAR` from all."""
    tried = cells[column].to_numpy(np.float64)
    return float(np.nanmin(tried) / FAR), float(np.nanmax(tried) * FAR)


def n_label(analysis: Analysis) -> str:
    """The axis label of N."""
    return "active parameters N" if analysis.sweep.has_experts else "parameters N"


def _allocation(found: Fit, grid: Array) -> tuple[Array, Array]:
    parameters, tokens = found.law.optimum(grid)
    drawn = found.sampled_law
    if drawn is None:
        nothing = np.full((2, len(grid)), np.nan)
        return np.vstack([parameters, nothing]), np.vstack([tokens, nothing])
    samples_n, samples_d = drawn.optimum(grid[:, None])
    return (
        np.vstack([parameters, *interval(samples_n)]),
        np.vstack([tokens, *interval(samples_d)]),
    )


def envelope(curves: pd.DataFrame) -> pd.DataFrame:
    """The lowest loss over all curves at each compute: `flops`, `loss`, `name`."""
    usable = curves[(curves["flops"] > 0) & np.isfinite(curves["loss"])]
    if usable.empty:
        return pd.DataFrame({"flops": [], "loss": [], "name": []})
    grid = np.geomspace(usable["flops"].min(), usable["flops"].max(), 300)
    names, table = [], []
    for name, curve in usable.groupby("name", sort=False):
        ordered = curve.sort_values("flops")
        logs = np.log(ordered["flops"].to_numpy(np.float64))
        losses = ordered["loss"].to_numpy(np.float64)
        table.append(np.interp(np.log(grid), logs, losses, left=np.inf, right=np.inf))
        names.append(name)
    stacked = np.stack(table)
    which = stacked.argmin(0)
    lowest = stacked[which, np.arange(len(grid))]
    found = pd.DataFrame({"flops": grid, "loss": lowest, "name": np.array(names)[which]})
    return found[np.isfinite(found["loss"])].reset_index(drop=True)


def loss_window(curves: pd.DataFrame, lowest: pd.DataFrame) -> tuple[float, float]:
    """The range of losses to show, without those of the first steps."""
    ends = curves.sort_values("step").groupby("name")["loss"].last()
    low, high = float(lowest["loss"].min()), float(ends.max())
    high = max(high, float(lowest["loss"].quantile(0.9)))
    air = 0.05 * (high - low) + 1e-3
    return low - air, high + 4 * air


def headline_multipliers(analysis: Analysis) -> pd.DataFrame:
    """A row for each variant, at the geometric mean of its shared budgets; the largest first."""
    if analysis.multipliers is None or analysis.multipliers.table.empty:
        return pd.DataFrame()
    table = analysis.multipliers.table
    return table[table["headline"]].sort_values("multiplier", ascending=False, kind="stable")


def headlines(analysis: Analysis) -> list[tuple[str, pd.DataFrame]]:
    """The rows of the metric that stands for each task, with its title; averages come first."""
    table = analysis.downstream
    rows = table[table["headline"].astype(bool)]
    groups = [
        (f"{task} {split}, {metric}", group)
        for (task, split, metric), group in rows.groupby(["task", "split", "metric"], sort=False)
    ]
    return sorted(groups, key=lambda pair: pair[1]["task"].iloc[0] != AVERAGE)


def error_line(analysis: Analysis, group: pd.DataFrame) -> tuple[Array, Array] | None:
    """Losses, and the accuracies that the law of a task gives for them; None without a law."""
    first = group.iloc[0]
    for law in analysis.error_laws:
        if (law.task, law.split) == (first["task"], first["split"]):
            loss = np.linspace(group["loss"].min(), group["loss"].max(), POINTS)
            return loss, 100 - law.error(loss)
    return None


def run_label(group: pd.DataFrame) -> str:
    """The legend's label of runs of one N and D: both, and the variant if there are several."""
    size, tokens = (short(float(group[name].iloc[0]), 2) for name in ("parameters", "tokens"))
    return f"N {size}, D {tokens} {group['variant'].iloc[0]}".strip()


def tokens_label(group: pd.DataFrame) -> str:
    """The legend's label of runs on the same tokens: D, and the variant if there are several."""
    tokens = short(float(group["tokens"].iloc[0]), 2)
    return f"D {tokens} {group['variant'].iloc[0]}".strip()


def group_label(group: pd.DataFrame) -> str:
    """The legend's label of cells of one size: N, and the variant if there are several."""
    size = short(float(group["parameters"].median()), 2)
    return f"{size} {group['variant'].iloc[0]}".strip()


def headline_comparison(analysis: Analysis) -> pd.DataFrame:
    """The rows of `Analysis.comparison` by the metric that stands for the study, best first.

    That is the headline of the first task that was measured, else the validation loss.
    """
    table = analysis.comparison
    if table.empty:
        return table
    keys = ["task", "split", "metric"]
    first = [VALIDATION, VALIDATION, "loss"]
    for _, group in headlines(analysis) if not analysis.downstream.empty else []:
        wanted = list(group[keys].iloc[0])
        if (table[keys] == wanted).all(axis=1).any():
            first = wanted
            break
    rows = table[(table[keys] == first).all(axis=1)]
    best_first = rows["mean"].sub(rows.loc[rows["best"], "mean"].iloc[0]).abs()
    return rows.loc[best_first.sort_values(kind="stable").index].reset_index(drop=True)


def metric_label(rows: pd.DataFrame) -> str:
    """What the rows of a comparison are measured by."""
    task, metric = rows["task"].iloc[0], rows["metric"].iloc[0]
    return "validation loss (nats a token)" if task == VALIDATION else f"{task} {metric}"


def mean_label(row: Mapping[str, float]) -> str:
    """A mean, with its standard deviation where there are seeds."""
    spread = f" ± {row['deviation']:.3g}" if np.isfinite(row["deviation"]) else ""
    return f"{row['mean']:.4g}{spread}"
