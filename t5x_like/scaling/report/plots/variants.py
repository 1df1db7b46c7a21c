"""The page's plots that compare variants, shapes, sizes and learning rates."""

import html

import numpy as np
import pandas as pd

from t5x_like.scaling.report import series, style
from t5x_like.scaling.report.analysis import Analysis
from t5x_like.scaling.report.plots.traces import (
    INK,
    Hover,
    Json,
    Plot,
    error_bars,
    line_trace,
    marker_trace,
)


def variants(analysis: Analysis) -> list[Plot]:
    """Plots optimal loss against compute, and the compute multipliers."""
    found = analysis.multipliers
    if found is None or not found.curves:
        return []
    names = [name for name in analysis.sweep.variants if name in found.curves]
    data: list[Json] = []
    for i, name in enumerate(names):
        colour = style.cycled(style.COLOURS, i)
        points = found.minima[(found.minima["variant"] == name) & found.minima["inside"]]
        budgets = points["budget"].to_numpy(np.float64)
        grid = np.geomspace(budgets.min(), budgets.max(), series.POINTS)
        loss = found.curves[name].loss(grid)[0]
        dash = style.plotly_line_of(i)
        named: Json = {"name": name, "legendgroup": name}
        data.append(line_trace(grid, loss, colour, dash=dash, showlegend=False, **named))
        marks = marker_trace(budgets, points["loss"], colour, i, **named)
        bars = error_bars(points["loss"], points["loss_low"], points["loss_high"], colour)
        marks["error_y"] = bars
        data.append(marks)
    layout = {
        "xaxis": style.plotly_log_axis(
            style.span(found.minima["budget"]), "compute C (FLOPs)", style.power
        ),
        "yaxis": {"title": {"text": "loss at the optimum (nats a token)"}},
    }
    caption = (
        "The lowest loss of each budget's parabola, with 95% intervals, and L*(C) = E + k·C⁻ᵞ "
        "through them (E = 0 with fewer than four budgets)."
    )
    plots = [
        Plot("variants-loss", "variants", "Loss at the optimum", caption, data, layout)
    ]  # fmt: skip
    table = series.headline_multipliers(analysis)
    return plots if table.empty else [*plots, _multipliers(analysis, table, names)]


def _multipliers(analysis: Analysis, table: pd.DataFrame, names: list[str]) -> Plot:
    values = table[["multiplier", "low", "high"]].to_numpy(np.float64).ravel()
    limits = style.span([*values, 0.8, 1.25], 0.2)
    data: list[Json] = []
    labels: list[str] = []
    for row in table.to_dict("records"):
        variant, colour = row["variant"], style.cycled(style.COLOURS, names.index(row["variant"]))
        words = style.times(row["multiplier"]) + style.times_within(row["low"], row["high"])
        # Infinite values are drawn to the edge.
        value, low, high = np.clip([row["multiplier"], row["low"], row["high"]], *limits)
        mark = marker_trace([value], [variant], colour, 0, name=variant, showlegend=False)
        mark["marker"]["size"] = 11
        mark["hovertext"] = [
            f"<b>{html.escape(variant)}</b><br>worth {words} times its compute<br>"
            f"at {style.power(row['flops'])} FLOPs"
        ]
        mark["hoverinfo"] = "text"
        labels.append(f"{html.escape(variant)}<br>{words}")
        mark["error_x"] = error_bars([value], [low], [high], colour)
        data.append(mark)
    layout = {
        "xaxis": style.plotly_log_axis(
            limits,
            "compute multiplier",
            lambda value: f"{value:g}",
        ),
        "yaxis": {
            "range": [len(table) - 0.4, -0.6], "type": "category",
            "tickvals": list(table["variant"]), "ticktext": labels,
        },
        "shapes": [
            {
                "type": "line", "x0": 1, "x1": 1, "y0": 0, "y1": 1, "yref": "paper",
                "line": {"color": INK, "width": 1},
            }
        ],
    }  # fmt: skip
    caption = (
        "How many times its own compute the baseline would need to reach a variant's loss: "
        "m(C) = L*⁻¹ of the baseline (L* of the variant at C) / C, at the geometric mean of the "
        "budgets that both have. Above 1 the variant saves compute. Bars are 95% intervals of a "
        "bootstrap over runs."
    )
    title = f"Compute multipliers against {analysis.baseline}"
    return Plot("variants-multiplier", "variants", title, caption, data, layout)


def shapes(analysis: Analysis, hover: Hover) -> list[Plot]:
    """Plots the increase of loss against the aspect ratio, at fixed N."""
    rows = analysis.shapes
    if rows.empty:
        return []
    groups = list(rows.groupby("group", sort=False))
    data: list[Json] = []
    for i, (_, group) in enumerate(groups):
        colour, label = style.sequence(len(groups))[i], series.group_label(group)
        means = group.groupby("aspect_ratio")["increase"].mean()
        data.append(
            line_trace(means.index, 100 * means, colour, name=label, showlegend=False,
                  legendgroup=label)
        )  # fmt: skip
        data.append(
            marker_trace(group["aspect_ratio"], 100 * group["increase"], colour, i, name=label,
                    legendgroup=label, **hover.columns(group["name"]))
        )  # fmt: skip
    layout = {
        "xaxis": style.plotly_log_axis(
            style.span(rows["aspect_ratio"]), "aspect ratio, embed_dim / num_layers", _general
        ),
        "yaxis": {"title": {"text": "loss above the best shape (%)"}, "rangemode": "tozero"},
    }
    caption = "Models of one size and different shapes, after Kaplan et al. 2020, figure 5."
    return [Plot("shapes", "shapes", "Depth against width at fixed N", caption, data, layout)]


def sizes(analysis: Analysis, hover: Hover) -> list[Plot]:
    """Plots validation and training loss against N, of runs on the same tokens."""
    rows = analysis.sizes
    if rows.empty:
        return []
    data: list[Json] = []
    groups = list(rows.groupby("group", sort=False))
    for i, (_, group) in enumerate(groups):
        colour = style.cycled(style.COLOURS, i)
        label = series.tokens_label(group)
        for kind, column, dash in (
            ("validation", "loss", "solid"),
            ("training", "train_loss", "dot"),
        ):
            named = f"{kind}{f', {label}' if len(groups) > 1 else ''}"
            means = group.groupby("parameters")[column].mean()
            line = line_trace(
                means.index, means, colour, dash=dash, name=named, showlegend=False,
                legendgroup=named,
            )  # fmt: skip
            marks = marker_trace(
                group["parameters"], group[column], colour, int(kind == "training"), name=named,
                legendgroup=named, **hover.columns(group["name"]),
            )  # fmt: skip
            data += [line, marks]
    layout = {
        "xaxis": style.plotly_log_axis(style.span(rows["parameters"]), "parameters N"),
        "yaxis": {"title": {"text": "loss (nats a token)"}},
        "showlegend": True,
    }
    caption = (
        "Models of several sizes on the same tokens: lines through the means over seeds. A "
        "validation loss that rises and falls again is a second descent (Belkin et al. 2019)."
    )
    return [Plot("sizes", "sizes", "Loss against N on the same tokens", caption, data, layout)]


def rates(analysis: Analysis, hover: Hover) -> list[Plot]:
    """Plots loss against learning rate, for runs of one N and D."""
    rows = analysis.rates
    if rows.empty:
        return []
    groups = list(rows.groupby("group", sort=False))
    data: list[Json] = []
    for i, (_, group) in enumerate(groups):
        colour, label = style.sequence(len(groups))[i], series.run_label(group)
        means = group.groupby("learning_rate")["loss"].mean()
        line = line_trace(
            means.index, means, colour, name=label, showlegend=False, legendgroup=label
        )
        marks = marker_trace(
            group["learning_rate"], group["loss"], colour, i, name=label, legendgroup=label,
            **hover.columns(group["name"]),
        )  # fmt: skip
        data += [line, marks]
    layout = {
        "xaxis": style.plotly_log_axis(
            style.span(rows["learning_rate"]), "peak learning rate", _general
        ),
        "yaxis": {"title": {"text": "validation loss (nats a token)"}},
        "showlegend": True,
    }
    caption = (
        "Runs of one N and D that differ in their learning rate, each a line through the means of "
        "its rates. A lowest point at an end of its line says to try rates beyond it."
    )
    return [Plot("rates", "rates", "Loss against learning rate", caption, data, layout)]


def _general(value: float) -> str:
    return f"{value:g}"
