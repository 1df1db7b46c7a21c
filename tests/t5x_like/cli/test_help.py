"""`t5x-like help` says what names mean, and what does here what T5X's names do there."""

import re

import pytest

from t5x_like import cli
from t5x_like.cli.reference import objects
from t5x_like.cli.reference.help import text_of
from t5x_like.config.gin_files import packaged_gin_configs
from t5x_like.config.macro_help import PURPOSES, T5X_NAMES, T5X_OBJECTS
from t5x_like.errors import UserError


def test_an_object_has_its_parameters_with_types_defaults_and_meanings(capsys):
    assert cli.main(["help", "optimizers.muon"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(
        "optimizers.muon  (t5x_like.optimizers.orthogonal)\n\nMuon (Jordan 2024)"
    )
    assert "  schedule: Schedule  (must be given)\n      learning rate of both.\n" in said
    assert "  beta: float = 0.95\n      decay of the momentum that is orthogonalized.\n" in said
    assert "\n\nin optimizers/defaults.gin, optimizers/muon.gin" in said


def test_two_modules_of_one_short_name_are_both_found(capsys):
    """Gin files call t5x_like.alignment so, and the scores of a recurrent decoder's attention."""
    assert cli.main(["help", "alignment.PPO", "alignment.Additive", "alignment"]) == 0
    said = capsys.readouterr().out
    assert "alignment.PPO  (t5x_like.alignment." in said
    assert "alignment.Additive  (models.layers.recurrent.alignment)" in said
    assert "models.layers.recurrent.alignment, t5x_like.alignment, whose objects" in said


def test_a_macro_has_its_purpose_and_where_it_is_bound(capsys):
    assert cli.main(["help", "MODEL_DIR", "BATCH_SIZE"]) == 0
    said = capsys.readouterr().out
    assert "MODEL_DIR: directory that the run writes to and resumes from." in said
    assert "  runs/defaults.gin: BATCH_SIZE = 128" in said


def test_a_program_has_the_settings_of_its_plan():
    said = text_of("train.train")
    assert "  model_dir: str  (must be given)" in said
    assert "      where everything is written; created if need be." in said


def test_a_model_has_the_fields_of_its_bases_too():
    found = {one.name: one for one in objects.described("t5.T5_1_1").parameters}
    assert (found["embed_dim"].default, found["embed_dim"].text) == ("512", "d_model.")
    assert found["dropout_rate"].text and found["mlp"].default == "GatedMLP"
    assert not {"parent", "name"} & found.keys()


def test_a_parameter_a_module_and_a_gin_file():
    assert text_of("checkpoints.CheckpointPolicy.period").startswith("checkpoints.CheckpointPolicy")
    assert "optimizers.adafactor" in text_of("optimizers")
    assert "Required: MODEL (a file under models/)" in text_of("runs/pretrain.gin")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("optimizers.muo", r"nothing is called 'optimizers.muo'. Did you mean optimizers.muon"),
        ("optimizers.muon.betta", r"has no parameter 'betta'. Did you mean beta"),
        ("nothing.at.all", r"nothing is called 'nothing.at.all'"),
    ],
)
def test_what_is_not_there_is_one_line(name, said):
    with pytest.raises(UserError, match=said):
        text_of(name)


def test_every_object_of_gin_files_is_described_by_a_sentence():
    lacking = []
    for path in objects.gin_files():
        text = re.sub("#.*", "", path.read_text())
        for name in re.findall(r"@(?:\w+/)*(\w+\.\w+)\b", text):
            if name.partition(".")[0] not in objects.modules():
                continue  # of a library
            if not objects.described(name).summary:
                lacking.append(name)
    assert not lacking


# -- T5X's names -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*T5X_NAMES, *T5X_OBJECTS])
def test_what_stands_for_a_name_of_t5x_is_there(name):
    ours = {**T5X_NAMES, **T5X_OBJECTS}[name]
    for file in re.findall(r"[\w/]+\.gin\b", ours):
        assert (packaged_gin_configs() / file).is_file()
    for macro in re.findall(r"\b[A-Z]{2,}(?:_[A-Z]+)*\b", ours):
        assert macro in (*PURPOSES, "MODULE", "GPU")
    for selector in re.findall(r"(?<![\w./-])([a-z]\w*\.[A-Za-z]\w*)(?!\w*\.gin)", ours):
        module, _, rest = selector.partition(".")
        assert module in ("model", "train", "validation") or objects.find(selector), (module, rest)


@pytest.mark.parametrize(
    ("habit", "ours"),
    [
        ("--gin.MIXTURE_OR_TASK_MODULE='t5.data.tasks'", "--module_import=MODULE imports it"),
        ("--gin.INFER_OUTPUT_DIR='runs/out'", "OUTPUT_PATH names the file that is written"),
        ("--gin.utils.SaveCheckpointConfig.period=1000", "checkpoints.CheckpointPolicy, with per"),
        ("--gin.partitioning.PjitPartitioner.num_partitions=2", "partitioning.Partitioner"),
        ("--gin.trainer.Trainer.num_microbatches=4", "train.train: NUM_MICROBATCHES"),
        ("--gin_bindings=TRAIN_STEPS=3", "--gin.NAME=VALUE binds a name"),
        ("--alsologtostderr", "leave it out"),
    ],
)
def test_a_habit_from_t5x_meets_one_line_that_says_ours(habit, ours, capsys, tmp_path):
    flags = ["--gin_file=examples/quickstart_t5.gin", f"--gin.MODEL_DIR={tmp_path}", "--dry_run"]
    assert cli.main(["train", *flags, habit]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "is T5X's; here" in line and ours in line


def test_a_gin_file_of_t5x_is_known_as_one(capsys, tmp_path):
    file = tmp_path / "t5x.gin"
    file.write_text("from __gin__ import dynamic_registration\nfrom t5x import utils\n")
    assert cli.main(["train", f"--gin_file={file}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "t5x.gin:2: a gin file of T5X" in line
