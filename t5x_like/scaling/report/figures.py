"""Figures for a paper, each as PNG and as SVG with real text."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from t5x_like.scaling.report import series, style
from t5x_like.scaling.report.analysis import METHODS, Analysis

FORMATS = ("png", "svg")
WIDTH = 6.75
"""Inches: the text of a page."""
# Maximum rows of a legend before it gets a second column.
LEGEND_ROWS = 12
DOWNSTREAM_TASKS = 6  # of a figure; the table has all


def write_figures(analysis: Analysis, folder: Path) -> list[Path]:
    """Draws every figure that the sweep has data for.

    Args:
      analysis: the data.
      folder: is created; gets NAME.png and NAME.svg.

    Returns:
      the files.
    """
    import matplotlib

    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with matplotlib.rc_context(style.RC):
        for name, figure in _drawn(analysis):
            for extension in FORMATS:
                path = folder / f"{name}.{extension}"
                # Without the date, the same numbers give the same bytes.
                dated = {"Date": None} if extension == "svg" else {}
                figure.savefig(path, metadata=dated)
                written.append(path)
    return written


def _drawn(analysis: Analysis) -> Iterator[tuple[str, Any]]:
    for name, draw in _FIGURES.items():
        figure = draw(analysis)
        if figure is not None:
            yield name, figure


def _grid(count: int, columns: int, height: float, **shared: Any) -> tuple[Any, list[Any]]:
    """Makes a figure of `count` axes in rows of `columns`; `height` inches a row."""
    from matplotlib.figure import Figure

    columns = min(columns, count)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(WIDTH, height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **shared).ravel()
    for unused in axes[count:]:
        unused.remove()
    return figure, list(axes[:count])


def _legend(axes: Any, title: str | None = None) -> None:
    """Places the legend beside the axes, where it hides no point."""
    handles, labels = axes.get_legend_handles_labels()
    if labels:
        columns = math.ceil(len(labels) / LEGEND_ROWS)
        axes.legend(
            handles, labels, title=title, loc="center left", bbox_to_anchor=(1.01, 0.5),
            ncols=columns, alignment="left",
        )  # fmt: skip


def isoflop(analysis: Analysis) -> Any:
    """Plots loss against N for each budget, with parabolas, their minima and intervals."""
    panels = {name: series.isoflops(analysis, name) for name in analysis.sweep.variants}
    panels = {name: groups for name, groups in panels.items() if groups}
    if not panels:
        return None
    budgets = sorted({group.budget for groups in panels.values() for group in groups})
    colours = dict(zip(budgets, style.sequence(len(budgets)), strict=True))
    columns = 1 if len(panels) == 1 else 2
    height = 3.4 if len(panels) == 1 else 2.7
    figure, all_axes = _grid(len(panels), columns, height, sharey=True)
    sizes = np.concatenate([g.runs[series.N] for groups in panels.values() for g in groups])
    for axes, (name, groups) in zip(all_axes, panels.items(), strict=True):
        for i, group in enumerate(groups):
            colour, marker = colours[group.budget], style.cycled(style.MARKERS, i)
            axes.plot(
                group.runs[series.N], group.runs["loss"], marker, color=colour, alpha=0.85,
                markeredgewidth=0, label=style.power(group.budget, 3),
            )  # fmt: skip
            axes.plot(group.parameters, group.loss, color=colour, linewidth=1)
            _minimum(axes, group.minimum, colour)
        for i, floor in enumerate(analysis.floors):
            dashes = style.cycled(style.DASHES, i)
            axes.axhline(
                floor.loss, linestyle=dashes, color=style.GREY, linewidth=1.1, label=floor.name
            )
        style.log_axis(axes.xaxis, style.span(sizes))
        axes.set_xlabel(series.n_label(analysis))
        axes.set_title(name)
    for axes in all_axes[::columns]:
        axes.set_ylabel("validation loss (nats a token)")
    _legend(all_axes[columns - 1], "budget (FLOPs)")
    found = [g.minimum for groups in panels.values() for g in groups if g.minimum is not None]
    if found:
        hollow = "" if all(row["used"] for row in found) else " Hollow: left out of the law."
        words = f"Stars: minima of the parabolas, with 95% intervals of N.{hollow}"
        figure.supxlabel(words, fontsize=8, color=style.GREY)
    return figure


def _minimum(axes: Any, minimum: Any, colour: str) -> None:
    if minimum is None or not np.isfinite(minimum["parameters"]):
        return
    at, loss = minimum["parameters"], minimum["loss"]
    low, high = minimum["parameters_low"], minimum["parameters_high"]
    face = colour if minimum["used"] else "white"
    axes.plot(
        at, loss, "*", color=face, markersize=8, markeredgecolor="black",
        markeredgewidth=0.6, zorder=4,
    )  # fmt: skip
    if np.isfinite([low, high]).all():
        axes.plot([low, high], [loss, loss], color="black", linewidth=1, zorder=5)
        axes.plot([low, high], [loss, loss], "|", color="black", markersize=7, zorder=5)


def optimum(analysis: Analysis) -> Any:
    """Plots optimal N and D against C, with the published laws."""
    lines = series.optima(analysis, analysis.baseline)
    if not any(not line.published for line in lines):
        return None
    figure, (left, right) = _grid(2, 2, 3.0)
    minima = series.minima(analysis, analysis.baseline)
    for axes, quantity, label in (
        (left, "parameters", "optimal parameters N"),
        (right, "tokens", "optimal tokens D"),
    ):
        published = own = 0
        limits = series.window(analysis, lines, quantity)
        for line in lines:
            values = getattr(line, quantity)
            if line.published:
                dashes = style.cycled(style.DASHES, published)
                axes.plot(
                    line.flops, values[0], linestyle=dashes, color=style.GREY, linewidth=1.1,
                    label=series.label_within(line, quantity, limits),
                )  # fmt: skip
                published += 1
            else:
                colour = style.cycled(style.COLOURS, own)
                axes.fill_between(line.flops, values[1], values[2], color=colour, alpha=0.18, lw=0)
                # The first is the widest, so that its edges stay visible below the others.
                axes.plot(
                    line.flops, values[0], color=colour, label=line.label, zorder=3,
                    linewidth=max(1.2, 3.4 - 1.1 * own),
                )  # fmt: skip
                own += 1
        if not minima.empty:
            _minima_points(axes, minima, quantity)
        style.log_axis(axes.xaxis, style.span(lines[0].flops, 0.0), style.power)
        style.log_axis(axes.yaxis, limits)
        axes.set_xlabel("compute C (FLOPs)")
        axes.set_ylabel(label)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    if analysis.baseline:
        figure.suptitle(analysis.baseline, fontsize=9)
    return figure


def _minima_points(axes: Any, minima: pd.DataFrame, quantity: str) -> None:
    used = minima[minima["used"]]
    values = used[quantity].to_numpy(np.float64)
    ends = used[[f"{quantity}_low", f"{quantity}_high"]].to_numpy(np.float64).T
    errors = np.abs(ends - values)
    axes.errorbar(
        used["budget"], values, yerr=errors, fmt="o", color="black", markersize=4,
        elinewidth=1, capsize=2, label="IsoFLOP minima", zorder=4,
    )  # fmt: skip


def envelope(analysis: Analysis) -> Any:
    """Plots training curves against compute, and the lowest loss at each."""
    curves = analysis.sweep.curves
    curves = curves[curves["variant"] == analysis.baseline]
    lowest = series.envelope(curves)
    if lowest.empty:
        return None
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, LogNorm

    figure, (axes,) = _grid(1, 1, 3.4)
    sizes = curves["parameters"]
    low, high = sizes.min(), max(sizes.max(), sizes.min() * 1.01)
    for _, curve in curves.groupby("name", sort=False):
        share = np.log(curve["parameters"].iloc[0] / low) / np.log(high / low)
        ordered = curve.sort_values("flops")
        axes.plot(
            ordered["flops"], ordered["loss"], color=style.colour_at(share), linewidth=0.8,
            alpha=0.8,
        )  # fmt: skip
    axes.plot(lowest["flops"], lowest["loss"], color="black", linewidth=1.6, label="envelope")
    style.log_axis(axes.xaxis, style.span(curves["flops"]), style.power)
    axes.set_ylim(*series.loss_window(curves, lowest))
    axes.set_xlabel("compute C (FLOPs)")
    axes.set_ylabel("training loss (nats a token)")
    axes.legend(loc="upper right")
    colours = LinearSegmentedColormap.from_list("sizes", style.sequence(16))
    bar = figure.colorbar(ScalarMappable(LogNorm(low, high), colours), ax=axes, pad=0.015)
    style.log_axis(bar.ax.yaxis, (low, high))
    bar.outline.set_visible(False)
    bar.set_label("parameters N")
    if analysis.baseline:
        axes.set_title(analysis.baseline)
    return figure


def residuals(analysis: Analysis) -> Any:
    """Plots the residuals of log loss by approach 3, against N and against D."""
    fits = {name: found for name in analysis.sweep.variants
            if (found := analysis.fits.get((name, "approach3"))) is not None}  # fmt: skip
    if not fits:
        return None
    figure, (left, right) = _grid(2, 2, 2.9, sharey=True)
    for axes, column, label in (
        (left, "parameters", "parameters N"),
        (right, "tokens", "tokens D"),
    ):
        every = []
        for i, (name, found) in enumerate(fits.items()):
            rows = found.residuals
            axes.plot(
                rows[column], 100 * rows["residual"], style.cycled(style.MARKERS, i),
                color=style.cycled(style.COLOURS, i), alpha=0.8, markeredgewidth=0,
                label=name or "runs",
            )  # fmt: skip
            every.append(rows[column])
        axes.axhline(0, color="black", linewidth=0.8)
        style.log_axis(axes.xaxis, style.span(np.concatenate(every)))
        axes.set_xlabel(label)
    left.set_ylabel("log loss − log predicted (%)")
    left.set_title(METHODS["approach3"], loc="left")
    if len(fits) > 1:
        _legend(right)
    return figure


def variants(analysis: Analysis) -> Any:
    """Plots optimal loss against compute, and compute multipliers with intervals."""
    found = analysis.multipliers
    if found is None or not found.curves:
        return None
    figure, (left, right) = _grid(2, 2, 3.0)
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
        grid = np.geomspace(budgets.min(), budgets.max(), series.POINTS)
        left.plot(grid, found.curves[name].loss(grid)[0], color=colour, linewidth=1.2)
        left.plot([], [], f"-{marker}", color=colour, label=name)
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


def shapes(analysis: Analysis) -> Any:
    """Plots the increase of loss against the aspect ratio, at fixed N."""
    rows = analysis.shapes
    if rows.empty:
        return None
    figure, (axes,) = _grid(1, 1, 3.2)
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
    _legend(axes, "parameters")
    return figure


def rates(analysis: Analysis) -> Any:
    """Plots loss against learning rate, for runs of one N and D."""
    rows = analysis.rates
    if rows.empty:
        return None
    figure, (axes,) = _grid(1, 1, 3.2)
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
    _legend(axes, "runs of one N and D")
    return figure


def downstream(analysis: Analysis) -> Any:
    """Plots what was measured on tasks against compute and against loss, with 95% intervals."""
    groups = series.headlines(analysis)[:DOWNSTREAM_TASKS]
    if not groups:
        return None
    figure, every = _grid(2 * len(groups), 2, 2.5)
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
        _legend(every[1])
    return figure


_FIGURES: dict[str, Callable[[Analysis], Any]] = {
    "isoflop": isoflop,
    "optimum": optimum,
    "envelope": envelope,
    "residuals": residuals,
    "variants": variants,
    "shapes": shapes,
    "rates": rates,
    "downstream": downstream,
}
FILES = tuple(f"{name}.{extension}" for name in _FIGURES for extension in FORMATS)
"""The names of all figures that a report may have."""
