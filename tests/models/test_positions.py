import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.layers.positions import (
    RelativePositionBias,
    relative_position_bucket,
    spread_diagonals,
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
    whole = bias.apply(variables, 5, 7)
    distances = np.arange(7)[None, :] - np.arange(5)[:, None]
    buckets = relative_position_bucket(
        jnp.asarray(distances), bidirectional=bidirectional, num_buckets=8, max_distance=10
    )
    np.testing.assert_array_equal(whole[0], jnp.moveaxis(table[buckets], -1, 0))
    # A single query, as decoding asks for it, sees its own row.
    np.testing.assert_array_equal(bias.apply(variables, 1, 7, 3), whole[:, :, 3:4])
