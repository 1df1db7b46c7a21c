"""What Switch adds to T5."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.errors import ModelError
from models.layers.experts.dispatch import Capacity, Dropless, RowCapacity
from models.layers.experts.moe import TopK
from models.switch import MoE, Switch, SwitchC

VOCABULARY = 61


def model(cls=Switch, **options):
    sizes = dict(
        vocab_size=VOCABULARY, embed_dim=24, mlp_dim=40, num_heads=3, head_dim=8, num_buckets=8,
        num_encoder_layers=4, num_decoder_layers=4, max_distance=9, num_experts=4,
    )  # fmt: skip
    return cls(**(sizes | options))


def drawn(switch):
    """Parameters large enough for every part to matter; cheaper than initial ones."""
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(switch.init, jax.random.key(0))["params"]
    return jax.tree.map(lambda leaf: jnp.float32(0.3 * rng.normal(size=leaf.shape)), shapes)


def batch(rows=2, length=8):
    rng = np.random.default_rng(0)
    names = ("encoder_input_tokens", "decoder_input_tokens", "decoder_target_tokens")
    return {name: jnp.asarray(rng.integers(1, VOCABULARY, (rows, length))) for name in names}


def with_indifferent_routers(params):
    """All experts equally probable, of which the first one is chosen."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf * 0 if any(k.key == "router" for k in path) else leaf, params
    )


@pytest.mark.slow
def test_the_layers_losses_reach_the_models_loss():
    """Worked by hand for routers that send all tokens to one of four equally likely experts."""
    switch = model(
        dispatch=Capacity(train_factor=1.0, eval_factor=2.0), load_balance=0.01, router_z_loss=0.1
    )
    params = with_indifferent_routers(drawn(switch))
    weights = jnp.full((2, 8), 0.5).at[0, 0].set(3.0)  # sum 10.5
    terms, metrics = jax.jit(switch.loss)(
        params, batch() | {"decoder_loss_weights": weights}, jax.random.key(0)
    )
    # Each of 2 + 2 expert layers: 4 (1 × 1/4) = 1, and (log 4)².
    assert metrics["load_balance_loss"][0] == pytest.approx(10.5 * 4 * 0.01 * 1)
    assert metrics["router_z_loss"][0] == pytest.approx(10.5 * 4 * 0.1 * math.log(4) ** 2)
    added = metrics["load_balance_loss"][0] + metrics["router_z_loss"][0]
    assert terms["loss"] == metrics["loss"][0]
    assert terms["loss"] == pytest.approx(float(metrics["cross_entropy"][0] + added), rel=1e-6)
    means = {name: float(total / weight) for name, (total, weight) in metrics.items()}
    assert means["router_entropy"] == pytest.approx(math.log(4))
    assert (means["expert_load_max"], means["expert_load_min"]) == (4, 0)
    # The first expert has 16 tokens / 4 × 1 slots for 16 tokens; without a key × 2.
    assert means["expert_overflow"] == 0.75
    _, metrics = jax.jit(switch.loss)(params, batch())
    assert metrics["expert_overflow"][0] / metrics["expert_overflow"][1] == 0.5


@pytest.mark.slow
def test_the_load_balance_loss_moves_the_router_and_nothing_behind_it():
    switch = model(num_decoder_layers=2)
    params = drawn(switch)

    @jax.jit
    def gradient(params):
        return jax.grad(lambda p: switch.loss(p, batch())[1]["load_balance_loss"][0])(params)

    found = gradient(params)
    encoder, decoder = (
        found[side]["stack"]["layers"]["block_1"] for side in ("encoder", "decoder")
    )
    for block in (encoder, decoder):
        assert np.abs(block["mlp"]["router"]["kernel"]).max() > 1e-3
    # The last layer's experts stand behind every router.
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(decoder["mlp"]["experts"]))
    assert np.abs(encoder["self_attention"]["value"]["kernel"]).max() > 0


def test_every_second_layer_has_experts_and_in_c_every_one():
    shapes = jax.tree.map(lambda box: box.value.shape, model().abstract_params(), is_leaf=is_box)
    for side in ("encoder", "decoder"):
        layers = shapes[side]["stack"]["layers"]
        assert layers["block_0"]["mlp"]["wi_0"]["kernel"] == (2, 24, 40)
        assert layers["block_1"]["mlp"]["experts"]["wi_0"]["kernel"] == (2, 4, 24, 40)
        assert layers["block_1"]["mlp"]["experts"]["wo"]["kernel"] == (2, 4, 40, 24)
        assert layers["block_1"]["mlp"]["router"]["kernel"] == (2, 24, 4)
    shapes = jax.tree.map(
        lambda box: box.value.shape, model(SwitchC).abstract_params(), is_leaf=is_box
    )
    experts = shapes["encoder"]["stack"]["layers"]["mlp"]["experts"]
    assert experts == {"wi": {"kernel": (4, 4, 24, 40)}, "wo": {"kernel": (4, 4, 40, 24)}}


def test_experts_name_the_axis_that_they_are_divided_along():
    mlp = model().abstract_params()["decoder"]["stack"]["layers"]["block_1"]["mlp"]
    assert mlp["experts"]["wi_1"]["kernel"].names == ("layers", "expert", "embed", "mlp")
    assert mlp["experts"]["wo"]["kernel"].names == ("layers", "expert", "mlp", "embed")
    assert mlp["router"]["kernel"].names == ("layers", "embed", None)


def is_box(node):
    return hasattr(node, "names")


def test_a_token_meets_one_expert_or_two():
    # In each of 2 + 2 expert layers 4 experts of 3 matrices of 24 × 40.
    expert = 3 * 24 * 40
    for cls, met in ((Switch, 1), (MoE, 2)):
        switch = model(cls)
        assert switch.parameter_count() - switch.active_parameter_count() == 4 * (4 - met) * expert


def test_flops_count_the_rows_that_experts_compute():
    shapes = {"encoder_input_tokens": (2, 16), "decoder_input_tokens": (2, 16)}

    def flops(**options):
        return model(**options).step_flops(shapes)

    # Of 2 + 2 expert layers, a row: forward and twice backward, 3 products of 2 × 24 × 40.
    row = 4 * 3 * 3 * 2 * 24 * 40
    once = flops(dispatch=Capacity(train_factor=1.0))
    assert flops(dispatch=Capacity(train_factor=1.25)) - once == (4 * 10 - 32) * row
    assert flops(dispatch=Dropless()) == once
    assert flops(dispatch=Dropless(), choose=MoE.choose) - once == 32 * row


@pytest.mark.slow
def test_initial_values_are_a_tenth_of_the_variance_and_cut_at_two_deviations():
    params = jax.jit(model(embed_dim=96, mlp_dim=120).init)(jax.random.key(0))["params"]
    mlp = params["encoder"]["stack"]["layers"]["block_1"]["mlp"]
    for leaf, fan_in in ((mlp["experts"]["wi_0"], 96), (mlp["experts"]["wo"], 120)):
        sigma = math.sqrt(0.1 / fan_in)
        assert 1.9 * sigma < np.abs(leaf["kernel"]).max() <= 2 * sigma
        # A normal distribution cut at ±2: variance 1 - 4 φ(2) / (2 Φ(2) - 1) = 0.7737.
        assert leaf["kernel"].std() == pytest.approx(0.7737**0.5 * sigma, rel=0.02)


@pytest.mark.slow
def test_what_is_dropped_does_not_depend_on_later_tokens():
    switch = model(dispatch=Capacity(eval_factor=1.0))
    params = drawn(switch)
    one = batch()
    two = one | {"decoder_input_tokens": one["decoder_input_tokens"].at[:, 5:].set(7)}
    logits = jax.jit(switch.logits)
    _, metrics = jax.jit(switch.loss)(params, one)
    assert metrics["expert_overflow"][0] > 0
    a, b = logits(params, one), logits(params, two)
    np.testing.assert_array_equal(a[:, :5], b[:, :5])
    assert np.abs(a[:, 5:] - b[:, 5:]).max() > 1e-4


def test_mistakes_are_told_in_one_line():
    with pytest.raises(ModelError, match="expert_every 3 does not divide the 4 layers"):
        model(expert_every=3).parameter_count()
    with pytest.raises(ModelError, match="2 of num_experts 1"):
        model(MoE, num_experts=1).parameter_count()
    for fields, said in [
        ({"expert_dropout_rate": 40.0}, "Switch.expert_dropout_rate is 40.0: it must be at least"),
        ({"router_jitter": 1.5}, "Switch.router_jitter is 1.5: it must be at least 0 and below 1"),
        ({"load_balance": -1.0}, "Switch.load_balance is -1.0: it must not be negative"),
        ({"router_z_loss": -1.0}, "Switch.router_z_loss is -1.0: it must not be negative"),
    ]:
        with pytest.raises(ModelError, match=said):
            model(**fields)
    for make, said in [
        (lambda: TopK(k=0), "TopK.k is 0"),
        (lambda: Capacity(train_factor=0.0), "Capacity.train_factor is 0.0"),
        (lambda: Capacity(eval_factor=-1.0), "Capacity.eval_factor is -1.0"),
        (lambda: Capacity(group_size=0), "Capacity.group_size is 0"),
        (lambda: RowCapacity(slots=0), "RowCapacity.slots is 0"),
    ]:
        with pytest.raises(ModelError, match=said):
            make()


@pytest.mark.slow
def test_what_is_said_of_a_row_does_not_depend_on_the_rows_beside_it():
    switch = model(dispatch=Capacity(train_factor=1.0))
    params = drawn(switch)
    # All tokens of the other rows go to one expert; a capacity would drop some of this row's.
    company = {name: value.at[1:].set(7) for name, value in batch(rows=8).items()}
    alone = {name: value[:1] for name, value in company.items()}
    logits = jax.jit(switch.logits)
    np.testing.assert_allclose(logits(params, company)[:1], logits(params, alone), atol=1e-5)
    # Nor does its loss, of which the balance of the batch is no part.
    measured = jax.jit(switch.row_metrics)
    (rows, others), (row, _) = measured(params, company), measured(params, alone)
    np.testing.assert_allclose(rows["loss"][0][:1], row["loss"][0], atol=1e-5 * 8)
    np.testing.assert_array_equal(rows["loss"][0], rows["cross_entropy"][0])
    assert others["expert_overflow"][0] == 0 and others["load_balance_loss"][0] > 0
