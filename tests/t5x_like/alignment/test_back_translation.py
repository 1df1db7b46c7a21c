"""Training on one's own translations: what is drawn, and a run of both stages."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.back_translation import BackTranslated
from models.mass import MASS
from t5x_like import cli
from t5x_like.alignment.rollouts import drawn_texts
from t5x_like.decoding import Greedy
from t5x_like.decoding.constraints import Constraints
from t5x_like.decoding.generate import generate
from t5x_like.runs import load_run
from tasks import vocabularies
from tests.models.families import drawn


@pytest.mark.slow
def test_translations_are_what_the_translator_generates_within_each_texts_limit():
    mass = MASS(
        vocab_size=13, embed_dim=8, num_heads=2, num_encoder_layers=1, num_decoder_layers=1,
        mlp_dim=8, max_length=32,
    )  # fmt: skip
    params = drawn(mass)
    batch = {
        "encoder_input_tokens": jnp.array([[11, 4, 3, 1], [12, 5, 1, 0]]),
        "decoder_input_tokens": jnp.array([[0, 3, 4], [0, 5, 0]]),
        "decoder_target_tokens": jnp.array([[3, 4, 1], [5, 1, 0]]),
    }
    model = BackTranslated(translator=mass, languages=(11, 12))
    prompts, limits_b = model.to_translate(batch)
    settings = {"seed": 0, "max_new_tokens": 10, "eos_id": 1, "strategy": Greedy()}
    translated = jax.jit(functools.partial(drawn_texts, mass, **settings))
    found = translated(params, prompts, jnp.int32(0), limits_b)
    for row, prompt in enumerate([[12, 3, 4, 1], [11, 5, 1]]):
        limit = int(limits_b[row])
        (expected,) = generate(mass, params, [prompt], max_new_tokens=limit)
        length = int(found.lengths_b[row])
        tokens = np.asarray(found.tokens_bn[row, :length]).tolist()
        assert tokens == expected.tokens + [1] * expected.finished and length <= limit


def test_translations_keep_to_the_tokens_that_are_allowed():
    mass = MASS(
        vocab_size=13, embed_dim=8, num_heads=2, num_encoder_layers=1, num_decoder_layers=1,
        mlp_dim=8, max_length=32,
    )  # fmt: skip
    prompts = {
        "encoder_input_tokens": jnp.array([[12, 3, 4, 1], [11, 5, 1, 0]]),
        "decoder_input_tokens": jnp.zeros((2, 1), jnp.int32),
    }
    allowed_bv = jnp.zeros((2, 13), bool).at[jnp.array([0, 0, 1]), jnp.array([2, 6, 9])].set(True)
    settings = {"seed": 0, "max_new_tokens": 8, "eos_id": 1, "strategy": Greedy()}
    translated = jax.jit(functools.partial(drawn_texts, mass, **settings))
    limits_b = jnp.array([8, 8])
    constraints = Constraints(allowed_bv=allowed_bv)
    found = translated(drawn(mass), prompts, jnp.int32(0), limits_b, constraints=constraints)
    assert set(np.asarray(found.tokens_bn[0]).tolist()) <= {2, 6}
    assert set(np.asarray(found.tokens_bn[1]).tolist()) == {9}


ENGLISH = ["a man sits", "two dogs run", "a dog sits", "two men run", "a man and a dog"]
GERMAN = ["ein mann sitzt", "zwei hunde rennen", "ein hund sitzt", "zwei männer rennen"]


@pytest.mark.slow
def test_a_run_restores_texts_and_then_learns_from_its_translations(tmp_path, capsys):
    for name, texts in (("en", ENGLISH), ("de", GERMAN)):
        (tmp_path / f"{name}.txt").write_text("\n".join(texts * 8) + "\n")
    model = str(tmp_path / "both.model")
    vocabularies.train_sentencepiece([*ENGLISH, *GERMAN] * 8, model, vocab_size=32)
    task = [
        "--gin_file=tasks/mixtures/two_languages.gin", f"--gin.CACHE_DIR={tmp_path}/cache",
        "--gin_file=tasks/vocabularies/sentencepiece.gin", f"--gin.VOCABULARY_PATH={model}",
    ]  # fmt: skip
    for split in ("", "VALIDATION_"):
        task += [f"--gin.FIRST_{split}FILES={tmp_path}/en.txt"]
        task += [f"--gin.SECOND_{split}FILES={tmp_path}/de.txt"]
    common = [
        "train", "--gin_file=models/mass/tiny.gin", *task, "--gin_file=optimizers/adamw.gin",
        "--gin.TASK_FEATURE_LENGTHS={'inputs': 32, 'targets': 32}", "--gin.BATCH_SIZE=8",
        "--gin.LEARNING_RATE=1e-3", "--gin.mass.MASS.embed_dim=32",
    ]  # fmt: skip
    restores, translates = tmp_path / "restores", tmp_path / "translates"
    first = ["--gin_file=runs/pretrain.gin", f"--gin.MODEL_DIR={restores}", "--gin.TRAIN_STEPS=2"]
    assert cli.main([*common, *first]) == 0
    second = [
        *common, "--gin_file=runs/back_translation.gin", "--gin.TRAIN_STEPS=3",
        f"--gin.INITIAL_CHECKPOINT_PATH={restores}",
    ]  # fmt: skip
    assert cli.main([*second, "--gin.LANGUAGES=(131, 1)", f"--gin.MODEL_DIR={tmp_path}/no"]) == 2
    assert "the tokens of the languages are 131 and 1" in capsys.readouterr().err
    languages = ["--gin.LANGUAGES=(131, 130)", f"--gin.MODEL_DIR={translates}"]
    assert cli.main([*second, *languages]) == 0
    lines = (translates / "metrics.jsonl").read_text().splitlines()
    record = [one for one in map(json.loads, lines) if one["split"] == "train"][-1]
    assert record["denoising"] > 0 and record["back_translation"] > 0
    assert 0 < record["translation_length"] <= 32
    assert type(load_run(str(translates)).model) is MASS
