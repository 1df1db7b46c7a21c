"""Approach 1: the lower envelope of training curves, and a power law along it.

Hoffmann et al. 2022, section 3.1.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from t5x_like.errors import UserError
from t5x_like.scaling.fitting import diagnostics, identifiability
from t5x_like.scaling.fitting.options import ENVELOPE_POINTS, Options
from t5x_like.scaling.fitting.power_law import fit_allocation, power_law
from t5x_like.scaling.fitting.resampling import counts_of_runs, of_repeats, settings
from t5x_like.scaling.fitting.result import Fit
from t5x_like.scaling.laws import AllocationLaw
from t5x_like.scaling.runs_table import RunsTable

Floats = NDArray[np.float64]

METHOD = "approach1"
# Minimum number of sizes between the smallest and the largest that determine a slope.
INNER_SIZES = 3
# Resamples that are processed together.
BATCH = 50


def fit_envelope(table: RunsTable, options: Options) -> Fit:
    """Fits N = coefficient · C^exponent along the envelope of training curves.

    At each of 1,500 FLOP counts, evenly spaced in log FLOPs, the run with the lowest loss is taken.
    Where that run has the smallest or largest N that got so far, an even smaller or larger one
    might be better; such points are left out if enough remain. The bootstrap resamples curves.

    Raises:
      UserError: there are no training curves, or they do not overlap.
    """
    curves = _curves(table)
    names = list(dict.fromkeys(curves["name"]))
    sizes = np.array([curves.loc[curves["name"] == n, "parameters"].iloc[0] for n in names])
    log_c, losses = _on_one_axis(curves, names)
    different = identifiability.num_levels(sizes)
    if different < identifiability.DISTINCT or not np.isfinite(losses).sum(axis=0).max() >= 2:
        raise UserError(
            f"{METHOD} needs training curves of at least {identifiability.DISTINCT} sizes that "
            f"overlap in FLOPs; there are {different} sizes."
        )
    best, inner = _envelope(losses, sizes, np.ones((1, len(names)), dtype=bool))
    chosen, enough = _chosen(best, inner, sizes)
    log_n = np.where(chosen, np.log(sizes)[best], np.nan)
    coefficient, exponent = power_law(log_c[None], log_n)
    if np.isnan(exponent[0]):
        raise UserError(f"{METHOD} finds one best size at all FLOPs: there is no slope to fit.")
    law = AllocationLaw(
        coefficient=float(coefficient[0]),
        exponent=float(exponent[0]),
        name=METHOD,
        source=options.source,
        parameters_kind=table.parameters_kind,
    )
    envelope = pd.DataFrame(
        {
            "flops": np.exp(log_c),
            "name": np.array(names, dtype=object)[best[0]],
            "parameters": sizes[best[0]],
            "tokens": np.exp(log_c) / 6 / sizes[best[0]],
            "loss": losses[best[0], np.arange(len(log_c))],
            "used": chosen[0],
        }
    )[best[0] >= 0]
    samples: dict[str, Floats] = {}
    # Curves of one size that end at the same D repeat a run.
    setting = settings(curves.groupby("name", sort=False)[["parameters", "tokens"]].max())
    resampled = 0
    if options.bootstrap:
        counts, resampled = counts_of_runs(names, setting, options.bootstrap, options.seed)
        samples = _samples(losses, sizes, log_c, counts > 0)
    used = envelope[envelope["used"]]
    predicted = law.coefficient * used["flops"] ** law.exponent
    residuals = used.assign(
        predicted_parameters=predicted, residual=np.log(used["parameters"] / predicted)
    )
    warnings = [
        *diagnostics.few(len(np.unique(setting)), 2, "training curves"),
        *diagnostics.of_table(table),
        *of_repeats(curves),
        *_edges(envelope, enough, len(np.unique(sizes))),
    ]
    return fit_allocation(
        METHOD, law, table, options, samples, warnings, residuals.reset_index(drop=True),
        float((residuals["residual"] ** 2).sum()), envelope=envelope.reset_index(drop=True),
        resampled=resampled, influence=_influence(losses, sizes, log_c, names, law.exponent),
    )  # fmt: skip


def _curves(table: RunsTable) -> pd.DataFrame:
    curves = table.curves if table.curves is not None else table.frame
    points = curves.groupby("name")["flops"].nunique()
    if points.max() < 2:
        raise UserError(
            f"{METHOD} needs training curves: several rows (name, N, D or C, loss) of each name. "
            f"Here are {len(curves)} rows of {len(points)} names; final losses alone are for "
            "approach2 and approach3."
        )
    return curves[curves["name"].isin(points.index[points >= 2])]


def _on_one_axis(curves: pd.DataFrame, names: list[str]) -> tuple[Floats, Floats]:
    """Interpolates curves at common log FLOPs: FLOPs (n,), losses (R, n), infinite outside.

    Losses are interpolated linearly in log FLOPs between two records.
    """
    log_c = np.linspace(
        np.log(curves["flops"].min()), np.log(curves["flops"].max()), ENVELOPE_POINTS
    )
    losses = np.full((len(names), len(log_c)), np.inf)
    for place, name in enumerate(names):
        own = curves[curves["name"] == name].sort_values("flops")
        at = np.log(own["flops"].to_numpy())
        losses[place] = np.interp(log_c, at, own["loss"].to_numpy(), left=np.inf, right=np.inf)
    return log_c, losses


def _envelope(
    losses: Floats, sizes: Floats, there: NDArray[np.bool_]
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """The best curve at each FLOP count (S, n), -1 if there is none, and whether it is interior.

    Args:
      losses: (R, n), infinite where a curve has none.
      sizes: (R,) N.
      there: (S, R), which curves each problem has.
    """
    present = there[:, :, None] & np.isfinite(losses)
    best = np.where(present, losses, np.inf).argmin(axis=1)
    largest = np.where(present, sizes[:, None], -np.inf).max(axis=1)
    smallest = np.where(present, sizes[:, None], np.inf).min(axis=1)
    size = sizes[best]
    covered = present.any(axis=1)
    return np.where(covered, best, -1), covered & (size > smallest) & (size < largest)


def _chosen(
    best: NDArray[np.intp], inner: NDArray[np.bool_], sizes: Floats
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The points (S, n) to fit: interior ones if they have enough sizes (S,), otherwise all."""
    size = np.where(inner, sizes[best], np.nan)
    ordered = np.sort(size, axis=1)
    distinct = (np.diff(ordered, axis=1) > 0).sum(axis=1) + inner.any(axis=1)
    enough = distinct >= INNER_SIZES
    return np.where(enough[:, None], inner, best >= 0), enough


def _samples(
    losses: Floats, sizes: Floats, log_c: Floats, there: NDArray[np.bool_]
) -> dict[str, Floats]:
    found = []
    for first in range(0, len(there), BATCH):
        best, inner = _envelope(losses, sizes, there[first : first + BATCH])
        chosen, _ = _chosen(best, inner, sizes)
        log_n = np.where(chosen, np.log(sizes)[best], np.nan)
        found.append(power_law(np.broadcast_to(log_c, log_n.shape), log_n))
    coefficient, exponent = (np.concatenate(part) for part in zip(*found, strict=True))
    return {"coefficient": coefficient, "exponent": exponent, "a": exponent, "b": 1 - exponent}


def _influence(
    losses: Floats, sizes: Floats, log_c: Floats, names: list[str], exponent: float
) -> pd.DataFrame:
    """The change of the exponent without each of the curves."""
    exponents = _samples(losses, sizes, log_c, ~np.eye(len(names), dtype=bool))["exponent"]
    table = pd.DataFrame({"name": names, "a_without": exponents, "change": exponents - exponent})
    order = table["change"].abs().sort_values(ascending=False, kind="stable").index
    return table.loc[order].head(10).reset_index(drop=True)


def _edges(envelope: pd.DataFrame, enough: NDArray[np.bool_], sizes: int) -> diagnostics.Warnings:
    left = int((~envelope["used"]).sum())
    if not enough[0]:
        return [
            diagnostics.warning(
                "minimum_not_inside_grid",
                f"with {sizes} sizes the envelope has fewer than {INNER_SIZES} between the "
                "smallest and the largest, so that all of it is fitted, its ends included, where "
                "no other size could win. Train more sizes.",
            )
        ]
    if left < 0.5 * len(envelope):
        return []
    return [
        diagnostics.warning(
            "minimum_not_inside_grid",
            f"at {left} of {len(envelope)} FLOP counts the best run is of the smallest or largest "
            "size there is, and is left out. Train smaller and larger models.",
        )
    ]
