"""Fits laws that predict a loss: search, optimality checks, bootstrap and diagnostics."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from t5x_like.errors import UserError
from t5x_like.scaling.fitting import diagnostics, identifiability
from t5x_like.scaling.fitting.forms import Points
from t5x_like.scaling.fitting.numerics.solvers import Found, Solver, coefficients
from t5x_like.scaling.fitting.options import Options
from t5x_like.scaling.fitting.resampling import counts_of_runs, of_repeats, settings
from t5x_like.scaling.fitting.result import Fit, correlation, is_coefficient
from t5x_like.scaling.laws import Law
from t5x_like.scaling.runs_table import RunsTable

Floats = NDArray[np.float64]

# Maximum rows of the influence table.
INFLUENTIAL = 10
# Number of resamples whose warm-started fits are checked by a search from several starts.
CHECKED_RESAMPLES, CHECKING_STARTS = 8, 5
# Bootstrap problems that are solved together, so that their arrays fit into the CPU's cache.
BATCH = 250


def fit_loss_law(table: RunsTable, method: str, solver: Solver, options: Options) -> Fit:
    """Fits a law of losses to runs.

    Raises:
      UserError: there are fewer runs than parameters, or fewer than three different N or D.
    """
    frame = table.frame
    columns = ["parameters", "tokens", "loss", *(["loss_standard_error"] if options.weigh else [])]
    points = Points(*(frame[name].to_numpy() for name in columns))
    names = solver.form.names
    if len(frame) < len(names):
        raise UserError(
            f"{method} has {len(names)} parameters ({', '.join(names)}), and {len(frame)} runs "
            f"can be used; it needs {len(names)}, better {len(names) + 3}."
        )
    identifiability.require_distinct(method, points)
    starts = solver.starts(points, options.starts)
    once = np.ones((len(starts), len(frame)))
    found = solver.solve(points, once, starts)
    best = int(found.minima.values.argmin())
    optimum = found.points[best]
    fitted = {name: float(v[0]) for name, v in _law(solver, optimum[None], points).items()}
    law = solver.form.law_class(
        **{name: fitted[name] for name in names},
        name=method,
        source=options.source,
        parameters_kind=table.parameters_kind,
    )
    agreeing = found.agreeing()
    setting = settings(frame)
    undetermined = identifiability.undetermined(solver, points, optimum)
    warnings = [
        *diagnostics.few(len(np.unique(setting)), len(names), "runs"),
        *diagnostics.of_table(table),
        *of_repeats(frame),
        *identifiability.of_directions(undetermined),
    ]
    samples: Mapping[str, Floats] = {}
    resampled = 0
    sampled = np.empty((0, len(optimum)))
    if options.bootstrap:
        counts, resampled = counts_of_runs(
            list(frame["name"]), setting, options.bootstrap, options.seed
        )
        sampled = _refit(solver, points, counts, optimum, starts)
        # Of two sizes the search returns what it started from, which would narrow the intervals.
        lost = ~identifiability.distinct_enough(points, counts)
        samples = {n: np.where(lost, np.nan, v) for n, v in _law(solver, sampled, points).items()}
        warnings += diagnostics.of_lost(int(lost.sum()), options.bootstrap)
    warnings += diagnostics.of_bounds(fitted, solver.form, points, optimum, sampled)
    warnings += diagnostics.of_starts(agreeing, len(starts))
    residuals = _residuals(frame, law)
    return Fit(
        method=method,
        law=law,
        parameters=fitted,
        objective=solver.objective(float(found.minima.values[best])),
        rows_used=len(frame),
        settings=len(np.unique(setting)),
        rows_left_out=table.left_out,
        weighed=options.weigh,
        at_flops=options.at_flops,
        starts=len(starts),
        starts_agreeing=agreeing,
        gradient=float(found.minima.gradients[best]),
        curvature=float(found.minima.curvatures[best]),
        resampled=resampled,
        samples=samples,
        undetermined=undetermined,
        warnings=warnings,
        influence=_influence(solver, points, residuals, optimum, fitted["a"]),
        residuals=residuals,
        correlation=(
            correlation(samples, names) if samples else _linearized(solver, points, optimum)
        ),
    )


def _law(solver: Solver, found: Floats, points: Points) -> dict[str, Floats]:
    """The law's coefficients and its exponents a and b, (S,) each."""
    values = dict(coefficients(solver, found, points))
    law = solver.form.law_class(**values)
    return {**values, "a": law.a, "b": law.b}  # type: ignore[attr-defined]


def _solve(solver: Solver, points: Points, counts: Floats, starts: Floats) -> Found:
    return solver.solve(points, counts, np.broadcast_to(starts, (len(counts), starts.shape[-1])))


def _refit(
    solver: Solver, points: Points, counts: Floats, optimum: Floats, starts: Floats
) -> Floats:
    """Fits all resamples, warm-started from the optimum: points (R, P).

    A few resamples are also searched from several starts. If that finds better minima, all
    resamples are searched so.
    """
    parts = [
        _solve(solver, points, counts[first : first + BATCH], optimum)
        for first in range(0, len(counts), BATCH)
    ]
    values = np.concatenate([part.minima.values for part in parts])
    found = np.concatenate([part.points for part in parts])
    spread = starts[np.linspace(0, len(starts) - 1, CHECKING_STARTS).round().astype(int)]
    checked = min(CHECKED_RESAMPLES, len(counts))
    better = _search(solver, points, counts, slice(0, checked), spread, values, found)
    for first in range(checked, len(counts), CHECKED_RESAMPLES) if better else ():
        part = slice(first, min(first + CHECKED_RESAMPLES, len(counts)))
        _search(solver, points, counts, part, spread, values, found)
    return found


def _search(
    solver: Solver,
    points: Points,
    counts: Floats,
    part: slice,
    starts: Floats,
    values: Floats,
    found: Floats,
) -> bool:
    """Writes better minima of some resamples into `values` and `found`; returns whether any was."""
    some = counts[part]
    repeated = np.repeat(some, len(starts), axis=0)
    tried = solver.solve(points, repeated, np.tile(starts, (len(some), 1)))
    by_resample = tried.minima.values.reshape(len(some), len(starts))
    lowest = by_resample.argmin(axis=1)
    each = np.arange(len(some))
    better = by_resample[each, lowest] < values[part] * (1 - 1e-6) - 1e-14
    values[part] = np.where(better, by_resample[each, lowest], values[part])
    ends = tried.points.reshape(len(some), len(starts), -1)[each, lowest]
    found[part] = np.where(better[:, None], ends, found[part])
    return bool(better.any())


def _residuals(frame: pd.DataFrame, law: Law) -> pd.DataFrame:
    predicted = law.loss(frame["parameters"].to_numpy(), frame["tokens"].to_numpy())
    assert predicted is not None
    columns = ["name", "parameters", "tokens", "flops", "loss"]
    return pd.DataFrame(
        {
            "row": frame.index.to_numpy(),
            **{name: frame[name].to_numpy() for name in columns},
            "predicted": predicted,
            "residual": np.log(frame["loss"].to_numpy()) - np.log(predicted),
        }
    )


def _influence(
    solver: Solver, points: Points, residuals: pd.DataFrame, optimum: Floats, exponent: float
) -> pd.DataFrame:
    """The change of `a` without each run with a large residual, and without the first k.

    It has as many rows as leave one run more than there are parameters.
    """
    size = min(INFLUENTIAL, len(residuals) - len(solver.form.names) - 1)
    if size <= 0:
        return pd.DataFrame()
    largest = residuals["residual"].abs().to_numpy().argsort(kind="stable")[::-1][:size]
    alone = np.ones((size, len(residuals)))
    alone[np.arange(size), largest] = 0.0
    together = np.minimum.accumulate(alone, axis=0)
    refitted = _solve(solver, points, np.concatenate([alone, together]), optimum)
    exponents = _law(solver, refitted.points, points)["a"].reshape(2, size)
    return pd.DataFrame(
        {
            "row": residuals["row"].to_numpy()[largest],
            "name": residuals["name"].to_numpy()[largest],
            "residual": residuals["residual"].to_numpy()[largest],
            "a_without": exponents[0],
            "change": exponents[0] - exponent,
            "a_without_all_above": exponents[1],
        }
    )


def _linearized(solver: Solver, points: Points, optimum: Floats) -> pd.DataFrame:
    """The correlation of the parameters, from the derivatives of the residuals at the optimum.

    The derivatives are in centred coordinates. The law's coefficients follow by finite differences,
    which are exact to rounding here, because their logarithms are linear in the coordinates.
    """
    jacobian = solver.jacobian(points, optimum)
    covariance = np.linalg.pinv(jacobian.T @ jacobian, rcond=1e-14)
    names = solver.form.names
    step = 1e-4
    moved = optimum + step * np.concatenate([np.eye(len(optimum)), -np.eye(len(optimum))])
    values = coefficients(solver, moved, points)
    with np.errstate(divide="ignore", invalid="ignore"):
        columns = [np.log(values[n]) if is_coefficient(n) else values[n] for n in names]
        derivatives = np.stack(
            [(column[: len(optimum)] - column[len(optimum) :]) / (2 * step) for column in columns]
        )
        of_law = derivatives @ covariance @ derivatives.T
        deviations = np.sqrt(np.diag(of_law))
        correlated = of_law / np.outer(deviations, deviations)
    labels = [f"log {name}" if is_coefficient(name) else name for name in names]
    return pd.DataFrame(correlated, index=labels, columns=labels)
