"""Tiles' operations against their definitions, element by element."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.layers.attention.flash import tiles

ROWS, N = 32, 64


def test_each_row_is_the_one_before_a_lane_further_to_the_right():
    values = np.random.default_rng(0).normal(size=N).astype(np.float32)
    rows = jax.jit(tiles.spread, static_argnums=1)(values[None], ROWS)
    np.testing.assert_array_equal(rows, [np.roll(values, c) for c in range(ROWS)])


def test_what_was_spread_is_summed_again():
    x = np.random.default_rng(1).normal(size=(ROWS, N)).astype(np.float32)
    expected = sum(np.roll(row, -c) for c, row in enumerate(x))
    np.testing.assert_allclose(jax.jit(tiles.gathered)(x)[0], expected, atol=1e-5)


def test_columns_are_moved_down_and_up_again():
    x = np.random.default_rng(2).normal(size=(N, ROWS)).astype(np.float32)
    down = jax.jit(tiles.lowered)(x)
    np.testing.assert_array_equal(down, np.stack([np.roll(x[:, r], r) for r in range(ROWS)], 1))
    np.testing.assert_array_equal(jax.jit(tiles.raised)(down), x)


def test_a_row_as_a_column():
    row = jnp.arange(128, dtype=jnp.int32)[None]
    np.testing.assert_array_equal(tiles.column(row), np.arange(128)[:, None])


@pytest.mark.parametrize(("word", "mixed"), [(0, 0), (1, 0x514E28B7)])
def test_words_are_mixed_as_murmurhash_ends(word, mixed):
    """Of the empty text its 32-bit hash is the seed, mixed."""
    found = tiles.mixed(jnp.array([word], jnp.int32))
    assert int(jax.lax.bitcast_convert_type(found, jnp.uint32)[0]) == mixed


def drawn(seed, threshold, n=512):
    slots = jnp.arange(n, dtype=jnp.int32)
    seed = jnp.array([[seed]], jnp.int32)
    return np.asarray(jax.jit(tiles.kept)(seed, slots[:, None], slots[None], threshold))


def test_the_share_that_is_kept_is_that_of_fair_draws():
    """Of 512 × 512 draws at 1 in 4, within 4 standard deviations, as is each row and column."""
    kept = drawn(7, 16384)
    deviation = (0.75 * 0.25) ** 0.5
    assert abs(kept.mean() - 0.75) < 4 * deviation / 512
    for axis in (0, 1):
        means = kept.mean(axis)
        assert np.abs(means - 0.75).max() < 5 * deviation / 512**0.5
        # As far apart as those of independent draws, within a quarter.
        assert means.std() == pytest.approx(deviation / 512**0.5, rel=0.25)


def test_draws_of_neighbours_and_of_other_seeds_have_nothing_in_common():
    kept = drawn(7, 32768) * 2.0 - 1.0
    others = [kept[1:] * kept[:-1], kept[:, 1:] * kept[:, :-1], kept * kept.T]
    others += [kept * (drawn(8, 32768) * 2.0 - 1.0), kept[128:] * kept[:-128]]
    others[2] = others[2][np.triu_indices(512, 1)]
    for products in others:
        assert abs(products.mean()) < 5 / products.size**0.5
