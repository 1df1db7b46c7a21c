"""Where a report is written: it replaces what a report wrote, and nothing else."""

import errno
import json
import os
from pathlib import Path

import pytest

from t5x_like.cli import main
from t5x_like.errors import UserError
from t5x_like.host.disk_space import DiskFull
from t5x_like.scaling.report import write
from t5x_like.scaling.report.analysis import analyse
from t5x_like.scaling.report.sweep_runs import from_frames, read_sweep_runs


@pytest.fixture(scope="module")
def analysis(sweeps):
    cells = sweeps.isoflop_cells(budgets=2, sizes=3)
    curves = sweeps.curves_of(cells).iloc[:0]
    return analyse(from_frames(cells, curves, name="small", family="gopher"), bootstrap=0)


@pytest.fixture(autouse=True)
def one_figure(monkeypatch):
    """Figures take a second each."""

    def draw(analysis, folder):
        folder.mkdir(parents=True)
        (folder / "isoflop.png").write_bytes(b"drawn")
        return [folder / "isoflop.png"]

    monkeypatch.setattr(write.figures, "write_figures", draw)
    monkeypatch.setattr(write, "page_text", lambda analysis, tables: "<html>")


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_report_replaces_an_older_one_with_its_files_that_are_no_more(analysis, tmp_path):
    out = tmp_path / "out"
    first = write.write_report(analysis, out)
    assert first[0] == out / "index.html" and all(path.is_file() for path in first)
    (out / "tables" / "shapes.csv").write_text("1\n")
    assert write.write_report(analysis, out) == first
    assert set(contents(out)) == {path.relative_to(out).as_posix() for path in first} | {
        "report.json"
    }
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("name", ["index.html", "figures/isoflop.png", "tables/runs.csv"])
def test_a_users_own_file_in_the_way_is_refused_and_stays(analysis, tmp_path, name):
    own = tmp_path / name
    own.parent.mkdir(exist_ok=True)
    own.write_text("mine")
    before = contents(tmp_path)
    with pytest.raises(UserError, match=r"would be replaced, and no report wrote it: choose"):
        write.write_report(analysis, tmp_path)
    assert contents(tmp_path) == before


def test_a_users_own_files_beside_a_report_stay(analysis, tmp_path):
    own = {"figures/photo.png": "mine", "tables/mine.csv": "mine", "notes.txt": "mine"}
    for name, text in own.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    for _ in range(2):
        write.write_report(analysis, tmp_path)
        assert {name: (tmp_path / name).read_text() for name in own} == own


def test_a_page_that_was_changed_since_is_refused(analysis, tmp_path):
    write.write_report(analysis, tmp_path)
    (tmp_path / "index.html").write_text("with my remarks")
    with pytest.raises(UserError, match="it was changed after a report wrote it"):
        write.write_report(analysis, tmp_path)
    assert (tmp_path / "index.html").read_text() == "with my remarks"


def test_links_are_refused(analysis, tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    (own / "isoflop.png").write_text("mine")
    out = tmp_path / "out"
    write.write_report(analysis, out)
    (out / "figures" / "isoflop.png").unlink()
    (out / "figures" / "isoflop.png").symlink_to(own / "isoflop.png")
    with pytest.raises(UserError, match="it is not the file that a report wrote"):
        write.write_report(analysis, out)
    (out / "figures" / "isoflop.png").unlink()
    (out / "figures").rmdir()
    (out / "figures").symlink_to(own)
    with pytest.raises(UserError, match="figures' is a link"):
        write.write_report(analysis, out)
    assert (own / "isoflop.png").read_text() == "mine"


@pytest.mark.parametrize("text", ["mine", "[]", '{"files": []}', '{"files": {"index.html": 3}}'])
def test_a_users_own_report_json_is_refused(analysis, tmp_path, text):
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(UserError, match="is not the list that a report writes"):
        write.write_report(analysis, tmp_path)
    assert contents(tmp_path) == {"report.json": text.encode()}


def test_a_list_that_names_files_elsewhere_deletes_none(analysis, tmp_path):
    secret = tmp_path / "secret.csv"
    secret.write_text("mine")
    out = tmp_path / "out"
    write.write_report(analysis, out)
    manifest = json.loads((out / "report.json").read_text())
    for name in ("../secret.csv", "tables/../../secret.csv", str(secret), "tables/.."):
        manifest["files"][name] = [write._checksum(secret)]
    (out / "report.json").write_text(json.dumps(manifest))
    write.write_report(analysis, out)
    assert secret.read_text() == "mine"


def test_a_report_that_was_interrupted_is_replaced(analysis, tmp_path, monkeypatch):
    write.write_report(analysis, tmp_path)
    monkeypatch.setattr(write, "page_text", lambda analysis, tables: "<html>newer")
    replace, moved = Path.replace, []

    def stops(self, target):
        moved.append(target)
        if len(moved) == 4:
            raise KeyboardInterrupt
        return replace(self, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "replace", stops)
        write.write_report(analysis, tmp_path)
    assert (tmp_path / "index.html").read_text() == "<html>newer"
    write.write_report(analysis, tmp_path)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_ends_in_one_line_and_leaves_the_older_report(
    analysis, tmp_path, monkeypatch, number
):
    out = tmp_path / "out"
    write.write_report(analysis, out)
    before = contents(out)

    def full(tables, folder):
        raise OSError(number, os.strerror(number), str(folder))

    monkeypatch.setattr(write.tables, "write_tables", full)
    with pytest.raises(DiskFull, match=r"out cannot be written: the disk"):
        write.write_report(analysis, out)
    assert contents(out) == before and list(tmp_path.iterdir()) == [out]


def test_a_folder_that_cannot_be_written_is_one_line(sweeps, tmp_path, capsys):
    cells = sweeps.isoflop_cells(budgets=2, sizes=3)
    root = sweeps.write(tmp_path / "sweep", cells, sweeps.curves_of(cells).iloc[:0])
    for out in (root / "sweep.json", root / "sweep.json" / "below"):
        assert main(["report", str(root), f"--out={out}", "--bootstrap=0"]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_a_gin_file_outside_of_the_sweep_is_not_on_the_page(sweeps, tmp_path):
    cells = sweeps.isoflop_cells(budgets=2, sizes=3)
    root = sweeps.write(tmp_path / "sweep", cells, sweeps.curves_of(cells).iloc[:0])
    (tmp_path / "secret").write_text("mine")
    first = root / "cells" / cells["name"][0] / "cell.gin"
    first.unlink()
    first.symlink_to(tmp_path / "secret")
    texts = read_sweep_runs(root).gin_texts
    assert texts[cells["name"][0]] == "" and "NUM_LAYERS" in texts[cells["name"][1]]
