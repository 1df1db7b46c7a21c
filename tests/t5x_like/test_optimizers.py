import inspect
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from models.tuning import LoRA
from t5x_like import optimizers
from t5x_like.errors import UserError
from t5x_like.partitioning import split_boxes
from t5x_like.schedules import Constant, Linear, Squared
from tests.models.families import FAMILIES, gpt2

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
    return jax.jit(lambda g: rule.update(g, rule.init(params), params)[0])(gradients)


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


def test_weight_decay_takes_both_factors_of_a_matrix_and_all_tables_of_an_adaptive_softmax():
    adapted = gpt2(tuning=LoRA(targets=["self_attention/"]))
    tailed = FAMILIES["transformer_xl"](cutoffs=(8, 16), divisor=2)
    for model, names in [(adapted, ("lora_a", "lora_b")), (tailed, ("embedding_0", "embedding_2"))]:
        axes = split_boxes(model.abstract_params())[1]
        found = jax.tree_util.tree_leaves_with_path(axes, is_leaf=lambda x: isinstance(x, tuple))
        decayed = {path[-1].key for path, one in found if optimizers.decays(one)}
        assert decayed >= set(names)


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


def test_adagrad_divides_by_the_root_of_all_squares_so_far():
    rule = optimizers.adagrad(Constant(0.1)).build({"table": ("vocab", "embed")})
    table = {"table": jnp.zeros((2, 1))}
    state = rule.init(table)
    # -0.1 · 3 / 3, then -0.1 · 4 / 5; a row without a gradient stays.
    for gradient, step in ((3.0, -0.1), (4.0, -0.08)):
        updates, state = rule.update({"table": jnp.array([[gradient], [0.0]])}, state, table)
        np.testing.assert_allclose(updates["table"], [[step], [0.0]], rtol=1e-6)
    # Updates do not depend on how many pairs the loss is a mean of.
    updates, _ = rule.update({"table": jnp.array([[1e-7], [0.0]])}, rule.init(table), table)
    np.testing.assert_allclose(updates["table"], [[-0.1], [0.0]], rtol=1e-4)


def test_momentum_adds_up_what_went_before():
    """m = 0.9 m + g: of gradients 1, 2, 0 the sums are 1, 2.9, 2.61; without momentum 1, 2, 0."""
    for momentum, sums in ((0.9, (1.0, 2.9, 2.61)), (None, (1.0, 2.0, 0.0))):
        rule = optimizers.sgd(Constant(0.1), momentum).build(None)
        parameter = jnp.zeros(1)
        state = rule.init(parameter)
        for gradient, expected in zip((1.0, 2.0, 0.0), sums, strict=True):
            update, state = rule.update(jnp.array([gradient]), state, parameter)
            np.testing.assert_allclose(update, [-0.1 * expected], rtol=1e-6)


def test_gradients_above_the_global_norm_are_scaled_down_together():
    optimizer = optimizers.Optimizer(
        "clip", Constant(1.0), lambda axes: optax.chain(*optimizers.clipping(1.0))
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
    "adagrad": lambda: optimizers.adagrad(Constant(0.01)),
    "adadelta": lambda: optimizers.adadelta(Constant(1.0)),
    "sgd": lambda: optimizers.sgd(Constant(0.01), 0.9),
    "muon": lambda: optimizers.muon(Constant(0.01), global_norm=None),
    "adamax": lambda: optimizers.adamax(Constant(0.01), weight_decay=0.1, global_norm=None),
    "lamb": lambda: optimizers.lamb(Constant(0.01), global_norm=None),
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
                found[key][index], wanted[f"{key} {index}"], rtol=1e-6, atol=1e-6
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


def test_lambs_step_has_the_length_of_the_rate_times_the_parameters_norm():
    """By hand: (3, 4) decayed by .2 moves along (.6, .8), of norm 1, by .1 of 5."""
    rule = optimizers.lamb(Constant(0.1), weight_decay=0.2).build({"x": ("embed", "mlp")})
    params = {"x": jnp.array([[3.0, 4.0]])}
    updates, _ = rule.update({"x": jnp.zeros((1, 2))}, rule.init(params), params)
    np.testing.assert_allclose(params["x"] + updates["x"], [[2.7, 3.6]], rtol=1e-6)


def test_lambs_ratio_is_1_for_biases_norms_and_where_a_norm_is_0():
    settings = {"b1": 0.9, "b2": 0.999, "eps": 1e-6, "weight_decay": 0.01, "global_norm": None}
    lamb = optimizers.lamb(Constant(0.1), **settings).build(AXES)
    adam = optimizers.adamw(Constant(0.1), bias_correction=False, **settings).build(AXES)
    gradients, params = parameters(1), parameters(0)
    params["table"] = jnp.zeros_like(params["table"])
    gradients["kernel"] = gradients["kernel"].at[0].set(0)
    params["kernel"] = params["kernel"].at[0].set(0)
    found, wanted = (rule.update(gradients, rule.init(params), params)[0] for rule in (lamb, adam))
    for name in ("scale", "query_bias", "relative", "table"):
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-6)
    np.testing.assert_array_equal(found["kernel"][0], np.zeros((6, 4)))
    ratio = np.linalg.norm(params["kernel"][1]) / np.linalg.norm(wanted["kernel"][1] / 0.1)
    np.testing.assert_allclose(found["kernel"][1], wanted["kernel"][1] * ratio, rtol=1e-5)


def test_lamb_of_a_matrix_is_optaxs_with_corrected_moments():
    """A second implementation of You et al. 2020, algorithm 2, over several steps."""
    axes, matrix = {"x": ("embed", "mlp")}, parameters(0)["table"]
    theirs = optimizers.Optimizer(
        "optax", Constant(0.05), lambda _: optax.lamb(0.05, weight_decay=0.01)
    )
    ours = optimizers.lamb(Constant(0.05), bias_correction=True, global_norm=None)
    found, wanted = (steps(one, axes, {"x": matrix}, 4)["x"] for one in (ours, theirs))
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)


def test_lamb_without_correction_is_the_released_codes_loop():
    """ALBERT's `lamb_optimizer.py` as equations in NumPy, float64, on each layer by itself."""
    axes, rate = {"x": ("layers", "embed", "mlp")}, 0.05
    start = np.float32([0.01, 1.0])[:, None, None] * np.asarray(parameters(0)["kernel"])
    found = steps(optimizers.lamb(Constant(rate), global_norm=None), axes, {"x": start}, 4)["x"]
    for layer in range(2):
        x = start[layer].astype(np.float64)
        m, v = np.zeros_like(x), np.zeros_like(x)
        for step in range(4):
            gradient = np.cos(7 * x + step)
            m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
            change = m / (np.sqrt(v) + 1e-6) + 0.01 * x
            x = x - rate * np.linalg.norm(x) / np.linalg.norm(change) * change
        np.testing.assert_allclose(found[layer], x, atol=1e-6)


@pytest.mark.interop
def test_adamax_is_torchs():
    torch = pytest.importorskip("torch")
    start = np.asarray(parameters(0)["scale"])
    theirs = torch.nn.Parameter(torch.tensor(start))
    rule = torch.optim.Adamax([theirs], lr=0.05, betas=(0.8, 0.9), eps=1e-3)
    for step in range(5):
        theirs.grad = torch.cos(7 * theirs.detach() + step)
        rule.step()
    ours = optimizers.adamax(Constant(0.05), b1=0.8, b2=0.9, eps=1e-3, global_norm=None)
    found = steps(ours, {"x": ("layers", "embed")}, {"x": jnp.asarray(start)}, 5)["x"]
    np.testing.assert_allclose(found, theirs.detach().numpy(), atol=1e-6)


@pytest.mark.interop
def test_adadelta_is_torchs():
    torch = pytest.importorskip("torch")
    start = np.asarray(parameters(0)["scale"])
    theirs = torch.nn.Parameter(torch.tensor(start))
    rule = torch.optim.Adadelta([theirs], lr=0.5, rho=0.9, eps=1e-3)
    for step in range(5):
        theirs.grad = torch.cos(7 * theirs.detach() + step)
        rule.step()
    ours = optimizers.adadelta(Constant(0.5), rho=0.9, eps=1e-3)
    found = steps(ours, {"x": ("layers", "embed")}, {"x": jnp.asarray(start)}, 5)["x"]
    np.testing.assert_allclose(found, theirs.detach().numpy(), atol=1e-6)


def test_adadeltas_steps_are_as_large_as_those_before():
    """Zeiler 2012, algorithm 1, with rho 0.75 and eps 0.01, of gradients 2 and 0.

    E[g²] = 1; step √.01 / √1.01 · 2. Then no step, and E[g²] = .75; E[Δ²] is .25 · .04 / 1.01.
    """
    rule = optimizers.adadelta(Constant(1.0), rho=0.75, eps=0.01).build({"x": ("embed",)})
    params = {"x": jnp.ones(1)}
    first = 0.2 / 1.01**0.5
    kept, state = 0.25 * first**2, rule.init(params)
    third = (0.75 * kept + 0.01) ** 0.5 / (0.75 * 0.75 + 0.25 * 9 + 0.01) ** 0.5 * 3
    for gradient, step in ((2.0, -first), (0.0, 0.0), (3.0, -third)):
        updates, state = rule.update({"x": jnp.array([gradient])}, state, params)
        np.testing.assert_allclose(updates["x"], [step], rtol=1e-6)
    with pytest.raises(UserError, match=r"^adadelta.eps is 0: it must be above 0"):
        optimizers.adadelta(Constant(1.0), eps=0.0)


def test_adamaxs_first_step_is_the_sign_and_a_later_small_gradient_meets_the_largest():
    """Kingma and Ba 2015, algorithm 2: then u = .999, m = .09, of which .19 are corrected."""
    rule = optimizers.adamax(Constant(1.0), eps=0.0, global_norm=None).build({"x": ("embed",)})
    params = {"x": jnp.ones(2)}
    updates, state = rule.update({"x": jnp.array([1.0, -1.0])}, rule.init(params), params)
    np.testing.assert_allclose(updates["x"], [-1, 1], rtol=1e-6)
    updates, _ = rule.update({"x": jnp.zeros(2)}, state, params)
    second = 0.09 / 0.19 / 0.999
    np.testing.assert_allclose(updates["x"], [-second, second], rtol=1e-5)


def test_layer_wise_decay_of_the_rate_is_electras():
    """Its released code: rate * .9 ** (L + 2 - depth), for large's 24 layers and 5e-5."""
    optimizer = optimizers.layerwise_decay(sgd(5e-5), decay=0.9)
    axes = {
        "token_embedder": {"embedding": ("vocab", "embed")},
        "embedding_projection": {"kernel": ("embed", "mlp")},
        "encoder": {"layers": {"kernel": ("embed", "layers", "mlp")}},
        "head": {"bias": ("embed",)},
    }
    shapes = {
        "token_embedder": {"embedding": (3, 2)},
        "embedding_projection": {"kernel": (2, 2)},
        "encoder": {"layers": {"kernel": (2, 24, 2)}},
        "head": {"bias": (2,)},
    }
    ones = jax.tree.map(jnp.ones, shapes, is_leaf=lambda node: isinstance(node, tuple))
    rule = optimizer.build(axes)
    updates, _ = rule.update(ones, rule.init(ones), ones)
    np.testing.assert_allclose(updates["head"]["bias"], -5e-5, rtol=1e-6)
    layers = updates["encoder"]["layers"]["kernel"]
    np.testing.assert_allclose(layers[:, 23], -4.05e-5, rtol=1e-6)
    np.testing.assert_allclose(layers[:, 0], -3.589e-6, rtol=1e-3)
    np.testing.assert_allclose(layers[:, 1] / layers[:, 0], 1 / 0.9, rtol=1e-6)
    for name, part in (("token_embedder", "embedding"), ("embedding_projection", "kernel")):
        np.testing.assert_allclose(updates[name][part], -3.230e-6, rtol=1e-3)


def test_a_decay_of_1_leaves_the_optimizer_as_it_is_and_others_are_refused():
    optimizer = optimizers.layerwise_decay(sgd(0.1), decay=1.0)
    np.testing.assert_allclose(
        update(optimizer, parameters(1))["table"], -0.1 * parameters(1)["table"]
    )
    for settings in ({"decay": 0.0}, {"decay": 1.5}, {"head_distance": -1}):
        with pytest.raises(UserError, match=next(iter(settings))):
            optimizers.layerwise_decay(sgd(0.1), **settings)
    with pytest.raises(UserError, match="stack of layers"):
        optimizers.layerwise_decay(sgd(0.1)).build({"x": ("embed", "mlp")})


def sgd(rate):
    return optimizers.Optimizer("SGD", Constant(rate), lambda axes: optax.sgd(rate))


@pytest.mark.parametrize(
    "make",
    [
        optimizers.adadelta, optimizers.adafactor, optimizers.adagrad, optimizers.adamax,
        optimizers.adamw, optimizers.lamb, optimizers.lion, optimizers.muon, optimizers.sgd,
    ],
)  # fmt: skip
def test_numbers_with_which_nothing_is_learned_are_refused(make):
    """A norm of 0 switches clipping off elsewhere; here it would switch learning off."""
    wrong = {"global_norm": (0.0, -1.0), "weight_decay": (-0.1,), "b1": (1.0, -0.1), "b2": (1.5,)}
    wrong |= {"momentum": (1.0,), "clipping_threshold": (0.0,), "eps": (-1e-8,)}
    wrong |= {"rho": (1.0, -0.1), "decay_rate": (0.0, -0.8)}
    for name in wrong.keys() & inspect.signature(make).parameters.keys():
        for value in wrong[name]:
            with pytest.raises(UserError, match=f"^{make.__name__}.{name} is {value}: "):
                make(Constant(0.1), **{name: value})
    make(Constant(0.1), global_norm=None)
