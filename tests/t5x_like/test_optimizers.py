import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from t5x_like import optimizers
from t5x_like.schedules import Constant, Linear, Squared

AXES = {
    "kernel": ("layers", "embed", "mlp"),
    "query_bias": ("layers", "heads", "kv"),
    "scale": ("layers", "embed"),
    "table": ("vocab", "embed"),
    "relative": ("relpos_buckets", "heads"),
}
SHAPES = {
    "kernel": (2, 6, 4),
    "query_bias": (2, 3, 2),
    "scale": (2, 6),
    "table": (9, 6),
    "relative": (5, 3),
}


def parameters(seed):
    rng = np.random.default_rng(seed)
    return {n: jnp.asarray(rng.normal(size=s), jnp.float32) for n, s in SHAPES.items()}


def update(optimizer, gradients):
    rule = optimizer.build(AXES)
    params = parameters(0)
    return rule.update(gradients, rule.init(params), params)[0]


def steps(optimizer, axes, params, count):
    """The parameters after updates with gradients that differ from step to step."""
    rule = optimizer.build(axes)
    state = rule.init(params)

    @jax.jit
    def one(step, params, state):
        gradients = jax.tree.map(lambda x: jnp.cos(7 * x + step), params)
        updates, state = rule.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    for step in range(count):
        params, state = one(step, params, state)
    return params


def test_weight_decay_takes_matrices_and_leaves_biases_norms_and_relative_positions():
    decayed = {name for name, axes in AXES.items() if optimizers.decays(axes)}
    assert decayed == {"kernel", "table"}


def test_without_a_gradient_adamw_only_decays():
    optimizer = optimizers.adamw(Constant(0.1), weight_decay=0.5)
    updates = update(optimizer, jax.tree.map(jnp.zeros_like, parameters(0)))
    # Loshchilov and Hutter 2019, algorithm 2, line 12: -rate * decay * weight.
    np.testing.assert_allclose(updates["kernel"], -0.1 * 0.5 * parameters(0)["kernel"], rtol=1e-6)
    np.testing.assert_array_equal(updates["query_bias"], np.zeros(SHAPES["query_bias"]))


def test_berts_first_update_is_3_162_times_the_sign_where_corrected_adams_is_1():
    """(1 - 0.9) / sqrt(1 - 0.999), whatever the gradient's size."""
    gradients = parameters(1)
    for corrected, size in ((False, 0.1 / 0.001**0.5), (True, 1.0)):
        optimizer = optimizers.adamw(
            Constant(1.0), b1=0.9, b2=0.999, eps=0.0, weight_decay=0.0, global_norm=None,
            bias_correction=corrected,
        )  # fmt: skip
        updates = update(optimizer, gradients)
        np.testing.assert_allclose(
            updates["kernel"], -size * np.sign(gradients["kernel"]), rtol=2e-4
        )
    assert pytest.approx(3.162, abs=5e-4) == 0.1 / 0.001**0.5


def test_berts_second_update_by_hand_and_its_decay_of_matrices_alone():
    """Gradient 1 twice: m = .1, .19; v = .001, .001999; then .01 of the weight."""
    optimizer = optimizers.adamw(
        Constant(1.0), b1=0.9, b2=0.999, eps=1e-6, weight_decay=0.01, global_norm=None,
        bias_correction=False,
    )  # fmt: skip
    rule, params = optimizer.build(AXES), parameters(0)
    ones = jax.tree.map(jnp.ones_like, params)
    _, state = rule.update(ones, rule.init(params), params)
    updates, _ = rule.update(ones, state, params)
    second = 0.19 / (0.001999**0.5 + 1e-6)
    np.testing.assert_allclose(updates["scale"], -second, rtol=1e-5)
    np.testing.assert_allclose(updates["kernel"], -second - 0.01 * params["kernel"], rtol=1e-5)


def test_palms_adafactor_decays_by_the_squared_rate_and_keeps_whole_moments():
    rate = Linear(peak=0.1, total_steps=10)
    optimizer = optimizers.adafactor(
        rate, min_dim_size_to_factor=None, momentum=0.9, weight_decay=Squared(rate)
    )
    params = parameters(0)
    rule = optimizer.build(AXES)
    state = rule.init(params)
    moments = [x.shape for x in jax.tree.leaves(state) if x.ndim > 1]
    # Momentum and second moment of each parameter, none of them divided into rows and columns.
    assert sorted(moments) == sorted(2 * list(SHAPES.values()))
    nothing = jax.tree.map(jnp.zeros_like, params)
    for rate_ in (0.1, 0.09):
        updates, state = rule.update(nothing, state, params)
        np.testing.assert_allclose(updates["kernel"], -(rate_**2) * params["kernel"], rtol=1e-5)
        np.testing.assert_array_equal(updates["scale"], np.zeros(SHAPES["scale"]))


def test_lion_steps_by_the_sign():
    optimizer = optimizers.lion(Constant(0.1), weight_decay=0.0, global_norm=None)
    gradients = parameters(1)
    updates = update(optimizer, gradients)
    np.testing.assert_allclose(updates["kernel"], -0.1 * np.sign(gradients["kernel"]), rtol=1e-6)


def test_gradients_above_the_global_norm_are_scaled_down_together():
    optimizer = optimizers.Optimizer(
        "clip", Constant(1.0), lambda axes: optax.chain(*optimizers._clipping(1.0))
    )
    gradients = parameters(1)
    norm = np.sqrt(sum(np.sum(np.square(g)) for g in gradients.values()))
    updates = update(optimizer, gradients)
    np.testing.assert_allclose(updates["table"], gradients["table"] / norm, rtol=1e-5)


def test_muon_orthogonalizes_each_layer_of_a_hidden_matrix():
    optimizer = optimizers.muon(Constant(1.0), weight_decay=0.0, global_norm=None)
    updates = update(optimizer, parameters(1))
    # Liu et al. 2025, equation 4: an orthogonal matrix times 0.2 sqrt(max(fan in, fan out)); the
    # Newton-Schulz iteration leaves singular values between 0.7 and 1.2 (Jordan 2024).
    for layer in np.asarray(updates["kernel"]):
        singular = np.linalg.svd(layer / (0.2 * np.sqrt(6)), compute_uv=False)
        assert singular.min() > 0.6
        assert singular.max() < 1.3


@pytest.mark.parametrize(
    ("axes", "expected"),
    [
        (("layers", "embed", "mlp"), ((1,), (2,))),
        (("layers", "embed", "heads", "kv"), ((1,), (2, 3))),
        (("layers", "heads", "kv", "embed"), ((1, 2), (3,))),
        (("joined_kv", "embed"), ((0,), (1,))),
        (("vocab", "embed"), None),
        (("layers", "heads", "kv"), None),
        (("layers", "embed"), None),
        (("layers", "mlp"), None),
    ],
)
def test_muon_takes_input_and_output_from_the_axes(axes, expected):
    found = optimizers.muon_dimensions(axes)
    assert (found if found is None else tuple(found)) == expected


def test_muon_gives_everything_else_to_adamw_with_its_decay():
    """Two steps, word for word `adamw`'s: no look-ahead, and the table decays, as matrices do."""
    settings = {"weight_decay": 0.5, "global_norm": None}
    muon, adamw = (
        optimizers.muon(Constant(0.1), **settings),
        optimizers.adamw(Constant(0.1), **settings),
    )
    found, wanted = (steps(optimizer, AXES, parameters(0), 2) for optimizer in (muon, adamw))
    for name in ("table", "query_bias", "scale", "relative"):
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-6)


def test_muon_decays_what_it_orthogonalizes():
    optimizer = optimizers.muon(Constant(0.1), weight_decay=0.5, global_norm=None)
    updates = update(optimizer, jax.tree.map(jnp.zeros_like, parameters(0)))
    np.testing.assert_allclose(updates["kernel"], -0.05 * parameters(0)["kernel"], rtol=1e-6)
    np.testing.assert_allclose(updates["table"], -0.05 * parameters(0)["table"], rtol=1e-6)
    np.testing.assert_array_equal(updates["scale"], np.zeros(SHAPES["scale"]))


def test_adafactor_keeps_one_row_and_one_column_of_second_moments():
    rule = optimizers.adafactor(Constant(1.0), min_dim_size_to_factor=4).build(AXES)
    shapes = {leaf.shape for leaf in jax.tree.leaves(rule.init(parameters(0)))}
    assert {(2, 6), (2, 4)} <= shapes  # of the kernel, per layer
    assert (2, 6, 4) not in shapes


STACKED = {
    "adafactor": lambda: optimizers.adafactor(Constant(0.01), min_dim_size_to_factor=2),
    "palm": lambda: optimizers.adafactor(
        Constant(0.01),
        min_dim_size_to_factor=None,
        momentum=0.9,
        weight_decay=Squared(Constant(0.1)),
    ),
    "adamw": lambda: optimizers.adamw(Constant(0.01), global_norm=None),
    "lion": lambda: optimizers.lion(Constant(0.01), global_norm=None),
    "muon": lambda: optimizers.muon(Constant(0.01), global_norm=None),
}


STACKS = {
    "matrix": (("layers", "embed", "mlp"), (3, 4, 5)),
    "heads": (("layers", "embed", "heads", "kv"), (3, 4, 2, 3)),
    "scale": (("layers", "embed"), (3, 4)),
    "experts": (("layers", "expert", "mlp", "embed"), (3, 2, 4, 5)),
    "layers inside": (("mlp", "layers", "embed"), (4, 3, 5)),
}


def single_layers(axes, stack):
    """Index in the stack of every layer and expert."""
    ranges = [
        range(size) if axis in optimizers.STACKED_AXES else [slice(None)]
        for axis, size in zip(axes, stack.shape, strict=True)
    ]
    return list(itertools.product(*ranges))


@pytest.mark.parametrize("name", STACKED)
def test_a_stack_is_updated_as_a_loop_over_its_layers(name):
    """Layers of sizes .01, .1 and 1, each with its own scale, clipping, factors and matrix."""
    rng, stacks, alone, own_axes = np.random.default_rng(0), {}, {}, {}
    for key, (axes, shape) in STACKS.items():
        sizes = np.float32([0.01, 0.1, 1.0]).reshape([3 if a == "layers" else 1 for a in axes])
        stacks[key] = rng.normal(size=shape).astype(np.float32) * sizes
        for index in single_layers(axes, stacks[key]):
            alone[f"{key} {index}"] = stacks[key][index]
            own_axes[f"{key} {index}"] = tuple(
                axis for axis in axes if axis not in optimizers.STACKED_AXES
            )
    stacked_axes = {key: axes for key, (axes, _) in STACKS.items()}
    found = steps(STACKED[name](), stacked_axes, stacks, 3)
    wanted = steps(STACKED[name](), own_axes, alone, 3)
    for key, (axes, _) in STACKS.items():
        for index in single_layers(axes, stacks[key]):
            np.testing.assert_allclose(
                found[key][index], wanted[f"{key} {index}"], rtol=1e-6, atol=1e-8
            )


def test_adafactor_moves_each_layer_of_a_stack_in_proportion_to_its_own_size():
    """Shazeer and Stern 2018, algorithm 4, by hand: the rate of .01 times the layer's size.

    Gradients of one size make updates of root mean square 1, which are not clipped. Five of them
    in one direction shrink a layer of size s to s (1 - .01) ** 5, a stack taken for one
    parameter would move all its layers alike.
    """
    sizes = jnp.array([0.01, 0.1, 1.0])[:, None, None]
    params = {"x": jnp.ones((3, 4, 6)) * sizes}
    rule = optimizers.adafactor(Constant(0.01)).build({"x": ("layers", "embed", "mlp")})
    state = rule.init(params)
    for _ in range(5):
        updates, state = rule.update({"x": jnp.ones((3, 4, 6))}, state, params)
        params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(params["x"], np.ones((3, 4, 6)) * sizes * 0.99**5, rtol=1e-5)


def test_adafactor_of_a_single_matrix_is_optaxs():
    """A second implementation of the paper; of several steps, factored and clipped."""
    axes, matrix = {"x": ("embed", "mlp")}, parameters(0)["table"]
    theirs = optimizers.Optimizer(
        "optax", Constant(0.05), lambda _: optax.adafactor(0.05, min_dim_size_to_factor=2)
    )
    ours = optimizers.adafactor(Constant(0.05), min_dim_size_to_factor=2)
    found, wanted = (steps(one, axes, {"x": matrix}, 4)["x"] for one in (ours, theirs))
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


@pytest.mark.parametrize(
    ("shape", "axes", "row", "column"),
    [
        ((200, 140, 130), ("layers", "embed", "mlp"), (200, 130), (200, 140)),
        ((6, 128, 768, 2048), ("layers", "expert", "embed", "mlp"), (6, 128, 768), (6, 128, 2048)),
        ((200, 768), ("layers", "embed"), (1,), (1,)),
        ((200, 160, 64), ("layers", "embed", "kv"), (1,), (1,)),
        ((768, 12, 64), ("embed", "heads", "kv"), (1,), (1,)),
    ],
)
def test_adafactor_factors_the_two_longest_dimensions_of_a_single_layer(shape, axes, row, column):
    rule = optimizers.adafactor(Constant(1.0)).build({"x": axes})
    state = jax.eval_shape(rule.init, {"x": jax.ShapeDtypeStruct(shape, jnp.float32)})
    (factored,) = [
        part
        for part in jax.tree.leaves(
            state, is_leaf=lambda part: isinstance(part, optax.FactoredState)
        )
        if isinstance(part, optax.FactoredState)
    ]
    assert (factored.v_row["x"].shape, factored.v_col["x"].shape) == (row, column)
    assert factored.v["x"].shape == ((1,) if len(row) > 1 else shape)
