"""Writes a report of a sweep's directory."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

from t5x_like.scaling.report.analysis import Analysis, analyse, as_json
from t5x_like.scaling.report.figures import write_figures
from t5x_like.scaling.report.page import page_text
from t5x_like.scaling.report.sweep_runs import read_sweep_runs
from t5x_like.scaling.report.tables import all_tables, write_tables

PAGE = "index.html"


def report(
    sweep_dir: str | Path,
    out: str | Path | None = None,
    *,
    baseline: str | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Writes the tables, figures and page of a sweep, finished or not.

    Args:
      sweep_dir: of `t5x-like sweep`.
      out: is created; `SWEEP_DIR/report` by default. Holds `index.html`, `tables/`, `figures/`.
        An older report there is replaced once the new one is complete.
      baseline: the variant that others are compared with; the sweep's own by default.
      bootstrap: resamples behind the intervals; 0 for none.
      seed: of the resamples.

    Returns:
      what `report --json` prints.

    Raises:
      UserError: it is not a sweep's directory.
    """
    analysis = analyse(
        read_sweep_runs(sweep_dir), baseline=baseline, bootstrap=bootstrap, seed=seed
    )
    folder = Path(sweep_dir) / "report" if out is None else Path(out)
    files = write_report(analysis, folder)
    return {**as_json(analysis), "out": str(folder), "files": [str(path) for path in files]}


def write_report(analysis: Analysis, folder: Path) -> list[Path]:
    """Writes a report; returns its files, the page first."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    tables = all_tables(analysis)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
        made = Path(temporary)
        (made / PAGE).write_text(page_text(analysis, tables), encoding="utf-8")
        write_tables(tables, made / "tables")
        write_figures(analysis, made / "figures")
        folder.mkdir(exist_ok=True)
        written = []
        for part in (PAGE, "tables", "figures"):
            _replace(made / part, folder / part)
            written += sorted(path for path in [folder / part, *folder.glob(f"{part}/*")])
    return [path for path in written if path.is_file()]


def _replace(new: Path, old: Path) -> None:
    if old.is_dir():
        shutil.rmtree(old)
    else:
        old.unlink(missing_ok=True)
    new.rename(old)
