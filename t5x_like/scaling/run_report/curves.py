"""The curves of runs: losses, gradient norm, rate, speed, goodput, evaluations."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from t5x_like.scaling.report import style
from t5x_like.scaling.report.plots.traces import Plot
from t5x_like.scaling.run_report.read import WatchedRun, read

SECTION = "curves"
EVALUATIONS = "evaluations"
# Column of a record: title, axis, caption.
_TRAINING = {
    "loss": ("Training loss", "nats", "The minimized loss, a mean over the last records' steps."),
    "gradient_norm": ("Gradient norm", "norm", "Before clipping."),
    "gradient_noise_scale": (
        "Gradient noise scale",
        "tokens",
        "tr(Σ) / |G|², the batch beyond which larger ones save few steps (McCandlish et al. 2018).",
    ),
    "learning_rate": ("Learning rate", "rate", "Of each update."),
    "tokens_per_second": ("Tokens per second", "tokens/s", "Positions computed, with padding."),
    "goodput": (
        "Goodput",
        "share of wall time",
        "Time in updates that count, over all starts of the run until then.",
    ),
}
# Of an evaluation, what tells of its rows or of the loss and not of the task.
_NOT_METRICS = {
    *("step", "rows", "split_rows", "tokens", "seconds", "loss", "cross_entropy", "z_loss"),
    *("token_accuracy", "perplexity", "word_perplexity", "bits_per_byte", "loss_standard_error"),
}


def plots(runs: Sequence[WatchedRun]) -> list[Plot]:
    """A plot for each curve that a run has, with a line for each run."""
    found = []
    for column, (title, unit, caption) in _TRAINING.items():
        data = [
            _line(run.name, number, run.train["step"], run.train[column])
            for number, run in enumerate(runs)
            if column in run.train
        ]
        if data:
            found.append(_plot(column.replace("_", "-"), SECTION, title, unit, caption, data))
    held_out = [
        _line(_label(run, split, len(runs)), number, part["step"], part["loss"], markers=True)
        for number, run in enumerate(runs)
        for split, part in _held_out(run)
    ]
    if held_out:
        caption = "Of rows that are not trained on."
        title = "Validation loss"
        found.insert(1, _plot("validation-loss", SECTION, title, "nats", caption, held_out))
    return found + list(_evaluations(runs))


def curves(*model_dirs: str) -> Any:
    """The curves as one plotly figure, which a notebook shows.

    Args:
      *model_dirs: MODEL_DIRs of runs, finished or not.

    Raises:
      UserError: one has no records.
    """
    from plotly import graph_objects, subplots

    chosen = plots(read(model_dirs))
    rows = max(-(-len(chosen) // 2), 1)
    figure = subplots.make_subplots(rows=rows, cols=2, subplot_titles=[p.title for p in chosen])
    for number, plot in enumerate(chosen):
        place = {"row": 1 + number // 2, "col": 1 + number % 2}
        for trace in plot.data:
            figure.add_trace(graph_objects.Scatter(**trace, legendgroup=trace["name"]), **place)
        figure.update_xaxes(title_text="step", **place)
        figure.update_yaxes(title_text=plot.layout["yaxis"]["title"]["text"], **place)
    return figure.update_layout(height=340 * rows, hovermode="x unified")


def _held_out(run: WatchedRun) -> Iterator[tuple[str, pd.DataFrame]]:
    """The run's own validations, which have no task, by split."""
    own = run.measured[run.measured["task"].isna()]
    if "loss" in own:
        yield from own.groupby("split", sort=False)


def _evaluations(runs: Sequence[WatchedRun]) -> Iterator[Plot]:
    """A plot for each metric of each task and split."""
    found: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for number, run in enumerate(runs):
        tasks = run.measured[run.measured["task"].notna()]
        for (task, split), part in tasks.groupby(["task", "split"], sort=False):
            for metric in part.select_dtypes("number").columns:
                rows = part[part[metric].notna()].sort_values("step")
                if metric in _NOT_METRICS or metric.endswith("standard_error") or rows.empty:
                    continue
                line = _line(run.name, number, rows["step"], rows[metric], markers=True)
                found.setdefault((str(task), str(split), str(metric)), []).append(line)
    for number, ((task, split, metric), data) in enumerate(found.items()):
        title = f"{task} {split}: {metric}"
        caption = "As the run itself, or an evaluation of it, measured it."
        yield _plot(f"evaluation-{number}", EVALUATIONS, title, metric, caption, data)


def _label(run: WatchedRun, split: str, count: int) -> str:
    return split if count == 1 else f"{run.name}, {split}"


def _line(
    name: str, number: int, steps: pd.Series, values: pd.Series, markers: bool = False
) -> dict[str, Any]:
    """A line by step; what is not finite is a gap in it."""
    numbers = [float(x) if np.isfinite(x) else None for x in values.astype(float)]
    return {
        "type": "scatter",
        "mode": "lines+markers" if markers else "lines",
        "name": name,
        "x": [float(step) for step in steps],
        "y": numbers,
        "line": {"color": style.cycled(style.COLOURS, number), "width": 2},
    }


def _plot(
    name: str, section: str, title: str, unit: str, caption: str, data: list[dict[str, Any]]
) -> Plot:
    axes = {
        "xaxis": {"title": {"text": "step"}},
        "yaxis": {"title": {"text": unit}},
    }
    legend = {"showlegend": len(data) > 1, "legend": {"orientation": "h", "y": 1.12}}
    return Plot(name, section, title, caption, data, {**axes, **legend})
