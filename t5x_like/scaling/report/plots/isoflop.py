"""The page's plots of IsoFLOP curves, and of N and D against compute."""

import numpy as np
import pandas as pd

from t5x_like.scaling.report import series, style
from t5x_like.scaling.report.analysis import Analysis
from t5x_like.scaling.report.plots.traces import (
    INK,
    MUTED,
    Hover,
    Json,
    Plot,
    about,
    band_trace,
    error_bars,
    html_id,
    line_trace,
    marker_trace,
)


def isoflops(analysis: Analysis, hover: Hover) -> list[Plot]:
    """Plots loss against N for each budget of each variant, with parabolas and their minima."""
    panels = {name: series.isoflops(analysis, name) for name in analysis.sweep.variants}
    panels = {name: groups for name, groups in panels.items() if groups}
    if not panels:
        return []
    budgets = sorted({group.budget for groups in panels.values() for group in groups})
    colours = dict(zip(budgets, style.sequence(len(budgets)), strict=True))
    sizes = np.concatenate([g.runs[series.N] for gs in panels.values() for g in gs])
    losses = np.concatenate(
        [
            *(g.runs["loss"] for gs in panels.values() for g in gs),
            [floor.loss for floor in analysis.floors],
        ]
    )
    air = 0.05 * float(np.ptp(losses)) + 1e-3
    found = []
    for name, groups in panels.items():
        data: list[Json] = []
        for i, group in enumerate(groups):
            colour, label = colours[group.budget], f"{style.power(group.budget, 3)} FLOPs"
            shared = {"legendgroup": label, "name": label}
            data.append(
                line_trace(
                    group.parameters, group.loss, colour, **shared, showlegend=False, width=1.5
                )
            )
            data.append(
                marker_trace(
                    group.runs[series.N], group.runs["loss"], colour, i, **shared,
                    **hover.columns(group.runs["name"]),
                )
            )  # fmt: skip
            data += _minimum(group, colour, shared)
        data += _floors(analysis, style.span(sizes))
        layout = {
            "xaxis": style.plotly_log_axis(style.span(sizes), series.n_label(analysis)),
            "yaxis": {
                "title": {"text": "validation loss (nats a token)"},
                "range": [float(losses.min() - air), float(losses.max() + air)],
            },
        }
        caption = (
            "Each colour is a budget, each point a run, each line the parabola in log N of a "
            "budget. Stars are the minima with 95% intervals of N; a hollow one is outside its "
            "grid or otherwise left out of the power law."
            + (" Dashed: the loss of models of another kind." if analysis.floors else "")
        )
        found.append(
            Plot(
                html_id("isoflop", name), "isoflop", f"IsoFLOP curves{about(name)}", caption, data,
                layout,
            )
        )  # fmt: skip
    return found


def _floors(analysis: Analysis, ends: tuple[float, float]) -> list[Json]:
    """A dashed line from end to end of an axis for each floor."""
    return [
        line_trace(
            ends,
            [floor.loss] * 2,
            MUTED,
            name=floor.name,
            dash=style.cycled(style.PUBLISHED_DASHES, i),
            width=1.4,
        )
        for i, floor in enumerate(analysis.floors)
    ]


def _minimum(group: series.IsoFlop, colour: str, shared: Json) -> list[Json]:
    row = group.minimum
    if row is None or not np.isfinite(row["parameters"]):
        return []
    at, low, high = row["parameters"], row["parameters_low"], row["parameters_high"]
    bounded = bool(np.isfinite([low, high]).all())
    within = f" [{style.short(low)}, {style.short(high)}]" if bounded else ""
    star = {
        "type": "scatter",
        "mode": "markers",
        "x": [at],
        "y": [row["loss"]],
        "marker": {
            "symbol": "star" if row["used"] else "star-open",
            "size": 12,
            "color": colour,
            "line": {"width": 1.2, "color": INK},
        },
        "hovertext": [
            f"<b>minimum at {style.power(group.budget, 3)} FLOPs</b><br>N {style.short(at)}{within}"
            f"<br>D {style.short(row['tokens'])}, loss {row['loss']:.4f}"
            + ("" if row["used"] else "<br>left out of the power law")
        ],
        "hoverinfo": "text",
        "showlegend": False,
        **{key: value for key, value in shared.items() if key == "legendgroup"},
    }
    if bounded:
        star["error_x"] = error_bars([at], [low], [high], INK)
    return [star]


def optima(analysis: Analysis) -> list[Plot]:
    """Plots the optimal N and D against C, with the published laws."""
    lines = series.optima(analysis, analysis.baseline)
    if not any(not line.published for line in lines):
        return []
    minima = series.minima(analysis, analysis.baseline)
    found = []
    for quantity, letter in (("parameters", "N"), ("tokens", "D")):
        data: list[Json] = []
        own = published = 0
        limits = series.window(analysis, lines, quantity)
        for line in lines:
            values = getattr(line, quantity)
            if line.published:
                dash = style.cycled(style.PUBLISHED_DASHES, published)
                label = series.label_within(line, quantity, limits)
                data.append(
                    line_trace(line.flops, values[0], MUTED, name=label, dash=dash, width=1.4)
                )
                published += 1
                continue
            colour = style.cycled(style.COLOURS, own)
            width = max(1.6, 5.2 - 1.8 * own)  # so that the edges of the lower ones stay visible
            own += 1
            if np.isfinite(values[1:]).all():
                data.append(band_trace(line.flops, values[1], values[2], colour, line.label))
            data.append(
                line_trace(
                    line.flops,
                    values[0],
                    colour,
                    name=line.label,
                    legendgroup=line.label,
                    width=width,
                )
            )
        if not minima.empty:
            data.append(_minima_points(minima, quantity))
        layout = {
            "xaxis": style.plotly_log_axis(
                style.span(lines[0].flops, 0.0), "compute C (FLOPs)", style.power
            ),
            "yaxis": style.plotly_log_axis(limits, f"optimal {quantity} {letter}"),
            "legend": {"orientation": "h"},
        }
        caption = (
            f"The {letter} of the lowest loss for a budget, with 95% bands; published laws, "
            "dashed, are drawn at the same budgets, far below those that they were fitted to "
            "unless the sweep is as large."
        )
        title = f"Optimal {quantity} against compute{about(analysis.baseline)}"
        found.append(Plot(html_id("optimum", quantity), "optimum", title, caption, data, layout))
    return found


def _minima_points(minima: pd.DataFrame, quantity: str) -> Json:
    used = minima[minima["used"]]
    low, high = used[f"{quantity}_low"], used[f"{quantity}_high"]
    marks = marker_trace(used["budget"], used[quantity], INK, 0, name="IsoFLOP minima")
    return {**marks, "error_y": error_bars(used[quantity], low, high, INK)}
