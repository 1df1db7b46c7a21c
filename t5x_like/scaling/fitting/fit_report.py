"""Formats a fit as the `fit` command prints it."""

from collections.abc import Callable, Sequence

import numpy as np

from t5x_like.cost.units import short_count
from t5x_like.scaling.fitting.result import Fit

# Maximum rows of long tables.
LEFT_OUT_SHOWN, INFLUENTIAL_SHOWN = 10, 5
FORMS = {
    "parametric": "L = E + A/N^alpha + B/D^beta",
    "gadre": "L = E + (a_M*M^eta + b_M*M^-eta)/C^eta, M = D/N",
    "kaplan": "L = ((N_c/N)^(alpha_N/alpha_D) + D_c/D)^alpha_D",
    "allocation": "N = coefficient*C^exponent",
}


def fit_text(fit: Fit) -> str:
    """Formats the law, intervals, predictions, diagnostics, warnings and omitted rows."""
    sections = [
        _head(fit),
        _parameters(fit),
        _predictions(fit),
        _minima(fit),
        _influence(fit),
        _correlation(fit),
        [f"warning {entry['name']}: {entry['message']}" for entry in fit.warnings],
        _left_out(fit),
    ]
    return "\n\n".join("\n".join(lines) for lines in sections if lines)


def aligned(rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Formats rows as lines; all columns except the first `left` are right-aligned."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        "  "
        + "  ".join(
            cell.ljust(width) if place < left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _head(fit: Fit) -> list[str]:
    kind = fit.law.parameters_kind.replace("_", " ")
    lines = [f"{fit.law.source}: {FORMS[fit.law.to_json()['kind']]}"]
    repeats = fit.rows_used - fit.settings
    given = f" of {fit.settings} settings of N and D ({repeats} repeats)" if repeats else ""
    lines.append(
        f"{fit.rows_used} rows used{given}, {len(fit.rows_left_out)} left out; N counts: {kind}"
    )
    if fit.weighed:
        lines.append("each run weighs by the standard error of its loss")
    if np.isfinite(fit.gradient):
        lines.append(
            f"objective {fit.objective:.7e}; {fit.starts_agreeing} of {fit.starts} starts agree "
            f"within 1e-6 (gradient {fit.gradient:.0e}, smallest curvature {fit.curvature:.2g})"
        )
    else:
        lines.append(f"sum of squared residuals {fit.objective:.7e}, solved linearly")
    if fit.samples:
        size = len(next(iter(fit.samples.values())))
        lines.append(f"95% intervals by percentiles of {size:,} resamples of {fit.resampled} runs")
    return lines


def _parameters(fit: Fit) -> list[str]:
    rows = [["", "value", *_when(fit, "95% interval")]]
    for name, value in fit.parameters.items():
        rows.append([name, f"{value:.6g}", *_when(fit, _span(fit.intervals.get(name), _plain))])
    return aligned(rows)


def _predictions(fit: Fit) -> list[str]:
    found = [fit.optimum(flops) for flops in fit.at_flops]
    has_loss = any(entry["loss"] is not None for entry in found)
    head = ["C", "best N", *_when(fit, ""), "best D", *_when(fit, "")]
    rows = [head + (["loss", *_when(fit, "")] if has_loss else [])]
    for entry in found:
        row = [f"{entry['flops']:.4g}"]
        for name in ("parameters", "tokens"):
            row += [
                short_count(entry[name]),
                *_when(fit, _span(entry[f"{name}_interval"], short_count)),
            ]
        if has_loss:
            span = _span(entry["loss_interval"], "{:.4f}".format)
            row += [f"{entry['loss']:.4f}", *_when(fit, span)]
        rows.append(row)
    return aligned(rows)


def _minima(fit: Fit) -> list[str]:
    if fit.minima is None:
        return []
    rows = [["budget", "runs", "best N", *_when(fit, ""), "loss", *_when(fit, ""), ""]]
    for _, row in fit.minima.iterrows():
        n, loss = [short_count(row["parameters"])], [f"{row['loss']:.4f}"]
        if fit.samples:
            n.append(_span([row["parameters_low"], row["parameters_high"]], short_count))
            loss.append(_span([row["loss_low"], row["loss_high"]], "{:.4f}".format))
        note = "" if row["used"] else "left out"
        rows.append([f"{row['budget']:.4g}", f"{row['runs']:.0f}", *n, *loss, note])
    return aligned(rows)


def _influence(fit: Fit) -> list[str]:
    if not len(fit.influence):
        return []
    shown = fit.influence.head(INFLUENTIAL_SHOWN)
    head = [name for name in ("row", "name", "budget", "residual") if name in shown]
    rows = [["without", *head[1:], "a", "change"]]
    for _, entry in shown.iterrows():
        values = {
            name: f"{entry[name]:+.4f}" if name == "residual" else _plain_or_text(entry[name])
            for name in head
        }
        rows.append([*values.values(), f"{entry['a_without']:.4f}", f"{entry['change']:+.4f}"])
    return aligned(rows)


def _correlation(fit: Fit) -> list[str]:
    if not len(fit.correlation):
        return []
    names = list(fit.correlation.columns)
    rows = [["correlation", *names]]
    for name, values in fit.correlation.iterrows():
        rows.append([str(name), *("-" if np.isnan(v) else f"{v:+.3f}" for v in values)])
    return aligned(rows)


def _left_out(fit: Fit) -> list[str]:
    if not fit.rows_left_out:
        return []
    shown = fit.rows_left_out[:LEFT_OUT_SHOWN]
    lines = [f"{len(fit.rows_left_out)} rows left out"]
    for entry in shown:
        name = "" if entry["name"] == f"row {entry['row']}" else f" ({entry['name']})"
        lines.append(f"  row {entry['row']}{name}: {entry['reason']}")
    if len(fit.rows_left_out) > len(shown):
        lines.append(f"  and {len(fit.rows_left_out) - len(shown)} more (--json lists all)")
    return lines


def _when(fit: Fit, cell: str) -> list[str]:
    """A column that exists only with a bootstrap."""
    return [cell] if fit.samples else []


def _span(ends: Sequence[float] | None, show: Callable[[float], str]) -> str:
    """An interval; "-" where there is none, and an infinite end as ∞."""
    if ends is None or np.isnan(ends).any():
        return "-"
    texts = [show(end) if np.isfinite(end) else "∞" if end > 0 else "-∞" for end in ends]
    return f"[{texts[0]}, {texts[1]}]"


def _plain(value: float) -> str:
    return f"{value:.5g}"


def _plain_or_text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, (int, float, np.number)) else str(value)
