"""The axes and legends of figures."""

import math
from typing import Any

WIDTH = 6.75
"""Inches: the text of a page."""
# Maximum rows of a legend before it gets a second column.
LEGEND_ROWS = 12


def grid(count: int, columns: int, height: float, **shared: Any) -> tuple[Any, list[Any]]:
    """Makes a figure of `count` axes in rows of `columns`; `height` inches a row."""
    from matplotlib.figure import Figure

    columns = min(columns, count)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(WIDTH, height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **shared).ravel()
    for unused in axes[count:]:
        unused.remove()
    return figure, list(axes[:count])


def legend(axes: Any, title: str | None = None) -> None:
    """Places the legend beside the axes, where it hides no point."""
    handles, labels = axes.get_legend_handles_labels()
    if labels:
        columns = math.ceil(len(labels) / LEGEND_ROWS)
        axes.legend(
            handles, labels, title=title, loc="center left", bbox_to_anchor=(1.01, 0.5),
            ncols=columns, alignment="left",
        )  # fmt: skip
