"""SAN: cases worked by hand, and a NumPy reference from the papers' equations."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.errors import ModelError
from models.heads import PairClassification
from models.heads.stochastic_answer import StochasticAnswer
from models.layers.linear import normal

INIT = normal(0.5)


@functools.partial(jax.jit, static_argnums=(0, 5))
def answers(network, params, x, first, second, enable_dropout=False, key=None):
    """Probabilities."""
    rngs = {} if key is None else {"dropout": key}
    return jnp.exp(network.apply({"params": params}, x, first, second, enable_dropout, rngs=rngs))


# -- By hand: the premise [[1, 1], [2, 0], [0, 2]], the hypothesis I ------------------------------

X = jnp.array([[[1, 1], [2, 0], [0, 2], [1, 0], [0, 1]]], jnp.float32)
FIRST, SECOND = (jnp.array([places], bool) for places in ([1, 1, 1, 0, 0], [0, 0, 0, 1, 1]))


def by_hand(score):
    """Parameters with W2 = I, a GRU of zeros, and an output of s_1, x_1 and (s·x)_1."""
    output = np.zeros((8, 3), np.float32)
    output[0, 0] = output[2, 1] = output[6, 2] = 1
    values = {
        "state_score": np.array(score, np.float32)[:, None],
        "attention": np.eye(2, dtype=np.float32),
        "input": np.zeros((2, 6), np.float32),
        "recurrent": np.zeros((2, 6), np.float32),
        "output": output,
    }
    biases = {f"{name}_bias": np.zeros(x.shape[1], np.float32) for name, x in values.items()}
    return {f"{name}_kernel": x for name, x in values.items()} | biases


def probabilities(steps, score):
    network = StochasticAnswer(3, INIT, steps)
    return answers(network, by_hand(score), X, FIRST, SECOND)[0]


@pytest.mark.parametrize(
    ("score", "steps", "expected"),
    [
        # s is (.5, .5), and halves: zeros in a GRU leave half of it. x is (1, 1).
        ((0, 0), 1, (0.274069, 0.451863, 0.274069)),
        ((0, 0), 2, (0.258482, 0.483036, 0.258482)),
        ((0, 0), 3, (0.248098, 0.503803, 0.248098)),
        # s is (.75, .25), then (.375, .125).
        ((np.log(3), 0), 1, (0.247528, 0.437765, 0.314707)),
        ((np.log(3), 0), 2, (0.240940, 0.477054, 0.282006)),
    ],
)
def test_answers_worked_by_hand(score, steps, expected):
    np.testing.assert_allclose(probabilities(steps, score), expected, atol=2e-6)


# -- The reference ---------------------------------------------------------------------------------


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def reference(params, premise, hypothesis, steps):
    """Equations 3 and 4 of Liu et al. 2019 for one pair, with the biases of the released code."""

    def linear(name, x):
        return x @ params[f"{name}_kernel"] + params[f"{name}_bias"]

    s = softmax(linear("state_score", hypothesis)[:, 0]) @ hypothesis
    answers = []
    for _ in range(steps):
        x = softmax(premise @ linear("attention", s)) @ premise
        answers.append(softmax(linear("output", np.concatenate([s, x, abs(s - x), s * x]))))
        # Cho et al. 2014, the reset gate after the product.
        r_x, z_x, n_x = np.split(linear("input", x), 3)
        r_s, z_s, n_s = np.split(linear("recurrent", s), 3)
        r, z = sigmoid(r_x + r_s), sigmoid(z_x + z_s)
        s = (1 - z) * np.tanh(n_x + r * n_s) + z * s
    return np.mean(answers, axis=0)


def drawn(width=6, outputs=4, steps=3, **options):
    network = StochasticAnswer(outputs, INIT, steps, **options)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 7, width)).astype(np.float32)
    places = np.array([[1, 1, 1, 2, 2, 2, 0], [1, 2, 2, 2, 2, 0, 0]])
    shapes = jax.eval_shape(network.init, jax.random.key(0), x, places == 1, places == 2)
    params = jax.tree.map(
        lambda box: 0.5 * rng.standard_normal(box.shape).astype(np.float32), shapes["params"]
    )
    return network, jax.tree.map(np.asarray, params), x, places


def values(params):
    return {name: getattr(value, "value", value) for name, value in params.items()}


def test_equals_the_equations_with_padding_beside():
    network, params, x, places = drawn()
    found = answers(network, params, x, places == 1, places == 2)
    for row, there in enumerate(places):
        expected = reference(values(params), x[row, there == 1], x[row, there == 2], steps=3)
        np.testing.assert_allclose(found[row], expected, atol=1e-5)


def test_a_row_without_a_second_text_is_no_nan():
    """Rows of other tasks pass through it, and must not poison the gradient."""
    network, params, x, places = drawn()

    def total(params):
        return network.apply({"params": params}, x, places > 0, places > 9).sum()

    gradient = jax.jit(jax.grad(total))(params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_has_the_released_parameters_of_mnli():
    """H is 1,024, with 3 labels: score, bilinear form, GRU and output."""
    network = StochasticAnswer(3, INIT)
    places = jnp.ones((1, 2), bool)
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.ones((1, 2, 1024)), places, places)
    sizes = {name: np.prod(value.value.shape) for name, value in shapes["params"].items()}

    def size(*names):
        return sum(sizes[f"{name}_{kind}"] for name in names for kind in ("kernel", "bias"))

    assert (size("state_score"), size("attention")) == (1_025, 1_049_600)
    assert (size("input", "recurrent"), size("output")) == (6_297_600, 12_291)
    assert sum(sizes.values()) == 7_360_516


def test_prediction_dropout_leaves_out_answers_of_each_row_but_never_all():
    """What stays of 4,000 rows' 5 answers, when each is left out with .6: .4 + .6/5 of them."""
    network = StochasticAnswer(2, INIT, steps=5, prediction_dropout_rate=0.6)
    kept = network.apply({}, 4000, True, rngs={"dropout": jax.random.key(1)}, method="_kept")
    assert kept.shape == (5, 4000) and set(np.unique(kept)) == {0, 1}
    assert kept.sum(axis=0).min() == 1
    assert kept.mean() == pytest.approx(0.52, abs=0.01)
    np.testing.assert_allclose(kept.mean(axis=1), 0.52, atol=0.03)


def test_an_answer_is_a_probability_whatever_is_left_out():
    network, params, x, places = drawn(dropout_rate=0.3, prediction_dropout_rate=0.5)

    one, other = (
        answers(network, params, x, places == 1, places == 2, True, jax.random.key(seed))
        for seed in (0, 1)
    )
    np.testing.assert_allclose(one.sum(axis=1), 1, atol=1e-5)
    assert np.abs(one - other).max() > 1e-3


@pytest.mark.parametrize(
    ("options", "said"),
    [({"steps": 0}, "steps is 0"), ({"prediction_dropout_rate": 1.0}, "rate is 1.0")],
)
def test_settings_that_cannot_be(options, said):
    with pytest.raises(ModelError, match=said):
        PairClassification(("no", "yes"), **options)
