"""Heads of keys and values that several heads of queries share, where devices divide these."""

import jax.numpy as jnp
import numpy as np
import pytest

from models.layers import mesh_context
from models.layers.attention.attention import _for_each_device
from models.layers.attention.softmax_attention import KeysValues


@pytest.mark.parametrize(
    ("shared", "heads", "devices", "made"),
    [
        (2, 8, 8, 8),  # each device has the one head that its query reads
        (2, 8, 4, 4),
        (4, 8, 2, 4),  # they divide by themselves
        (1, 8, 8, 1),  # all share one
        (2, 4, 8, 2),  # fewer heads than devices, each of which has all
        (3, 3, 2, 3),
    ],
)
def test_each_device_has_the_heads_that_its_queries_read(monkeypatch, shared, heads, devices, made):
    monkeypatch.setattr(mesh_context, "shard_counts", lambda axes: (1, devices, 1, 1))
    x = jnp.arange(shared, dtype=jnp.float32)[None, :, None, None]
    found = _for_each_device(KeysValues(x, x), heads)
    assert found.keys_bgsd.shape[1] == made
    # A query reads the head that it read before.
    np.testing.assert_array_equal(
        jnp.repeat(found.keys_bgsd, heads // made, axis=1), jnp.repeat(x, heads // shared, axis=1)
    )
