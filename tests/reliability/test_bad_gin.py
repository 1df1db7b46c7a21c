"""Gin files and bindings that cannot be used: the place, what was found, what would do."""

import pytest

HEAD = "from __gin__ import dynamic_registration\n"


@pytest.fixture
def train(train_flags, refused, tmp_path):
    """Trains with further flags, which must be refused."""

    def run(flags, *words):
        return refused([*train_flags, f"--gin.MODEL_DIR={tmp_path}/run", *flags], *words)

    return run


@pytest.fixture
def train_with(train, tmp_path):
    """Trains with a further gin file, which must be refused at a line of it."""

    def run(text, line, *words):
        path = tmp_path / "mine.gin"
        path.write_bytes(text if isinstance(text, bytes) else (HEAD + text).encode())
        place = f"{path}:{line}: " if line else str(path)
        return train([f"--gin_file={path}"], place, *words)

    return run


# -- Files -----------------------------------------------------------------------------------


def test_a_missing_file_is_answered_with_the_nearest(train):
    train(["--gin_file=runs/finetun.gin"], "'runs/finetun.gin' not found", "runs/finetune.gin")


def test_a_missing_include_is_named_with_its_place(train_with):
    train_with("include 'models/nowhere.gin'\n", 2, "models/nowhere.gin")


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("SEED = [1, 2\n", None, "gin syntax error"),
        ("\n\nSEED 4\n", 4, "gin syntax error"),
        ("SEED = 4 5\n", 2, "gin syntax error"),
        ("SEED = \x00\n", 2, "gin syntax error"),
        ("SEED = 'open\n", 2, "gin syntax error"),
    ],
)
def test_a_syntax_error_has_its_file_and_line(train_with, text, line, said):
    train_with(text, line, said)


def test_bytes_that_are_no_text_are_counted(train_with):
    train_with(b"SEED = \xff\n", None, "not UTF-8 text (byte 7)")


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (
            "from t5x_like import schedules\nSCHEDULE = @schedules.Cosin()\n",
            3,
            ["nothing is called 'schedules.Cosin'", "Did you mean Cosine"],
        ),
        (
            "from t5x_like import optimizers\nOPTIMIZER = @optimizers.adamv()\n",
            3,
            ["nothing is called 'optimizers.adamv'", "Did you mean adam or adamw"],
        ),
        (
            "from t5x_like import schedules\nschedules.Cosine.paek = 1\n",
            3,
            ["'schedules.Cosine' has no parameter 'paek'", "Did you mean peak"],
        ),
        (
            "from models import gpt\ngbt.GPT2.num_layers = 1\n",
            3,
            ["'gbt' is not imported in this gin file", "Did you mean gpt"],
        ),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(train_with, text, line, words):
    train_with(text, line, *words)


def test_a_name_bound_twice_in_one_file_is_a_contradiction(train_with):
    said = ["SEED is bound to 2", "to 1 in line 2", "keep one"]
    train_with("SEED = 1\n\nSEED = 2\n", 4, *said)


def test_a_macro_that_stands_for_itself_is_shown_with_its_circle(train):
    flags = ["--gin.SEED=%BATCH_SIZE", "--gin.BATCH_SIZE=%SEED"]
    train(flags, "stands for itself", "SEED = %BATCH_SIZE")


# -- Imports ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("raise RuntimeError('no licence\\nfound')", ["'broken'", "RuntimeError: no licence"]),
        ("def f(:\n", ["broken.py:1: invalid syntax"]),
        ("import no_such_package", ["No module named 'no_such_package'"]),
        ("import sys; sys.exit(0)", ["SystemExit: 0"]),
    ],
)
def test_an_import_that_fails_is_named_with_its_reason(
    train_with, tmp_path, monkeypatch, source, words
):
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "broken.py").write_text(source)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    # gin adds the line to what it can; these two are raised around it.
    line = None if "exit" in source or "def" in source else 2
    train_with("import broken\n", line, "import failed", *words)


def test_a_module_that_is_not_there_is_named(refused, corpus, tmp_path):
    flags = ["inspect", *corpus, "--module_import=no_such_module"]
    refused(flags, "--module_import=no_such_module: import failed: No module named")


# -- Macros and types ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("missing", "purpose"),
    [
        ("MODEL_DIR", "(directory that the run writes to and resumes from) is not set"),
        ("MODEL", "(the model, bound by a file under models/) is not set"),
        ("TRAIN_STEPS", "(number of optimizer steps, counted from the beginning of the run)"),
    ],
)
def test_a_macro_that_is_not_set_is_named_with_its_purpose(
    refused, corpus, tmp_path, missing, purpose
):
    given = {
        "MODEL": [corpus[0]],
        "MODEL_DIR": [f"--gin.MODEL_DIR={tmp_path}/run"],
        "TRAIN_STEPS": ["--gin.TRAIN_STEPS=8"],
    }
    flags = [flag for name, flags in given.items() if name != missing for flag in flags]
    command = ["train", corpus[1], "--gin_file=runs/pretrain.gin", *flags]
    refused(command, f"{missing} {purpose}", f"give --gin.{missing}=VALUE")


def test_a_misspelled_macro_is_answered_with_the_nearest(train):
    train(["--gin.SEED=%TRIAN_STEPS"], "TRIAN_STEPS is not set", "Did you mean TRAIN_STEPS")


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("TRAIN_STEPS=many", "TRAIN_STEPS is 'many'"),
        ("TRAIN_STEPS=1e3", "train.train_steps takes an integer"),
        ("TRAIN_STEPS=True", "TRAIN_STEPS is True"),
        ("BATCH_SIZE=[4]", "DatasetConfig.batch_size takes an integer"),
        ("DROPOUT_RATE=high", "GPT2.dropout_rate takes a number"),
        ("SEED=None", "seed takes an integer"),
        ("MODEL_DIR=7", "train.model_dir takes a string"),
        ("TASK_FEATURE_LENGTHS=24", "takes a mapping of an integer for each name"),
        ("TASK_FEATURE_LENGTHS={'targets': '24'}", "takes a mapping"),
        ("MODEL=gpt2", "train.model takes a Model (@module.name())"),
        ("MODEL=@gpt.GPT2", "MODEL is @gpt.GPT2, but"),
        ("OPTIMIZER=@gpt.GPT2()", "OPTIMIZER is @gpt.GPT2(), but"),
        ("gpt.GPT2.num_layers=two", "num_layers is 'two', but it takes an integer"),
        ("train.train.tensorboard=no", "tensorboard is 'no', but it takes True or False"),
        ("checkpoints.CheckpointPolicy.period=often", "period is 'often', but it takes"),
    ],
)
def test_a_value_of_the_wrong_type_is_named_with_what_takes_it(
    refused, train_flags, tmp_path, flag, said
):
    place = [] if flag.startswith("MODEL_DIR") else [f"--gin.MODEL_DIR={tmp_path}/run"]
    refused([*train_flags, *place, f"--gin.{flag}"], said)


# -- The command line ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--gin.SEED=1", "--gin.SEED=2"], ["SEED is given twice", "as 1 and as 2"]),
        (["--gin.gpt.GPT2.num_laiers=3"], ["num_laiers", "Did you mean num_layers"]),
        (["--gin.gpt.GTP2.num_layers=3"], ["'gpt.GTP2'", "Did you mean gpt.GPT2"]),
        (["--gin.SEED"], ["--gin.SEED needs a value"]),
        (["--gin_fiel=x"], ["unrecognized arguments: --gin_fiel=x"]),
        (["--gin.a b=1"], ["'a b' is not a macro"]),
    ],
)
def test_a_flag_that_cannot_be_used_is_named(train, flags, words):
    train(flags, *words)


def test_a_flag_may_be_repeated_as_it_is(train_flags, tmp_path, capsys):
    from t5x_like import cli

    again = ["--gin.SEED=1", "--gin.SEED=1", f"--gin.MODEL_DIR={tmp_path}/run", "--dry_run"]
    assert cli.main([*train_flags, *again]) == 0


def test_a_flag_and_a_binding_that_say_different_things_are_refused(refused, corpus):
    flags = ["--topology=cpu:1", "--gin.TOPOLOGY=cpu:2"]
    refused(["compile", *corpus, *flags], "TOPOLOGY is given twice", "cpu:2", "cpu:1")


@pytest.mark.parametrize(
    ("command", "example"),
    [
        ("train", "runs/pretrain.gin"),
        ("eval", "runs/eval.gin"),
        ("infer", "runs/infer.gin"),
        ("sweep", "sweeps/isoflop_quick.gin"),
    ],
)
def test_a_command_without_its_gin_file_names_one(refused, command, example):
    refused([command], "no gin file configures", f"--gin_file={example}")


def test_an_unknown_command_is_answered_with_those_there_are(refused):
    refused(["trian"], "invalid choice: 'trian'", "train", "inspect")
