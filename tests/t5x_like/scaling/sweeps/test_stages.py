"""Runs of several stages: what is shared is run once, and each later one starts from an earlier."""

import json
import shutil
from pathlib import Path

import pytest

from t5x_like.errors import UserError
from t5x_like.scaling.sweeps import executors, grids
from t5x_like.scaling.sweeps.learning_rate_search import LearningRateSearch
from t5x_like.scaling.sweeps.results import read_sweep, sweep_results
from t5x_like.scaling.sweeps.runner import run_sweep
from t5x_like.scaling.sweeps.sweep import Stage, Sweep, Variant
from tests.t5x_like.scaling.sweeps.test_runner import SMALL
from tests.untimed import untimed

STAGES = (
    Stage("pretrain", bindings={"TRAIN_STEPS": 8}),
    Stage("tune", bindings={"TRAIN_STEPS": 6, "LEARNING_RATE": 1e-3}),
)


@pytest.fixture(scope="module")
def base(corpus, tmp_path_factory):
    path = tmp_path_factory.mktemp("base") / "small.gin"
    path.write_text(SMALL + "\n")
    return [*(flag.removeprefix("--gin_file=") for flag in corpus), str(path)]


@pytest.fixture
def sweep(base):
    def make(*variants, **changes):
        return Sweep(
            **{
                **{"name": "staged", "family": "gpt2", "base": base, "stages": STAGES},
                **{"grid": grids.Product({}), "variants": variants or (Variant(),), **changes},
            }
        )

    return make


def names(stages):
    return [[cell.name for cell in stage] for stage in stages]


def test_a_warm_up_longer_than_a_stage_is_refused_before_any_run(sweep):
    """A sweep would train and fail one run after the other."""
    with pytest.raises(UserError, match=r"'base' .*WARMUP_STEPS, 9, are more .* TRAIN_STEPS, 6"):
        sweep(Variant("base", stage_bindings={"tune": {"WARMUP_STEPS": 9}})).stage_cells()


def test_a_variant_may_change_each_stage_in_its_own_way(sweep):
    longer = {"pretrain": {"TRAIN_STEPS": 16}, "tune": {"TRAIN_STEPS": 12}}
    made = sweep(Variant("base"), Variant("longer", stage_bindings=longer))
    steps = [[cell.training.steps for cell in stage] for stage in made.stage_cells()]
    assert steps == [[8, 16], [6, 12]]
    with pytest.raises(UserError, match="'longer' changes the stage 'tuning': there are pre"):
        sweep(Variant("longer", stage_bindings={"tuning": {}}))


def test_variants_of_the_last_stage_share_the_first(sweep):
    made = sweep(
        Variant("slow", stage="tune"),
        Variant("fast", bindings={"LEARNING_RATE": 1e-2}, stage="tune"),
        seeds=(0, 1),
    )
    first, last = made.stage_cells()
    assert names([first]) == [["pretrain-base-s0", "pretrain-base-s1"]]
    assert names([last]) == [["slow-base-s0", "slow-base-s1", "fast-base-s0", "fast-base-s1"]]
    assert [cell.start.cell for cell in last] == [cell.name for cell in first] * 2
    assert {cell.start.step for cell in last} == {8} and {cell.training.steps for cell in last} == {
        6
    }
    assert [cell.bindings["SEED"] for cell in (*first, *last)] == [0, 1, 0, 1, 0, 1]
    assert [cell.variant for cell in (*first, *last)] == ["", "", "slow", "slow", "fast", "fast"]
    rates = [cell.training.learning_rate for cell in (*first, *last)]
    assert rates[2:] == [1e-3, 1e-3, 1e-2, 1e-2] and 1e-3 not in rates[:2]
    assert made.cells() == last


def test_variants_of_the_first_stage_share_nothing(sweep):
    """What one changes in pre-training, its fine-tuning does not read."""
    rate = {"LEARNING_RATE": 5e-2}
    variants = [Variant("a", stage="pretrain"), Variant("b", bindings=rate, stage="pretrain")]
    first, last = sweep(*variants).stage_cells()
    assert names([first, last]) == [["pretrain-a-base", "pretrain-b-base"], ["a-base", "b-base"]]
    assert [cell.training.learning_rate for cell in last] == [1e-3, 1e-3]
    assert first[1].training.learning_rate == 5e-2
    every = sweep(Variant("a"), Variant("b", bindings=rate)).stage_cells()
    assert [cell.training.learning_rate for cell in every[1]] == [1e-3, 5e-2]


def test_of_three_stages_what_comes_before_a_change_is_shared(sweep):
    stages = (*STAGES, Stage("again", bindings={"TRAIN_STEPS": 2}))
    rates = {"a": {"LEARNING_RATE": 1e-3}, "b": {"LEARNING_RATE": 1e-2}}
    variants = [Variant(name, stage="tune", bindings=rate) for name, rate in rates.items()]
    found = sweep(*variants, stages=stages).stage_cells()
    assert names(found) == [["pretrain-base"], ["tune-a-base", "tune-b-base"], ["a-base", "b-base"]]


def test_a_later_run_starts_from_the_parameters_at_the_end_of_the_earlier(sweep, tmp_path):
    first, last = sweep().stage_cells()
    text = last[0].gin_text("staged", tmp_path)
    assert "train.train.initial_checkpoint = @checkpoints.InitialCheckpoint()" in text
    assert f"path = '{tmp_path}/cells/pretrain-base/checkpoints/8'" in " ".join(text.split())
    assert "initial_checkpoint" not in first[0].gin_text("staged", tmp_path)


def test_the_first_stage_alone_is_as_long_as_the_grid_says(sweep, base):
    grid = grids.Parametric([30e3], [0.5])
    bindings = {"VOCAB_SIZE": 384, "TASK_FEATURE_LENGTHS": {"targets": 24}}
    stages = (Stage("pretrain"), STAGES[1])
    first, last = sweep(grid=grid, base=base[1:], bindings=bindings, stages=stages).stage_cells()
    size = first[0].size.parameters
    assert first[0].training.tokens == pytest.approx(size / 2, rel=0.05)
    assert (last[0].training.steps, last[0].size.parameters) == (6, size)


def test_a_plan_has_the_earlier_runs_apart_and_is_held_to_them(sweep, tmp_path, capsys):
    run_sweep(sweep=sweep(), sweep_dir=str(tmp_path), executor=executors.Print())
    lines = [line for line in capsys.readouterr().out.splitlines() if "train" in line]
    assert len(lines) == 2
    plan = read_sweep(tmp_path)
    assert plan["stages"] == ["pretrain", "tune"]
    assert [cell["name"] for cell in plan["earlier"]] == ["pretrain-base"]
    assert plan["cells"][0]["start"] == {"cell": "pretrain-base", "step": 8}
    assert list(sweep_results(tmp_path)["name"]) == ["base"]
    longer = (Stage("pretrain", bindings={"TRAIN_STEPS": 9}), STAGES[1])
    # What has not begun may be planned otherwise.
    for stages, steps in ((longer, 9), (STAGES, 8)):
        run_sweep(sweep=sweep(stages=stages), sweep_dir=str(tmp_path), executor=executors.Print())
        assert read_sweep(tmp_path)["earlier"][0]["steps"] == steps
    (tmp_path / "cells" / "pretrain-base" / "run.json").write_text("{}")
    with pytest.raises(UserError, match="holds another sweep: its run pretrain-base has tokens"):
        run_sweep(sweep=sweep(stages=longer), sweep_dir=str(tmp_path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stages": STAGES[:1]}, r"stages are \['pretrain'\]: give two or more, each its name"),
        ({"stages": (STAGES[0], STAGES[0])}, "give two or more, each its name"),
        ({"variants": [Variant("a", stage="fly")]}, "stage 'fly': there are pretrain, tune"),
        ({"variants": [Variant("a", stage="tune")], "stages": ()}, "'tune': there are none"),
        (
            {"variants": [Variant("a", stage="tune", family="bert")]},
            "'a': a family is that of all stages",
        ),
        ({"learning_rate_search": LearningRateSearch([1e9], [1e4])}, "no learning_rate_search"),
    ],
)
def test_stages_that_make_no_sense_are_refused(sweep, changes, message):
    with pytest.raises(UserError, match=message):
        sweep(**changes)


@pytest.mark.slow
def test_the_first_stage_is_trained_once_and_what_is_lost_is_trained_again(sweep, tmp_path):
    made = sweep(
        Variant("slow", stage="tune"),
        Variant("fast", bindings={"LEARNING_RATE": 1e-2}, stage="tune"),
    )
    found = run_sweep(sweep=made, sweep_dir=str(tmp_path))
    assert (found["runs"], found["done"], found["failed"]) == (3, 3, [])
    cells = tmp_path / "cells"
    runs = {path.name: untimed(path) for path in cells.iterdir()}
    log = Path(cells, "pretrain-base", "log.txt").read_text()
    # It starts where the first stage ended: lower than that began, at another step 0.
    first = {name: json.loads((cells / name / "metrics.jsonl").read_text().splitlines()[0])
             for name in runs}  # fmt: skip
    assert first["slow-base"]["step"] == first["pretrain-base"]["step"] == 2
    assert first["slow-base"]["loss"] < first["pretrain-base"]["loss"]
    assert runs["slow-base"] != runs["fast-base"]

    shutil.rmtree(cells / "fast-base")
    assert run_sweep(sweep=made, sweep_dir=str(tmp_path))["done"] == 3
    assert {path.name: untimed(path) for path in cells.iterdir()} == runs
    assert Path(cells, "pretrain-base", "log.txt").read_text() == log
