"""Writes a report of a sweep's directory."""

import dataclasses
import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from t5x_like.errors import UserError
from t5x_like.host import disk_space
from t5x_like.host import files as storage
from t5x_like.scaling.report import figures, tables
from t5x_like.scaling.report.analysis import Analysis, Note, analyse
from t5x_like.scaling.report.floor import difference, read_floor
from t5x_like.scaling.report.page import page_text
from t5x_like.scaling.report.summary import as_json
from t5x_like.scaling.report.sweep_runs import read_sweep_runs

PAGE = "index.html"
# The files of a report with their checksums: what the next one may replace.
MANIFEST = "report.json"
NAMES = (
    PAGE,
    *(f"tables/{name}" for name in tables.FILES),
    *(f"figures/{name}" for name in figures.FILES),
)


def report(
    sweep_dir: str | Path,
    out: str | Path | None = None,
    *,
    baseline: str | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
    floors: Sequence[str | Path] = (),
) -> dict[str, Any]:
    """Writes the tables, figures and page of a sweep, finished or not.

    Args:
      sweep_dir: of `t5x-like sweep`.
      out: is created; `SWEEP_DIR/report` by default. Holds `index.html`, `tables/`, `figures/`,
        and `report.json`, which lists them. The files of an older report there are replaced once
        the new one is complete; others stay, and one in the way of a new file is refused.
      baseline: the variant that others are compared with; the sweep's own by default.
      bootstrap: resamples behind the intervals; 0 for none.
      seed: of the resamples.
      floors: MODEL_DIRs of runs that were evaluated on the same validation split, such as n-gram
        models: lines in the plots of loss.

    Returns:
      what `report --json` prints.

    Raises:
      UserError: it is not a sweep's directory, `out` cannot be written or holds files in the way
        that no report wrote, or a floor was not evaluated.
      DiskFull: there is no room for it.
    """
    folder = Path(sweep_dir) / "report" if out is None else Path(out)
    _check([PAGE], _older(folder), folder)  # before minutes of fitting
    lines = [read_floor(one) for one in floors]
    analysis = analyse(
        read_sweep_runs(sweep_dir), baseline=baseline, bootstrap=bootstrap, seed=seed
    )
    other = [(one.name, difference(one, sweep_dir)) for one in lines]
    notes = [Note("other_rows", name, said, warning=True) for name, said in other if said]
    analysis = dataclasses.replace(analysis, notes=[*analysis.notes, *notes], floors=lines)
    files = write_report(analysis, folder)
    return {**as_json(analysis), "out": str(folder), "files": [str(path) for path in files]}


def write_report(analysis: Analysis, folder: Path) -> list[Path]:
    """Writes a report; returns its files, the page first.

    Raises:
      UserError: the folder cannot be written, or holds files in the way that no report wrote.
      DiskFull: there is no room; an older report stays.
    """
    made_tables = tables.all_tables(analysis)

    def others(made: Path) -> list[Path]:
        return [
            *tables.write_tables(made_tables, made / "tables"),
            *figures.write_figures(analysis, made / "figures"),
        ]

    return write_page(page_text(analysis, made_tables), folder, others)


def write_page(
    text: str, folder: Path, others: Callable[[Path], Sequence[Path]] = lambda made: ()
) -> list[Path]:
    """Writes a page, and files beside it; returns them, the page first.

    Args:
      text: the page's HTML.
      folder: where to.
      others: writes further files to a directory, of `NAMES`, and gives their paths.

    Raises:
      UserError: the folder cannot be written, or holds files in the way that no report wrote.
      DiskFull: there is no room; an older report stays.
    """
    page = text.encode()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with (
            disk_space.explained(folder, len(page)),  # the page is most of a report
            tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary,
        ):
            made = Path(temporary)
            (made / PAGE).write_bytes(page)
            written = [PAGE, *(path.relative_to(made).as_posix() for path in others(made))]
            _put(made, written, folder)
    except OSError as error:
        raise UserError(f"the report '{folder}' cannot be written: {_reason(error)}.") from error
    return [folder / name for name in written]


def _put(made: Path, names: list[str], folder: Path) -> None:
    """Moves a whole report into its folder, in place of an older one."""
    older = _older(folder)
    _check(names, older, folder)
    new = {name: [_checksum(made / name)] for name in names}
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
    # Lists both, so that a report which is interrupted here is still known as one.
    both = {name: [*older.get(name, ()), *new.get(name, ())] for name in {**older, **new}}
    _write_manifest(folder, both)
    for name in names:
        (made / name).replace(folder / name)
    for name in older.keys() - new.keys():
        (folder / name).unlink(missing_ok=True)
    _write_manifest(folder, new)


def _older(folder: Path) -> dict[str, list[str]]:
    """The files of the report in a folder, and the checksums that each may have.

    In a folder that lists a report, files that are called as a report's own count as its.
    """
    path = folder / MANIFEST
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["files"]
        listed = {str(name): [str(each) for each in sums] for name, sums in found.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"'{path}' is not the list that a report writes. Choose another --out, or move it away."
        ) from error
    found = {name: listed[name] for name in NAMES if name in listed}
    for name in NAMES:
        if name not in found and (folder / name).is_file():
            found[name] = [_checksum(folder / name)]
    return found


def _check(names: list[str], older: Mapping[str, list[str]], folder: Path) -> None:
    """Checks that nothing is replaced but what a report wrote.

    Raises:
      UserError: a file of another origin, a changed one or a link is in the way.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"the report's folder '{folder}' is a file: choose another --out.")
    for part in ("tables", "figures"):
        if (folder / part).is_symlink():
            raise UserError(f"'{folder / part}' is a link: choose another --out, or remove it.")
    for name in dict.fromkeys([*names, *older]):
        path = folder / name
        if not path.exists() and not path.is_symlink():
            continue
        if name not in older:
            why = "no report wrote it"
        elif path.is_symlink() or not path.is_file():
            why = "it is not the file that a report wrote"
        elif _checksum(path) not in older[name]:
            why = "it was changed after a report wrote it"
        else:
            continue
        raise UserError(
            f"'{path}' would be replaced, and {why}: choose another --out, or move it away."
        )


def _write_manifest(folder: Path, listed: Mapping[str, list[str]]) -> None:
    text = json.dumps({"written_by": "t5x-like report", "files": listed}, indent=1)
    storage.write_whole(folder / MANIFEST, text + "\n")


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _reason(error: OSError) -> str:
    return f"{error.strerror or error}: {error.filename}" if error.filename else str(error)
