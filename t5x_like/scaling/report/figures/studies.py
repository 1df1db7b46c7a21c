"""Figures of studies: variants, settings, shapes, learning rates, tasks."""

from typing import Any

import numpy as np

from t5x_like.scaling.comparison import interval_reach
from t5x_like.scaling.report import series, style
from t5x_like.scaling.report.analysis import Analysis
from t5x_like.scaling.report.figures.axes import grid, legend

# Inches of a row of two lines of text.
ROW = 0.33
DOWNSTREAM_TASKS = 6  # of a figure; the table has all


def variants(analysis: Analysis) -> Any:
    """Plots optimal loss against compute, and compute multipliers with intervals."""
    found = analysis.multipliers
    if found is None or not found.curves:
        return None
    rows = len(series.headline_multipliers(analysis))
    figure, (left, right) = grid(2, 2, max(3.0, 1.2 + ROW * rows))
    names = [name for name in analysis.sweep.variants if name in found.curves]
    for i, name in enumerate(names):
        colour, marker = style.cycled(style.COLOURS, i), style.cycled(style.MARKERS, i)
        points = found.minima[(found.minima["variant"] == name) & found.minima["inside"]]
        budgets = points["budget"].to_numpy(np.float64)
        losses = points["loss"].to_numpy(np.float64)
        errors = np.abs(points[["loss_low", "loss_high"]].to_numpy(np.float64).T - losses)
        left.errorbar(
            budgets, losses, yerr=errors, fmt=marker, color=colour, elinewidth=1, capsize=2,
        )  # fmt: skip
        line = np.geomspace(budgets.min(), budgets.max(), series.POINTS)
        dash = style.line_of(i)
        left.plot(line, found.curves[name].loss(line)[0], dash, color=colour, linewidth=1.2)
        left.plot([], [], dash + marker, color=colour, label=name)
    style.log_axis(left.xaxis, style.span(found.minima["budget"]), style.power)
    left.set_xlabel("compute C (FLOPs)")
    left.set_ylabel("loss at the optimum (nats a token)")
    figure.legend(loc="outside lower center", ncols=min(4, len(names)))
    _multipliers(right, analysis, names)
    return figure


def _multipliers(axes: Any, analysis: Analysis, names: list[str]) -> None:
    table = series.headline_multipliers(analysis)
    if table.empty:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "no multiplier\n(see the report's notes)", ha="center", va="center")
        return
    axes.axvline(1, color="black", linewidth=0.8)
    values = table[["multiplier", "low", "high"]].to_numpy(np.float64).ravel()
    limits = style.span([*values, 0.8, 1.25])
    labels = []
    for place, row in enumerate(table.to_dict("records")):
        colour = style.cycled(style.COLOURS, names.index(row["variant"]))
        # Infinite values are drawn to the edge.
        at, low, high = np.clip([row["multiplier"], row["low"], row["high"]], *limits)
        axes.plot([low, high], [place, place], color=colour, linewidth=1.6)
        axes.plot(at, place, "o", color=colour, markersize=6)
        words = style.times(row["multiplier"]) + style.times_within(row["low"], row["high"])
        labels.append(f"{row['variant']}\n{words}")
    axes.set_yticks(range(len(table)), labels)
    axes.set_ylim(len(table) - 0.4, -0.8)
    style.log_axis(axes.xaxis, limits, lambda value: f"{value:g}")
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(f"compute multiplier against {analysis.baseline}")


def comparison(analysis: Analysis) -> Any:
    """Plots the mean of each setting over its seeds; bars that do not overlap differ, 95%."""
    rows = series.headline_comparison(analysis)
    if rows.empty:
        return None
    figure, (axes,) = grid(1, 1, 1.0 + 0.42 * len(rows))
    for place, row in enumerate(rows.to_dict("records")):
        colour = style.COLOURS[0] if row["tied"] else style.GREY
        reach = np.nan_to_num(interval_reach(row, row, rows) / 2)
        axes.plot([row["mean"] - reach, row["mean"] + reach], [place] * 2, color=colour)
        axes.plot(row["mean"], place, "o", color=colour, markersize=6)
    labels = [f"{row['setting']}  {series.mean_label(row)}" for row in rows.to_dict("records")]
    axes.set_yticks(range(len(rows)), labels)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(series.metric_label(rows))
    return figure


def shapes(analysis: Analysis) -> Any:
    """Plots the increase of loss against the aspect ratio, at fixed N."""
    rows = analysis.shapes
    if rows.empty:
        return None
    figure, (axes,) = grid(1, 1, 3.2)
    groups = list(rows.groupby("group", sort=False))
    for i, (_, group) in enumerate(groups):
        means = group.groupby("aspect_ratio")["increase"].mean()
        colour = style.sequence(len(groups))[i]
        marker = style.cycled(style.MARKERS, i)
        axes.plot(means.index, 100 * means, color=colour, linewidth=1)
        axes.plot(
            group["aspect_ratio"], 100 * group["increase"], marker, color=colour,
            markeredgewidth=0, label=series.group_label(group),
        )  # fmt: skip
    style.log_axis(axes.xaxis, style.span(rows["aspect_ratio"]), lambda value: f"{value:g}")
    axes.set_ylim(bottom=min(0.0, 100 * rows["increase"].min()) - 0.1)
    axes.set_xlabel("aspect ratio, embed_dim / num_layers")
    axes.set_ylabel("loss above the best shape (%)")
    legend(axes, "parameters")
    return figure


def sizes(analysis: Analysis) -> Any:
    """Plots validation and training loss against N, of runs on the same tokens."""
    rows = analysis.sizes
    if rows.empty:
        return None
    figure, (axes,) = grid(1, 1, 3.2)
    groups = list(rows.groupby("group", sort=False))
    for i, (_, group) in enumerate(groups):
        colour = style.cycled(style.COLOURS, i)
        label = f", {series.tokens_label(group)}" if len(groups) > 1 else ""
        for kind, column, line in (("validation", "loss", "-o"), ("training", "train_loss", ":s")):
            means = group.groupby("parameters")[column].mean()
            axes.plot(means.index, means, line, color=colour, label=f"{kind}{label}")
            axes.plot(
                group["parameters"], group[column], line[-1], color=colour, alpha=0.4,
                markeredgewidth=0,
            )  # fmt: skip
    style.log_axis(axes.xaxis, style.span(rows["parameters"]))
    axes.set_xlabel("parameters N")
    axes.set_ylabel("loss (nats a token)")
    legend(axes, None if len(groups) > 1 else series.tokens_label(rows))
    return figure


def rates(analysis: Analysis) -> Any:
    """Plots loss against learning rate, for runs of one N and D."""
    rows = analysis.rates
    if rows.empty:
        return None
    figure, (axes,) = grid(1, 1, 3.2)
    groups = list(rows.groupby("group", sort=False))
    for i, (_, group) in enumerate(groups):
        means = group.groupby("learning_rate")["loss"].mean()
        colour, marker = style.sequence(len(groups))[i], style.cycled(style.MARKERS, i)
        axes.plot(means.index, means, color=colour, linewidth=1)
        axes.plot(
            group["learning_rate"], group["loss"], marker, color=colour, markeredgewidth=0,
            label=series.run_label(group),
        )  # fmt: skip
    style.log_axis(axes.xaxis, style.span(rows["learning_rate"]), lambda value: f"{value:g}")
    axes.set_xlabel("peak learning rate")
    axes.set_ylabel("validation loss (nats a token)")
    legend(axes, "runs of one N and D")
    return figure


def downstream(analysis: Analysis) -> Any:
    """Plots what was measured on tasks against compute and against loss, with 95% intervals."""
    groups = series.headlines(analysis)[:DOWNSTREAM_TASKS]
    if not groups:
        return None
    figure, every = grid(2 * len(groups), 2, 2.5)
    for (title, rows), left, right in zip(groups, every[::2], every[1::2], strict=True):
        for i, (name, group) in enumerate(rows.groupby("variant", sort=False)):
            reach = (group["value"] - group["low"]).fillna(0.0)
            for axes, column in ((left, "flops"), (right, "loss")):
                axes.errorbar(
                    group[column], group["value"], yerr=reach, fmt=style.cycled(style.MARKERS, i),
                    color=style.cycled(style.COLOURS, i), elinewidth=1, capsize=2, alpha=0.85,
                    label=name or "runs",
                )  # fmt: skip
        if (line := series.error_line(analysis, rows)) is not None:
            right.plot(*line, color="black", linewidth=1)
        style.log_axis(left.xaxis, style.span(rows["flops"]), style.power)
        left.set_title(title, loc="left")
        left.set_xlabel("compute C (FLOPs)")
        right.set_xlabel("validation loss (nats a token)")
    if len(analysis.sweep.variants) > 1:
        legend(every[1])
    return figure
