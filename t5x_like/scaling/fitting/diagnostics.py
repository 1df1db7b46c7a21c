"""Warnings about a fit: each with a name, the numbers found, and a remedy."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from t5x_like.scaling.fitting.forms import Form, Points
from t5x_like.scaling.laws import TOTAL, WITHOUT_EMBEDDINGS
from t5x_like.scaling.runs_table import MIXED, RunsTable

Warnings = list[dict[str, str]]

SPARE_RUNS = 3
LONGEST_WARMUP = 1 / 3
OTHER_FLOPS = "flops_not_6nd"
"""The name of the warning that C is not 6·N·D."""

# A larger difference between C and 6·N·D means that C was counted in another way.
FLOPS_TOLERANCE = 0.05
# Sizes that differ by less count as equal; tokens that differ by less are not compared.
SAME_SIZE, LONGER = 0.02, 1.1
# With a smaller share of agreeing starts the optimum is doubtful.
AGREEING_SHARE = 0.1


def warning(name: str, message: str) -> dict[str, str]:
    """Makes one warning."""
    return {"name": name, "message": message}


def few(count: int, num_parameters: int, what: str) -> Warnings:
    """Warns of fewer than `SPARE_RUNS` runs more than there are parameters."""
    needed = num_parameters + SPARE_RUNS
    if count >= needed:
        return []
    return [
        warning(
            "few_runs",
            f"{count} {what} for {num_parameters} parameters: too few to estimate errors. "
            f"At least {needed} would do.",
        )
    ]


def of_table(table: RunsTable) -> Warnings:
    """Warnings that follow from the values of a table, however few its rows."""
    frame = table.frame
    return [
        *_few_tokens(frame),
        *_long_warmup(frame),
        *_not_decreasing(frame),
        *_other_flops(table),
        *_mixed_counts(table),
    ]


def of_bounds(
    fitted: Mapping[str, float],
    form: Form,
    points: Points,
    optimum: NDArray[np.float64],
    sampled: NDArray[np.float64],
) -> Warnings:
    """Warns of E, another term or an exponent that ended at a bound of the search.

    Args:
      fitted: the law's parameters, in the order of the coordinates.
      form: of the law.
      points: the runs.
      optimum: (P,) the fit in the form's coordinates.
      sampled: (R, P) the fits of the resamples.
    """
    low, high = form.bounds(points)
    found = []
    for place, name in enumerate(form.names):
        # A term of the smallest size counts as zero, whatever its coefficient.
        below, above = low[place] + 1e-9, high[place] - 1e-9
        if below < optimum[place] < above:
            continue
        share = ""
        if len(sampled):
            on_bound = (sampled[:, place] <= below) | (sampled[:, place] >= above)
            share = f", as in {on_bound.mean():.0%} of the resamples"
        zero = place < form.num_terms and optimum[place] <= below
        value = 0.0 if zero else fitted[name]
        found.append(
            warning(
                "parameter_on_bound",
                f"{name} = {value:g} sits on its bound{share}: these runs do not determine it. "
                "A wider range of N and D, or a form without it, would do.",
            )
        )
    return found


def of_lost(lost: int, resamples: int) -> Warnings:
    """Warns of resamples whose runs determine no law."""
    if not lost:
        return []
    kept = "do not count in the intervals, which are too narrow"
    if 2 * lost > resamples:
        kept = "so that there are no intervals"
    return [
        warning(
            "resamples_without_law",
            f"{lost} of {resamples} resamples give no law and {kept}. More runs would do.",
        )
    ]


def of_starts(agreeing: int, starts: int) -> Warnings:
    """Warns of an optimum that few starts reached."""
    if agreeing >= max(2, AGREEING_SHARE * starts):
        return []
    return [
        warning(
            "starts_disagree",
            f"only {agreeing} of {starts} starts reach the best objective; there may be a better "
            "one. Use more starts (--starts) to find out.",
        )
    ]


def _few_tokens(frame: pd.DataFrame) -> Warnings:
    ratio = frame["tokens"] / frame["parameters"]
    below = ratio < 1
    if not below.any():
        return []
    return [
        warning(
            "tokens_below_parameters",
            f"{below.sum()} of {len(frame)} runs have D/N below 1, the lowest "
            f"{ratio.min():.2g} ('{frame['name'][ratio.idxmin()]}'): laws bend there. "
            "Leave such runs out, or train them for longer.",
        )
    ]


def _long_warmup(frame: pd.DataFrame) -> Warnings:
    if "warmup_fraction" not in frame:
        return []
    long = frame["warmup_fraction"] > LONGEST_WARMUP
    if not long.any():
        return []
    longest = frame["warmup_fraction"].idxmax()
    return [
        warning(
            "long_warmup",
            f"warm-up covers more than a third of {long.sum()} of {len(frame)} runs, "
            f"{frame['warmup_fraction'][longest]:.0%} of '{frame['name'][longest]}': short runs "
            "look worse than they are. Shorten their warm-up.",
        )
    ]


def _not_decreasing(frame: pd.DataFrame) -> Warnings:
    """Finds pairs of runs of equal N where more tokens gave no lower loss."""
    pairs, bad, worst = 0, 0, ("", 0.0)
    sizes = frame.sort_values("parameters")
    n = sizes["parameters"].to_numpy()
    group = np.concatenate([[0], np.cumsum(np.diff(np.log(n)) > SAME_SIZE)])
    for _, same in sizes.groupby(group):
        ordered = same.sort_values("tokens")
        tokens, loss = ordered["tokens"].to_numpy(), ordered["loss"].to_numpy()
        for place in range(1, len(ordered)):
            if tokens[place] < LONGER * tokens[place - 1]:
                continue
            pairs += 1
            rise = loss[place] - loss[place - 1]
            if rise < 0:
                continue
            bad += 1
            if not worst[0] or rise > worst[1]:
                text = (
                    f"at N = {ordered['parameters'].iloc[place]:.3g} it goes from "
                    f"{loss[place - 1]:.4g} at D = {tokens[place - 1]:.3g} to {loss[place]:.4g} "
                    f"at D = {tokens[place]:.3g}"
                )
                worst = (text, rise)
    if not bad:
        return []
    return [
        warning(
            "loss_not_decreasing_in_tokens",
            f"in {bad} of {pairs} pairs of runs of one size the loss does not fall with D; "
            f"{worst[0]}. Look for an untuned learning rate, repeated data or mixed schedules.",
        )
    ]


def _other_flops(table: RunsTable) -> Warnings:
    frame = table.frame
    if not table.flops_given:
        return []
    ratio = frame["flops"] / (6 * frame["parameters"] * frame["tokens"])
    other = (ratio - 1).abs() > FLOPS_TOLERANCE
    if not other.any():
        return []
    without = frame.get("parameters_without_embeddings")
    hint = "Say which N and C belong together, or leave C out."
    if without is not None:
        close = (frame["flops"] / (6 * without * frame["tokens"]) - 1).abs() <= FLOPS_TOLERANCE
        if close[other].all():
            hint = "It is 6·N·D for N without embeddings: --count without_embeddings."
    if "active_parameters" in frame:
        active = 6 * frame["active_parameters"] * frame["tokens"]
        if ((frame["flops"] / active - 1).abs() <= FLOPS_TOLERANCE)[other].all():
            hint = "It is 6·N·D for the active N: --count active."
    return [
        warning(
            OTHER_FLOPS,
            f"C is not 6·N·D in {other.sum()} of {len(frame)} runs: from {ratio.min():.2f} to "
            f"{ratio.max():.2f} of it, {ratio.median():.2f} in the middle; the best D for a "
            f"budget is read as C/6N. {hint}",
        )
    ]


def _mixed_counts(table: RunsTable) -> Warnings:
    if table.parameters_kind != MIXED:
        return []
    counts = table.frame["parameters_kind"].value_counts()
    some = ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in counts.items())
    return [
        warning(
            "mixed_parameter_counts",
            f"N does not count the same in all runs ({some}): exponents are biased, most of all "
            f"among small models. Give one of '{TOTAL}' and '{WITHOUT_EMBEDDINGS}' for all.",
        )
    ]
