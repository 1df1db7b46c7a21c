"""The report as one self-contained HTML page: plots, tables, warnings, gin files, plotly.js."""

import html
import importlib.resources
import json
import re
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from t5x_like.scaling.comparison import wide
from t5x_like.scaling.report import series, style
from t5x_like.scaling.report.analysis import METHODS, Analysis, Note, described
from t5x_like.scaling.report.html_table import table
from t5x_like.scaling.report.plots import all_plots
from t5x_like.scaling.report.tables import Tables
from t5x_like.scaling.report.traces import Plot

SECTIONS = {
    "isoflop": "Loss against N",
    "optimum": "N and D against compute",
    "variants": "Variants",
    "shapes": "Shapes",
    "rates": "Learning rates",
    "downstream": "Downstream",
    "envelope": "Training curves",
    "residuals": "Residuals",
}
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
    "budgets": "budgets shared",
    "headline": "geometric mean",
    "rows_used": "runs used",
    "starts_agreeing": "starts agreeing",
}
# Lines and sets of points that a plot's words tell of, at most.
SPOKEN_TRACES = 12
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
    "flops": "6ND",
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
    there = [key for key in SECTIONS if any(plot.section == key for plot in plots)]
    first = {} if analysis.comparison.empty else {"comparison": "Comparison"}
    laws = {} if analysis.sweep.staged else {"laws": "Laws"}
    links = {**first, **{key: SECTIONS[key] for key in there}, **laws, "runs": "Runs"}
    return "".join(f'<a href="#section-{key}">{text}</a>' for key, text in links.items())


def _body(analysis: Analysis, tables: Tables, plots: list[Plot]) -> str:
    doubts = [note for note in analysis.notes if note.warning]
    others = [note for note in analysis.notes if not note.warning]
    parts = [_tiles(analysis), _comparison(analysis)]
    if doubts:
        parts.append(f"<h2>Warnings</h2>{_notes(doubts, 'notes doubt')}")
    if others:
        parts.append(f"<h2>Not computed or left out</h2>{_notes(others, 'notes')}")
    for key, title in SECTIONS.items():
        chosen = [plot for plot in plots if plot.section == key]
        if chosen:
            one = " one" if len(chosen) == 1 else ""
            drawn = "".join(
                # Plots that differ in the variant only share a caption.
                figure_html(
                    plot,
                    titled=plot.title != title,
                    captioned=plot.caption not in [other.caption for other in chosen[:i]],
                )
                for i, plot in enumerate(chosen)
            )
            parts.append(
                f'<h2 id="section-{key}">{title}</h2><div class="plots{one}">{drawn}</div>'
                + _section_table(key, tables)
            )
    if not analysis.sweep.staged:
        parts.append(f'<h2 id="section-laws">Laws</h2>{_laws(analysis, tables["laws"])}')
    cells = analysis.sweep.cells
    shown = {name: title for name, title in RUN_COLUMNS.items() if _tells(cells, name)}
    parts.append(
        '<h2 id="section-runs">Runs</h2><p class="muted">Click a row, or a point of a plot, for '
        "its gin file; a heading to sort.</p>" + table(cells[list(shown)], shown, cells["name"])
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
    items = (
        f"<li><code>{html.escape(note.name)}</code> "
        f"{f'<b>{html.escape(note.about)}.</b> ' if note.about else ''}"
        f"{html.escape(note.message)}</li>"
        for note in notes
    )
    return f'<ul class="{kind}">{"".join(items)}</ul>'


def figure_html(plot: Plot, titled: bool = True, captioned: bool = True) -> str:
    """A plot with its title and caption, and what it shows in words for those who hear the page."""
    title = html.escape(plot.title)
    heading = f"<h3>{title}</h3>" if titled else ""
    caption = f"<figcaption>{html.escape(plot.caption)}</figcaption>" if captioned else ""
    spoken = html.escape(f"{plot.caption} {in_words(plot)}")
    return (
        f'<figure>{heading}<div class="plot" id="{plot.name}" role="img" aria-label="{title}" '
        f'aria-describedby="{plot.name}-words"></div>'
        f'<p class="spoken" id="{plot.name}-words">{spoken}</p>{caption}</figure>'
    )


def in_words(plot: Plot) -> str:
    """What a plot shows: its axes, and for each named line or set of points how far it reaches."""
    axes = {name: plot.layout[f"{name}axis"].get("title", {}).get("text", name) for name in "xy"}
    shown: dict[str, list[str]] = {}
    for trace in plot.data:
        name = trace.get("name")
        if not name or trace.get("fill"):
            continue
        ends = [_ends(trace[axis]) for axis in "xy"]
        kind = "line" if trace.get("mode") == "lines" else f"{len(trace['x'])} points"
        shown.setdefault(str(name), []).append(f"{kind}, x {ends[0]}, y {ends[1]}")
    parts = [f"{name}: {'; '.join(texts)}." for name, texts in list(shown.items())[:SPOKEN_TRACES]]
    if len(shown) > SPOKEN_TRACES:
        parts.append(f"And {len(shown) - SPOKEN_TRACES} more.")
    return " ".join([f"x is {axes['x'] or 'not named'}, y is {axes['y'] or 'not named'}.", *parts])


def _ends(values: list[Any]) -> str:
    """Where numbers begin and end, or the names on an axis of names."""
    numbers = [value for value in values if isinstance(value, float)]
    if not numbers:
        return ", ".join(str(value) for value in values if value is not None) or "none"
    low, high = min(numbers), max(numbers)
    texts = [f"{end:.3g}" if abs(end) < 1e4 else style.short(end) for end in (low, high)]
    return texts[0] if texts[0] == texts[1] else f"from {texts[0]} to {texts[1]}"


def _comparison(analysis: Analysis) -> str:
    if analysis.comparison.empty:
        return ""
    return (
        '<h2 id="section-comparison">Comparison</h2><p class="muted">Means ± standard deviations '
        "over seeds. * the best, or within two standard deviations of it, pooled over settings.</p>"
        + table(wide(analysis.comparison), {})
    )


def _section_table(key: str, tables: Tables) -> str:
    name = {"isoflop": "minima", "variants": "variants", "downstream": "downstream"}.get(key)
    if name is None or tables[name].empty:
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
        return "<p>No law could be fitted yet; the reasons are above.</p>"
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
