"""What is read of a sweep's directory: states, losses, and plans that are none."""

import json
import os

import numpy as np
import pytest

from t5x_like.cli import main
from t5x_like.errors import UserError
from t5x_like.scaling.report import series
from t5x_like.scaling.sweeps.results import read_sweep, sweep_results, training_curves

CELL = {
    "name": "a",
    "variant": "",
    "family": "gpt2",
    "budget": None,
    "parameters": 1000,
    "parameters_without_embeddings": 800,
    "active_parameters": 1000,
    "tokens": 5000,
    "flops": 3e7,
    "model_flops": 3e7,
    "steps": 10,
    "batch_tokens": 500,
    "learning_rate": 0.01,
    "warmup_fraction": 0.05,
    "seed": 0,
    "num_layers": None,
    "embed_dim": None,
    "num_heads": None,
    "stem": None,
}
PLAN = {"name": "tiny", "family": "gpt2", "cells": [CELL], "search": []}
VALIDATED = {"step": 10, "split": "validation", "loss": 2.5}


def sweep(root, plan=PLAN, records=(), checkpoints=None):
    root.mkdir(exist_ok=True)
    (root / "sweep.json").write_text(plan if isinstance(plan, str) else json.dumps(plan))
    cell = root / "cells" / "a"
    cell.mkdir(parents=True, exist_ok=True)
    lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
    (cell / "metrics.jsonl").write_text("".join(line + "\n" for line in lines))
    for name in checkpoints or ():
        (cell / "checkpoints" / name).mkdir(parents=True, exist_ok=True)
    return root


def state(root):
    return sweep_results(root).iloc[0]


def test_a_loss_has_the_standard_error_of_its_validation(tmp_path):
    error = {"loss_standard_error": 0.04}
    assert state(sweep(tmp_path, records=[{**VALIDATED, **error}]))["loss_standard_error"] == 0.04


# -- Done ----------------------------------------------------------------------------------------


def test_a_run_is_done_when_its_last_checkpoint_is_written_and_not_before(tmp_path):
    # It is validated first; Orbax renames a checkpoint into place when it is whole.
    unsaved = ["8", "10.orbax-checkpoint-tmp-1"]
    found = state(sweep(tmp_path, records=[VALIDATED], checkpoints=unsaved))
    assert found["status"] == "running" and np.isnan(found["loss"])
    found = state(sweep(tmp_path, records=[VALIDATED], checkpoints=["10"]))
    assert found["status"] == "done" and found["loss"] == 2.5


def test_a_run_stays_done_without_its_checkpoints(tmp_path):
    assert state(sweep(tmp_path, records=[VALIDATED]))["status"] == "done"


# -- Losses --------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["null", "NaN", "Infinity", '"high"'])
def test_a_loss_that_is_no_finite_number_is_none(tmp_path, loss):
    train = f'{{"step": 5, "split": "train", "loss": {loss}, "seconds": null}}'
    last = f'{{"step": 10, "split": "validation", "loss": {loss}}}'
    root = sweep(tmp_path, records=[train, last])
    found = state(root)
    assert found["status"] == "done" and not np.isfinite(found["loss"])
    assert not np.isfinite(found["train_loss"]) and np.isnan(found["seconds"])
    assert not np.isfinite(training_curves(root)["loss"]).any()
    assert main(["report", str(root), "--bootstrap=0"]) == 0


def test_curves_of_runs_without_a_record_are_none(tmp_path):
    root = sweep(tmp_path, records=[VALIDATED])
    assert series.envelope(training_curves(root)).empty


def test_damaged_lines_and_records_without_a_step_or_a_loss_are_passed_over(tmp_path):
    records = ["[]", "3", "null", "\0" * 9, '{"step": 5, "spl', {"split": "train"}, {"step": 5}]
    records.append({"step": 5, "split": "train"})
    found = state(sweep(tmp_path, records=[*records, VALIDATED]))
    assert found["loss"] == 2.5 and found["step"] == 5 and np.isnan(found["train_loss"])


# -- Plans ---------------------------------------------------------------------------------------


def changed(**fields):
    return {**PLAN, "cells": [{**CELL, **fields}]}


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ("", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ("[]", 'it has no list of "cells"'),
        ({"name": "tiny", "family": None, "cells": {}}, 'it has no list of "cells"'),
        ({**PLAN, "name": None}, "its name is None"),
        ({**PLAN, "family": ["gpt2"]}, r"its family is \['gpt2'\]"),
        ({**PLAN, "search": 3}, "its search is 3, not a list"),
        ({**PLAN, "cells": [3]}, "run 1 is 3"),
        ({**PLAN, "cells": [CELL, CELL]}, "two runs are called a"),
        (changed(name="../../secret"), r"run 1 is called '../../secret', which is no name of a"),
        (changed(name=".."), "no name of a folder"),
        (changed(name="/etc"), "no name of a folder"),
        (changed(name=3), "no name of a folder"),
        (changed(variant=None), "the variant of run a is None"),
        (changed(parameters=-5), "the parameters of run a is -5, not above 0"),
        (changed(active_parameters=0), "not above 0"),
        (changed(model_flops=-1), "below 0"),
        (changed(learning_rate="high"), "not a number"),
        (changed(tokens="many"), "the tokens of run a is 'many', not a number"),
        (changed(steps=True), "not a number"),
        (changed(flops=10**400), "not a number"),
        (changed(budget="1e18"), "the budget of run a is '1e18', not a number"),
    ],
)
def test_a_plan_that_is_none_is_refused_in_one_line(tmp_path, capsys, plan, message):
    root = sweep(tmp_path, plan)
    with pytest.raises(UserError, match=message):
        read_sweep(root)
    for command in ("report", "fit"):
        assert main([command, str(root)]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_a_field_that_is_missing_is_named(tmp_path):
    cell = {name: value for name, value in CELL.items() if name != "batch_tokens"}
    with pytest.raises(UserError, match="the batch_tokens of run a is None, not a number"):
        read_sweep(sweep(tmp_path, {**PLAN, "cells": [cell]}))


def test_a_pipe_or_a_folder_in_place_of_the_plan_is_refused(tmp_path):
    os.mkfifo(tmp_path / "sweep.json")
    with pytest.raises(UserError, match="is not a file"):
        read_sweep(tmp_path)
    (tmp_path / "sweep.json").unlink()
    (tmp_path / "sweep.json").mkdir()
    with pytest.raises(UserError, match="is not a file"):
        read_sweep(tmp_path)


def test_a_pipe_in_place_of_the_metrics_is_refused(tmp_path):
    root = sweep(tmp_path)
    path = root / "cells" / "a" / "metrics.jsonl"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UserError, match=r"metrics\.jsonl"):
        sweep_results(root)
