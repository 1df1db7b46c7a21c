"""A dense model that starts with the weights of one with experts, all but the experts' own."""

import jax
import numpy as np
import pytest

from models.switch import Switch, SwitchC
from models.t5 import T5, T5_1_1
from t5x_like import optimizers
from t5x_like.checkpoints import InitialCheckpoint, initial_state
from t5x_like.checkpoints.host_params import write_params
from t5x_like.errors import UserError
from t5x_like.schedules import Constant

pytestmark = pytest.mark.slow  # several models are made

SIZES = {
    "vocab_size": 11, "embed_dim": 4, "mlp_dim": 6, "num_heads": 1, "head_dim": 4,
    "num_encoder_layers": 4, "num_decoder_layers": 4, "dropout_rate": 0.0,
}  # fmt: skip
BATCH = {
    "encoder_input_tokens": np.array([[4, 7, 2, 1]]),
    "decoder_input_tokens": np.array([[0, 5, 9]]),
    "decoder_target_tokens": np.array([[5, 9, 1]]),
}


def written(model, path):
    params = jax.tree.map(np.asarray, model.init(jax.random.key(5))["params"])
    write_params(str(path), params, 0, {})
    return params


def started(model, path, partitioner, **more):
    source = InitialCheckpoint(str(path), without_experts=True, **more)
    optimizer = optimizers.adamw(Constant(1e-3))
    params = initial_state(source, model, optimizer, partitioner, seed=0).params
    return jax.tree.map(np.array, params)


def test_layers_are_in_their_order_and_only_mlps_in_place_of_experts_are_new(partitioner, tmp_path):
    # One expert of which every token has everything is an MLP.
    teacher = Switch(**SIZES, num_experts=1, router_jitter=0.0)
    before = written(teacher, tmp_path)
    student = T5_1_1(**SIZES)
    found = started(student, tmp_path, partitioner)
    fresh = student.init(jax.random.key(0))["params"]
    for side in ("encoder", "decoder"):
        layers, made = found[side]["stack"]["layers"], fresh[side]["stack"]["layers"]
        blocks = before[side]["stack"]["layers"]
        for name, kernel in layers["mlp"].items():
            of_mlp = blocks["block_0"]["mlp"][name]["kernel"]
            np.testing.assert_array_equal(kernel["kernel"][::2], of_mlp)
            np.testing.assert_allclose(
                kernel["kernel"][1::2], made["mlp"][name]["kernel"][1::2], rtol=1e-6
            )
            kernel["kernel"][1::2] = blocks["block_1"]["mlp"]["experts"][name]["kernel"][:, 0]
    # With the expert's weights in the MLPs the two are one function.
    expected = teacher.logits(before, BATCH)
    np.testing.assert_allclose(student.logits(found, BATCH), expected, rtol=1e-4, atol=1e-5)


def test_where_every_layer_has_experts_every_mlp_is_new(partitioner, tmp_path):
    before = written(SwitchC(**SIZES, num_experts=2), tmp_path)
    student = T5(**SIZES, tied_output=False)
    found = started(student, tmp_path, partitioner)
    for side in ("encoder", "decoder"):
        ours, theirs = (tree[side]["stack"]["layers"] for tree in (found, before))
        theirs = theirs.get("block_0", theirs)
        attention = ours["self_attention"]
        jax.tree.map(np.testing.assert_array_equal, attention, theirs["self_attention"])
        assert "wi" in ours["mlp"] and "experts" in theirs["mlp"]
    np.testing.assert_array_equal(
        found["token_embedder"]["embedding"], before["token_embedder"]["embedding"]
    )


def test_other_depths_and_checkpoints_without_experts_are_refused(partitioner, tmp_path):
    written(Switch(**SIZES, num_experts=2), tmp_path / "switch")
    six = {**SIZES, "num_encoder_layers": 6}
    with pytest.raises(UserError, match="has 6 layers here and 4 in the checkpoint"):
        started(T5_1_1(**six), tmp_path / "switch", partitioner)
    written(T5_1_1(**SIZES), tmp_path / "dense")
    with pytest.raises(UserError, match="the checkpoint has no experts"):
        started(T5_1_1(**SIZES), tmp_path / "dense", partitioner)
    wider = {**SIZES, "embed_dim": 8}
    with pytest.raises(UserError, match="of another model"):
        started(T5_1_1(**wider), tmp_path / "switch", partitioner)
