"""Finished runs of a sweep are measured by suites, each once."""

import json
from pathlib import Path

import pytest

from t5x_like.errors import UserError
from t5x_like.scaling.sweeps import executors, grids, suites
from t5x_like.scaling.sweeps.results import sweep_measurements, sweep_results
from t5x_like.scaling.sweeps.runner import run_sweep
from t5x_like.scaling.sweeps.suites import measure, measured_by, suites_of
from t5x_like.scaling.sweeps.sweep import Sweep
from tests.t5x_like.scaling.sweeps.test_runner import SMALL

SUITE = """
from __gin__ import dynamic_registration
from t5x_like import evaluation

MEASUREMENTS = [@evaluation.Loss()]
"""


class Stop:
    signal_name = None


class Ended:
    def __init__(self, code):
        self.code = code

    def poll(self):
        return self.code


class Told:
    """An executor whose jobs end at once, with the exit codes that it is given."""

    slots = 1

    def __init__(self, *codes):
        self.codes, self.commands = list(codes), []

    def submit(self, job):
        self.commands.append(job.command)
        job.log.write_text("t5x-like: error: it is wrong\n")
        return Ended(self.codes.pop(0))


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    """Two runs' directories and two suites, whose data are there."""
    monkeypatch.setattr(suites, "_cache_state", lambda files: (True, ()))
    monkeypatch.setattr("t5x_like.scaling.sweeps.jobs.POLL_SECONDS", 0.0)
    cells = {name: tmp_path / name for name in ("a", "b")}
    for directory in cells.values():
        directory.mkdir()
    files = [tmp_path / "first.gin", tmp_path / "second.gin"]
    for i, file in enumerate(files):
        file.write_text(SUITE + f"SPLIT = 'part{i}'\n")
    return cells, [str(file) for file in files]


def test_every_run_is_measured_by_every_suite_once(prepared):
    cells, files = prepared
    chosen = suites_of(files)
    executor = Told(0, 0, 0, 0)
    assert measure(cells, chosen, executor, 1, Stop(), "measured") == []
    assert [command[3:] for command in executor.commands] == [
        (
            "eval",
            f"--gin_file={directory}/config.gin",
            "--gin_file=runs/eval.gin",
            f"--gin_file={file}",
        )
        for file in files
        for directory in cells.values()
    ]
    assert measure(cells, chosen, Told(), 1, Stop(), "measured") == []
    Path(files[1]).write_text(SUITE + "SPLIT = 'another'\n")  # which is another suite
    executor = Told(0, 0)
    assert measure(cells, suites_of(files), executor, 1, Stop(), "measured") == []
    assert len(executor.commands) == 2 and len(measured_by(cells["a"])) == 3


def test_a_comment_in_a_suite_measures_nothing_again(prepared):
    _, files = prepared
    before = [suite.digest for suite in suites_of(files)]
    Path(files[0]).write_text("# What it is about.\n" + Path(files[0]).read_text())
    assert [suite.digest for suite in suites_of(files)] == before


def test_what_fails_is_tried_again_and_told(prepared, capsys):
    """A mistake of the user's once, anything else as often as a run; the others go on."""
    cells, files = prepared
    executor = Told(2, 0, 1, 1, 0)
    assert measure(cells, suites_of(files), executor, 1, Stop(), "measured") == [
        "a first", "a second"
    ]  # fmt: skip
    said = capsys.readouterr().out
    assert "a first  failed: t5x-like: error: it is wrong" in said and "b second  measured" in said
    assert measured_by(cells["a"]) == {} and len(measured_by(cells["b"])) == 2


def test_bad_suites_are_one_line(prepared):
    cells, files = prepared
    with pytest.raises(UserError, match=r"nowhere\.gin"):
        suites_of(["nowhere.gin"])
    with pytest.raises(UserError, match=r"SUITES has '.*first\.gin' twice"):
        suites_of([files[0], files[0]])
    again = Path(files[0]).with_name("again.gin")
    again.write_text(SUITE + "SPLIT = 'part0'\nBATCH_SIZE = 3\n")
    with pytest.raises(UserError, match=r"again\.gin', both of a run's own task, split 'part0'"):
        suites_of([*files, str(again)])
    (cells["a"] / "measured.json").write_text("[1")
    with pytest.raises(UserError, match=r"measured.json' is damaged: delete it"):
        measured_by(cells["a"])


@pytest.fixture
def tiny(corpus, tmp_path):
    small = tmp_path / "small.gin"
    small.write_text(SMALL + "\n")
    base = [*(flag.removeprefix("--gin_file=") for flag in corpus), str(small)]
    grid = grids.Product({"SEED": [1]})
    return Sweep(name="tiny", family="gpt2", base=base, grid=grid)


def test_printed_commands_measure_too(tiny, tmp_path, capsys):
    (tmp_path / "mine.gin").write_text(SUITE)
    found = run_sweep(
        sweep=tiny, sweep_dir=f"{tmp_path}/sweep", executor=executors.Print(),
        suites=[f"{tmp_path}/mine.gin"],
    )  # fmt: skip
    lines = [line for line in capsys.readouterr().out.splitlines() if "--gin_file" in line]
    assert ["train" in lines[0].split(), "eval" in lines[1].split()] == [True, True]
    assert found["not_measured"] == []


@pytest.mark.slow
def test_a_sweep_is_measured_when_it_is_trained_and_not_again(tiny, tmp_path):
    (tmp_path / "mine.gin").write_text(SUITE)
    settings = {"sweep": tiny, "sweep_dir": f"{tmp_path}/sweep"}
    loss = sweep_results(run_sweep(**settings)["directory"])["loss"].iloc[0]
    for _ in range(2):
        found = run_sweep(**settings, suites=[f"{tmp_path}/mine.gin"])
        assert (found["done"], found["not_measured"]) == (1, [])
    directory = tmp_path / "sweep/cells/seed_1"
    records = map(json.loads, (directory / "metrics.jsonl").read_text().splitlines())
    (record,) = [one for one in records if "task" in one]
    assert (record["step"], record["task"]) == (8, "proverbs")
    table = sweep_measurements(f"{tmp_path}/sweep")
    assert set(table["task"]) == {"proverbs"} and "loss" in set(table["metric"])
    assert sweep_results(f"{tmp_path}/sweep")["loss"].iloc[0] == loss
