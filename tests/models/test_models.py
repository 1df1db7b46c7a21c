"""What holds for every family, whatever it is for."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from models.t5 import T5, T5_1_1
from t5x_like import protocols
from t5x_like.data import formats
from t5x_like.training.loss import scales, total
from tests.models.families import FAMILIES, V, batch_for, drawn, gpt2, of_each_kind, t5


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    """Constructor, model and parameters."""
    make = FAMILIES[request.param]
    model = make()
    return make, model, drawn(model)


@functools.partial(jax.jit, static_argnums=0)
def loss_of(model, params, batch, key=None):
    """Sums of the terms, metrics, and the loss that is minimized."""
    sums, metrics = model.loss(params, batch, key)
    return sums, metrics, total(sums, scales(model, model.loss_weights(batch)))


def test_fulfils_the_engines_protocol_with_a_known_format(family):
    _, model, _ = family
    assert isinstance(model, protocols.Model)
    assert model.batch_format in formats.names()


def test_every_term_of_the_loss_has_a_coefficient_a_weight_and_a_metric(family):
    _, model, params = family
    batch = batch_for(model)
    sums, metrics, mean = loss_of(model, params, batch)
    weights = model.loss_weights(batch)
    assert sums.keys() == model.loss_terms.keys() == weights.keys()
    for name, value in sums.items():
        assert metrics[name] == (value, weights[name])
        assert weights[name] > 0 and value > 0
    assert np.isfinite(mean)


def test_every_parameter_names_its_axes(family):
    _, model, params = family
    boxes = jax.tree.leaves(
        model.abstract_params(), is_leaf=lambda x: isinstance(x, nn.LogicallyPartitioned)
    )
    known = {
        "embed",
        "mlp",
        "rank",
        "joined_kv",
        "joined_shared_kv",
        "heads",
        "kv",
        "vocab",
        "relpos_buckets",
        "positions",
        "token_types",
        "characters",
    }
    known |= {"layers", "expert", None}
    for box in boxes:
        assert len(box.names) == len(box.value.shape)
        assert set(box.names) <= known
    shapes = [box.value.shape for box in boxes]
    assert shapes == [x.shape for x in jax.tree.leaves(params)]
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(params))


def test_embeddings_can_be_left_out_of_the_count():
    # Tokens V·24 (twice where the output is not tied), positions 32·24.
    models = (t5(T5), t5(T5_1_1), gpt2())
    counts = [m.parameter_count() - m.parameter_count(embeddings=False) for m in models]
    assert counts == [V * 24, 2 * V * 24, (V + 32) * 24]


@of_each_kind(FAMILIES)
def test_dropout_depends_on_the_key_alone(family):
    make, _, params = family
    model = make(dropout_rate=0.2)
    batch = batch_for(model)
    loss = lambda key: loss_of(model, params, batch, key)[2]  # noqa: E731
    assert loss(jax.random.key(1)) == loss(jax.random.key(1))
    assert loss(jax.random.key(1)) != loss(jax.random.key(2))
    # Without a key it is the program of a model without dropout.
    without = [loss_of.lower(m, params, batch, None).as_text() for m in (model, make())]
    assert without[0] == without[1]


# Rematerialization is the stacks': one family of each kind shows it in the fast suite, some whose
# stacks are their own in the slow one, all before a release.
EACH_KIND = ("gpt2", "lstm")
OWN_STACKS = ("t5_1_1", "transformer_xl", "switch")


def _remat_marks(family):
    if family in EACH_KIND:
        return ()
    return pytest.mark.slow if family in OWN_STACKS else pytest.mark.release


@pytest.mark.parametrize(
    "family",
    [pytest.param(name, marks=_remat_marks(name)) for name in FAMILIES],
    indirect=True,
)
def test_remat_and_unrolling_change_no_gradient(family):
    make, _, params = family
    check_gradients(make, params, "dots")


def test_full_remat_changes_no_gradient():
    check_gradients(gpt2, drawn(gpt2()), "full")


def check_gradients(make, params, remat_policy):
    batch = batch_for(make())

    def gradient(**options):
        loss = lambda params: loss_of(make(**options), params, batch)[2]  # noqa: E731
        return jax.jit(jax.grad(loss))(params)

    plain = gradient(remat_policy="none", scan_unroll=2)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(plain))
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(plain))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4),
        plain,
        gradient(remat_policy=remat_policy),
    )


@of_each_kind(FAMILIES)
def test_bfloat16_computes_what_float32_computes_to_three_digits(family):
    make, model, params = family
    batch = batch_for(model)
    whole = loss_of(model, params, batch)[2]
    half = loss_of(make(dtype="bfloat16"), params, batch)[2]
    assert half.dtype == jnp.float32
    assert half != whole and half == pytest.approx(float(whole), rel=0.05)
