"""The page of runs, and the same in a few lines of text."""

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from t5x_like.host import files
from t5x_like.scaling.report.html_figure import figure_html
from t5x_like.scaling.report.html_table import table
from t5x_like.scaling.report.page import rendered
from t5x_like.scaling.report.write import write_page
from t5x_like.scaling.run_report.curves import EVALUATIONS, SECTION, plots
from t5x_like.scaling.run_report.read import WatchedRun, read
from t5x_like.training.watching.goodput import goodput_line

_TITLES = {SECTION: "Curves", EVALUATIONS: "Evaluations"}
_COLUMNS = {"tokens_per_second": "tokens/s", "time": "where its time went"}


def write(model_dirs: Sequence[str], out: str | None = None) -> Path:
    """Writes the page of runs, finished or not, and gives its path.

    Args:
      model_dirs: of the runs, which stand side by side.
      out: the folder; that of the first run, `MODEL_DIR/report`, by default.

    Raises:
      UserError: a directory has no records, or the folder cannot be written or holds a file in the
        way that no report wrote.
      DiskFull: there is no room for it.
    """
    runs = read(model_dirs)
    folder = Path(out) if out else Path(str(files.location(model_dirs[0]))) / "report"
    drawn = plots(runs)
    sections = [key for key in _TITLES if any(plot.section == key for plot in drawn)]
    body = [f"<h2 id='section-runs'>Runs</h2>{table(_overview(runs), _COLUMNS, _names(runs))}"]
    for key in sections:
        figures = "".join(figure_html(plot) for plot in drawn if plot.section == key)
        body.append(f'<h2 id="section-{key}">{_TITLES[key]}</h2><div class="plots">{figures}</div>')
    for run in runs:
        if not run.samples.empty:
            body.append(f'<h2 id="section-samples">Samples of {html.escape(run.name)}</h2>')
            body.append(table(run.samples, {}))
    links = {"runs": "Runs", **{key: _TITLES[key] for key in sections}}
    if any(not run.samples.empty for run in runs):
        links["samples"] = "Samples"
    text = rendered(
        title=", ".join(_names(runs)),
        subtitle=_subtitle(runs),
        navigation="".join(f'<a href="#section-{key}">{name}</a>' for key, name in links.items()),
        body="\n".join(body),
        plots=drawn,
        runs={run.name: {"summary": _summary(run), "gin": run.config} for run in runs},
    )
    return write_page(text, folder)[0]


def as_json(model_dirs: Sequence[str], page: Path) -> dict[str, Any]:
    """What `report --json` prints of runs: the page, and the last record of each."""
    runs = {run.name: run.last for run in read(model_dirs)}
    return {"page": str(page), "runs": {name: _plain(last) for name, last in runs.items()}}


def text(model_dirs: Sequence[str], page: Path) -> str:
    """A line or two for each run, and where the page is."""
    lines = []
    for run in read(model_dirs):
        lines += [f"{run.name}: {_summary(run)}", goodput_line(run.last)]
    return "\n".join([*filter(None, lines), f"page: {page}"])


def _plain(record: dict[str, Any]) -> dict[str, Any]:
    return {key: value.item() if hasattr(value, "item") else value for key, value in record.items()}


def _names(runs: Sequence[WatchedRun]) -> list[str]:
    return [run.name for run in runs]


def _subtitle(runs: Sequence[WatchedRun]) -> str:
    return _summary(runs[0]) if len(runs) == 1 else f"{len(runs)} runs"


def _summary(run: WatchedRun) -> str:
    """Where a run stands, in words."""
    last = run.last
    if not last:
        return "no step is recorded yet"
    parts = [f"step {int(last['step'])}"]
    if "loss" in last:
        parts.append(f"loss {last['loss']:.4f}")
    if "tokens" in last:
        parts.append(f"{int(last['tokens']):,} tokens")
    own = run.measured[run.measured["task"].isna()]
    if "loss" in own and not own.empty:
        parts.append(f"{own.iloc[-1]['split']} loss {own.iloc[-1]['loss']:.4f}")
    return ", ".join(parts)


def _overview(runs: Sequence[WatchedRun]) -> pd.DataFrame:
    """A row for each run."""
    rows = []
    for run in runs:
        last = run.last
        numbers = {key: last.get(key) for key in ("step", "loss", "tokens", "tokens_per_second")}
        rows.append({"run": run.name, **numbers, "time": goodput_line(last) or "–"})
    return pd.DataFrame(rows).dropna(axis="columns", how="all")
