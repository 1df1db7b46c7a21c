"""Fits scaling laws: methods, uncertainty and warnings."""

import difflib
import os
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from t5x_like.errors import UserError
from t5x_like.scaling.fitting.envelope import METHOD as METHOD_OF_CURVES
from t5x_like.scaling.fitting.envelope import fit_envelope
from t5x_like.scaling.fitting.forms import Form, GadreForm, KaplanForm, ParametricForm
from t5x_like.scaling.fitting.isoflop import fit_isoflop
from t5x_like.scaling.fitting.loss_laws import fit_loss_law
from t5x_like.scaling.fitting.numerics.solvers import HuberSolver, ProjectionSolver
from t5x_like.scaling.fitting.options import HUBER_DELTA, STARTS, Options
from t5x_like.scaling.fitting.result import Fit
from t5x_like.scaling.laws import TOTAL, WITHOUT_EMBEDDINGS
from t5x_like.scaling.runs_table import RunsTable, from_frame, read_runs

__all__ = ["COUNTS", "DEFAULT_METHOD", "METHODS", "Fit", "fit"]

DEFAULT_METHOD = "approach3"
ACTIVE = "active"
# What N may count → its column.
COUNTS = {
    TOTAL: "parameters",
    ACTIVE: "active_parameters",
    WITHOUT_EMBEDDINGS: "parameters_without_embeddings",
}


def _huber(form: Form, method: str) -> Callable[[RunsTable, Options], Fit]:
    def run(table: RunsTable, options: Options) -> Fit:
        return fit_loss_law(table, method, HuberSolver(form, options.huber_delta), options)

    return run


def _projected(method: str, relative: bool) -> Callable[[RunsTable, Options], Fit]:
    def run(table: RunsTable, options: Options) -> Fit:
        return fit_loss_law(table, method, ProjectionSolver(ParametricForm(), relative), options)

    return run


# Method → (runs, options) → fit.
METHODS: dict[str, Callable[[RunsTable, Options], Fit]] = {
    METHOD_OF_CURVES: fit_envelope,
    "approach2": fit_isoflop,
    "approach3": _huber(ParametricForm(), "approach3"),
    "variable_projection": _projected("variable_projection", relative=False),
    "variable_projection_relative": _projected("variable_projection_relative", relative=True),
    "kaplan": _huber(KaplanForm(), "kaplan"),
    "gadre": _huber(GadreForm(), "gadre"),
}


def fit(
    runs: RunsTable | pd.DataFrame | str | os.PathLike[str],
    method: str = DEFAULT_METHOD,
    *,
    bootstrap: int = 0,
    seed: int = 0,
    drop_highest: int = 0,
    variant: str | None = None,
    count: str | None = None,
    huber_delta: float = HUBER_DELTA,
    starts: int = STARTS,
    at_flops: Sequence[float] | float | None = None,
    budgets: Sequence[float] = (),
    weigh: bool = False,
    window: float | None = None,
) -> Fit:
    """Fits a scaling law to runs.

    Args:
      runs: a table, a frame with columns of the usual names, a file, or a sweep's directory.
      method: one of `METHODS`.
      bootstrap: resamples for 95% intervals; 0 for none.
      seed: of the resamples.
      drop_highest: number of runs with the highest losses to leave out.
      variant: which variant's runs, where there are several.
      count: what N counts ("total", "active", "without_embeddings"); by default the embeddings
        too, where that is known, but for Kaplan's form.
      huber_delta: residual of log loss above which Huber's loss is linear.
      starts: approximate number of initial values of the search.
      at_flops: budgets to predict; by default the largest C of the runs, 10 and 100 times that.
      budgets: FLOPs of the IsoFLOP groups of approach 2; found where none are given.
      weigh: whether runs weigh by the standard errors of their losses (the column
        `loss_standard_error`): each residual is divided by its own.
      window: decades of N around an IsoFLOP minimum that its parabola is fitted to; all of them
        where it is None.

    Raises:
      UserError: the runs cannot be read, an option is out of range, or there are too few runs.
    """
    run = _method(method)
    _check(bootstrap=bootstrap, drop_highest=drop_highest)
    for name, value in {"huber_delta": huber_delta, "window": window}.items():
        if value is not None and not 0 < value < float("inf"):
            raise UserError(f"{name} must be above 0, not {value!r}.")
    if starts < 1:
        raise UserError(f"starts must be at least 1, not {starts}.")
    table, source = _table(runs)
    table = _counted(_of_variant(table, variant), method, count)
    table = _without_highest(table, drop_highest)
    if weigh:
        table = _with_standard_errors(table, method, source)
    if not len(table.frame):
        reasons = {entry["reason"] for entry in table.left_out}
        why = f": all {len(table.left_out)} rows are left out ({'; '.join(sorted(reasons)[:3])})"
        raise UserError(f"{source} has no run that can be used{why if reasons else ''}.")
    targets = np.atleast_1d(
        np.array([1, 10, 100]) * table.frame["flops"].max() if at_flops is None else at_flops
    )
    for name, values in {"at_flops": targets, "budgets": budgets}.items():
        if not all(0 < value < float("inf") for value in values):
            raise UserError(f"{name} are FLOPs above 0, not {list(map(float, values))}.")
    options = Options(
        bootstrap=bootstrap,
        seed=seed,
        starts=starts,
        huber_delta=huber_delta,
        at_flops=tuple(float(value) for value in targets),
        budgets=tuple(float(value) for value in budgets),
        weigh=weigh,
        window=window,
        source=f"{method} fitted to {source}",
    )
    return run(table, options)


def _method(name: str) -> Callable[[RunsTable, Options], Fit]:
    if name not in METHODS:
        near = difflib.get_close_matches(name, METHODS, n=3, cutoff=0.4)
        hint = f"; nearest: {', '.join(near)}" if near else ""
        raise UserError(f"there is no method '{name}'{hint} (all: {', '.join(METHODS)}).")
    return METHODS[name]


def _check(**counts: int) -> None:
    for name, value in counts.items():
        if value < 0:
            raise UserError(f"{name} is a count, not {value}.")


def _table(runs: RunsTable | pd.DataFrame | str | os.PathLike[str]) -> tuple[RunsTable, str]:
    if isinstance(runs, RunsTable):
        return runs, "the table"
    if isinstance(runs, pd.DataFrame):
        return from_frame(runs), "the frame"
    return read_runs(runs), os.path.basename(os.path.normpath(runs))


def _of_variant(table: RunsTable, variant: str | None) -> RunsTable:
    if variant is not None:
        return table.of_variant(variant)
    if len(table.variants()) > 1:
        known = ", ".join(f"'{name}'" for name in table.variants())
        raise UserError(f"there are runs of several variants ({known}): choose one (--variant).")
    return table


def _counted(table: RunsTable, method: str, count: str | None) -> RunsTable:
    """Returns the table with N counted as requested."""
    if count is not None and count not in COUNTS:
        raise UserError(f"N counts {', '.join(COUNTS)}, not '{count}'.")
    by_form = count is None and method == "kaplan" and COUNTS[WITHOUT_EMBEDDINGS] in table.frame
    if by_form:
        count = WITHOUT_EMBEDDINGS
    if count in (None, TOTAL):
        return table
    column = COUNTS[count]
    if column not in table.frame:
        raise UserError(f"the runs do not say their {column}; leave --count out.")
    lacking = table.frame.index[~(table.frame[column] > 0)]
    table = table.without([int(row) for row in lacking], f"its {column} is not known")
    kind = WITHOUT_EMBEDDINGS if count == WITHOUT_EMBEDDINGS else table.frame["parameters_kind"]
    frame = table.frame.assign(parameters=table.frame[column], parameters_kind=kind)
    if by_form:
        # Kaplan et al. 2020 count C by the same N.
        frame = frame.assign(flops=6 * frame["parameters"] * frame["tokens"])
    curves = table.curves
    if curves is not None:
        sizes = frame.set_index("name")["parameters"]
        curves = curves[curves["name"].isin(sizes.index)]
        curves = curves.assign(parameters=curves["name"].map(sizes))
    return RunsTable(frame, table.left_out, curves, table.flops_given and not by_form)


def _with_standard_errors(table: RunsTable, method: str, source: str) -> RunsTable:
    """The rows whose losses have a standard error above 0, by which they can weigh."""
    if method == METHOD_OF_CURVES:
        raise UserError(
            f"{method} takes the lowest of curves, which nothing weighs: leave --weigh."
        )
    column = "loss_standard_error"
    if column not in table.frame:
        raise UserError(f"--weigh needs a column {column}, and {source} has none.")
    values = table.frame[column]
    lacking = table.frame.index[~((values > 0) & np.isfinite(values))]
    reason = "its loss has no standard error above 0 (--weigh)"
    return table.without([int(row) for row in lacking], reason)


def _without_highest(table: RunsTable, highest: int) -> RunsTable:
    rows = table.frame["loss"].sort_values(ascending=False, kind="stable").index[:highest]
    some = f"one of the {highest} highest losses (--drop_highest)"
    return table.without([int(row) for row in rows], some)
