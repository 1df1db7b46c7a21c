"""Names that nothing reads: an error on the command line, a warning with its line in a file."""

import pytest

from t5x_like import cli, config, train
from t5x_like.config.macro_help import T5X_NAMES

PACKAGED = (
    "models/gpt2/tiny.gin", "tasks/stdlib_lm.gin", "optimizers/adamw.gin", "runs/pretrain.gin",
)  # fmt: skip
HEAD = """from __gin__ import dynamic_registration
from models import gpt
from models import t5
from t5x_like import data
from t5x_like import optimizers
from t5x_like import train
"""
TRAIN = "t5x_like.train.train"


@pytest.fixture(autouse=True)
def nothing_left_over():
    with config.isolated():
        yield


def messages(text="", flags=(), files=PACKAGED, programs=(TRAIN,), whole=True):
    """What is said of a file of these lines after the packaged ones, and of flags."""
    config.parse([*files, config.GinText("mine.gin", HEAD + text)], list(flags))
    return [one.message for one in config.unread(programs, ["CACHE_DIR", "TASK"], whole=whole)]


def test_what_is_read_is_passed_over():
    text = """
BATCH_SIZE = 8
MINE = 3
TRAIN_STEPS = %MINE
optimizers.adamw.weight_decay = 0.1
train/data.DatasetConfig.seed = 5
validation/data.DatasetConfig.split = 'test'
"""
    flags = [("language_model.LanguageModel.dtype", "bfloat16"), ("gpt.GPT2.num_layers", "1")]
    assert messages(text, flags) == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("BATCHSIZE", "nothing reads it. Did you mean BATCH_SIZE"),
        ("LEARNING_RAT", "nothing reads it. Did you mean LEARNING_RATE"),
        # AdamW's schedule here has none.
        ("DECAY_STEPS", "nothing reads it here (DECAY_STEPS: steps over which"),
        ("train/SEED", "nothing reads it. Did you mean SEED"),
        (
            "valdation/data.DatasetConfig.split",
            "valdation/data.DatasetConfig is not used, so that nothing reads it. "
            "Did you mean validation/data.DatasetConfig.split",
        ),
        (
            "optimizers.adafactor.momentum",
            "optimizers.adafactor is not used, so that nothing reads it. "
            "Did you mean optimizers.adamw",
        ),
        ("t5.T5.dtype", "t5.T5 is not used, so that nothing reads it."),
        (
            "data.DatasetConfig.split",
            "train/data.DatasetConfig.split and validation/data.DatasetConfig.split, bound in",
        ),
    ],
)
def test_a_flag_that_nothing_reads_is_told_with_the_nearest_name(name, said):
    (message,) = messages(flags=[(name, "1")])
    assert message.startswith(f"--gin.{name}: {said}")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("files", "more", "said"),
    [
        (
            PACKAGED,
            [],
            "nothing reads TRAIN_EPOCHS yet: give --gin_file=runs/epochs.gin after the run's file, "
            "and no TRAIN_STEPS.",
        ),
        (
            (*PACKAGED, "runs/epochs.gin"),
            [("TRAIN_STEPS", "5")],
            "TRAIN_STEPS is given too, and holds in place of TRAIN_EPOCHS: give one of the two.",
        ),
        ((*PACKAGED, "runs/epochs.gin"), [], None),
    ],
)
def test_epochs_need_the_file_that_reads_them_and_no_steps(files, more, said):
    found = messages(flags=[("TRAIN_EPOCHS", "1"), *more], files=files)
    assert found == ([] if said is None else [f"--gin.TRAIN_EPOCHS: {said}"])


def test_epochs_are_told_the_file_whose_steps_hold():
    files = (*PACKAGED, "runs/epochs.gin")
    (message,) = messages("TRAIN_STEPS = 5", [("TRAIN_EPOCHS", "1")], files)
    assert message == (
        "--gin.TRAIN_EPOCHS: TRAIN_STEPS, bound in mine.gin:7, holds in place of TRAIN_EPOCHS: "
        "give --gin_file=runs/epochs.gin after the run's file."
    )


def test_epochs_of_a_command_that_does_not_train_are_of_another():
    (message,) = messages(
        flags=[("TRAIN_EPOCHS", "1")],
        files=(*PACKAGED[:2], "runs/infer.gin"),
        programs=["t5x_like.infer.infer"],
    )
    assert message.startswith("--gin.TRAIN_EPOCHS: nothing reads it here")


def test_a_macro_that_is_none_here_is_told_the_parameter_of_its_name():
    """A training run's BATCH_SIZE may be too large to decode, so that `infer` has its own."""
    files = (*PACKAGED[:2], "runs/infer.gin")
    flags = [("BATCH_SIZE", "4")]
    (message,) = messages(flags=flags, files=files, programs=["t5x_like.infer.infer"])
    assert message.endswith("one global batch). Did you mean infer.infer.batch_size?")
    (message,) = messages(flags=[("VALIDATION_ROWS", "4")])
    assert message.endswith("nothing reads it. Did you mean train.train.validation_rows?")


def test_packing_may_be_bound_with_or_without_the_scope_of_training():
    for name in ("data.DatasetConfig.pack", "train/data.DatasetConfig.pack"):
        assert messages(flags=[(name, "False")]) == []
        assert config.reached(train.train)["dataset"][f"train/t5x_like.{name[-23:]}"] is False
    files = (*PACKAGED, "runs/finetune.gin")  # which binds it in the scope
    (message,) = messages(flags=[("data.DatasetConfig.pack", "True")], files=files)
    assert "train/data.DatasetConfig.pack, bound in runs/finetune.gin:" in message


@pytest.mark.parametrize("name", sorted(T5X_NAMES))
def test_a_macro_of_t5x_is_told_ours(name):
    (message,) = messages(flags=[(name, "1")])
    assert message == f"--gin.{name}: {name} is T5X's; here {T5X_NAMES[name]}."


@pytest.mark.parametrize(
    ("macro", "parameter", "files", "programs"),
    [
        ("EVAL_PERIOD", "train.train.validation_period", PACKAGED, TRAIN),
        (
            "EVAL_OUTPUT_DIR",
            "evaluate.evaluate.output_dir",
            (*PACKAGED, "runs/eval.gin"),
            "t5x_like.evaluate.evaluate",
        ),
    ],
)
def test_a_macro_of_t5x_that_works_as_there_is_read(macro, parameter, files, programs):
    assert messages(flags=[(macro, "7")], files=files, programs=[programs]) == []
    assert f"{parameter} = %{macro}" in config.full_text()


def test_a_macro_that_another_command_reads_is_told_with_its_purpose():
    (message,) = messages(flags=[("EVAL_OUTPUT_DIR", "out")])
    assert message == (
        "--gin.EVAL_OUTPUT_DIR: nothing reads it here (EVAL_OUTPUT_DIR: directory that an "
        "evaluation is written to, MODEL_DIR by default)."
    )


def test_a_name_in_a_file_is_told_with_its_line():
    # Of an object that is not used, the first of its parameters is enough.
    text = "\nLEARNING_RAT = 1\nt5.T5:\n  dtype = 'bfloat16'\n  embed_dim = 8\n"
    macro, parameter = messages(text)
    assert macro == "mine.gin:8: nothing reads LEARNING_RAT. Did you mean LEARNING_RATE?"
    assert parameter.startswith("mine.gin:10: t5.T5 is not used, so that nothing reads t5.T5.dtype")


def test_a_binding_that_another_has_replaced_is_not_told():
    assert messages("LEARNING_RATE = 1\n", [("LEARNING_RATE", "2")]) == []


def test_a_file_may_bind_what_another_program_reads():
    """`eval` is given the files of the training."""
    text = "TRAIN_STEPS = 3\ntrain.train.log_period = 3\n"
    files = (*PACKAGED, "runs/eval.gin")
    evaluate = "t5x_like.evaluate.evaluate"
    assert messages(text, files=files, programs=[TRAIN, evaluate]) == []
    config.parse(files, [("TRAIN_STEPS", "3")])
    (one,) = config.unread([evaluate], ["CACHE_DIR", "TASK"])
    assert one.message.startswith("--gin.TRAIN_STEPS: nothing reads it here (")


def test_a_command_that_shows_a_part_minds_misspelt_macros_and_scopes_alone():
    flags = [("TRAIN_STEPS", "3"), ("MODEL_DIR", "x"), ("t5.T5.dtype", "x"), ("BATCHSIZE", "8")]
    (message,) = messages(flags=flags, files=["tasks/stdlib_lm.gin"], programs=[], whole=False)
    assert message.startswith("--gin.BATCHSIZE: nothing reads it.")
    flags = [("valdation/data.DatasetConfig.seed", "1"), ("train/data.DatasetConfig.seed", "1")]
    (message,) = messages(flags=flags, programs=[], whole=False)
    assert message.startswith("--gin.valdation/data.DatasetConfig.seed: ")


def test_where_the_program_is_not_configured_that_is_to_be_told_first():
    flags = [("MODEL_DIR", "x"), ("optimizers.adamw.b1", "0.5")]
    assert messages(flags=flags, files=PACKAGED[:3]) == []
    (message,) = messages(flags=[("TRIAN_STEPS", "5")], files=PACKAGED[:3])
    assert message.startswith("--gin.TRIAN_STEPS: nothing reads it. Did you mean TRAIN_STEPS")


def test_a_record_of_a_run_is_minded_for_misspelt_macros_alone(tmp_path):
    (tmp_path / "config.gin").write_text(f"{HEAD}t5.T5.dtype = 'x'\nTRAIN_STEP = 3\nSEED = 1\n")
    config.parse([*PACKAGED, str(tmp_path / "config.gin")])
    (one,) = config.unread([TRAIN], ["CACHE_DIR", "TASK"])
    assert one.message.startswith(f"{tmp_path}/config.gin:8: nothing reads TRAIN_STEP.")


# -- As a user meets it ----------------------------------------------------------------------


def test_a_misspelt_flag_ends_a_command(train_flags, tmp_path, capsys):
    flags = [f"--gin.MODEL_DIR={tmp_path}/run", "--gin.BATCHSIZE=8", "--dry_run"]
    assert cli.main([*train_flags, *flags]) == 2
    meant = "BATCH_SIZE or BATCH_SCHEDULE?"
    said = f"t5x-like: error: --gin.BATCHSIZE: nothing reads it. Did you mean {meant}\n"
    assert capsys.readouterr().err == said


def test_a_misspelt_name_in_a_file_is_warned_of(train_flags, tmp_path, capsys):
    (tmp_path / "mine.gin").write_text("BATCHSIZE = 8\n")
    flags = [f"--gin.MODEL_DIR={tmp_path}/run", f"--gin_file={tmp_path}/mine.gin", "--dry_run"]
    assert cli.main([*train_flags, *flags]) == 0
    place = f"{tmp_path}/mine.gin:1"
    meant = "BATCH_SIZE or BATCH_SCHEDULE?"
    said = f"t5x-like: warning: {place}: nothing reads BATCHSIZE. Did you mean {meant}\n"
    assert capsys.readouterr().err == said
