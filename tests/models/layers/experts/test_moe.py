"""Routers, their losses, and experts beside a loop over tokens."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from models.layers import auxiliary_losses, intermediates
from models.layers.experts.dispatch import Capacity, Dropless
from models.layers.experts.grouped_matmul import grouped_dot
from models.layers.experts.moe import (
    GSHARD,
    SWITCH,
    Experts,
    GatedExperts,
    MixtureOfExperts,
    Router,
    Routing,
    load_balance_loss,
    router_z_loss,
)
from models.layers.linear import normal

EMBED, HIDDEN, EXPERTS = 6, 10, 4


def mixture(dispatch, choose=SWITCH, experts=GatedExperts, num_experts=EXPERTS, hidden_dim=HIDDEN):
    return MixtureOfExperts(
        functools.partial(Router, num_experts, normal(1.0), choose),
        functools.partial(experts, num_experts, hidden_dim, nn.gelu, normal(0.5), normal(0.5)),
        dispatch,
    )


def tokens(rows=4, length=6, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(rows, length, EMBED)), jnp.float32)


def parameters(module, x_bte):
    """Drawn at random, with the second expert out of favour so that loads differ."""
    shapes = nn.unbox(jax.eval_shape(module.init, jax.random.key(0), x_bte))["params"]
    rng = np.random.default_rng(5)
    params = jax.tree.map(lambda leaf: jnp.float32(rng.normal(size=leaf.shape)), shapes)
    kernel = params["router"]["kernel"]
    return {**params, "router": {"kernel": kernel.at[0].add(2.0).at[:, 1].add(-1.0)}}


def run(module, params, x_bte, **options):
    """The result, and the metrics as means."""
    y_bte, variables = jax.jit(
        lambda params, x: module.apply(
            {"params": params}, x, mutable=[auxiliary_losses.AUXILIARY], **options
        )
    )(params, x_bte)
    losses, metrics = auxiliary_losses.collect(variables)
    return y_bte, losses | {name: total / weight for name, (total, weight) in metrics.items()}


def served_in_turn(probabilities_btx, k, rows_of_a_group, capacity):
    """For each token its experts, best first, and whether each had a free slot."""
    b, t, _ = probabilities_btx.shape
    ranked = np.argsort(-probabilities_btx, axis=-1, kind="stable")[..., :k]
    served = np.zeros((b, t, k), bool)
    for first_row in range(0, b, rows_of_a_group):
        taken = dict.fromkeys(range(probabilities_btx.shape[-1]), 0)
        for choice in range(k):
            for position in range(t):
                for row in range(first_row, first_row + rows_of_a_group):
                    expert = ranked[row, position, choice]
                    served[row, position, choice] = taken[expert] < capacity
                    taken[expert] += 1
    return ranked, served


def naive(params, x_bte, ranked, served, normalize):
    """Every expert on every token, and a sum over those that served it."""
    p_btx = jax.nn.softmax(x_bte @ params["router"]["kernel"])
    kernels = {name: leaf["kernel"] for name, leaf in params["experts"].items()}
    hidden = jax.nn.gelu(jnp.einsum("bte,xef->btxf", x_bte, kernels["wi_0"]))
    hidden *= jnp.einsum("bte,xef->btxf", x_bte, kernels["wi_1"])
    y_btxe = jnp.einsum("btxf,xfe->btxe", hidden, kernels["wo"])
    gates_btk = jnp.take_along_axis(p_btx, ranked, -1)
    if normalize:
        gates_btk /= gates_btk.sum(-1, keepdims=True)
    y_btke = jnp.take_along_axis(y_btxe, ranked[..., None], 2)
    return (jnp.where(served, gates_btk, 0)[..., None] * y_btke).sum(2)


@pytest.mark.parametrize(
    ("choose", "dispatch", "capacity"),
    [
        # Groups of 2 rows, 12 tokens: 12 / 4 × 1 = 3 slots; with two choices 6.
        (SWITCH, Capacity(eval_factor=1.0, group_size=12), 3),
        (GSHARD, Capacity(eval_factor=1.0, group_size=12), 6),
        (GSHARD, Dropless(), 10**6),
    ],
    ids=["switch", "gshard", "dropless"],
)
def test_result_and_gradients_are_those_of_a_loop_over_tokens(choose, dispatch, capacity):
    module = mixture(dispatch, choose)
    x_bte = tokens()
    params = parameters(module, x_bte)
    p_btx = np.asarray(jax.nn.softmax(x_bte @ params["router"]["kernel"]))
    ranked, served = served_in_turn(p_btx, choose.k, 2, capacity)
    direction = tokens(seed=1)

    def compared(function):
        product = lambda params, x: (function(params, x) * direction).sum()  # noqa: E731
        return function(params, x_bte), *jax.grad(product, (0, 1))(params, x_bte)

    expected = jax.jit(
        lambda: compared(lambda params, x: naive(params, x, ranked, served, choose.normalize))
    )()
    found = jax.jit(lambda: compared(lambda params, x: module.apply({"params": params}, x)))()
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-4), expected, found
    )
    _, metrics = run(module, params, x_bte)
    assert metrics["expert_overflow"] == pytest.approx(1 - served.mean())
    assert (metrics["expert_overflow"] == 0) == isinstance(dispatch, Dropless)


def routing(probabilities_tx):
    p_btx = jnp.asarray(probabilities_tx)[None]
    return Routing(jnp.log(p_btx), p_btx, SWITCH(p_btx))


def test_load_balance_loss_of_ten_tokens_by_hand():
    found = routing([
        (.70, .10, .20), (.80, .12, .08), (.90, .05, .05), (.65, .20, .15), (.08, .80, .12),
        (.20, .75, .05), (.12, .73, .15), (.10, .09, .81), (.04, .06, .90), (.25, .07, .68),
    ])  # fmt: skip
    mean = found.probabilities_btx.mean((0, 1))
    np.testing.assert_allclose(mean, [0.3840, 0.2970, 0.3190], rtol=1e-6)
    shares = np.bincount(found.choices.experts_btk.ravel(), minlength=3) / 10
    np.testing.assert_allclose(shares, [0.40, 0.30, 0.30])
    # .40 × .3840 + .30 × .2970 + .30 × .3190 = .3384, times three experts.
    assert load_balance_loss(found) == pytest.approx(3 * 0.3384, rel=1e-6)


def test_z_loss_is_the_mean_of_squared_log_sums():
    # log(e^0 + e^0) = log 2; log(e^log 3 + e^0) = log 4.
    logits_btx = jnp.array([[[0.0, 0.0], [np.log(3), 0.0]]])
    expected = (np.log(2) ** 2 + np.log(4) ** 2) / 2
    assert router_z_loss(logits_btx) == pytest.approx(expected, rel=1e-6)


def test_two_gates_share_one_and_a_single_gate_is_its_probability():
    p_btx = jnp.array([[[0.1, 0.5, 0.3, 0.1]]])
    one, two = SWITCH(p_btx), GSHARD(p_btx)
    assert one.experts_btk.tolist() == [[[1]]]
    assert one.gates_btk.tolist() == [[[0.5]]]
    assert two.experts_btk.tolist() == [[[1, 2]]]
    np.testing.assert_allclose(two.gates_btk, [[[0.625, 0.375]]], rtol=1e-6)


def test_the_router_is_float32_under_bfloat16():
    router = Router(3, normal(1.0))
    x_bte = tokens().astype(jnp.bfloat16)
    params = {"params": {"kernel": jnp.linspace(-1, 1, 3 * EMBED).reshape(EMBED, 3)}}
    logits_btx = router.apply(params, x_bte).logits_btx
    exact = np.asarray(x_bte, np.float64) @ np.asarray(params["params"]["kernel"], np.float64)
    np.testing.assert_allclose(logits_btx, exact, rtol=1e-5, atol=1e-6)
    module = mixture(Capacity(), experts=functools.partial(GatedExperts, dtype="bfloat16"))
    params = parameters(module, x_bte)
    assert jax.eval_shape(lambda: module.apply({"params": params}, x_bte)).dtype == jnp.bfloat16


def test_jitter_multiplies_the_input_in_training_alone():
    router = Router(EMBED, normal(1.0), jitter=0.1)
    params = {"params": {"kernel": jnp.eye(EMBED)}}
    x_bte = jnp.ones((8, 16, EMBED))
    rngs = {"dropout": jax.random.key(0)}
    noise = router.apply(params, x_bte, training=True, rngs=rngs).logits_btx
    assert noise.min() >= 0.9 and noise.max() <= 1.1
    # Uniform on [0.9, 1.1]: deviation 0.2 / √12; the mean of 768 draws deviates by 0.002.
    assert noise.mean() == pytest.approx(1, abs=0.01)
    assert noise.std() == pytest.approx(0.2 / 12**0.5, rel=0.1)
    assert (router.apply(params, x_bte).logits_btx == 1).all()


def everything_to_one_expert(module, x_bte):
    params = parameters(module, x_bte)
    kernel = jnp.zeros_like(params["router"]["kernel"]).at[:, 2].set(50.0)
    return {**params, "router": {"kernel": kernel}}


def test_overflowed_tokens_pass_through_the_residual():
    module = mixture(Capacity(train_factor=1.0, eval_factor=2.0))
    x_bte = jnp.abs(tokens(rows=2, length=6)) + 0.1
    params = everything_to_one_expert(module, x_bte)
    # 12 tokens / 4 experts × 2 = 6 slots, which go to the first three tokens of both rows.
    y_bte, metrics = run(module, params, x_bte)
    assert (np.abs(y_bte[:, :3]).max(-1) > 0).all()
    assert (y_bte[:, 3:] == 0).all()
    assert metrics["expert_overflow"] == 0.5
    assert (metrics["expert_load_max"], metrics["expert_load_min"]) == (4, 0)
    assert metrics["router_entropy"] == pytest.approx(0, abs=1e-3)
    # In training 12 / 4 × 1 = 3: both first tokens, and one of the second ones.
    y_bte, metrics = run(module, params, x_bte, enable_dropout=True)
    assert [int((np.abs(row).max(-1) > 0).sum()) for row in y_bte] == [2, 1]
    assert metrics["expert_overflow"] == 0.75


def test_nothing_is_dropped_in_evaluation_unless_that_is_asked_for():
    module = mixture(Capacity(train_factor=0.25))
    x_bte = jnp.abs(tokens()) + 0.1
    params = everything_to_one_expert(module, x_bte)
    _, metrics = run(module, params, x_bte)
    assert metrics["expert_overflow"] == 0
    _, metrics = run(module, params, x_bte, enable_dropout=True)
    assert metrics["expert_overflow"] > 0.5


def test_a_single_position_is_always_served():
    module = mixture(Capacity(eval_factor=0.1))
    x_bte = jnp.abs(tokens(rows=9, length=1)) + 0.1
    y_bte, metrics = run(module, everything_to_one_expert(module, x_bte), x_bte)
    assert metrics["expert_overflow"] == 0
    assert (np.abs(y_bte).max(-1) > 0).all()


def test_capacity_is_tokens_over_experts_times_the_factor():
    capacity = Capacity(train_factor=1.25, eval_factor=2.0, group_size=4096)
    slots = functools.partial(capacity.slots_of_an_expert, training=True)
    # Fedus et al. 2021, figure 3: six tokens and three experts, factors 1.0 and 1.5.
    assert Capacity(1.0).slots_of_an_expert(6, 3, training=True) == 2
    assert Capacity(1.5).slots_of_an_expert(6, 3, training=True) == 3
    assert slots(4096, 128) == 40
    assert slots(2 * 4096, 128) == 80
    assert slots(100, 128) == 1
    assert Capacity(1.1).slots_of_an_expert(10, 1, training=True) == 11
    assert capacity.slots_of_an_expert(4096, 128, training=False) == 64
    # Whole rows, as many as divide the batch.
    assert [capacity.rows_of_a_group(b, 512) for b in (1, 6, 8, 12, 16)] == [1, 6, 8, 6, 8]
    assert capacity.rows_of_a_group(4, 8192) == 1


def test_groups_do_not_meet():
    module = mixture(Capacity(eval_factor=1.0, group_size=6))
    x_bte = tokens()
    params = parameters(module, x_bte)
    whole, _ = run(module, params, x_bte)
    changed, _ = run(module, params, x_bte.at[::2].set(tokens(seed=1)[::2]))
    np.testing.assert_array_equal(whole[1::2], changed[1::2])
    assert np.abs(whole[::2] - changed[::2]).max() > 0.1


@pytest.mark.parametrize("dispatch", [Capacity(1.0, 1.0), Dropless()], ids=["capacity", "dropless"])
def test_memory_grows_with_the_tokens_and_not_with_the_experts(dispatch):
    def temporary_bytes(rows, num_experts):
        module = mixture(dispatch, GSHARD, Experts, num_experts, hidden_dim=64)
        x_bte = jax.ShapeDtypeStruct((rows, 256, 64), jnp.float32)
        params = jax.eval_shape(module.init, jax.random.key(0), x_bte)["params"]

        def gradients(params, x_bte):
            result = lambda *a: jnp.square(module.apply({"params": a[0]}, a[1])).sum()  # noqa: E731
            return jax.grad(result, (0, 1))(params, x_bte)

        compiled = jax.jit(gradients).lower(nn.unbox(params), x_bte).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    few, many, long = (temporary_bytes(*sizes) for sizes in ((8, 8), (8, 64), (16, 8)))
    assert many < 1.2 * few
    assert long > 1.7 * few


def test_grouped_products_are_those_of_each_group():
    sizes = [0, 5, 0, 600, 3, 40]
    rng = np.random.default_rng(0)
    x_ne, kernel_xef, direction = (
        rng.normal(size=shape).astype(np.float32) for shape in ((648, 5), (6, 5, 7), (648, 7))
    )
    ends = np.cumsum(sizes)
    parts = [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]
    expected = [
        np.concatenate([x_ne[part] @ k for part, k in zip(parts, kernel_xef, strict=True)]),
        np.concatenate([direction[part] @ k.T for part, k in zip(parts, kernel_xef, strict=True)]),
        np.stack([x_ne[part].T @ direction[part] for part in parts]),
    ]

    @jax.jit
    def found(x_ne, kernel_xef):
        product = functools.partial(grouped_dot, sizes_x=jnp.array(sizes))
        y_nf, pull = jax.vjp(product, x_ne, kernel_xef)
        return [y_nf, *pull(direction)]

    for a, b in zip(expected, found(x_ne, kernel_xef), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_outside_of_jit_the_matrices_may_be_numpys():
    """As where a model read from a file decodes a step; a traced number cannot index them."""
    x_ne, kernel_xef = np.ones((3, 2), np.float32), np.ones((2, 2, 4), np.float32)
    np.testing.assert_array_equal(grouped_dot(x_ne, kernel_xef, jnp.array([1, 2])), 2.0)


def test_who_asks_is_told_where_every_token_went():
    module = mixture(Capacity(eval_factor=2.0))
    x_bte = jnp.abs(tokens()) + 0.1
    params = everything_to_one_expert(module, x_bte)
    apply = functools.partial(module.apply, mutable=[intermediates.COLLECTION])

    @jax.jit
    def routing_of(params):
        (record,) = intermediates.collect(
            intermediates.ROUTING, lambda: apply({"params": params}, x_bte)[1]
        )
        return record.value

    routing = routing_of(params)
    assert (routing["experts"] == 2).all()
    # Twice a quarter of the tokens finds room.
    assert routing["served"].mean() == 0.5
    np.testing.assert_allclose(routing["probabilities"].sum(-1), 1, rtol=1e-6)


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_accelerators_use_the_compilers_ragged_product(platform):
    x_ne, kernel_xef = jnp.ones((8, 5)), jnp.ones((3, 5, 7))

    def both(x_ne, kernel_xef):
        y_nf, pull = jax.vjp(
            functools.partial(grouped_dot, sizes_x=jnp.array([1, 7, 0])), x_ne, kernel_xef
        )
        return pull(y_nf)

    lowered = jax.jit(both).trace(x_ne, kernel_xef).lower(lowering_platforms=(platform,))
    # Forward, and the gradients of rows and of matrices.
    assert lowered.as_text().count('"chlo.ragged_dot"(') == 3
    assert "stablehlo.while" not in lowered.as_text()
