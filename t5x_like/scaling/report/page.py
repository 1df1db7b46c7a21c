"""The report as one self-contained HTML page: plots, tables, warnings, gin files, plotly.js."""

import html
import importlib.resources
import json
import re
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from t5x_like.scaling.comparison import beside, wide
from t5x_like.scaling.published_tables import PublishedStudy
from t5x_like.scaling.report import series, style
from t5x_like.scaling.report.analysis import METHODS, Analysis, Note, described
from t5x_like.scaling.report.conclusion import conclusion
from t5x_like.scaling.report.html_figure import figure_html
from t5x_like.scaling.report.html_table import table
from t5x_like.scaling.report.plots import all_plots
from t5x_like.scaling.report.plots.traces import Plot
from t5x_like.scaling.report.tables import Tables

SECTIONS = {
    "comparison": "Comparison",
    "isoflop": "Loss against N",
    "optimum": "N and D against compute",
    "variants": "Variants",
    "shapes": "Shapes",
    "sizes": "Sizes on the same tokens",
    "rates": "Learning rates",
    "downstream": "Downstream",
    "envelope": "Training curves",
    "residuals": "Residuals",
}
# The table at the end of a section.
_TABLES = {
    "isoflop": "minima",
    "variants": "variants",
    "sizes": "efficiency",
    "downstream": "downstream",
}
_ABOVE = "The figure at the top of the page belongs here."
# Of the table of minima; all columns are in `tables/minima.csv`.
MINIMA_COLUMNS = (
    *("variant", "budget", "runs", "parameters", "parameters_low", "parameters_high"),
    *("tokens", "loss", "loss_low", "loss_high", "used"),
)
# Of the headlines of tasks; all metrics are in `tables/downstream.csv`.
DOWNSTREAM_COLUMNS = (
    *("variant", "name", "task", "split", "metric", "value", "low", "high", "rows"),
    *("parameters", "tokens", "flops", "loss"),
)
TITLES = {
    "name": "run",
    "parameters": "N",
    "parameters_low": "N low",
    "parameters_high": "N high",
    "tokens": "D",
    "tokens_low": "D low",
    "tokens_high": "D high",
    "loss_low": "loss low",
    "loss_high": "loss high",
    "baseline_loss": "loss of the baseline",
    "flops": "FLOPs",
    "budget": "budget (FLOPs)",
    "target": "training loss reached",
    "budgets": "budgets shared",
    "headline": "geometric mean",
    "rows_used": "runs used",
    "starts_agreeing": "starts agreeing",
}
# Notes of a kind that are shown without a click.
OPEN_NOTES = 6
PREDICTED = {
    "optimal_parameters": "best N",
    "optimal_tokens": "best D",
    "optimal_loss": "loss there",
}
RUN_COLUMNS = {
    "name": "run",
    "variant": "variant",
    "status": "status",
    "parameters": "N",
    "parameters_without_embeddings": "N without embeddings",
    "active_parameters": "active N",
    "tokens": "D",
    "flops": "FLOPs",
    "loss": "loss",
    "train_loss": "training loss",
    "learning_rate": "learning rate",
    "batch_tokens": "batch (tokens)",
    "step": "step",
    "steps": "of",
    "num_layers": "layers",
    "embed_dim": "width",
    "seed": "seed",
    "tokens_per_second": "tokens/s",
}


def page_text(analysis: Analysis, tables: Tables) -> str:
    """Makes the page."""
    plots = all_plots(analysis)
    sweep = analysis.sweep
    counts = sweep.counts()
    family = f"Family {sweep.family}; " if sweep.family else ""
    return rendered(
        title=f"{sweep.name}: {'comparison' if sweep.compares else 'scaling laws'}",
        subtitle=f"{family}{counts['done']} of {len(sweep.cells)} runs done",
        navigation=_navigation(plots, analysis),
        body=_body(analysis, tables, plots),
        plots=plots,
        runs=_runs(analysis),
    )


def rendered(
    *,
    title: str,
    subtitle: str,
    navigation: str,
    body: str,
    plots: list[Plot],
    runs: dict[str, dict[str, str]],
) -> str:
    """A page that needs no network, with when it was written.

    Args:
      title: plain text.
      subtitle: plain text, the beginning of a sentence.
      navigation: HTML.
      body: HTML, with a `figure_html` for each plot.
      plots: drawn when the page is opened.
      runs: details of each, `summary` and `gin`, shown when its name is clicked.
    """
    from plotly.offline import get_plotlyjs

    parts = {
        "title": html.escape(title),
        "subtitle": html.escape(f"{subtitle}; written {datetime.now(UTC):%Y-%m-%d %H:%M} UTC."),
        "navigation": navigation,
        "body": body,
        "plots": _script_json([_plot_json(plot) for plot in plots]),
        "runs": _script_json(runs),
        "lightened": json.dumps(_lightened()),
        # `</script>` must not occur inside a script element.
        "plotly": get_plotlyjs().replace("</script", r"<\/script"),
    }
    template = importlib.resources.files(__package__).joinpath("page.html").read_text("utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], template)


def _script_json(value: Any) -> str:
    return json.dumps(value, allow_nan=False).replace("<", r"\u003c")


def _plot_json(plot: Plot) -> dict[str, Any]:
    axes = {
        name: {
            "gridcolor": "theme:grid",
            "linecolor": "theme:muted",
            "zeroline": False,
            "showline": True,
            "automargin": True,
            **plot.layout[name],
        }
        for name in ("xaxis", "yaxis")
    }
    layout = {
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": "theme:ink", "size": 13, "family": "system-ui, sans-serif"},
        "margin": {"l": 60, "r": 16, "t": 32, "b": 50},
        "modebar": {
            "bgcolor": "rgba(0,0,0,0)",
            "color": "theme:muted",
            "activecolor": "theme:ink",
        },
        "hoverlabel": {
            "align": "left",
            "namelength": -1,
            "bgcolor": "theme:panel",
            "bordercolor": "theme:muted",
            "font": {"color": "theme:ink", "size": 12},
        },
        "hovermode": "closest",
        **plot.layout,
        **axes,
    }
    return {"name": plot.name, "data": plot.data, "layout": layout}


def _lightened() -> dict[str, str]:
    """Maps each colour to its replacement on a dark page, mixed with white for contrast."""
    used = {*style.COLOURS, *(style.colour_at(share) for share in np.linspace(0, 1, 2))}
    used |= {colour for count in range(1, 40) for colour in style.sequence(count)}
    return {colour: style.on_dark(colour) for colour in sorted(used)}


def _runs(analysis: Analysis) -> dict[str, dict[str, str]]:
    """The details of each run, shown when it is clicked."""
    found = {}
    for cell in analysis.sweep.cells.to_dict("records"):
        name = str(cell["name"])
        loss = f"loss {cell['loss']:.5f}" if np.isfinite(cell["loss"]) else str(cell["status"])
        found[name] = {
            "summary": f"{cell['gin_file']}: N {style.short(cell['parameters'])}, "
            f"D {style.short(cell['tokens'])}, {style.power(cell['flops'], 3)} FLOPs, {loss}",
            "gin": analysis.sweep.gin_texts.get(name) or "(its gin file is not written yet)",
        }
    return found


# -- HTML ------------------------------------------------------------------------------------


def _navigation(plots: list[Plot], analysis: Analysis) -> str:
    laws = {} if analysis.sweep.staged else {"laws": "Laws"}
    links = {**{key: SECTIONS[key] for key in _sections(plots)}, **laws, "runs": "Runs"}
    return "".join(f'<a href="#section-{key}">{text}</a>' for key, text in links.items())


def _sections(plots: list[Plot]) -> list[str]:
    return [key for key in SECTIONS if any(plot.section == key for plot in plots)]


def _body(analysis: Analysis, tables: Tables, plots: list[Plot]) -> str:
    """The conclusion with its figure, the warnings, and then everything that they rest on."""
    concluded = conclusion(analysis)
    first = [plot for plot in plots if plot.name == concluded.plot]
    doubts = [note for note in analysis.notes if note.warning]
    others = [note for note in analysis.notes if not note.warning]
    sentence = html.escape(concluded.sentence)
    parts = [f'<p class="conclusion">{sentence}</p>', *map(figure_html, first)]
    if doubts:
        parts.append(f"<h2>Warnings</h2>{_notes(doubts, 'notes doubt')}")
    parts.append(_tiles(analysis))
    for key in _sections(plots):
        chosen = [plot for plot in plots if plot.section == key]
        rest = [plot for plot in chosen if plot not in first]
        one = " one" if len(rest) == 1 else ""
        drawn = "".join(
            # Plots that differ in the variant only share a caption.
            figure_html(
                plot,
                titled=plot.title != SECTIONS[key],
                captioned=plot.caption not in [other.caption for other in rest[:i]],
            )
            for i, plot in enumerate(rest)
        )
        shown = f'<div class="plots{one}">{drawn}</div>' if rest else ""
        above = "" if rest == chosen else f'<p class="muted">{_ABOVE}</p>'
        under = _comparison(analysis) if key == "comparison" else _section_table(key, tables)
        parts.append(f'<h2 id="section-{key}">{SECTIONS[key]}</h2>{above}{shown}{under}')
    if not analysis.sweep.staged:
        parts.append(f'<h2 id="section-laws">Laws</h2>{_laws(analysis, tables["laws"])}')
    if others:
        parts.append(f"<h2>Not computed or left out</h2>{_notes(others, 'notes')}")
    cells = analysis.sweep.cells
    shown_columns = {name: title for name, title in RUN_COLUMNS.items() if _tells(cells, name)}
    parts.append(
        '<h2 id="section-runs">Runs</h2><p class="muted">Click a row, or a point of a plot, for '
        "its gin file; a heading to sort.</p>"
        + table(cells[list(shown_columns)], shown_columns, cells["name"])
    )
    return "\n".join(parts)


def _tells(cells: pd.DataFrame, column: str) -> bool:
    """Whether a column has information worth its width."""
    if column == "variant":
        return cells[column].nunique() > 1
    if column == "active_parameters":
        return bool((cells[column] != cells["parameters"]).any())
    if column == "seed":
        return cells[column].nunique() > 1
    return not cells[column].isna().all()


def _tiles(analysis: Analysis) -> str:
    counts = analysis.sweep.counts()
    total = len(analysis.sweep.cells)
    others = ", ".join(f"{n} {name}" for name, n in counts.items() if n and name != "done")
    tiles = [(f"{counts['done']} / {total}", f"runs done{f' ({others})' if others else ''}")]
    for (variant, method), found in analysis.fits.items():
        if variant == analysis.baseline and "a" in found.parameters:
            ends = found.intervals.get("a")
            within = _within(ends)
            label = described(variant, method).partition(",")[0]
            tiles.append((f"N ∝ C<sup>{found.parameters['a']:.3f}</sup>", f"{label}{within}"))
    for row in series.headline_multipliers(analysis).to_dict("records"):
        within = style.times_within(row["low"], row["high"])
        label = f"compute multiplier of {row['variant']}{within}"
        tiles.append((f"× {style.times(row['multiplier'])}", label))
    tiles += [(f"{one.loss:.4f}", f"nats a token of {one.name}") for one in analysis.floors]
    drawn = (
        f'<div class="tile"><b>{value}</b><span>{html.escape(label)}</span></div>'
        for value, label in tiles
    )
    return f'<div class="tiles">{"".join(drawn)}</div>'


def _within(ends: list[float] | None) -> str:
    """The interval of an exponent; "" without one."""
    if ends is None or np.isnan(ends).any():
        return ""
    low, high = (f"{end:.3f}" if np.isfinite(end) else "∞" for end in ends)
    return f" [{'−' if np.isinf(ends[0]) else ''}{low}, {high}]"


def _notes(notes: list[Note], kind: str) -> str:
    """A list of notes; where they are many, the rest are folded away below the first."""
    listed = [_lists(notes[:OPEN_NOTES], kind)]
    if len(notes) > OPEN_NOTES:
        more = f"{len(notes) - OPEN_NOTES} more"
        folded = _lists(notes[OPEN_NOTES:], kind)
        listed.append(f"<details><summary>{more}</summary>{folded}</details>")
    return "".join(listed)


def _lists(notes: list[Note], kind: str) -> str:
    items = (
        f"<li><code>{html.escape(note.name)}</code> "
        f"{f'<b>{html.escape(note.about)}.</b> ' if note.about else ''}"
        f"{html.escape(note.message)}</li>"
        for note in notes
    )
    return f'<ul class="{kind}">{"".join(items)}</ul>'


def _comparison(analysis: Analysis) -> str:
    ours = (
        '<p class="muted">Means ± standard deviations over seeds. * the best, or within two '
        "standard deviations of it, pooled over settings. Against the first setting: the "
        "difference of the validation loss ± half of its 95% interval, over the same seeds where "
        "all settings have the same.</p>" + table(wide(analysis.comparison), {})
    )
    study = analysis.sweep.published
    if study is None:
        return ours
    deviations = ", ".join(f"{name} {study.deviations[name]:g}" for name in study.columns)
    about = (
        f"The columns on the right are the paper's, as printed, at its size: {study.size}. Those "
        "on the left are of this sweep, and of other tasks: hold the order of rows against one "
        "another, not the numbers. * of the paper: the best of its table, or within two standard "
        f"deviations of its baseline ({deviations})."
    )
    return (
        f"{ours}<h3>Beside {html.escape(study.source)}</h3>"
        f'<p class="muted">{html.escape(about)}</p>' + table(_beside(analysis, study), {})
    )


def _beside(analysis: Analysis, study: PublishedStudy) -> pd.DataFrame:
    """Of ours the validation loss and what stands for the study; the rest is in the table above."""
    task, metric = series.headline_comparison(analysis)[["task", "metric"]].iloc[0]
    found = beside(analysis.comparison, study)
    against = f"against {analysis.comparison['against'].iloc[0]}"
    ours = dict.fromkeys(("setting", "seeds", "validation loss", against, f"{task} {metric}"))
    return found[[*ours, "row of the paper", *study.columns]]


def _section_table(key: str, tables: Tables) -> str:
    name = _TABLES.get(key)
    if name is None or name not in tables or tables[name].empty:
        return ""
    frame = tables[name].dropna(axis="columns", how="all")
    if name == "downstream":
        frame = frame[frame["headline"].astype(bool)]
        frame = frame[[column for column in DOWNSTREAM_COLUMNS if column in frame]]
    if name == "minima":
        frame = frame[[column for column in MINIMA_COLUMNS if column in frame]]
    return f"<p></p>{table(_without_single_variant(frame), TITLES)}"


def _without_single_variant(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.drop(columns="variant") if set(frame["variant"]) == {""} else frame


def _laws(analysis: Analysis, laws: pd.DataFrame) -> str:
    if not analysis.fits:
        return "<p>No law could be fitted yet; the reasons are below.</p>"
    laws = laws.assign(
        method=laws["method"].map(METHODS),
        # Linear fits have one start.
        starts_agreeing=[
            f"{agreeing} of {starts}" if starts > 1 else "direct"
            for agreeing, starts in zip(laws["starts_agreeing"], laws["starts"], strict=True)
        ],
    )
    laws = _without_single_variant(laws.drop(columns=["starts", "objective", "rows_left_out"]))
    laws = laws[laws["quantity"] != "exponent"]  # which is `a`
    predicted = laws["flops"].notna()
    coefficients = table(laws[~predicted].drop(columns="flops"), TITLES)
    best = laws[predicted].drop(columns=["rows_used", "starts_agreeing"])
    best = best.assign(quantity=best["quantity"].map(PREDICTED))
    return f"{coefficients}<h3>Predictions for larger budgets</h3>{table(best, TITLES)}"
