"""The page's plot that compares settings over seeds."""

import html

import numpy as np

from t5x_like.scaling.comparison import interval_reach
from t5x_like.scaling.report import series, style
from t5x_like.scaling.report.analysis import Analysis
from t5x_like.scaling.report.plots.traces import Json, Plot, error_bars, marker_trace


def comparisons(analysis: Analysis) -> list[Plot]:
    """Plots the mean of each setting over its seeds, by the metric that stands for the study."""
    rows = series.headline_comparison(analysis)
    if rows.empty:
        return []
    metric = series.metric_label(rows)
    data: list[Json] = []
    for row in rows.to_dict("records"):
        colour = style.COLOURS[0] if row["tied"] else style.GREY
        name = html.escape(row["setting"])
        mark = marker_trace([row["mean"]], [name], colour, 0, name=name, showlegend=False)
        mark["marker"]["size"] = 11
        mark["hovertext"] = [f"<b>{name}</b><br>{series.mean_label(row)}"]
        mark["hoverinfo"] = "text"
        reach = interval_reach(row, row, rows) / 2
        if np.isfinite(reach):
            ends = [row["mean"] - reach], [row["mean"] + reach]
            mark["error_x"] = error_bars([row["mean"]], *ends, colour)
        data.append(mark)
    labels = [
        f"{html.escape(row['setting'])}<br>{series.mean_label(row)}"
        for row in rows.to_dict("records")
    ]
    layout = {
        "xaxis": {"title": {"text": metric}},
        "yaxis": {
            "range": [len(rows) - 0.4, -0.6], "type": "category",
            "tickvals": [html.escape(name) for name in rows["setting"]], "ticktext": labels,
        },
    }  # fmt: skip
    caption = (
        "Means over seeds. Two settings whose bars do not overlap differ: a bar is half of the "
        "least significant difference to either side, of 95%, over the same seeds where all "
        "settings have the same. In colour the best, and what ties with it in T5's tables: within "
        "two standard deviations of single runs (Raffel et al. 2020)."
    )
    return [Plot("comparison", "comparison", f"Settings by {metric}", caption, data, layout)]
