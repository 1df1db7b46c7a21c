import ast
import dataclasses
import itertools
import shlex

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from t5x_like import checkpoints, optimizers
from t5x_like.checkpoints import Checkpointer, CheckpointPolicy, InitialCheckpoint
from t5x_like.errors import UserError
from t5x_like.schedules import Constant
from t5x_like.training import state as train_state

ADAMW = optimizers.adamw(Constant(1e-2))


@pytest.fixture(scope="module")
def saved(model, partitioner, tmp_path_factory):
    """A MODEL_DIR with checkpoints of steps 10 and 20, and the state saved at 20."""
    model_dir = str(tmp_path_factory.mktemp("run"))
    checkpointer = Checkpointer(model_dir, CheckpointPolicy(keep=2))
    for step in (5, 10, 20):
        state = train_state.create_state(model, ADAMW, partitioner, seed=step)
        marks = itertools.count(step)
        state = jax.tree.map(
            lambda leaf, marks=marks: jax.numpy.full_like(leaf, next(marks)), state
        )
        state = state.replace(step=jax.numpy.int32(step))
        checkpointer.save(state, step, {"position": step}, {"seed": 3, "tokens": step * 96})
    checkpointer.close()
    return model_dir, state


def assert_trees_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)
    assert jax.tree.structure(a) == jax.tree.structure(b)


def test_the_newest_is_found_and_restored_whole(saved, model, partitioner):
    model_dir, state = saved
    checkpointer = Checkpointer(model_dir, CheckpointPolicy())
    assert checkpointer.latest_step() == 20
    target = train_state.abstract_state(model, ADAMW, partitioner)
    restored, position, metadata = checkpointer.restore(20, target)
    checkpointer.close()
    assert_trees_equal(restored, state)
    assert position == {"position": 20}
    assert {name: metadata[name] for name in ("step", "seed", "tokens")} == {
        "step": 20,
        "seed": 3,
        "tokens": 1920,
    }


def test_orbax_alone_reads_the_arrays_wherever_they_were_written(saved):
    model_dir, state = saved
    with ocp.StandardCheckpointer() as reader:
        assert_trees_equal(reader.restore(f"{model_dir}/checkpoints/20/params"), state.params)


def test_only_the_newest_are_kept(saved):
    assert checkpoints.checkpoint_steps(saved[0]) == [10, 20]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("losses", "highest", "kept"),
    [
        ((5, np.nan, 6, 7, 8, 9), False, [1, 6]),
        ((np.nan, 5, np.nan), False, [2, 3]),
        ((5, np.inf, -np.inf, 6), False, [1, 4]),
        ((5, np.nan, 6, np.inf, 4), True, [3, 5]),
        ((np.nan, np.nan), False, [2]),
    ],
)
def test_a_loss_that_is_not_finite_never_competes_for_the_best(
    model, partitioner, tmp_path, losses, highest, kept
):
    """One of the newest, and one of the best of those that were measured and are finite."""
    policy = CheckpointPolicy(keep=1, best_metric="validation/loss", best_is_highest=highest)
    checkpointer = Checkpointer(str(tmp_path), policy)
    state = train_state.create_state(model, optimizers.lion(Constant(1.0)), partitioner, seed=0)
    for step, loss in enumerate(losses, start=1):
        checkpointer.save(state, step, {}, {}, {"validation/loss": float(loss)})
    checkpointer.close()
    assert checkpoints.checkpoint_steps(str(tmp_path)) == kept


def test_a_nan_that_an_earlier_version_wrote_is_the_worst():
    policy = CheckpointPolicy(best_metric="validation/loss")
    assert sorted([5.0, np.nan, 3.0], key=lambda x: policy._value({"validation/loss": x}))[:2] == [
        3.0, 5.0,
    ]  # fmt: skip


def test_parameters_alone_come_from_a_model_dir_or_one_checkpoint(saved, model, partitioner):
    model_dir, state = saved
    params, step = checkpoints.load_params(model_dir, model, partitioner)
    assert step == 20
    assert_trees_equal(params, state.params)
    assert checkpoints.load_params(f"{model_dir}/checkpoints/10", model, partitioner)[1] == 10
    assert checkpoints.load_params(model_dir, model, partitioner, step=10)[1] == 10


def test_fine_tuning_takes_what_the_expressions_match(saved, model, partitioner):
    model_dir, state = saved
    source = InitialCheckpoint(model_dir, include=["mlp/w[io]/kernel", "^token_embedder"])
    begun = checkpoints.initial_state(source, model, ADAMW, partitioner, seed=7)
    fresh = train_state.create_state(model, ADAMW, partitioner, seed=7)
    assert int(begun.step) == 0

    def layers(state):
        return state.params["decoder"]["layers"]

    taken = layers(begun)["mlp"]["wi"]["kernel"]
    np.testing.assert_array_equal(taken, layers(state)["mlp"]["wi"]["kernel"])
    own = layers(begun)["self_attention"]["query"]["kernel"]
    np.testing.assert_array_equal(own, layers(fresh)["self_attention"]["query"]["kernel"])


def test_fine_tuning_a_part_may_come_from_another_architecture(saved, model, partitioner):
    longer = dataclasses.replace(model, max_length=32)
    source = InitialCheckpoint(saved[0], include=["token_embedder"])
    begun = checkpoints.initial_state(source, longer, ADAMW, partitioner, seed=7)
    np.testing.assert_array_equal(
        begun.params["token_embedder"]["embedding"], saved[1].params["token_embedder"]["embedding"]
    )


def test_another_architecture_names_the_first_parameter_and_both_shapes(saved, model, partitioner):
    wider = dataclasses.replace(model, embed_dim=32)
    with pytest.raises(
        UserError, match=r"parameter 'decoder/.*' is \(2, .*\) there and \(2, .*\) h"
    ):
        checkpoints.load_params(saved[0], wider, partitioner)


@pytest.mark.slow
def test_another_vocabulary_is_refused_with_ways_out_that_work(saved, model, partitioner):
    other = dataclasses.replace(model, vocab_size=96)
    for source in (InitialCheckpoint(saved[0]), InitialCheckpoint(saved[0], include=["."])):
        with pytest.raises(UserError, match=r"of another vocabulary: .* 64 ids there and 96") as e:
            checkpoints.initial_state(source, other, ADAMW, partitioner, seed=7)
        assert "--gin.VOCAB_SIZE=64" in str(e.value)
    (flag,) = shlex.split(str(e.value).rpartition("parameters: ")[2].rstrip("."))
    source = InitialCheckpoint(saved[0], include=ast.literal_eval(flag.partition("=")[2]))
    begun = checkpoints.initial_state(source, other, ADAMW, partitioner, seed=7)
    assert begun.params["token_embedder"]["embedding"].shape[0] == 96
    assert_trees_equal(begun.params["decoder"], saved[1].params["decoder"])


def test_another_optimizer_is_noticed(saved, model, partitioner):
    checkpointer = Checkpointer(saved[0], CheckpointPolicy())
    lion = train_state.abstract_state(model, optimizers.lion(Constant(1e-3)), partitioner)
    with pytest.raises(UserError, match="of another model or optimizer"):
        checkpointer.restore(20, lion)
    checkpointer.close()


@pytest.mark.parametrize(
    ("include", "message"),
    [(["encoder"], "'encoder' matches none of the"), (["("], "not a regular expression")],
)
def test_expressions_that_choose_nothing_are_refused(saved, model, partitioner, include, message):
    source = InitialCheckpoint(saved[0], include=include)
    with pytest.raises(UserError, match=message):
        checkpoints.initial_state(source, model, ADAMW, partitioner, seed=0)


def test_a_place_without_checkpoint_is_refused(tmp_path, saved, model, partitioner):
    with pytest.raises(UserError, match="no checkpoint in"):
        checkpoints.load_params(str(tmp_path), model, partitioner)
    with pytest.raises(UserError, match="no checkpoint of step 15; it has 10, 20"):
        checkpoints.load_params(saved[0], model, partitioner, step=15)
