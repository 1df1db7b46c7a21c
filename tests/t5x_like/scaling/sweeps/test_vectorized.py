"""Runs that one program trains are those that as many programs would train."""

import shutil
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from models.gpt import GPT2
from t5x_like import checkpoints, cli, load_run, optimizers, schedules
from t5x_like.anomalies import AnomalyPolicy
from t5x_like.data import DatasetConfig
from t5x_like.partitioning import Partitioner
from t5x_like.scaling.sweeps import vectorized
from t5x_like.scaling.sweeps.trace_merging import NotMergeable, merge_traces
from t5x_like.training.plan import TrainingPlan
from t5x_like.training.state import state_maker
from t5x_like.training.step import make_train_step
from tests.untimed import untimed

# Two seeds by two rates.
CELLS = {"a": (0, 0.01), "b": (0, 0.02), "c": (7, 0.01), "d": (7, 0.02)}


@pytest.fixture
def write_cells(corpus):
    """Writes the gin files of cells in a directory, `write_cells(directory, **more)`."""

    def write(directory, cells=CELLS, **bindings):
        files = []
        for name, (seed, rate) in cells.items():
            bound = {
                "SEED": seed,
                "LEARNING_RATE": rate,
                "MODEL_DIR": str(directory / name),
                "TRAIN_STEPS": 8,
                "WARMUP_STEPS": 2,
                "OPTIMIZER": "@optimizers.adamw()",
                "SCHEDULE": "@schedules.Cosine()",
                "DROPOUT_RATE": 0.1,
                "train.train.log_period": 2,
                "checkpoints.CheckpointPolicy.period": 4,
                **{key.replace("__", "."): value for key, value in bindings.items()},
            }
            lines = [
                "from __gin__ import dynamic_registration",
                "from models import gpt",
                *(
                    f"from t5x_like import {module}"
                    for module in ("checkpoints", "optimizers", "schedules", "train")
                ),
                *(f"include '{flag.partition('=')[2]}'" for flag in corpus),
                "include 'runs/pretrain.gin'",
                *(
                    f"{key} = {value if str(value)[:1] == '@' else repr(value)}"
                    for key, value in bound.items()
                ),
            ]
            (directory / name).mkdir(parents=True, exist_ok=True)
            path = directory / name / "cell.gin"
            path.write_text("\n".join(lines) + "\n")
            files.append(str(path))
        return files

    return write


def assert_same_run(together, apart, steps):
    """Every record and the final parameters, to 1e-5; and the same files."""
    a, b = untimed(together), untimed(apart)
    assert [(x["step"], x["split"]) for x in a] == [(x["step"], x["split"]) for x in b]
    for x, y in zip(a, b, strict=True):
        assert x.keys() == y.keys()
        for name in x.keys() - {"split"}:
            assert x[name] == pytest.approx(y[name], rel=1e-5, abs=1e-5), (name, x["step"])
    loaded = [load_run(str(run), steps).params for run in (together, apart)]
    # Two programs round otherwise, which Adam's first steps enlarge where gradients are next to 0.
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-4), *loaded)


@pytest.mark.slow
def test_runs_together_equal_the_runs_apart(write_cells, tmp_path):
    """Two seeds by two rates, of a tiny decoder with dropout; two of them alone too."""
    assert vectorized.main(write_cells(tmp_path / "together")) == 0
    alone = {name: CELLS[name] for name in "ad"}
    for name, file in zip(alone, write_cells(tmp_path / "apart", alone), strict=True):
        assert cli.main(["train", f"--gin_file={file}"]) == 0
        together, apart = tmp_path / "together" / name, tmp_path / "apart" / name
        assert_same_run(together, apart, 8)
        files = [{path.name for path in run.iterdir()} for run in (together, apart)]
        assert files[0] == files[1]
        assert checkpoints.checkpoint_steps(str(together)) == [4, 8]
        texts = [
            (run / "config.gin").read_text().replace("\\\n    ", "").replace(str(run), "RUN")
            for run in (together, apart)
        ]
        assert texts[0] == texts[1]
    # They are four runs, not one.
    losses = {untimed(tmp_path / "together" / name)[-1]["loss"] for name in CELLS}
    assert len(losses) == 4


@pytest.mark.slow
def test_runs_that_were_killed_go_on_from_the_newest_step_that_all_have(write_cells, tmp_path):
    cells = {name: CELLS[name] for name in "ad"}
    whole = write_cells(tmp_path / "whole", cells)
    assert vectorized.main(whole) == 0
    for name in cells:
        shutil.copytree(tmp_path / "whole" / name, tmp_path / "cut" / name)
    cut = write_cells(tmp_path / "cut", cells)
    # One was killed before its last checkpoint, the other after.
    shutil.rmtree(tmp_path / "cut" / "a" / "checkpoints" / "8")
    assert vectorized.main(cut) == 0
    for name in cells:
        assert_same_run(tmp_path / "cut" / name, tmp_path / "whole" / name, 8)
    before = [(tmp_path / "cut" / name / "metrics.jsonl").read_text() for name in cells]
    assert vectorized.main(cut) == 0
    assert before == [(tmp_path / "cut" / name / "metrics.jsonl").read_text() for name in cells]


@pytest.mark.slow
def test_a_signal_saves_all_and_exits_with_143(write_cells, tmp_path):
    cells = {name: CELLS[name] for name in "ad"}
    files = write_cells(
        tmp_path, cells, TRAIN_STEPS=1_000_000, checkpoints__CheckpointPolicy__period=1_000_000
    )
    command = [sys.executable, "-m", "t5x_like.scaling.sweeps.vectorized", *files]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.time() + 120
        while not untimed(tmp_path / "d") and time.time() < deadline:
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 143, stderr
    steps = [checkpoints.checkpoint_steps(str(tmp_path / name)) for name in cells]
    assert len(steps[0]) == 1
    assert steps[0] == steps[1]


@pytest.mark.slow
def test_a_run_that_diverges_does_not_stop_the_others(write_cells, tmp_path, capsys):
    cells = {"good": (0, 0.01), "bad": (0, 1e30)}
    assert vectorized.main(write_cells(tmp_path, cells)) == 1
    assert f"{tmp_path / 'bad'}: the loss is" in capsys.readouterr().err
    assert checkpoints.checkpoint_steps(str(tmp_path / "good"))[-1] == 8
    assert checkpoints.checkpoint_steps(str(tmp_path / "bad")) == []


@pytest.mark.parametrize(
    ("binding", "values", "message"),
    [
        ("gpt__GPT2__num_layers", (2, 4), "gpt.GPT2.num_layers is 2 in"),
        ("DROPOUT_RATE", (0.0, 0.1), "DROPOUT_RATE is 0.0 in"),
        ("BATCH_SIZE", (4, 8), "BATCH_SIZE is 4 in"),
        ("TRAIN_STEPS", (8, 9), "TRAIN_STEPS is 8 in"),
        ("OPTIMIZER", ("@optimizers.adamw()", "@optimizers.lion()"), "OPTIMIZER is"),
        ("optimizers__adamw__global_norm", (None, 1.0), "global_norm is None in"),
    ],
)
def test_what_keeps_runs_apart_is_named(write_cells, tmp_path, capsys, binding, values, message):
    files = []
    for name, value in zip("ab", values, strict=True):
        files += write_cells(tmp_path, {name: (0, 0.01)}, **{binding: value})
    assert vectorized.main(files) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert "differ in SEED, MODEL_DIR and numbers of the optimizer only" in line
    assert not (tmp_path / "a" / "metrics.jsonl").exists()


# -- One function ----------------------------------------------------------------------------------


def rule(name, rate):
    schedule = schedules.Cosine(rate, total_steps=10, warmup_steps=2)
    numbers = {"adamw": {"b2": 1 - rate}, "muon": {"weight_decay": rate}, "adafactor": {}}
    return getattr(optimizers, name)(schedule, **numbers[name])


@pytest.mark.parametrize("name", ["adamw", "adafactor", "muon"])
def test_optimizers_with_other_numbers_are_one(name):
    """Two updates by random gradients."""
    rng = np.random.default_rng(0)
    params = {"w": rng.normal(size=(4, 6)), "b": rng.normal(size=6)}
    axes = {"w": ("embed", "mlp"), "b": ("mlp",)}
    params = jax.tree.map(jnp.float32, params)
    rules = [rule(name, rate).build(axes) for rate in (0.01, 0.02, 0.03)]

    def two_updates(one):
        def run(params, gradients):
            state = one.init(params)
            for gradient in gradients:
                updates, state = one.update(gradient, state, params)
                params = optax.apply_updates(params, updates)
            return params

        return run

    gradients = [jax.tree.map(lambda x: jnp.float32(rng.normal(size=x.shape)), params)] * 2
    functions = [two_updates(one) for one in rules]
    one = jax.jit(jax.vmap(merge_traces(functions, params, gradients), in_axes=(0, None, None)))
    together = one(jnp.arange(3), params, gradients)
    for i, function in enumerate(functions):
        got = jax.tree.map(lambda x, i=i: x[i], together)
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6),
            got, jax.jit(function)(params, gradients),
        )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("at_once", [2, 3])
def test_a_step_of_several_runs_at_once_is_that_of_each(at_once, batch):
    """Of three runs, with one that is left over or with none."""
    model = GPT2(vocab_size=64, embed_dim=16, num_heads=2, num_layers=1, max_length=16)
    partitioner = Partitioner(devices=tuple(jax.devices()[:1]))
    dataset = DatasetConfig(None, {}, "", batch_size=8)
    plans = [
        TrainingPlan(
            model=model, model_dir="", dataset=dataset, train_steps=10,
            optimizer=rule("adamw", rate), validation=(), validation_period=1,
            validation_batches=None, initial_checkpoint=None, num_microbatches=1, seed=seed,
            partitioner=partitioner, checkpoint_policy=None, anomaly_policy=AnomalyPolicy(),
            allow_config_change=False, log_period=1, tensorboard=False,
            wandb_project=None, config_text=None,
        )
        for seed, rate in enumerate((0.01, 0.02, 0.03))
    ]  # fmt: skip
    create = state_maker(model, plans[0].optimizer, partitioner)
    states = [create(plan.seed) for plan in plans]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *states)
    batches = {key: jnp.stack([value] * 3) for key, value in batch.items()}
    stacked, metrics = vectorized.joint_step(plans, at_once)(stacked, batches)
    last = plans[-1]
    step = make_train_step(model, last.optimizer, partitioner, seed=last.seed)
    state, own = step(states[-1], partitioner.shard_batch(batch))
    # The biases of keys have no gradient but rounding, which AdamW's first step makes larger.
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x[-1], y, rtol=1e-5, atol=2e-5),
        (stacked.params, metrics), (state.params, own),
    )  # fmt: skip


def test_functions_become_one_where_only_numbers_differ():
    def of(scale, table):
        return lambda x: jnp.where(x > scale, jnp.tanh(x) * scale, x + jnp.array(table)).sum()

    functions = [of(0.5, [1.0, 2.0]), of(1.5, [1.0, 2.0]), of(0.5, [3.0, 4.0])]
    one = merge_traces(functions, jax.ShapeDtypeStruct((2,), jnp.float32))
    x = jnp.array([0.7, 2.0])
    got = jax.jit(jax.vmap(one, in_axes=(0, None)))(jnp.arange(3), x)
    np.testing.assert_allclose(got, [function(x) for function in functions], rtol=1e-6)


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (lambda x: jnp.sin(x), "one computes more than another"),
        (lambda x: jnp.cos(x) + x, "another does not"),
        (lambda x: x + jnp.sin(x), "different arrays"),
        (lambda x: jnp.sin(x) + 1.0, "one has a number"),
    ],
)
def test_functions_that_differ_in_more_are_refused(other, reason):
    with pytest.raises(NotMergeable, match=reason):
        merge_traces([lambda x: jnp.sin(x) + x, other], jnp.ones(2))


def test_a_number_inside_a_loop_is_refused():
    def loop(factor):
        return lambda x: jax.lax.fori_loop(0, 3, lambda i, y: y * factor, x)

    with pytest.raises(NotMergeable, match="differ inside"):
        merge_traces([loop(2.0), loop(3.0)], jnp.ones(2))


def test_no_file_is_a_users_mistake(capsys):
    assert vectorized.main([]) == 2
    assert "give gin files" in capsys.readouterr().err
