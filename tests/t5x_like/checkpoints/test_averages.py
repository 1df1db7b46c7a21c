"""Means of a run's checkpoints, and the moving average that an optimizer keeps."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from models import gpt
from t5x_like import checkpoints, load_run, optimizers
from t5x_like.checkpoints import Checkpointer, averages
from t5x_like.checkpoints.host_params import write_params
from t5x_like.cli import main
from t5x_like.errors import UserError
from t5x_like.optimizers import Optimizer
from t5x_like.schedules import Constant
from t5x_like.training import state as train_state

GIN = """
from __gin__ import dynamic_registration
from models import gpt
MODEL = @gpt.GPT2()
gpt.GPT2:
  vocab_size = 8
  embed_dim = 4
  num_heads = 1
  num_layers = 1
  max_length = 4
TASK_FEATURE_LENGTHS = {'targets': 4}
"""
MODEL = gpt.GPT2(vocab_size=8, embed_dim=4, num_heads=1, num_layers=1, max_length=4)


@pytest.fixture
def run(tmp_path):
    """Three checkpoints, all of whose parameters are 1, 2 and 6."""
    shapes = MODEL.init(jax.random.key(0))["params"]
    for step, value in ((10, 1.0), (20, 2.0), (30, 6.0)):
        params = jax.tree.map(lambda x, value=value: np.full(x.shape, value, x.dtype), shapes)
        write_params(str(tmp_path / "run"), params, step, {"tokens": step})
    (tmp_path / "run" / "config.gin").write_text(f"{GIN}MODEL_DIR = '{tmp_path / 'run'}'\n")
    return str(tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("which", "mean"), [(["--last=2"], 4.0), (["--steps", "10", "20"], 1.5), ([], 3.0)]
)
def test_a_mean_of_checkpoints_is_a_run(which, mean, run, tmp_path):
    out = str(tmp_path / "mean")
    assert main(["average", run, f"--out={out}", *which]) == 0
    opened = load_run(out)
    assert all((np.asarray(leaf) == mean).all() for leaf in jax.tree.leaves(opened.params))
    assert opened.step == (20 if "--steps" in which else 30)
    assert checkpoints.load_metadata(out)["tokens"] == opened.step


@pytest.mark.parametrize(
    ("which", "message"),
    [
        (["--steps", "10", "25"], "has no checkpoint of 25; it has 10, 20, 30"),
        (["--last=4"], "--last=4: .* has 3 checkpoints .10, 20, 30."),
        (["--moving"], "has no moving average: train with optimizers/moving_average.gin"),
    ],
)
def test_what_is_not_there_is_no_part_of_a_mean(which, message, run, tmp_path, capsys):
    assert main(["average", run, f"--out={tmp_path / 'mean'}", *which]) == 2
    assert re.search(message, capsys.readouterr().err)


def test_a_moving_average_by_hand():
    """Parameters 0, 1, 2, decay 0.5: 0, then 0.5, then 1.25."""
    steps = Optimizer("one up", Constant(1.0), lambda _: optax.stateless(lambda u, _: u))
    rule = optimizers.moving_average(steps, decay=0.5).build({"w": (None,)})
    params, found = {"w": jnp.zeros(1)}, []
    state = rule.init(params)
    for _ in range(2):
        updates, state = rule.update({"w": jnp.ones(1)}, state, params)
        params = optax.apply_updates(params, updates)
        found.append(float(state[1].moving_average["w"][0]))
    assert found == [0.5, 1.25]
    assert float(params["w"][0]) == 2
    with pytest.raises(UserError, match=r"decay is 1: at least 0 and below 1"):
        optimizers.moving_average(steps, decay=1)


@pytest.mark.slow
def test_a_moving_average_is_saved_with_the_optimizer_and_made_a_run(run, partitioner, tmp_path):
    optimizer = optimizers.moving_average(optimizers.adamw(Constant(1e-3)))
    state = train_state.create_state(MODEL, optimizer, partitioner, 0)
    before = jax.tree.map(np.asarray, state.params)
    state = state.replace(params=jax.tree.map(lambda x: x + 1, state.params))
    checkpointer = Checkpointer(run)
    checkpointer.save(state, 40, {}, {})
    checkpointer.close()
    target = train_state.abstract_state(MODEL, optimizer, partitioner)
    assert averages.kept_moving_average(run, MODEL, 40).keys() == target.params.keys()
    assert main(["average", run, f"--out={tmp_path / 'mean'}", "--moving"]) == 0
    found, step = checkpoints.load_params(str(tmp_path / "mean"), MODEL)
    assert step == 40
    jax.tree.map(np.testing.assert_array_equal, found, before)


@pytest.mark.parametrize(
    "changed",
    [
        optimizers.layerwise_decay,
        lambda inner: optimizers.gradual_unfreezing(inner, 10),
        lambda inner: optimizers.first_layers(inner, ["query"]),
    ],
)
@pytest.mark.parametrize("average", [optimizers.moving_average, optimizers.nonmonotonic_average])
def test_an_average_within_what_changes_its_updates_is_refused(changed, average):
    plain = optimizers.adamw(Constant(1e-3))
    with pytest.raises(UserError, match="average outside of it, with"):
        changed(average(plain))
    average(changed(plain))
