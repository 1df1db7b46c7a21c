"""Analyses a sweep so far: each variant's laws, the compute multipliers, and what is missing."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from t5x_like.errors import UserError
from t5x_like.scaling import multiplier, runs_table
from t5x_like.scaling.comparison import compared
from t5x_like.scaling.downstream import ErrorLaw, error_laws, measured_table
from t5x_like.scaling.fitting import Fit, fit
from t5x_like.scaling.fitting.diagnostics import OTHER_FLOPS
from t5x_like.scaling.report.floor import Floor
from t5x_like.scaling.report.studies import rate_study, shape_study, size_study
from t5x_like.scaling.report.sweep_runs import SweepRuns
from t5x_like.scaling.sample_efficiency import (
    CriticalBatch,
    StepsFit,
    fit_critical_batch,
    fit_steps_law,
    steps_law_interval,
    tokens_to_loss,
)
from t5x_like.training.watching.noise_scale import NAME as NOISE_SCALE

METHODS = {
    "approach1": "Approach 1, envelope of training curves",
    "approach2": "Approach 2, IsoFLOP parabolas",
    "approach3": "Approach 3, E + A/Nᵅ + B/Dᵝ",
}
# Minimum runs for approach 3: its five coefficients and three more.
RUNS_FOR_APPROACH3 = 8
# Three points are the fewest that bend, or that show a slope with something left over.
SIZES_FOR_A_SLOPE = 3
# Losses at which the tokens of sizes are compared.
TARGETS = 5
# With fewer runs than this, approach 3 has at most so many resamples.
FEW_RUNS, FEW_RESAMPLES = 30, 200


@dataclasses.dataclass(frozen=True)
class Note:
    """A note for readers of the report.

    Attributes:
      name: in snake_case, for programs.
      about: variant and method, or "" for the whole sweep.
      message: one or more sentences.
      warning: whether it makes a number doubtful, and not just missing.
    """

    name: str
    about: str
    message: str
    warning: bool = False


@dataclasses.dataclass(frozen=True)
class Analysis:
    """A sweep and the results computed from it.

    Attributes:
      sweep: the runs.
      baseline: the variant that others are compared with.
      fits: by variant and method.
      multipliers: of the variants; None where there is nothing to compare.
      shapes: a row for each cell of a study of shapes (`shape_study`); maybe empty.
      rates: a row for each cell of a study of learning rates (`rate_study`); maybe empty.
      sizes: a row for each cell of a study of sizes on the same tokens (`size_study`); maybe empty.
      efficiency: on how many tokens those reach losses (`sample_efficiency.tokens_to_loss`).
      steps_law: their law L(N, S), with its parameters' 95% intervals; None without one.
      downstream: what runs were measured on tasks (`downstream.measured_table`); maybe empty.
      error_laws: the errors on tasks as laws of loss, where they are known.
      comparison: of settings over seeds (`comparison.compared`); maybe empty.
      notes: warnings and what could not be computed.
      floors: runs of another kind that the losses are held against.
    """

    sweep: SweepRuns
    baseline: str
    fits: Mapping[tuple[str, str], Fit]
    multipliers: multiplier.Multipliers | None
    shapes: pd.DataFrame
    rates: pd.DataFrame
    sizes: pd.DataFrame
    efficiency: pd.DataFrame
    steps_law: StepsFit | None
    downstream: pd.DataFrame
    error_laws: Sequence[ErrorLaw]
    comparison: pd.DataFrame
    notes: Sequence[Note]
    floors: Sequence[Floor] = ()

    def fits_of(self, variant: str) -> dict[str, Fit]:
        """The fits of one variant by method."""
        return {method: found for (name, method), found in self.fits.items() if name == variant}


def analyse(
    sweep: SweepRuns, *, baseline: str | None = None, bootstrap: int = 1000, seed: int = 0
) -> Analysis:
    """Fits every law that the finished runs allow.

    Args:
      sweep: the runs so far.
      baseline: the variant to compare with; the sweep's own by default.
      bootstrap: resamples of each fit, and of the multipliers.
      seed: of the resamples.

    Raises:
      UserError: there is no such variant.
    """
    variants = sweep.variants
    baseline = sweep.baseline if baseline is None else baseline
    if baseline not in variants:
        there = ", ".join(variants) or "none"
        raise UserError(f"the sweep {sweep.name} has no variant '{baseline}': there are {there}.")
    notes = _progress(sweep)
    shapes = shape_study(sweep.done)
    fits: dict[tuple[str, str], Fit] = {}
    for variant in variants:
        table = _table(sweep, variant)
        for method in () if sweep.staged else METHODS:
            about = described(variant, method)
            reason = _hindrance(method, sweep, variant)
            if reason is not None:
                notes.append(Note("not_fitted", about, reason))
                continue
            try:
                # FLOPs count active parameters, so N must too.
                count = "active" if sweep.has_experts else None
                resamples = _resamples(method, len(table.frame), bootstrap)
                found = fit(table, method, bootstrap=resamples, seed=seed, count=count)
            except UserError as error:
                notes.append(Note("not_fitted", about, str(error)))
                continue
            fits[variant, method] = found
            notes += _notes_of(found, about)
    notes = _counted_otherwise(notes)
    multipliers = None
    if not sweep.compares:
        multipliers = _multipliers(sweep, baseline, bootstrap, seed, notes)
    rates, sizes = rate_study(sweep.done), size_study(sweep.done)
    efficiency, steps_law = _efficiency(sweep, baseline, sizes, bootstrap, seed, notes)
    measured = measured_table(sweep.measured)
    laws = error_laws(measured)
    compares = sweep.done if sweep.compares else sweep.done.iloc[:0]
    settings = compared(compares, measured, baseline)
    return Analysis(
        *(sweep, baseline, fits, multipliers, shapes, rates, sizes, efficiency, steps_law),
        *(measured, laws, settings),
        notes,
    )


def _resamples(method: str, runs: int, wanted: int) -> int:
    """The number of resamples; fewer for few runs, which need a search from many starts."""
    return min(wanted, FEW_RESAMPLES) if method == "approach3" and runs < FEW_RUNS else wanted


def described(variant: str, method: str) -> str:
    """Describes a fit: the variant, if the sweep has any, and the method."""
    title = METHODS[method]
    return f"{variant}: {title}" if variant else title


def _progress(sweep: SweepRuns) -> list[Note]:
    counts = sweep.counts()
    total = len(sweep.cells)
    if counts["done"] == total:
        return []
    others = ", ".join(f"{n} {name}" for name, n in counts.items() if n and name != "done")
    message = f"{counts['done']} of {total} cells are done ({others}); numbers will change."
    found = [Note("unfinished", "", message, warning=True)]
    failed = sweep.cells.loc[sweep.cells["status"] == "failed", "name"]
    if len(failed):
        found.append(Note("failed_cells", "", f"failed: {', '.join(failed)}.", warning=True))
    return found


def _notes_of(found: Fit, about: str) -> list[Note]:
    """The notes for a fit's warnings, and for the runs that it could not use."""
    notes = [Note(each["name"], about, each["message"], warning=True) for each in found.warnings]
    by_reason: dict[str, list[str]] = {}
    for row in found.rows_left_out:
        by_reason.setdefault(row["reason"], []).append(row["name"])
    for reason, names in by_reason.items():
        message = f"{len(names)} left out ({reason}): {', '.join(names)}."
        notes.append(Note("rows_left_out", about, message))
    return notes


def _hindrance(method: str, sweep: SweepRuns, variant: str) -> str | None:
    """Explains why a method cannot be used; None if it can."""
    runs = sweep.done[sweep.done["variant"] == variant]
    if method == "approach1":
        curves = sweep.curves[sweep.curves["variant"] == variant]
        if curves.empty:
            return "no cell has written a training curve yet."
        if (count := curves["parameters"].nunique()) < SIZES_FOR_A_SLOPE:
            return f"an envelope needs curves of {SIZES_FOR_A_SLOPE} model sizes, not of {count}."
        return None
    if runs.empty:
        return "no cell is done yet."
    if method == "approach2":
        if not np.isfinite(sweep.cells["budget"]).any():
            return "the sweep has no IsoFLOP budgets."
        sizes = runs.groupby("budget")["parameters"].nunique()
        if (ready := int((sizes >= SIZES_FOR_A_SLOPE).sum())) < 2:
            return (
                f"it needs two budgets with {SIZES_FOR_A_SLOPE} finished sizes each; so far "
                f"{'none has' if not ready else 'one has'} them."
            )
        return None
    if len(runs) < RUNS_FOR_APPROACH3:
        return f"five coefficients need {RUNS_FOR_APPROACH3} finished runs; there are {len(runs)}."
    different = {"N": runs["parameters"].nunique(), "D": runs["tokens"].nunique()}
    for letter, count in different.items():
        if count < SIZES_FOR_A_SLOPE:
            return f"{letter} must have {SIZES_FOR_A_SLOPE} different values; it has {count}."
    return None


def _counted_otherwise(notes: list[Note]) -> list[Note]:
    """The notes, with one in place of each fit's that C is not 6ND: it is the sweep's choice."""
    others = [note for note in notes if note.name != OTHER_FLOPS]
    if len(others) == len(notes):
        return notes
    message = (
        "C is the exact FLOPs of training, as the sweep's budgets are, and not 6ND: compute "
        "multipliers and the exponents of N hold, and a best D that is read as C/6N does not."
    )
    return [*others, Note(OTHER_FLOPS, "", message, warning=True)]


def _table(sweep: SweepRuns, variant: str) -> runs_table.RunsTable:
    """The finished runs of a variant and all training curves, in the format of `fit`."""
    runs = sweep.done[sweep.done["variant"] == variant]
    curves = sweep.curves[sweep.curves["variant"] == variant]
    table = runs_table.from_frame(runs, "the sweep")
    records = runs_table.from_frame(curves, "its curves").frame if len(curves) else None
    return dataclasses.replace(table, curves=records)


def _multipliers(
    sweep: SweepRuns, baseline: str, bootstrap: int, seed: int, notes: list[Note]
) -> multiplier.Multipliers | None:
    if len(sweep.variants) < 2:
        return None
    runs = sweep.done[np.isfinite(sweep.done["budget"])]
    if baseline not in set(runs["variant"]):
        notes.append(
            Note(
                "no_multipliers",
                "",
                f"compute multipliers need finished runs of the baseline '{baseline}' with IsoFLOP "
                "budgets; there are none.",
            )
        )
        return None
    for variant in sweep.variants:
        if variant not in set(runs["variant"]):
            message = f"variant '{variant}' has no finished run with an IsoFLOP budget."
            notes.append(Note("no_multiplier", "compute multipliers", message))
    found = multiplier.compute_multipliers(runs, baseline, bootstrap=bootstrap, seed=seed)
    notes += [Note("multipliers", "compute multipliers", text) for text in found.notes]
    return found


def _efficiency(
    sweep: SweepRuns,
    baseline: str,
    sizes: pd.DataFrame,
    bootstrap: int,
    seed: int,
    notes: list[Note],
) -> tuple[pd.DataFrame, StepsFit | None]:
    """When runs on the same tokens reached losses, and the law of steps where they differ in size.

    Sizes are held against losses from the worst of their ends to the best, variants against the end
    of the baseline.
    """
    curves = sweep.curves[np.isfinite(sweep.curves["loss"].to_numpy(np.float64))]
    of_variants = sizes.empty and sweep.compares and not sweep.staged
    if of_variants:
        names = sweep.done["name"] if len(sweep.variants) > 1 else []
    else:
        names = sizes.loc[sizes["group"] == 0, "name"]
    curves = curves[curves["name"].isin(list(names))]
    if curves.empty:
        return tokens_to_loss(curves, []), None
    ends = curves.groupby("name")["loss"].min()
    if of_variants:
        own = curves.loc[curves["variant"] == baseline, "name"].unique()
        return tokens_to_loss(curves, [float(ends[own].max())] if len(own) else []), None
    targets = np.geomspace(ends.max(), ends.min(), TARGETS)
    reached = tokens_to_loss(curves, [float(f"{target:.4g}") for target in targets])
    batches = sweep.done.set_index("name")["batch_tokens"]
    curves = curves.assign(batch_tokens=curves["name"].map(batches))
    try:
        critical = _critical_batch(curves)
        law = fit_steps_law(curves, critical)
        resamples = min(bootstrap, FEW_RESAMPLES)
        ends_of = steps_law_interval(curves, critical, resamples=resamples, seed=seed)
    except UserError as error:
        notes.append(Note("not_fitted", "L(N, S)", str(error)))
        return reached, None
    return reached, StepsFit(law, ends_of, critical)


def _critical_batch(curves: pd.DataFrame) -> CriticalBatch | None:
    """By the gradient noise scale, where it was measured."""
    if NOISE_SCALE not in curves or not np.isfinite(curves[NOISE_SCALE]).any():
        return None
    return fit_critical_batch(curves["loss"].to_numpy(), curves[NOISE_SCALE].to_numpy())
