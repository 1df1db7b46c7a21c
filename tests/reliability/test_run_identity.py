"""A run is not continued as another one: what is refused, what passes, what is said."""

import os
import shutil
from types import SimpleNamespace

import pytest
from etils import epath

from t5x_like import cli
from t5x_like.checkpoints import Checkpointer
from t5x_like.host import directory_lock
from t5x_like.training import identity as run_identity
from t5x_like.training import metrics_log
from t5x_like.training.identity import RunIdentity


@pytest.fixture(scope="module")
def started(train_flags, tmp_path_factory):
    """A run stopped after four of eight steps; the flags it was started with."""
    model_dir = tmp_path_factory.mktemp("identity") / "run"
    flags = [*train_flags, f"--gin.MODEL_DIR={model_dir}"]
    assert cli.main([*flags, "--gin.TRAIN_STEPS=4"]) == 0
    return flags, model_dir


@pytest.fixture
def copied(started, tmp_path):
    """A copy of that run in `run`, and its flags."""
    flags, model_dir = started
    shutil.copytree(model_dir, tmp_path / "run")
    return [*flags[:-1], f"--gin.MODEL_DIR={tmp_path}/run"]


def files_of(directory):
    return {
        path.relative_to(directory): (path.stat().st_mtime_ns, path.read_bytes())
        for path in directory.rglob("*")
        if path.is_file()
    }


OTHER_RUNS = {
    "model": ("gpt.GPT2.embed_dim", "32", "model.embed_dim: 16 -> 32"),
    "data": ("TASK_FEATURE_LENGTHS", "{'targets': 20}", "task_feature_lengths.targets: 24 -> 20"),
    "seed": ("SEED", "1", "seed: 0 -> 1"),
    "batch": ("BATCH_SIZE", "8", "batch_size: 4 -> 8"),
    "optimizer": ("OPTIMIZER", "@optimizers.adamw()", "'Adafactor' -> 'AdamW'"),
    "learning rate": ("LEARNING_RATE", "0.5", "optimizer.schedule.peak: 0.01 -> 0.5"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "value", "said"), OTHER_RUNS.values(), ids=OTHER_RUNS)
def test_another_run_is_refused_with_the_differences(started, capsys, tally, name, value, said):
    flags, model_dir = started
    before = files_of(model_dir)
    assert cli.main([*flags, f"--gin.{name}={value}"]) == 2
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1
    assert "holds another run" in error and said in error and "--allow_config_change" in error
    assert files_of(model_dir) == before
    tally("bad inputs")


def test_a_run_that_another_process_trains_is_refused_and_nothing_of_it_is_touched(
    started, capsys, tally
):
    """Nor is the checkpoint cleaned up that the other one is writing."""
    flags, model_dir = started
    writing = model_dir / "checkpoints" / "6.orbax-checkpoint-tmp"
    writing.mkdir()
    held = directory_lock.lock(model_dir, "MODEL_DIR", "run")
    before = files_of(model_dir)
    assert cli.main(flags) == 2
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1 and "is in use by another run (process" in error
    assert files_of(model_dir) == before and writing.is_dir()
    held.release()
    writing.rmdir()
    tally("faults")


@pytest.mark.slow
def test_a_run_without_a_checkpoint_is_compared_too(copied, capsys, tmp_path):
    """It may have been stopped before its first; its metrics are those of its seed."""
    flags = [*copied, "--gin.TRAIN_STEPS=4"]
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    capsys.readouterr()
    before = files_of(tmp_path / "run")
    assert cli.main([*flags, "--gin.SEED=1"]) == 2
    error = capsys.readouterr().err
    assert "holds another run" in error and "; seed: 0 -> 1" in error
    assert files_of(tmp_path / "run") == before
    assert cli.main([*flags, "--gin.SEED=1", "--allow_config_change"]) == 0
    assert "resumes as another run: " in capsys.readouterr().out


def test_a_run_on_other_text_is_refused_before_the_text_is_tokenized(
    started, tmp_path, capsys, tally
):
    flags, model_dir = started
    before = files_of(model_dir)
    (tmp_path / "other.txt").write_text("Other text.\nAnd more of it.\n")
    other = dict.fromkeys(("train", "validation"), str(tmp_path / "other.txt"))
    flags = [*flags, f"--gin.sources.TextFiles.files={other}"]
    assert cli.main([*flags, f"--gin.CACHE_DIR={tmp_path}/cache"]) == 2
    error = capsys.readouterr().err.strip()
    changed = "dataset.task: its source, vocabulary or preprocessing has changed"
    assert f"holds another run: {changed}" in error
    assert not (tmp_path / "cache").exists()
    assert files_of(model_dir) == before
    tally("bad inputs")


@pytest.mark.slow
def test_harmless_changes_pass_and_are_logged(copied, capsys):
    changes = ["--gin.TRAIN_STEPS=6", "--gin.train.train.log_period=1", "--gin.NUM_MICROBATCHES=2"]
    assert cli.main([*copied, *changes]) == 0
    said = capsys.readouterr().out
    assert "train_steps: 4 -> 6" in said and "log_period: 2 -> 1" in said
    assert "num_microbatches: 1 -> 2" in said


def test_of_models_that_mix_rows_microbatches_are_part_of_the_run():
    """Switch's experts have room for the tokens of a microbatch."""
    from models import switch, t5
    from t5x_like.training.plan import TrainingPlan

    sizes = {"vocab_size": 16, "embed_dim": 8, "num_heads": 1, "mlp_dim": 8}

    def identity(model, pieces):
        read = "dataset optimizer seed train_steps validation_period checkpoint_policy log_period"
        rest = dict.fromkeys([*read.split(), "anomaly_policy", "validation", "evaluations"])
        plan = SimpleNamespace(model=model, num_microbatches=pieces, frozen={}, **rest)
        return TrainingPlan.described(plan, mesh=False).identity

    for kind, counts in ((switch.Switch, True), (t5.T5_1_1, False)):
        one, two = (identity(kind(**sizes), pieces) for pieces in (1, 2))
        assert (one != two) is counts


@pytest.mark.slow
def test_with_leave_it_goes_on_as_another_run(train_flags, capsys, tmp_path):
    """The data of another batch size begin again; the parameters and the step stay."""
    here = [*train_flags, f"--gin.MODEL_DIR={tmp_path}/run"]
    assert cli.main([*here, "--gin.TRAIN_STEPS=4"]) == 0
    allowed = [*here, "--gin.BATCH_SIZE=8", "--gin.TRAIN_STEPS=6", "--allow_config_change"]
    assert cli.main(allowed) == 0
    said = capsys.readouterr().out
    assert "warning: resumes as another run: dataset.batch_size: 4 -> 8" in said
    assert "read from their beginning" in said
    assert metrics_log.read_records(f"{tmp_path}/run")[-1]["step"] == 6
    # It is that run from now on.
    assert cli.main([*here, "--gin.BATCH_SIZE=8", "--gin.TRAIN_STEPS=7"]) == 0


@pytest.mark.slow
def test_its_own_config_continues_a_run(train_flags, tmp_path, capsys):
    """`config.gin` says the same as the files it was made of."""
    here = [*train_flags, f"--gin.MODEL_DIR={tmp_path}/run"]
    assert cli.main([*here, "--gin.TRAIN_STEPS=2"]) == 0
    again = ["train", f"--gin_file={tmp_path}/run/config.gin", "--gin.TRAIN_STEPS=4"]
    assert cli.main(again) == 0
    assert "resumes as another run" not in capsys.readouterr().out


def test_a_schedule_as_long_as_the_run_follows_it():
    def described(steps, end):
        identity = {"optimizer.schedule.total_steps": str(end)}
        return RunIdentity(identity, {"train_steps": str(steps)})

    assert run_identity.compare(described(10, 10), described(20, 20)).refused == []
    assert run_identity.compare(described(10, 10), described(20, 30)).refused
    assert run_identity.compare(described(10, 5), described(10, 6)).refused


def test_a_field_that_an_earlier_version_had_not_is_no_change_where_it_says_nothing():
    before, unset, given = (
        RunIdentity({"model": "GPT2", **more}, {})
        for more in ({}, {"model.tuning": "None"}, {"model.tuning": "LoRA"})
    )
    assert run_identity.compare(before, unset).refused == []
    assert run_identity.compare(unset, before).refused == []
    assert run_identity.compare(before, given).refused == ["model.tuning: not there -> LoRA"]


def test_of_what_was_replaced_the_parts_are_not_told():
    before = RunIdentity({"block": "Serial", "block.mlp": "4"}, {})
    now = RunIdentity({"block": "Parallel", "block.mlp": "8", "block.norm": "rms"}, {})
    assert run_identity.compare(before, now).refused == ["block: Serial -> Parallel"]


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"identity": {}, "settings": []}',
        '{"identity": {"seed": 0}, "settings": {}}',
        "[" * 100_000,
        '{"a":' * 100_000,
    ],
)
def test_a_damaged_record_is_named(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(run_identity.UserError, match=r"run\.json' is damaged"):
        run_identity.check(epath.Path(tmp_path), RunIdentity({}, {}))


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_stands_in_its_place_and_is_no_file_is_refused(tmp_path, make):
    make(tmp_path / "run.json")
    with pytest.raises(run_identity.UserError, match=r"run\.json' is not a file"):
        run_identity.check(epath.Path(tmp_path), RunIdentity({}, {}))


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: open(path, "w").close()])
def test_a_folder_of_checkpoints_that_is_none_is_refused(tmp_path, make):
    make(tmp_path / "checkpoints")
    with pytest.raises(run_identity.UserError, match=r"folder of checkpoints .* cannot be written"):
        Checkpointer(str(tmp_path))
