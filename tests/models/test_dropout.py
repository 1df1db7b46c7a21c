import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.layers.dropout import Dropout


def test_rate_and_expectation():
    y = Dropout(0.3)(jnp.ones((501, 201)), jax.random.key(0))
    # Standard deviation of the share is sqrt(0.3 0.7 / 100701) = 0.0014.
    assert (y == 0).mean() == pytest.approx(0.3, abs=0.006)
    np.testing.assert_allclose(np.unique(y), [0, 1 / 0.7], rtol=1e-4)


def test_one_draw_is_shared_along_the_length():
    y = Dropout(0.5, shared_axes=(-2,))(jnp.ones((4, 7, 64)), jax.random.key(0))
    np.testing.assert_array_equal(y, jnp.broadcast_to(y[:, :1], y.shape))
    assert 0.3 < (y[:, 0] == 0).mean() < 0.7


def test_nothing_is_dropped_without_a_key_or_a_rate():
    x = jnp.ones((8, 8))
    np.testing.assert_array_equal(Dropout(0.5)(x, None), x)
    np.testing.assert_array_equal(Dropout(0.0)(x, jax.random.key(0)), x)
