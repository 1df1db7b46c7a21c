"""Figures of laws: IsoFLOP curves, optima, training curves and residuals."""

from typing import Any

import numpy as np
import pandas as pd

from t5x_like.scaling.report import series, style
from t5x_like.scaling.report.analysis import METHODS, Analysis
from t5x_like.scaling.report.figures.axes import grid, legend


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
    figure, all_axes = grid(len(panels), columns, height, sharey=True)
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
    legend(all_axes[columns - 1], "budget (FLOPs)")
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
    figure, (left, right) = grid(2, 2, 3.0)
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

    figure, (axes,) = grid(1, 1, 3.4)
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
    figure, (left, right) = grid(2, 2, 2.9, sharey=True)
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
        legend(right)
    return figure
