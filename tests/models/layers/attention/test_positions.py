import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.errors import ModelError
from models.layers.attention.distances import align_distances, dense, spread_diagonals
from models.layers.attention.masks import Mask
from models.layers.attention.positions import (
    RelativePositionBias,
    RelativePositionScores,
    Rotary,
    relative_position_bucket,
)


# First rows of the matrices for 16 positions, from T5's reference implementation.
@pytest.mark.parametrize(
    ("num_buckets", "first_row"),
    [
        (32, "0 17 18 19 20 21 22 23 24 24 24 24 25 25 25 25"),
        (16, "0 9 10 11 12 12 12 12 12 12 13 13 13 13 13 13"),
    ],
)
def test_bidirectional_buckets_of_t5(num_buckets, first_row):
    distances = jnp.arange(16)[None, :] - jnp.arange(16)[:, None]
    buckets = relative_position_bucket(
        distances, bidirectional=True, num_buckets=num_buckets, max_distance=128
    )
    assert buckets[0].tolist() == [int(x) for x in first_row.split()]
    # Backwards the same distances fall in the lower half.
    np.testing.assert_array_equal(buckets[:, 0], buckets[0] % (num_buckets // 2))


def test_causal_buckets_use_all_rows_for_the_past():
    # 32 buckets: 16 exact; then 16 + floor(16 log(n/16) / log(8)): n = 32 gives
    # 16 + floor(16 / 3) = 21, n = 64 gives 16 + floor(32 / 3) = 26, n = 128 and beyond 31.
    behind = jnp.array([5, 0, -1, -15, -16, -32, -64, -127, -128, -5000])
    buckets = relative_position_bucket(
        behind, bidirectional=False, num_buckets=32, max_distance=128
    )
    assert buckets.tolist() == [0, 0, 1, 15, 16, 21, 26, 31, 31, 31]


def test_spread_diagonals_puts_each_value_on_its_diagonal():
    # Distances -1 .. 2 of two queries and three keys.
    matrix = spread_diagonals(jnp.array([[10.0, 20, 30, 40]]), 2, 3)
    np.testing.assert_array_equal(matrix, [[[20, 30, 40], [10, 20, 30]]])


@pytest.mark.parametrize("bidirectional", [False, True])
def test_bias_is_the_table_at_the_bucket_of_each_distance(bidirectional):
    bias = RelativePositionBias(
        3, bidirectional, jax.nn.initializers.normal(1.0), num_buckets=8, max_distance=10
    )
    variables = bias.init(jax.random.key(0), 5, 7)
    table = variables["params"]["embedding"].value
    dense = jax.jit(lambda *places: bias.apply(variables, *places).dense(), static_argnums=(0, 1))
    whole = dense(5, 7)
    distances = np.arange(7)[None, :] - np.arange(5)[:, None]
    buckets = relative_position_bucket(
        jnp.asarray(distances), bidirectional=bidirectional, num_buckets=8, max_distance=10
    )
    np.testing.assert_array_equal(whole[0], jnp.moveaxis(table[buckets], -1, 0))
    # A single query, as decoding asks for it, sees its own row.
    np.testing.assert_array_equal(dense(1, 7, 3), whole[:, :, 3:4])


def test_align_distances_moves_each_rows_distance_0_to_its_own_slot():
    # Two queries, three keys; distances -1 .. 2 of each query.
    values = jnp.array([[10, 20, 30, 40], [50, 60, 70, 80]])
    np.testing.assert_array_equal(align_distances(values, 3), [[20, 30, 40], [50, 60, 70]])


def test_a_rotation_turns_pairs_by_the_position_over_the_period():
    # d = 4: units (0, 2) turn by p, units (1, 3) by p / 100 (Su et al. 2021, section 3.2.2).
    x = jnp.array([1.0, 1.0, 0.0, 0.0])
    y = Rotary()(jnp.broadcast_to(x, (1, 1, 3, 4)), jnp.array([[0, 1, 50]]))
    for p, turned in zip((0, 1, 50), y[0, 0], strict=True):
        expected = [np.cos(p), np.cos(p / 100), np.sin(p), np.sin(p / 100)]
        np.testing.assert_allclose(turned, expected, atol=1e-6)
    # Without positions they are the slots; another base has other periods.
    y = Rotary(base=4.0)(jnp.broadcast_to(x, (1, 1, 3, 4)), None)
    expected = [np.cos(2), np.cos(2 / 2), np.sin(2), np.sin(2 / 2)]
    np.testing.assert_allclose(y[0, 0, 2], expected, atol=1e-6)


def test_a_rotation_may_turn_the_first_units_alone():
    # Black et al. 2022, section 2.1: the units that turn have the periods of a head of their size.
    x = jax.random.normal(jax.random.key(0), (1, 1, 3, 16))
    y = Rotary(units=4)(x, None)
    np.testing.assert_array_equal(y[..., 4:], x[..., 4:])
    np.testing.assert_array_equal(y[..., :4], Rotary()(x[..., :4], None))


def test_scores_of_rotated_vectors_depend_on_their_distance_alone():
    q, k = jax.random.normal(jax.random.key(0), (2, 1, 1, 1, 8))
    rotary = Rotary()

    def score(i, j):
        return jnp.vdot(rotary(q, jnp.array([[i]])), rotary(k, jnp.array([[j]])))

    np.testing.assert_allclose(score(7, 4), score(1003, 1000), rtol=1e-4)
    assert abs(score(7, 4) - score(7, 5)) > 1e-2


def test_rotation_needs_pairs():
    with pytest.raises(ModelError, match="heads of 5 units"):
        Rotary()(jnp.ones((1, 1, 2, 5)), None)
    with pytest.raises(ModelError, match="heads of 20 units, of which 5 turn"):
        Rotary(units=5)(jnp.ones((1, 1, 2, 20)), None)


@pytest.mark.parametrize("rows", [2, 5])
def test_relative_scores_are_transformer_xls(rows):
    """Terms b and d of Dai et al. 2019, section 3.3, and the query that makes a and c.

    Few queries take the way that decoding takes, where W meets the queries first.
    """
    embed, heads, units, keys = 6, 2, 8, 7
    module = RelativePositionScores(embed, heads, units, jax.nn.initializers.normal(1.0))
    rng = np.random.default_rng(0)
    w = rng.normal(size=(embed, heads * units))
    u, v = rng.normal(size=(2, heads, units))
    params = {"kernel": w, "content_bias": u, "distance_bias": v}
    q = rng.normal(size=(2, heads, rows, units))
    first = 3
    mask = Mask(causal=True, first_query=first)
    k = jnp.zeros((2, heads, keys, units))
    scores = dense(module.apply({"params": params}, jnp.asarray(q, jnp.float32), k, mask))
    for t in range(rows):
        for s in range(keys):
            angles = (first + t - s) / 10000 ** (np.array([0, 2, 4]) / embed)
            r = np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(-1)
            projected = (r @ w).reshape(heads, units)
            expected = np.einsum("bhd,hd->bh", q[:, :, t] + v, projected)
            np.testing.assert_allclose(scores[:, :, t, s], expected, atol=1e-4)
    content = module.apply({"params": params}, jnp.asarray(q, jnp.float32), method="queries")
    np.testing.assert_allclose(content, q + u[:, None], rtol=1e-5)
