"""A sweep runs to its end: in parallel, past failures, through kills; each run an ordinary one."""

import contextlib
import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest

from t5x_like import cli, config, load_run
from t5x_like.errors import UserError
from t5x_like.scaling.sweeps import executors, grids
from t5x_like.scaling.sweeps.executors import Job, child, executor
from t5x_like.scaling.sweeps.learning_rate_search import LearningRateSearch
from t5x_like.scaling.sweeps.results import sweep_results, training_curves
from t5x_like.scaling.sweeps.runner import run_sweep
from t5x_like.scaling.sweeps.sweep import StableThenDecay, Sweep
from tests.untimed import untimed

ROOT = Path(__file__).parents[4]
SMALL = "\n".join(["TRAIN_STEPS = 8", "WARMUP_STEPS = 1", "LOG_PERIOD = 2", "VALIDATION_ROWS = 2"])


@pytest.fixture(scope="module")
def base(corpus, tmp_path_factory):
    """Gin files of a tiny model, its task and eight steps."""
    path = tmp_path_factory.mktemp("base") / "small.gin"
    path.write_text(SMALL + "\n")
    return [*(flag.removeprefix("--gin_file=") for flag in corpus), str(path)]


@pytest.fixture
def sweep(base):
    def make(**changes):
        return Sweep(**{"name": "tiny", "family": "gpt2", "base": base, **changes})

    return make


class Here(executor.Executor):
    """Runs a job where the sweep runs, which has imported JAX already."""

    slots = 1

    def submit(self, job):
        assert job.command[:3] == (sys.executable, "-m", "t5x_like")
        with (
            job.log.open("a") as log,
            contextlib.redirect_stdout(log),
            contextlib.redirect_stderr(log),
        ):
            code = cli.main(list(job.command[3:]))
        return types.SimpleNamespace(poll=lambda: code)


@pytest.mark.slow
def test_runs_are_trained_once_and_a_failed_one_does_not_stop_the_others(sweep, tmp_path):
    grid = grids.Product({"LEARNING_RATE": [1e-2, -1.0]})
    result = run_sweep(sweep=sweep(grid=grid), sweep_dir=str(tmp_path), retries=1, executor=Here())
    good, bad = "learning_rate_0.01", "learning_rate_-1.0"
    assert result["failed"] == [bad] and result["done"] == 1
    frame = sweep_results(tmp_path).set_index("name")
    assert frame.loc[good, "status"] == "done" and frame.loc[bad, "status"] == "failed"
    assert 0 < frame.loc[good, "loss"] < 6 and frame.loc[good, "step"] == 8
    assert frame.loc[good, "tokens"] == 8 * 4 * 24
    assert (
        "learning rate -1.0: it must be above 0"
        in Path(frame.loc[bad, "directory"], "failed.txt").read_text()
    )
    run = load_run(frame.loc[good, "directory"])
    assert run.steps == [8] and len(run.metrics) == 5
    curves = training_curves(tmp_path)
    assert list(curves[curves.name == good].step) == [2, 4, 6, 8]

    # What is done is not run again, and another sweep is refused.
    log = tmp_path / "cells" / good / "log.txt"
    before = log.read_text()
    one = grids.Product({"LEARNING_RATE": [1e-2]})
    again = run_sweep(sweep=sweep(grid=one), sweep_dir=str(tmp_path))
    assert again["done"] == 1 and log.read_text() == before
    grown = grids.Product({"LEARNING_RATE": [1e-2], "TRAIN_STEPS": [9]})
    cells = [cell.name for cell in sweep(grid=grown, name="other").cells()]
    assert cells == ["learning_rate_0.01-train_steps_9"]  # a run of its own: the sweep may grow
    changed = sweep(grid=one, bindings={"TRAIN_STEPS": 9})
    with pytest.raises(
        UserError, match=r"holds another sweep: its run learning_rate_0.01 has tokens 768, this"
    ):
        run_sweep(sweep=changed, sweep_dir=str(tmp_path))

    # So is one whose runs would differ in what the table of runs does not show.
    gin_file = tmp_path / "cells" / good / "cell.gin"
    text, plan = gin_file.read_text(), (tmp_path / "sweep.json").read_text()
    for bindings, said in (
        ({"DROPOUT_RATE": 0.5}, "model.dropout_rate 0.0, this one 0.5"),
        ({"VALIDATION_ROWS": 1}, "validation_rows 2, this one 1"),
    ):
        with pytest.raises(UserError, match=f"its run {good} has {re.escape(said)}. Choose"):
            run_sweep(sweep=sweep(grid=one, bindings=bindings), sweep_dir=str(tmp_path))
        assert (gin_file.read_text(), (tmp_path / "sweep.json").read_text()) == (text, plan)
    file = Path(sweep(grid=one).base[-1])
    before_change = file.read_text()
    file.write_text(before_change + "DROPOUT_RATE = 0.5\n")
    with pytest.raises(UserError, match=r"model\.dropout_rate"):
        run_sweep(sweep=sweep(grid=one), sweep_dir=str(tmp_path))
    file.write_text(before_change)
    often = sweep(grid=one, bindings={"LOG_PERIOD": 1})
    assert run_sweep(sweep=often, sweep_dir=str(tmp_path))["done"] == 1
    assert log.read_text() == before


def test_two_processes_do_not_run_one_sweep(sweep, tmp_path):
    import fcntl

    tmp_path.mkdir(exist_ok=True)
    with open(tmp_path / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match=r"SWEEP_DIR .* is in use by another sweep"):
            run_sweep(sweep=sweep(grid=grids.Product({"SEED": [0]})), sweep_dir=str(tmp_path))


def test_printed_commands_run_the_cells(sweep, tmp_path, capsys):
    grid = grids.Product({"SEED": [0, 1]})
    run_sweep(sweep=sweep(grid=grid), sweep_dir=str(tmp_path), executor=executors.Print())
    lines = [line for line in capsys.readouterr().out.splitlines() if "--gin_file" in line]
    assert len(lines) == 2
    name = lines[0].split("--gin_file=")[1].strip("'")
    with config.isolated():
        config.parse([name])
        assert config.macro("SEED") == 0
    assert all(Path(tmp_path, "cells", f"seed_{i}", "cell.gin").is_file() for i in (0, 1))


@pytest.mark.slow
def test_decays_branch_off_one_stable_run(base, tmp_path):
    """The branch's first losses are the stem's own, for as long as both rates are the same."""
    bindings = {"VOCAB_SIZE": 384, "TASK_FEATURE_LENGTHS": {"targets": 24}}
    from t5x_like.scaling.recipe import Recipe

    recipe = Recipe(batch_coefficient=96, batch_exponent=0, min_steps=8, warmup_fraction=0.01)
    made = Sweep(
        name="branches",
        family="gpt2",
        base=base[1:],
        grid=grids.Parametric([30e3], [0.05, 0.1]),
        recipe=recipe,
        schedule=StableThenDecay(0.5),
        bindings=bindings,
    )
    result = run_sweep(sweep=made, sweep_dir=str(tmp_path))
    assert result["failed"] == []
    frame = sweep_results(tmp_path)
    short, long = (frame.iloc[i] for i in (0, 1))
    assert short.status == long.status == "done"
    stem = short.stem["step"]
    first = load_run(short.directory).metrics
    assert first[first.split == "train"].step.min() > stem
    assert "step " + str(stem) + " of " in Path(short.directory, "log.txt").read_text()
    assert short.steps < long.steps


@pytest.mark.slow
def test_rates_are_searched_first_as_one_program(sweep, base, tmp_path):
    from t5x_like.scaling.recipe import Recipe

    made = Sweep(
        name="searched",
        family="gpt2",
        base=base[1:],
        grid=grids.Parametric([30e3], [0.05]),
        recipe=Recipe(batch_coefficient=96, batch_exponent=0, min_steps=8),
        bindings={"VOCAB_SIZE": 384, "TASK_FEATURE_LENGTHS": {"targets": 24}},
        learning_rate_search=LearningRateSearch([3e8], [30e3], [0.1, 1.0, 10.0]),
        vectorize=True,
    )
    result = run_sweep(sweep=made, sweep_dir=str(tmp_path))
    assert result["failed"] == [] and result["done"] == 1
    [(_, factor)] = result["learning_rate_factors"][""]
    searched = json.loads((tmp_path / "sweep.json").read_text())["search"]
    assert len(searched) == 3
    rate = min(searched[1]["learning_rate"] * factor, made.recipe.max_learning_rate)
    assert sweep_results(tmp_path).learning_rate[0] == pytest.approx(rate, rel=0.02)

    # Another search is refused before it runs; of runs that have not begun it may find the rates.
    cells = {path.name for path in (tmp_path / "cells").iterdir()}
    wider = LearningRateSearch([3e8], [30e3], [0.1, 1.0, 10.0, 20.0])
    other = dataclasses.replace(made, learning_rate_search=wider)
    with pytest.raises(UserError, match=r"the rate of its run .* is of another search, without"):
        run_sweep(sweep=other, sweep_dir=str(tmp_path), executor=Here())
    assert {path.name for path in (tmp_path / "cells").iterdir()} == cells
    (one,) = (path for path in (tmp_path / "cells").iterdir() if "rate" not in path.name)
    shutil.rmtree(one)
    again = run_sweep(sweep=other, sweep_dir=str(tmp_path))
    assert again["failed"] == [] and again["done"] == 1


SWEEP_GIN = """
from __gin__ import dynamic_registration
from t5x_like.scaling.sweeps import executors
from t5x_like.scaling.sweeps import grids
from t5x_like.scaling.sweeps import sweep
include 'sweeps/defaults.gin'
sweep.Sweep:
  name = 'killed'
  family = 'gpt2'
  base = {base}
GRID = @grids.Product()
grids.Product.values = {{'SEED': [0, 1], 'LEARNING_RATE': [1e-2], 'TRAIN_STEPS': [60]}}
"""


def numbers(sweep_dir):
    """What every run has logged, but for times."""
    paths = sorted(sweep_dir.glob("cells/*/metrics.jsonl"))
    return {path.parent.name: untimed(path.parent) for path in paths}


@pytest.mark.slow
def test_a_sweep_that_is_killed_twice_gives_the_same_numbers(base, tmp_path):
    gin_file = tmp_path / "killed.gin"
    gin_file.write_text(SWEEP_GIN.format(base=base))
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    command = [sys.executable, "-m", "t5x_like", "sweep", f"--gin_file={gin_file}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    subprocess.run([*command, f"--gin.SWEEP_DIR={whole}"], env=environment, check=True)
    for seconds in (12, 14):
        process = subprocess.Popen([*command, f"--gin.SWEEP_DIR={cut}"], env=environment)
        time.sleep(seconds)
        process.kill()
        process.wait()
        time.sleep(1)
        assert not orphans(cut)
    process = subprocess.Popen([*command, f"--gin.SWEEP_DIR={cut}"], env=environment)
    time.sleep(8)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) in (143, 0)
    subprocess.run([*command, f"--gin.SWEEP_DIR={cut}"], env=environment, check=True)
    assert numbers(cut) == numbers(whole)


def orphans(sweep_dir):
    """Processes that still train below a directory."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = path.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if str(sweep_dir) in text and "train" in text:
            found.append(text)
    return found


# -- Executors -----------------------------------------------------------------------------------


def wait_for(handle, seconds=60):
    end = time.monotonic() + seconds
    while handle.poll() is None and time.monotonic() < end:
        time.sleep(0.05)
    return handle.poll()


def job(tmp_path, code, name="job"):
    return Job(name, (sys.executable, "-c", code), tmp_path / "log.txt")


@pytest.fixture(
    params=["Local", pytest.param("Ray", marks=pytest.mark.slow), "Slurm"],
)
def place(request, tmp_path):
    if request.param == "Local":
        return executors.Local(workers=1)
    if request.param == "Ray":
        pytest.importorskip("ray", reason="needs the extra [ray]")
        return executors.Ray(num_cpus=1)
    pytest.importorskip("submitit", reason="needs the extra [slurm]")
    return executors.Slurm(str(tmp_path / "submitit"), cluster="local")


def test_an_executor_runs_commands_and_tells_their_exit_codes(place, tmp_path):
    done = place.submit(job(tmp_path, "print('said'); raise SystemExit(3)"))
    assert wait_for(done) == 3
    assert (tmp_path / "log.txt").read_text() == "said\n"


@pytest.mark.slow
def test_a_stopped_job_is_asked_to_save_first(place, tmp_path):
    code = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('saved', flush=True), sys.exit(143)))\n"
        "print('started', flush=True)\n"
        "time.sleep(60)"
    )
    handle = place.submit(job(tmp_path, code))
    log = tmp_path / "log.txt"
    end = time.monotonic() + 60
    while "started" not in (log.read_text() if log.exists() else ""):
        assert time.monotonic() < end
        time.sleep(0.05)
    handle.stop()
    assert wait_for(handle) == 143
    end = time.monotonic() + 10
    while "saved" not in log.read_text() and time.monotonic() < end:
        time.sleep(0.05)
    assert "saved" in log.read_text()


def test_local_workers_have_cores_of_their_own(tmp_path):
    local = executors.Local(cores_per_worker=1)
    code = "import os; print(sorted(os.sched_getaffinity(0)))"
    handles = [
        local.submit(Job(str(i), (sys.executable, "-c", code), tmp_path / f"{i}.txt"))
        for i in range(local.slots)
    ]
    assert [wait_for(handle) for handle in handles] == [0] * local.slots
    seen = {(tmp_path / f"{i}.txt").read_text() for i in range(local.slots)}
    assert len(seen) == local.slots


def test_a_process_dies_with_the_one_that_started_it(tmp_path):
    pid_file = tmp_path / "pid"
    inner = f"import os, time; open({str(pid_file)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    program = f"""
import subprocess, sys, time
from t5x_like.scaling.sweeps.executors import child
subprocess.Popen(child.ended_with_parent([sys.executable, '-c', {inner!r}]))
time.sleep(60)
"""
    outer = subprocess.Popen([sys.executable, "-c", program], env=executor.environment())
    end = time.monotonic() + 30
    while not (pid_file.exists() and pid_file.read_text()):
        assert time.monotonic() < end
        time.sleep(0.05)
    pid = int(pid_file.read_text())
    outer.kill()
    outer.wait()
    while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_missing_library_is_named_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 't5x-like\[ray\]'"):
        executors.Ray().submit(job(tmp_path, ""))
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(UserError, match=r"pip install 't5x-like\[slurm\]'"):
        executors.Slurm(str(tmp_path)).submit(job(tmp_path, ""))


def test_the_command_lists_what_it_would_run(capsys):
    code = cli.main(
        ["sweep", "--gin_file=sweeps/isoflop_quick.gin", "--gin.SWEEP_DIR=none", "--dry_run"]
    )
    out = capsys.readouterr().out
    assert code == 0 and "15 runs, 7.75" in out and not Path("none").exists()
    assert child.PARENT_DEATH.endswith("parent_death.py")


@pytest.mark.slow
def test_a_sweep_leaves_the_accelerator_to_its_runs():
    """A process that has asked JAX for devices keeps a TPU, and most of a GPU's memory."""
    program = """
import sys
from jax._src import xla_bridge
from t5x_like import cli
assert cli.main(sys.argv[1:]) == 0
assert not xla_bridge.backends_are_initialized()
"""
    for name in ("isoflop_quick", "t5_architectures", "tournament_cpu"):
        flags = ["sweep", f"--gin_file=sweeps/{name}.gin", "--gin.SWEEP_DIR=none", "--dry_run"]
        done = subprocess.run([sys.executable, "-c", program, *flags], capture_output=True)
        assert done.returncode == 0, done.stderr.decode()


BINDINGS = "--gin.sweep.Sweep.bindings="
SHOW = ["sweep", "--gin_file=sweeps/isoflop_quick.gin", "--gin.SWEEP_DIR=none", "--dry_run"]


@pytest.mark.slow
def test_the_command_shows_all_that_one_run_is_configured_with(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path.parent))
    (tmp_path.parent / "runs_own_module.py").write_text("")
    more = ["--gin.CACHE_DIR=here", "--module_import=runs_own_module"]
    assert cli.main([*SHOW, *more, "--cell=c4e11-d32-l2"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("# Cell c4e11-d32-l2 of the sweep isoflop_quick: ")
    place = rf"{re.escape(str(tmp_path))}/none/cells/c4e11-d32-l2/cell.gin:\d+"
    assert re.search(rf"^EMBED_DIM = 32  # {place}$", text, re.M)
    assert re.search(rf"^CACHE_DIR = 'here'  # {place}, over runs/defaults.gin:\d+$", text, re.M)
    assert re.search(r"^optimizers.muon.beta = 0.95  # optimizers/muon.gin:\d+$", text, re.M)
    assert "import runs_own_module\n" in text  # it reaches the run
    assert "include" not in text and not list(tmp_path.iterdir())
    (tmp_path / "cell.gin").write_text(text)
    assert cli.main(["train", "--gin_file=cell.gin", "--dry_run"]) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([*SHOW, "--cell=c4e11-d32-l3"], "has no run 'c4e11-d32-l3'. Did you mean c4e11-d32-l2"),
        ([*SHOW, "--cell=best"], "has no run 'best'. --dry_run alone lists its runs."),
        ([*SHOW[:-1], "--cell=c4e11-d32-l2"], "give --dry_run too"),
        ([*SHOW, "--gin_search_paths=mine"], "--gin_search_paths is not handed on to the runs"),
        # What a run would refuse, the dry run refuses.
        ([*SHOW, f"{BINDINGS}{{'TASK': 7}}"], "cannot be built: TASK is 7, but train/"),
        ([*SHOW, f"{BINDINGS}{{'train.train.tensorboard': 7}}"], "tensorboard is 7, but it takes"),
    ],
)
def test_what_cannot_be_shown_is_told_in_one_line(flags, message, capsys):
    assert cli.main(flags) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_sweep_ends_by_naming_the_command_of_its_report(capsys, tmp_path, monkeypatch):
    result = {"runs": 2, "done": 1, "failed": ["b"], "directory": f"{tmp_path}/my sweep"}
    monkeypatch.setattr(config, "configured", lambda *_: lambda: result)
    assert cli.main([*SHOW[:2], "--gin.SWEEP_DIR=none"]) == 2
    assert f"\nt5x-like report '{tmp_path}/my sweep'\n" in capsys.readouterr().out
