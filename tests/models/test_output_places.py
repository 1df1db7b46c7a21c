"""Draws from an output, and probabilities of its targets, place by place."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.losses import summed_cross_entropy
from models.output_places import output_log_probabilities, output_samples

KEY = jax.random.key(0)


@pytest.mark.slow
def test_tokens_are_drawn_with_the_softmaxs_probabilities_and_in_chunks_the_same():
    p = np.array([0.5, 0.25, 0.125, 0.125])
    draw = functools.partial(
        output_samples, jnp.ones((100, 400, 1)), jnp.zeros((1, 4)), KEY, jnp.ones((100, 400)),
        bias_v=jnp.log(jnp.asarray(p)),
    )  # fmt: skip
    drawn = np.asarray(draw())
    assert drawn.shape == (100, 400) and drawn.dtype == np.int32
    # Of 40,000 the standard deviation of a share is 0.0025.
    np.testing.assert_allclose(np.bincount(drawn.ravel()) / drawn.size, p, atol=0.01)
    # No place's draw is another's.
    assert (drawn[:, 0] != drawn[:, 1]).any() and (drawn[0] != drawn[1]).any()
    np.testing.assert_array_equal(draw(num_chunks=4), drawn)


@pytest.mark.slow
@pytest.mark.parametrize("most", [3, 2])
def test_chosen_places_are_drawn_what_they_would_be_among_all(most):
    """Of rows with 3, 0 and 2 weights: where there is room for 2 alone, all are drawn."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((3, 7, 4)), jnp.float32)
    kernel = jnp.asarray(rng.standard_normal((4, 90)), jnp.float32)
    weights = jnp.zeros((3, 7)).at[0, jnp.array([1, 4, 6])].set(1).at[2, :2].set(1)
    every, few = (
        output_samples(x, kernel, KEY, weights, most=each, num_chunks=7) for each in (None, most)
    )
    np.testing.assert_array_equal(few[weights > 0], every[weights > 0])


@pytest.mark.parametrize("num_chunks", [1, 7])
def test_log_probabilities_and_their_gradient_are_those_of_cross_entropy(num_chunks):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((2, 7, 4)), jnp.float32)
    kernel = jnp.asarray(rng.standard_normal((4, 9)), jnp.float32)
    bias = jnp.asarray(rng.standard_normal(9), jnp.float32)
    targets, weights = jnp.asarray(rng.integers(0, 9, (2, 7))), jnp.ones((2, 7))

    def by_place(x, kernel, bias):
        log_p = output_log_probabilities(x, kernel, targets, bias_v=bias, num_chunks=num_chunks)
        return -log_p.sum()

    def summed(x, kernel, bias):
        return summed_cross_entropy(x @ kernel + bias, targets, weights)[0]

    found, expected = (
        jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))(x, kernel, bias)
        for loss in (by_place, summed)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), found, expected)
