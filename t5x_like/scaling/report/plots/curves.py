"""The page's plots of training curves, of residuals, and of what was measured on tasks."""

import numpy as np
import pandas as pd

from t5x_like.scaling.report import series, style
from t5x_like.scaling.report.analysis import Analysis
from t5x_like.scaling.report.plots.traces import (
    INK,
    Hover,
    Json,
    Plot,
    about,
    error_bars,
    html_id,
    line_trace,
    marker_trace,
)

# Maximum points of a curve on the page.
CURVE_POINTS = 120
LOSS = "validation loss (nats a token)"


def envelopes(analysis: Analysis, hover: Hover) -> list[Plot]:
    """Plots each variant's training curves and the lowest loss at each compute."""
    found = []
    for name in analysis.sweep.variants:
        curves = analysis.sweep.curves
        curves = curves[curves["variant"] == name]
        lowest = series.envelope(curves)
        if lowest.empty:
            continue
        logs = np.log(curves["parameters"].to_numpy(np.float64))
        low, high = logs.min(), max(logs.max(), logs.min() + 1e-9)
        data: list[Json] = []
        for run, curve in curves.groupby("name", sort=False):
            kept = thinned(curve.sort_values("flops"))
            share = (np.log(kept["parameters"].iloc[0]) - low) / (high - low)
            # One hover box for a curve; those of its points would be the same.
            box = {**hover.columns([str(run)]), "hovertext": hover.text(str(run))}
            data.append(
                line_trace(
                    *(kept["flops"], kept["loss"], style.colour_at(share)),
                    **{**box, "customdata": [run] * len(kept)},
                    name=str(run),
                    width=1.2,
                )
            )
        data.append(line_trace(lowest["flops"], lowest["loss"], INK, name="envelope", width=2.5))
        bottom, top = series.loss_window(curves, lowest)
        data.append(_size_bar(np.exp(low), np.exp(high), lowest))
        layout = {
            "xaxis": style.plotly_log_axis(
                style.span(curves["flops"]), "compute C (FLOPs)", style.power
            ),
            "yaxis": {
                "title": {"text": "training loss (nats a token)"},
                "range": [bottom, top],
            },
            "showlegend": False,
        }
        caption = (
            "Training loss of every run against the compute spent so far, coloured by N; the "
            "thick line is the lowest loss at each compute, of which approach 1 takes its N and D."
        )
        found.append(
            Plot(html_id("envelope", name), "envelope", f"Training curves{about(name)}", caption,
                 data, layout)
        )  # fmt: skip
    return found


def progress(analysis: Analysis, hover: Hover) -> list[Plot]:
    """Plots the training loss against tokens of models of several sizes on the same tokens."""
    studied = analysis.sizes[analysis.sizes["group"] == 0] if len(analysis.sizes) else None
    if studied is None or analysis.sweep.curves.empty:
        return []
    curves = analysis.sweep.curves[analysis.sweep.curves["name"].isin(studied["name"])]
    logs = np.log(studied["parameters"].to_numpy(np.float64))
    low, high = logs.min(), logs.max()
    data: list[Json] = []
    for run, curve in curves.groupby("name", sort=False):
        kept = thinned(curve.sort_values("flops"))
        share = (np.log(kept["parameters"].iloc[0]) - low) / (high - low)
        box = {**hover.columns([str(run)]), "hovertext": hover.text(str(run))}
        data.append(
            line_trace(
                *(kept["tokens"], kept["loss"], style.colour_at(share)),
                **{**box, "customdata": [run] * len(kept)},
                name=str(run),
                width=1.4,
            )
        )
    lowest = series.envelope(curves)
    bar = _size_bar(np.exp(low), np.exp(high), lowest)
    data.append({**bar, "x": [float(curves["tokens"].max())]})
    layout = {
        "xaxis": style.plotly_log_axis(style.span(curves["tokens"]), "tokens so far"),
        "yaxis": {
            "title": {"text": "training loss (nats a token)"},
            "range": list(series.loss_window(curves, lowest)),
        },
        "showlegend": False,
    }
    caption = (
        "Training loss against tokens, coloured by N: where larger models are more efficient with "
        "samples, they reach a loss further to the left (Kaplan et al. 2020, figure 2)."
    )
    return [Plot("sizes-progress", "sizes", "Loss against tokens", caption, data, layout)]


def thinned(curve: pd.DataFrame) -> pd.DataFrame:
    """Thins a curve to `CURVE_POINTS` rows, evenly in log FLOPs, with the last."""
    if len(curve) <= CURVE_POINTS:
        return curve
    logs = np.log(curve["flops"].to_numpy(np.float64))
    wanted = np.linspace(logs[0], logs[-1], CURVE_POINTS)
    return curve.iloc[np.unique(np.searchsorted(logs, wanted).clip(0, len(curve) - 1))]


def _size_bar(low: float, high: float, lowest: pd.DataFrame) -> Json:
    """An invisible point that carries the colour bar of N."""
    places = style.ticks(low, high) if high > 1.01 * low else [low]
    colours = style.sequence(8)
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [lowest["flops"].iloc[0]],
        "y": [lowest["loss"].iloc[0]],
        "hoverinfo": "skip",
        "showlegend": False,
        "marker": {
            "opacity": 0,
            "color": [float(np.log10(low))],
            "cmin": float(np.log10(low)),
            "cmax": float(np.log10(max(high, 1.01 * low))),
            "colorscale": [[i / 7, colour] for i, colour in enumerate(colours)],
            "showscale": True,
            "colorbar": {
                "title": {"text": "N"},
                "tickvals": [float(np.log10(place)) for place in places],
                "ticktext": [style.short(place) for place in places],
                "thickness": 12,
                "outlinewidth": 0,
            },
        },
    }


def residuals(analysis: Analysis, hover: Hover) -> list[Plot]:
    """Plots the residuals of approach 3 against N and against D."""
    fits = {
        name: fitted
        for name in analysis.sweep.variants
        if (fitted := analysis.fits.get((name, "approach3"))) is not None
    }
    if not fits:
        return []
    found = []
    for column, letter in (("parameters", "N"), ("tokens", "D")):
        data: list[Json] = []
        every = []
        for i, (name, fitted) in enumerate(fits.items()):
            rows = fitted.residuals
            data.append(
                marker_trace(
                    rows[column], 100 * rows["residual"], style.cycled(style.COLOURS, i), i,
                    name=name or "runs", **hover.columns(rows["name"]),
                )
            )  # fmt: skip
            every.append(rows[column])
        layout = {
            "xaxis": style.plotly_log_axis(style.span(np.concatenate(every)), f"{column} {letter}"),
            "yaxis": {
                "title": {"text": "log loss − log predicted (%)"},
                "zeroline": True,
                "zerolinecolor": INK,
            },
            "showlegend": len(fits) > 1,
        }
        caption = (
            "Log loss minus its prediction. A trend means that the form does not hold, or "
            "that the runs were trained differently."
        )
        title = f"Residuals against {letter}"
        found.append(Plot(html_id("residuals", letter), "residuals", title, caption, data, layout))
    return found


def downstream(analysis: Analysis, hover: Hover) -> list[Plot]:
    """Plots the headline of each task against compute and against loss."""
    found = []
    for title, rows in series.headlines(analysis):
        for column, label in (("flops", "compute C (FLOPs)"), ("loss", LOSS)):
            data: list[Json] = []
            for i, (name, group) in enumerate(rows.groupby("variant", sort=False)):
                colour = style.cycled(style.COLOURS, i)
                marks = marker_trace(
                    group[column], group["value"], colour, i, name=str(name) or "runs",
                    **hover.columns(group["name"]),
                )  # fmt: skip
                bars = error_bars(group["value"], group["low"], group["high"], colour)
                data.append(marks if bars is None else {**marks, "error_y": bars})
            line = series.error_line(analysis, rows) if column == "loss" else None
            if line is not None:
                data.append(line_trace(*line, INK, name="law of the error"))
            axis = {"title": {"text": label}}
            if column == "flops":
                axis = style.plotly_log_axis(style.span(rows["flops"]), label, style.power)
            layout = {
                "xaxis": axis,
                "yaxis": {"title": {"text": str(rows["metric"].iloc[0])}},
                "showlegend": len(data) > 1,
            }
            caption = (
                "Points are runs, with 95% intervals over the examples where the metric has a "
                "standard error; the line is Err(L) = ε − k exp(−γL), which Gadre et al. 2024 "
                "found the error, 100 less the accuracy, to follow."
            )
            named = html_id("downstream", title, column)
            found.append(Plot(named, "downstream", title, caption, data, layout))
    return found
