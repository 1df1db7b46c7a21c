"""Adaptive embeddings and softmax: the worked example, and what a plain table gives."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import losses
from models.layers.adaptive_softmax import (
    AdaptiveEmbed,
    AdaptiveOutput,
    AdaptiveSoftmax,
    cluster_bounds,
)

# Compiled one by one, draws would cost more than all else: what is drawn is NumPy's.
ZEROS = jax.nn.initializers.zeros


def drawn(module, *args):
    """The parameters of a module, large enough to matter."""
    shapes = jax.eval_shape(module.init, jax.random.key(0), *args)["params"]
    shapes = jax.tree.map(
        lambda x: getattr(x, "value", x), shapes, is_leaf=lambda x: hasattr(x, "value")
    )
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda x: rng.normal(0, 0.5, x.shape).astype(np.float32), shapes)


def test_a_word_of_a_tail_has_its_tails_probability_times_its_own_within():
    """Six words cut at 2 and 4: head (1, 0) and tails (0, -1); within them (0, 1) and (2, 0)."""
    scores = ([1.0, 0.0], [0.0, 1.0], [2.0, 0.0])
    softmax = AdaptiveSoftmax(
        tables=(jnp.zeros((2, 3)),) * 3,
        biases=tuple(jnp.array(x) for x in scores),
        projections=(),
        cluster_table=jnp.zeros((2, 3)),
        cluster_bias=jnp.array([0.0, -1.0]),
    )
    found = softmax.log_probabilities(jnp.ones((1, 3)))[0]
    expected = [-0.626523, -1.626523, -2.939785, -1.939785, -2.753451, -4.753451]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert float(jnp.exp(found).sum()) == pytest.approx(1.0, abs=1e-6)


def test_cutoffs_beyond_the_vocabulary_cut_nothing():
    assert cluster_bounds(61, (20, 40)) == (0, 20, 40, 61)
    assert cluster_bounds(30, (20, 40)) == (0, 20, 30)
    assert cluster_bounds(20, (20, 40)) == (0, 20)


def test_a_token_is_looked_up_in_its_own_table_and_projected():
    """Widths 8, 4 and 2 of tables of 3, 2 and 4 tokens."""
    embed = AdaptiveEmbed(9, 6, 8, (3, 5), 2, ZEROS, ZEROS)
    params = drawn(embed, jnp.zeros((1, 1), int))
    assert {name: x.shape for name, x in params.items()} == {
        "embedding_0": (3, 8), "projection_0": (8, 6),
        "embedding_1": (2, 4), "projection_1": (4, 6),
        "embedding_2": (4, 2), "projection_2": (2, 6),
    }  # fmt: skip
    found = jax.jit(embed.apply)({"params": params}, np.arange(9)[None])[0]
    for i, (first, end) in enumerate(((0, 3), (3, 5), (5, 9))):
        expected = params[f"embedding_{i}"] @ params[f"projection_{i}"]
        np.testing.assert_allclose(found[first:end], expected, atol=1e-6)


def output_of(divisor, table_dim, tied=True):
    """An output over 9 tokens in the tables of an embedding, and the parameters of both."""
    embed = AdaptiveEmbed(9, 6, table_dim, (3, 5), divisor, ZEROS, ZEROS)
    output = AdaptiveOutput(9, (3, 5), tied, ZEROS, ZEROS)
    given = drawn(embed, jnp.zeros((1, 1), int))
    shared = [
        tuple(given[name] for name in sorted(given) if name.startswith(kind))
        for kind in ("embedding", "projection")
    ]
    own = drawn(output, *shared)
    return jax.jit(output.apply)({"params": own}, *shared), own, shared


@pytest.mark.parametrize(("divisor", "table_dim"), [(1, 6), (1, 8), (2, 8)])
def test_the_tails_share_tables_and_projections_with_the_embeddings(divisor, table_dim):
    softmax, own, (_, theirs) = output_of(divisor, table_dim)
    assert softmax.shape == (6, 9)
    # The head is projected by a matrix of its own, where anything is projected.
    assert ("projection_0" in own) == (divisor > 1 or table_dim != 6)
    assert "projection_1" not in own
    if softmax.projections:
        np.testing.assert_array_equal(softmax.projections[2], theirs[2 if divisor > 1 else 0])
    x = np.random.default_rng(2).normal(size=(4, 6)).astype(np.float32)
    found = jax.jit(lambda softmax, x: softmax.log_probabilities(x))(softmax, x)
    np.testing.assert_allclose(np.exp(found).sum(-1), 1.0, atol=1e-6)


def test_untied_projections_are_all_the_outputs_own():
    _, own, _ = output_of(2, 8, tied=False)
    assert {"projection_0", "projection_1", "projection_2"} <= set(own)


def test_the_loss_is_the_log_probability_of_the_target_in_chunks_too():
    softmax, _, _ = output_of(2, 8)
    x = np.random.default_rng(3).normal(size=(2, 4, 6)).astype(np.float32)
    targets = np.array([[0, 3, 5, 8], [2, 4, 6, 1]])

    def loss(softmax, x, num_chunks):
        weights = jnp.ones((2, 4))
        return losses.output_cross_entropy(x, softmax, targets, weights, num_chunks=num_chunks)[0]

    def plain(softmax, x):
        found = softmax.log_probabilities(x)
        return -jnp.take_along_axis(found, targets[..., None], -1).sum()

    @jax.jit
    def all_of(*args):
        each = (plain, *(functools.partial(loss, num_chunks=n) for n in (1, 2)))
        return [jax.value_and_grad(one, argnums=(0, 1))(*args) for one in each]

    expected, *found = all_of(softmax, x)
    for one in found:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), one, expected)
