"""Starting from a checkpoint of other numbers of tokens or layers: by choice, or refused."""

import jax
import numpy as np
import pytest

from models import gpt, llama, tuning
from t5x_like import optimizers
from t5x_like.checkpoints import InitialCheckpoint, base_metadata, initial_state
from t5x_like.checkpoints.host_params import write_params
from t5x_like.errors import UserError
from t5x_like.schedules import Constant

OPTIMIZER = optimizers.adamw(Constant(1e-3))


def tied(vocab_size, tuned=None):
    return gpt.GPT2(
        vocab_size=vocab_size, embed_dim=4, num_heads=1, num_layers=1, max_length=4, tuning=tuned
    )


def untied(vocab_size):
    return llama.LLaMA(
        vocab_size=vocab_size, embed_dim=4, num_heads=1, num_layers=1, max_length=4, mlp_dim=4
    )


def written(model, path):
    params = jax.tree.map(np.asarray, model.init(jax.random.key(5))["params"])
    write_params(str(path), params, 0, {})
    return params


def started(model, path, partitioner, **more):
    source = InitialCheckpoint(str(path), **more)
    return initial_state(source, model, OPTIMIZER, partitioner, seed=0).params


@pytest.mark.slow
@pytest.mark.parametrize("there, here", [(6, 9), (9, 6)])
def test_rows_are_added_or_dropped_where_that_is_chosen(there, here, partitioner, tmp_path):
    before = written(untied(there), tmp_path)
    found = started(untied(here), tmp_path, partitioner, resize_vocabulary=True)
    fresh = untied(here).init(jax.random.key(0))["params"]
    kept = min(there, here)
    table, new, old = (
        tree["token_embedder"]["embedding"] for tree in (found, fresh, before)
    )  # [v, e]
    np.testing.assert_array_equal(table[:kept], old[:kept])
    np.testing.assert_allclose(table[kept:], new[kept:], rtol=1e-6)
    kernel, new, old = (tree["output"]["kernel"] for tree in (found, fresh, before))  # [e, v]
    np.testing.assert_array_equal(kernel[:, :kept], old[:, :kept])
    np.testing.assert_allclose(kernel[:, kept:], new[:, kept:], rtol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, found["decoder"], before["decoder"])


def test_another_vocabulary_is_refused_with_both_sizes_and_the_ways_out(partitioner, tmp_path):
    written(tied(6), tmp_path)
    message = r"'token_embedder/embedding' has 6 ids there and 9 here.*resize_vocabulary=True"
    with pytest.raises(UserError, match=message):
        started(tied(9), tmp_path, partitioner)
    with pytest.raises(UserError, match=r"decoder/layers/.* is \(1, 4\) there and \(1, 8\) here"):
        wider = tied(9).clone(embed_dim=8)
        started(wider, tmp_path, partitioner, include=["query"], resize_vocabulary=True)


def test_rows_that_were_added_are_saved_by_a_run_that_does_not_train_them(tmp_path):
    written(tied(6), tmp_path)
    model = tied(9, tuning.LoRA(rank=1))
    same, other = (
        base_metadata(InitialCheckpoint(str(tmp_path), resize_vocabulary=True), one)["base"]
        for one in (tied(6, tuning.LoRA(rank=1)), model)
    )
    assert set(same["parameters"]) - set(other["parameters"]) == {"token_embedder/embedding"}


@pytest.mark.slow
def test_distilberts_layers_are_copied_from_a_deeper_model(partitioner, tmp_path):
    before = written(untied(6).clone(num_layers=12), tmp_path)
    student = untied(6).clone(num_layers=6)
    found = started(student, tmp_path, partitioner, layers=[0, 2, 4, 7, 9, 11])
    for ours, theirs in zip(
        jax.tree.leaves(found["decoder"]), jax.tree.leaves(before["decoder"]), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs[[0, 2, 4, 7, 9, 11]])
    np.testing.assert_array_equal(found["output"]["kernel"], before["output"]["kernel"])
    for wrong in ([0, 2], [0, 2, 4, 7, 9, 12]):
        with pytest.raises(UserError, match=r"has 6 layers here and 12 in the checkpoint, so 6"):
            started(student, tmp_path, partitioner, layers=wrong)
