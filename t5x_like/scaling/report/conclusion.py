"""What a sweep's runs say, in one sentence with its interval, and the figure that shows it."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from t5x_like.scaling.comparison import interval_reach
from t5x_like.scaling.fitting import Fit
from t5x_like.scaling.report import series, style
from t5x_like.scaling.report.analysis import METHODS, Analysis
from t5x_like.scaling.report.studies import second_descent

# Of these the first that there is gives the exponent of a sweep without variants.
_BY_TRUST = ("approach2", "approach3", "approach1")


@dataclasses.dataclass(frozen=True)
class Conclusion:
    """What stands at the top of a report.

    Attributes:
      sentence: plain text, with a 95% interval where the runs allow one.
      plot: the name of the page's plot that shows it; "" if none does.
      figure: the name of the file in `figures` that does; "" if none.
    """

    sentence: str
    plot: str = ""
    figure: str = ""


def conclusion(analysis: Analysis) -> Conclusion:
    """The conclusion of the study that a sweep is.

    Settings over seeds come before variants, variants before sizes on the same tokens, those before
    the exponent of the baseline's law, and this before shapes and learning rates.
    """
    for concluded in (_settings, _variants, _sizes, _shapes_alone, _exponent, _shapes, _rates):
        if (found := concluded(analysis)) is not None:
            return found
    counts = analysis.sweep.counts()
    return Conclusion(
        f"No conclusion yet: {counts['done']} of {len(analysis.sweep.cells)} runs are done, and "
        "nothing could be fitted to them or compared."
    )


# -- Settings over seeds ---------------------------------------------------------------------


def _settings(analysis: Analysis) -> Conclusion | None:
    rows = series.headline_comparison(analysis)
    if rows.empty:
        return None
    best, *rest = rows.to_dict("records")
    own = [row for row in rest if row["variant"] == analysis.baseline]
    other = rest[0] if best["variant"] == analysis.baseline or not own else own[0]
    metric = series.metric_label(rows)
    sentence = (
        f"Of {len(rows)} settings {best['setting']} is best by {metric}: "
        f"{series.mean_label(best)} over {_seeds(best['seeds'])}, {_difference(best, other, rows)}."
    )
    ties = [row["setting"] for row in rest if row["tied"]]
    if ties:
        sentence += f" Within two standard deviations of single runs: {_listed(ties)}."
    elif np.isfinite(best["pooled_deviation"]):
        sentence += " No other is within two standard deviations of single runs."
    return Conclusion(sentence + _shares(analysis), "comparison", "comparison")


def _shares(analysis: Analysis) -> str:
    """On what share of the baseline's tokens each variant reached the loss of its end."""
    reached = analysis.efficiency
    own = reached[reached["variant"] == analysis.baseline]
    if own.empty:
        return ""
    whole = own["tokens"].mean()
    said = []
    for variant in [name for name in analysis.sweep.variants if name != analysis.baseline]:
        tokens = reached.loc[reached["variant"] == variant, "tokens"] / whole
        runs = int((analysis.sweep.done["variant"] == variant).sum())
        if len(tokens) < runs or not runs:
            said.append(f"{variant} not in all runs")
            continue
        spread = f" ± {tokens.std():.2f}" if runs > 1 else ""
        said.append(f"{variant} on {tokens.mean():.2f}{spread} of its tokens")
    target = float(own["target"].iloc[0])
    return f" The training loss {target:.4f} of {analysis.baseline} is reached by {_listed(said)}."


def _difference(best: Mapping[str, Any], other: Mapping[str, Any], rows: pd.DataFrame) -> str:
    """By how much the best is better than another, with Student's interval of the difference."""
    away = best["mean"] - other["mean"]
    said = f"{abs(away):.3g} {'above' if away >= 0 else 'below'} {other['setting']}"
    reach = interval_reach(best, other, rows)
    if not np.isfinite(reach):
        return f"{said} (single runs: no interval)"
    low, high = sorted((abs(away) - reach, abs(away) + reach))
    return f"{said}, 95% interval [{low:.3g}, {high:.3g}]"


def _seeds(count: int) -> str:
    return f"{count} seed{'s' if count > 1 else ''}"


# -- Variants at equal compute ---------------------------------------------------------------


def _variants(analysis: Analysis) -> Conclusion | None:
    table = series.headline_multipliers(analysis)
    table = table[~table["multiplier"].isna()] if len(table) else table
    if table.empty:
        return None
    rows = table.to_dict("records")
    best = max(rows, key=lambda row: row["multiplier"])
    said = (
        f"{best['variant']} is worth {style.times(best['multiplier'])} times its compute against "
        f"{analysis.baseline} at {style.power(best['flops'])} FLOPs"
    )
    unsure = np.isnan([best["low"], best["high"]]).any()
    within = f"[{style.times(best['low'])}, {style.times(best['high'])}]"
    said += ", without an interval" if unsure else f", 95% interval {within}"
    if len(rows) == 1:
        if not unsure and best["low"] <= 1 <= best["high"]:
            said += ": it contains 1, so the runs show no difference"
        return Conclusion(f"{said}.", "variants-multiplier", "variants")
    kinds: dict[str, list[str]] = {"above": [], "below": [], "unsure": []}
    for row in rows:
        kind = "above" if row["low"] > 1 else "below" if row["high"] < 1 else "unsure"
        kinds[kind].append(str(row["variant"]))
    parts = [
        f"{_listed(kinds['above']) or 'none'} of {len(rows)} variants save compute",
        *([f"{_listed(kinds['below'])} cost more"] if kinds["below"] else []),
        *([f"{_listed(kinds['unsure'])} cannot be told from it"] if kinds["unsure"] else []),
    ]
    sentence = f"{said}. By their intervals {'; '.join(parts)}."
    return Conclusion(sentence, "variants-multiplier", "variants")


# -- Sizes on the same tokens ----------------------------------------------------------------


def _sizes(analysis: Analysis) -> Conclusion | None:
    if analysis.sizes.empty:
        return None
    rows = analysis.sizes[analysis.sizes["group"] == 0]
    losses = rows.groupby("parameters")["loss"].agg(["mean", "std", "count"])
    best = losses["mean"].idxmin()
    tokens = style.short(float(rows["tokens"].iloc[0]))
    sentence = (
        f"On {tokens} tokens the loss is lowest, {losses['mean'].min():.4f} nats, at N "
        f"{style.short(float(best))}{_deviation(losses)}; "
    )
    bump = second_descent(rows)
    if bump is None:
        sentence += "these runs show no second descent."
    else:
        sentence += (
            f"it rises from {bump.before:.4f} to {bump.peak:.4f} at N {style.short(bump.at)} and "
            f"falls again to {bump.after:.4f}: a second descent"
            f"{' beyond two standard errors' if bump.certain else ', without seeds to be sure of'}."
        )
    return Conclusion(sentence + _steps(analysis), "sizes", "sizes")


def _steps(analysis: Analysis) -> str:
    """What the law of steps says, if there is one."""
    if analysis.steps_law is None:
        return ""
    law, ends = analysis.steps_law.law, analysis.steps_law.intervals
    said = [
        f"α_{letter} {value:.3f}" + (f" [{low:.3f}, {high:.3f}]" if ends else "")
        for letter, value in (("N", law.alpha_N), ("S", law.alpha_S))
        for low, high in [ends.get(f"alpha_{letter}", (0.0, 0.0))]
    ]
    critical = analysis.steps_law.critical
    batch = (
        ""
        if critical is None
        else f"; the critical batch is {style.short(critical.B_star)} tokens / "
        f"L^{1 / critical.alpha_B:.2f}"
    )
    return f" L(N, S) = (N_c/N)^α_N + (S_c/S)^α_S has {' and '.join(said)}{batch}."


def _deviation(losses: pd.DataFrame) -> str:
    free = (losses["count"] - 1).sum()
    if not free:
        return " (single runs: no interval)"
    pooled = float(np.sqrt(((losses["count"] - 1) * losses["std"].fillna(0) ** 2).sum() / free))
    error = pooled / np.sqrt(losses.loc[losses["mean"].idxmin(), "count"])
    return f" (standard error over seeds {error:.2g})"


# -- Laws ------------------------------------------------------------------------------------


def _exponent(analysis: Analysis) -> Conclusion | None:
    fits = analysis.fits_of(analysis.baseline)
    found = next((fits[name] for name in _BY_TRUST if name in fits), None)
    if found is None or "a" not in found.parameters:
        return None
    of = f" of {analysis.baseline}" if analysis.baseline else ""
    how = METHODS[found.method].partition(",")[0].lower()
    ends = _ends(found)
    flops = analysis.sweep.done["flops"]
    where = f"from {style.power(flops.min())} to {style.power(flops.max())} FLOPs"
    if ends is not None and not np.isfinite(ends).all():
        sentence = (
            f"The runs{of} {where} do not determine how the best N grows with compute "
            f"({how} gives C^{found.parameters['a']:.3f}, its interval is unbounded)."
        )
    else:
        sentence = (
            f"The best number of parameters{of} grows with compute as C^{found.parameters['a']:.3f}"
            f"{_with_interval(ends)}, by {how} over {_rows(found)} {where}."
        )
    return Conclusion(sentence, "optimum-parameters", "optimum")


def _rows(found: Fit) -> str:
    """What a law was fitted to; of the envelope the runs whose curves make it."""
    of = "the curves of " if found.method == "approach1" else ""
    return f"{of}{found.rows_used} runs"


def _ends(found: Fit) -> list[float] | None:
    ends = found.intervals.get("a")
    return None if ends is None or np.isnan(ends).any() else ends


def _with_interval(ends: list[float] | None) -> str:
    if ends is None:
        return " (no interval)"
    low, high = ends
    place = "within" if low <= 0.5 <= high else "outside"
    growth = f"0.5, N and D growing alike, is {place} it"
    return f", 95% interval [{low:.3f}, {high:.3f}] ({growth})"


# -- Shapes and rates ------------------------------------------------------------------------


def _shapes_alone(analysis: Analysis) -> Conclusion | None:
    """Of a sweep of shapes, whose sizes tell no law."""
    budgets = np.isfinite(analysis.sweep.cells["budget"]).any()
    studied = len(analysis.shapes) == len(analysis.sweep.done)
    return _shapes(analysis) if studied and not budgets else None


def _shapes(analysis: Analysis) -> Conclusion | None:
    rows = analysis.shapes
    if rows.empty:
        return None
    aspects, best = rows["aspect_ratio"], rows.loc[rows["increase"].idxmin()]
    sentence = (
        f"At fixed N the loss differs by up to {100 * rows['increase'].max():.2g}% over aspect "
        f"ratios from {aspects.min():.3g} to {aspects.max():.3g}; it is lowest at "
        f"{best['aspect_ratio']:.3g} ({_repeats(rows)})."
    )
    return Conclusion(sentence, "shapes", "shapes")


def _repeats(rows: pd.DataFrame) -> str:
    repeated = rows.groupby(["group", "aspect_ratio"])["increase"].agg(["std", "count"])
    free = (repeated["count"] - 1).sum()
    if not free:
        return "single runs: no interval"
    squares = ((repeated["count"] - 1) * repeated["std"].fillna(0) ** 2).sum()
    return f"standard deviation over seeds {100 * np.sqrt(squares / free):.2g}%"


def _rates(analysis: Analysis) -> Conclusion | None:
    rows = analysis.rates
    if rows.empty:
        return None
    first = rows[rows["group"] == 0]
    means = first.groupby("learning_rate")["loss"].mean()
    best = float(means.idxmin())
    repeated = first.groupby("learning_rate")["seed"].nunique().max() > 1
    edge = best in (means.index.min(), means.index.max())
    sentence = (
        f"Of {len(means)} learning rates {best:g} gives the lowest loss, {means.min():.4f} nats, "
        f"for {series.run_label(first)}"
        f"{': it is at the end of those that were tried' if edge else ''} "
        f"({'means over seeds' if repeated else 'single runs: no interval'})."
    )
    return Conclusion(sentence, "rates", "rates")


def _listed(names: list[str]) -> str:
    return ", ".join(names[:-1]) + (" and " if len(names) > 1 else "") + "".join(names[-1:])
