"""Runs that train a part of a model: their state, their checkpoints, and what a stop changes."""

import shutil

import jax
import numpy as np
import pytest

from models import gpt, tuning
from t5x_like import checkpoints, optimizers, protocols
from t5x_like.checkpoints import CheckpointPolicy, InitialCheckpoint
from t5x_like.checkpoints.host_params import FrozenParams, read_params, write_params
from t5x_like.data import DatasetConfig
from t5x_like.errors import UserError
from t5x_like.partitioning import path_name, subtree
from t5x_like.schedules import Constant
from t5x_like.train import train
from t5x_like.training.state import abstract_state

LORA = tuning.LoRA(rank=2, dropout_rate=0.1)
LENGTHS = {"targets": 24}
OPTIMIZER = optimizers.adamw(Constant(1e-2))


def small(tuned=None):
    return gpt.GPT2(
        vocab_size=384, embed_dim=8, num_heads=2, num_layers=1, max_length=24, tuning=tuned
    )


@pytest.fixture(scope="module")
def base_params():
    return jax.tree.map(np.asarray, small().init(jax.random.key(3))["params"])


@pytest.fixture
def base(base_params, tmp_path):
    write_params(str(tmp_path / "base"), base_params, 0, {})
    return str(tmp_path / "base")


def names(tree):
    return {path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)}


def run(proverbs, base, model_dir, steps, model=None, lengths=LENGTHS, pack=None):
    task, cache_dir = proverbs
    return train(
        model=model or small(LORA),
        model_dir=str(model_dir),
        dataset=DatasetConfig(task, lengths, cache_dir, batch_size=4, prefetch=0, pack=pack),
        train_steps=steps,
        optimizer=OPTIMIZER,
        initial_checkpoint=InitialCheckpoint(base),
        checkpoint_policy=CheckpointPolicy(period=2),
        tensorboard=False,
    )


def test_the_optimizer_knows_the_factors_alone(partitioner):
    state = abstract_state(small(LORA), OPTIMIZER, partitioner)
    factors = {name for name in names(state.params) if LORA.trains(name)}
    assert len(factors) == 4
    moments = [leaf for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim]
    assert len(moments) == 2 * len(factors)


@pytest.mark.slow
def test_only_factors_change_and_a_stopped_run_ends_as_one_that_was_not(
    proverbs, base, base_params, tmp_path
):
    whole = run(proverbs, base, tmp_path / "whole", 4)
    run(proverbs, base, tmp_path / "parts", 2)
    parts = run(proverbs, base, tmp_path / "parts", 4)
    jax.tree.map(np.testing.assert_array_equal, whole.params, parts.params)

    frozen = subtree(whole.params, lambda name: not LORA.trains(name))
    jax.tree.map(np.testing.assert_array_equal, frozen, base_params)
    assert all(np.any(x) for x in jax.tree.leaves(subtree(whole.params, LORA.trains)))

    # What was not trained is in none of its checkpoints, and whoever reads one gets it all.
    saved = checkpoints.find_checkpoint(str(tmp_path / "parts"))
    held = names(checkpoints.stored_arrays(saved / "params"))
    assert held == {name for name in names(whole.params) if LORA.trains(name)}
    for read in (checkpoints.load_params, read_params):
        found, step = read(str(tmp_path / "parts"), small(LORA))
        assert step == 4
        jax.tree.map(np.testing.assert_array_equal, found, whole.params)


@pytest.mark.slow
def test_a_run_with_a_prompt_trains_and_keeps_the_prompt_alone(
    proverbs, base, base_params, tmp_path
):
    prompted = small(tuning.Prompt(length=3))
    with pytest.raises(UserError, match=r"a Prompt stands before .*: set data.DatasetConfig.pack"):
        run(proverbs, base, tmp_path / "packed", 2, prompted)
    after = run(
        proverbs, base, tmp_path / "prompt", 2, prompted, lengths={"targets": 21}, pack=False
    )
    saved = checkpoints.find_checkpoint(str(tmp_path / "prompt"))
    assert names(checkpoints.stored_arrays(saved / "params")) == {"token_embedder/prompt_offsets"}
    assert np.any(after.params["token_embedder"]["prompt_offsets"])
    found, _ = checkpoints.load_params(str(tmp_path / "prompt"), prompted)
    jax.tree.map(np.testing.assert_array_equal, found, after.params)
    assert protocols.longest_row(prompted) == 21


@pytest.fixture
def tuned(proverbs, base, tmp_path):
    run(proverbs, base, tmp_path / "runs" / "lora", 2)
    return tmp_path / "runs" / "lora"


@pytest.mark.slow
def test_a_run_goes_on_from_the_factors_of_another(proverbs, tuned, tmp_path):
    """Its base is the first run, whose own base is found through it."""
    later = run(proverbs, str(tuned), tmp_path / "later", 2)
    before = checkpoints.load_params(str(tuned), small(LORA))[0]
    found = checkpoints.load_params(str(tmp_path / "later"), small(LORA))[0]
    jax.tree.map(np.testing.assert_array_equal, found, later.params)
    untrained = subtree(before, lambda name: not LORA.trains(name))
    jax.tree.map(
        np.testing.assert_array_equal,
        subtree(found, lambda name: not LORA.trains(name)),
        untrained,
    )


@pytest.mark.slow
def test_the_base_is_found_after_both_have_moved_and_missed_when_it_is_gone_or_another(
    tuned, base, tmp_path
):
    was = checkpoints.load_params(str(tuned), small(LORA))[0]
    shutil.copytree(tmp_path / "base", tmp_path / "moved" / "base")
    shutil.move(tuned.parent, tmp_path / "moved" / "runs")
    moved = str(tmp_path / "moved" / "runs" / "lora")
    shutil.rmtree(base)
    found = checkpoints.load_params(moved, small(LORA))[0]
    jax.tree.map(np.testing.assert_array_equal, found, was)
    fingerprint = FrozenParams(moved).fingerprint()

    shutil.rmtree(tmp_path / "moved" / "base")
    with pytest.raises(
        UserError, match=r"holds the parameters that were trained; the others .* put"
    ):
        checkpoints.load_params(moved, small(LORA))
    other = jax.tree.map(np.asarray, small().init(jax.random.key(4))["params"])
    write_params(str(tmp_path / "moved" / "base"), other, 0, {})
    with pytest.raises(UserError, match=r"which have changed since"):
        checkpoints.load_params(moved, small(LORA))
    assert FrozenParams(moved).fingerprint() == fingerprint
