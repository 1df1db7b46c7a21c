"""MODEL_DIRs and checkpoints that cannot be written, are not there, or are another model's."""

import shutil
from pathlib import Path

import pytest

from t5x_like import cli

GPT2 = Path(__file__).parent.parent / "models" / "hf" / "fixtures" / "gpt2"


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """A MODEL_DIR with the parameters of a small GPT-2, as checkpoint of step 0."""
    directory = tmp_path_factory.mktemp("imported") / "run"
    assert cli.main(["import-hf", str(GPT2), "--out", str(directory)]) == 0
    return directory


@pytest.fixture
def train(train_flags, refused, tmp_path):
    """Trains with further flags, which must be refused."""

    def run(flags, *words, **kwargs):
        return refused([*train_flags, f"--gin.MODEL_DIR={tmp_path}/run", *flags], *words, **kwargs)

    return run


@pytest.fixture
def finetune(train, imported):
    """Fine-tunes from a checkpoint with further flags, which must be refused."""

    def run(path, flags, *words):
        start = ["--gin_file=runs/finetune.gin", f"--gin.INITIAL_CHECKPOINT_PATH={path}"]
        return train([*start, *flags], *words, watched=imported)

    return run


# -- MODEL_DIR -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("file", "File exists"),
        ("file/run", "Not a directory"),
        ("/dev/null/run", "Not a directory"),
        ("/proc/run", "No such file or directory"),
    ],
)
def test_a_model_dir_that_cannot_be_written(train_flags, refused, tmp_path, name, reason):
    (tmp_path / "file").write_text("mine")
    place = tmp_path / name  # an absolute name stands for itself
    words = [f"MODEL_DIR '{place}' cannot be written", reason]
    refused([*train_flags, f"--gin.MODEL_DIR={place}"], *words)


@pytest.mark.parametrize("command", ["eval", "infer"])
def test_a_model_dir_without_a_checkpoint(refused, corpus, tmp_path, command):
    (tmp_path / "prompts.txt").write_text("Many hands\n")
    flags = [f"--gin_file=runs/{command}.gin", f"--gin.MODEL_DIR={tmp_path}/run"]
    flags += [f"--gin.INPUT_PATH={tmp_path}/prompts.txt"] if command == "infer" else []
    words = [f"no checkpoint in '{tmp_path}/run'", "give a MODEL_DIR that was trained"]
    refused([command, *corpus, *flags], *words)


def test_a_directory_that_is_no_run_cannot_be_exported(refused, tmp_path):
    words = [f"no run in '{tmp_path}/nowhere'", "it has no config.gin"]
    refused(["export-hf", tmp_path / "nowhere", "--out", tmp_path / "out"], *words)


def test_a_checkpoint_that_is_not_there_cannot_be_exported(refused, imported, tmp_path):
    command = ["export-hf", imported, "--step=7", "--out", tmp_path / "out"]
    refused(command, "no checkpoint of step 7", "it has 0", watched=imported)


def test_evaluating_a_split_that_is_not_there_leaves_the_run_as_it_is(
    refused, corpus, imported, tmp_path
):
    files = ["runs/eval.gin", imported / "model.gin"]
    flags = [*(f"--gin_file={file}" for file in files), "--gin.SPLIT=test"]
    lengths = "--gin.TASK_FEATURE_LENGTHS={'targets': 8}"
    command = ["eval", *corpus, *flags, lengths, f"--gin.MODEL_DIR={imported}"]
    refused(command, "no split 'test'", "it has train, validation", watched=imported)


# -- Checkpoints to start from ---------------------------------------------------------------


def test_a_path_without_a_checkpoint(finetune, tmp_path):
    words = [f"no checkpoint in '{tmp_path}/nowhere'", "one directory below its 'checkpoints'"]
    finetune(tmp_path / "nowhere", [], *words)


def test_a_checkpoint_of_another_architecture_names_the_first_parameter_and_both_shapes(
    finetune, imported
):
    # The fixture has 3 layers with MLPs of 112 units; the corpus' model has 2 with 4 x 16.
    words = ["parameter 'decoder/layers/mlp/wi/bias' is (3, 112) there and (2, 64) here"]
    finetune(imported, [], "is of another model", *words)


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("['no_such_layer']", ["'no_such_layer' matches none of the", "parameters, such as '"]),
        ("['decoder/(']", ["'decoder/(' is not a regular expression"]),
        ("['norm', 'nowhere']", ["'nowhere' matches none of the"]),
    ],
)
def test_a_subset_that_matches_nothing(finetune, imported, pattern, words):
    finetune(imported, [f"--gin.checkpoints.InitialCheckpoint.include={pattern}"], *words)


def test_a_subset_given_as_text_is_no_list(finetune, imported):
    # Its letters would each be taken for a regular expression.
    flag = "--gin.checkpoints.InitialCheckpoint.include=decoder"
    finetune(imported, [flag], "include is 'decoder', but it takes a list, each a string, or None")


def test_an_imported_model_is_no_run_to_go_on_with(train, imported, tmp_path):
    shutil.copytree(imported, tmp_path / "run")
    words = [
        "checkpoints/0' holds parameters alone",
        "INITIAL_CHECKPOINT_PATH and another MODEL_DIR",
    ]
    train([], *words)
