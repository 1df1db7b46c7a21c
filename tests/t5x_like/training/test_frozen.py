"""A run whose loss reads another model: from its MODEL_DIR and from a Hugging Face directory."""

from pathlib import Path

import jax
import numpy as np
import pytest

from models import gpt
from models.hf import load_hf
from models.hf.frozen import FrozenDirectory
from t5x_like import checkpoints, optimizers
from t5x_like.checkpoints import CheckpointPolicy, FrozenParams
from t5x_like.data import DatasetConfig
from t5x_like.errors import UserError
from t5x_like.evaluate import evaluate
from t5x_like.schedules import Constant
from t5x_like.train import train
from t5x_like.training.frozen import load_frozen
from t5x_like.training.plan import TrainingPlan
from t5x_like.training.run import TrainingRun
from tests.t5x_like.training.small_models import Taught

GPT2_DIRECTORY = Path(__file__).parents[2] / "models" / "hf" / "fixtures" / "gpt2"


def small(width):
    return gpt.GPT2(vocab_size=384, embed_dim=width, num_heads=2, num_layers=1, max_length=24)


def settings(proverbs, model, model_dir, steps, **more):
    task, cache_dir = proverbs
    lengths = {"targets": 24}
    return {
        "model": model,
        "model_dir": str(model_dir),
        "dataset": DatasetConfig(task, lengths, cache_dir, batch_size=4, prefetch=0),
        "validation": [DatasetConfig(task, lengths, cache_dir, "validation", batch_size=4)],
        "train_steps": steps,
        "optimizer": optimizers.adamw(Constant(1e-2)),
        "checkpoint_policy": CheckpointPolicy(period=2),
        "tensorboard": False,
        **more,
    }


@pytest.fixture(scope="module")
def teacher(proverbs, tmp_path_factory):
    model_dir = tmp_path_factory.mktemp("teacher")
    each = CheckpointPolicy(period=1)
    train(**settings(proverbs, small(16), model_dir, 2) | {"checkpoint_policy": each})
    return str(model_dir)


@pytest.mark.slow
def test_a_student_learns_from_a_finished_run_and_resumes(proverbs, teacher, tmp_path):
    model = Taught(vocab_size=384, teacher=small(16), student=small(8))
    frozen = {"teacher": FrozenParams(teacher)}
    whole = train(**settings(proverbs, model, tmp_path / "whole", 6, frozen=frozen))
    train(**settings(proverbs, model, tmp_path / "parts", 4, frozen=frozen))
    parts = train(**settings(proverbs, model, tmp_path / "parts", 6, frozen=frozen))
    jax.tree.map(np.testing.assert_array_equal, whole.params, parts.params)

    # The teacher is in the state, and in no checkpoint.
    expected, _ = checkpoints.load_params(teacher, small(16))
    jax.tree.map(np.testing.assert_array_equal, whole.frozen["teacher"], expected)
    saved = tmp_path / "whole" / "checkpoints" / "6"
    assert {p.name for p in saved.iterdir() if p.is_dir()} == {
        "params", "optimizer", "data", "metadata",
    }  # fmt: skip

    (values,) = evaluate(
        model=model,
        model_dir=str(tmp_path / "whole"),
        dataset=settings(proverbs, model, tmp_path, 1)["validation"][0],
        frozen=frozen,
        tensorboard=False,
    ).values()
    # No student is nearer to the teacher than the teacher's own entropy, nor at chance any more.
    assert 0 < values["proverbs"]["loss"] < np.log(384)


def test_a_run_that_goes_back_reads_the_teacher_again(proverbs, teacher, tmp_path):
    """As `anomalies.Restore` does: the state before, whose arrays steps have donated, is gone."""
    model = Taught(vocab_size=384, teacher=small(16), student=small(8))
    frozen = {"teacher": FrozenParams(teacher)}
    plan = TrainingPlan(**settings(proverbs, model, tmp_path, 2, frozen=frozen))
    run = TrainingRun(plan)
    first = run.resume(None)
    expected = jax.tree.map(np.array, first.frozen["teacher"])
    for leaf in jax.tree.leaves(first):
        leaf.delete()
    jax.tree.map(np.testing.assert_array_equal, run.resume(None).frozen["teacher"], expected)
    run.close()


def test_another_teacher_is_another_run(proverbs, teacher, tmp_path):
    model = Taught(vocab_size=384, teacher=small(16), student=small(8))
    run = settings(proverbs, model, tmp_path / "run", 2, frozen={"teacher": FrozenParams(teacher)})
    train(**run)
    other = {"teacher": FrozenParams(teacher, step=1)}
    with pytest.raises(UserError, match="frozen"):
        train(**{**run, "train_steps": 4, "frozen": other})


def test_a_teacher_without_parameters_is_named(proverbs, tmp_path):
    model = Taught(vocab_size=384, teacher=small(16), student=small(8))
    with pytest.raises(UserError, match=r"gives parameters for no model, but .* of \['teacher'\]"):
        train(**settings(proverbs, model, tmp_path, 2))


def test_a_hugging_face_directory_gives_its_parameters(partitioner):
    teacher, params = load_hf(GPT2_DIRECTORY)
    model = Taught(vocab_size=teacher.vocab_size, teacher=teacher, student=small(8))
    source = FrozenDirectory(str(GPT2_DIRECTORY))
    found = load_frozen(model, {"teacher": source}, partitioner)
    jax.tree.map(np.testing.assert_array_equal, found["teacher"], params)
    assert source.fingerprint() == FrozenDirectory(str(GPT2_DIRECTORY)).fingerprint()
