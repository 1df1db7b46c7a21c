"""Which blocks are visited, against masks of every pair."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from models.layers.attention.flash.plan import Plan, block_size
from models.layers.attention.masks import Mask


@pytest.mark.parametrize(
    ("length", "block"),
    [(512, 512), (2048, 512), (513, 256), (640, 256), (114, 128), (300, 128), (400, 512), (1, 128)],
)
def test_larger_blocks_fill_rows_up_by_a_quarter_at_most(length, block):
    assert block_size(length, 512) == block


@pytest.mark.parametrize(
    ("window", "sizes"), itertools.product([None, 1, 100, 300], [(128, 128), (256, 128)])
)
def test_pairs_of_blocks_are_visited_that_have_a_visible_pair(window, sizes):
    length = 1000
    plan = Plan(length, length, *sizes, causal=True, window=window)
    dense = np.asarray(Mask(causal=True, window=window).dense((0, 1024), (0, 1024))[0, 0])
    shape = (plan.query_blocks, sizes[0], plan.key_blocks, sizes[1])
    visible = dense.reshape(shape).any(axis=(1, 3))
    for (i, j), seen in np.ndenumerate(visible):
        assert bool(plan.sees(i, j, 0)) == seen
        # In place of a block that is not needed, one is read that is.
        nearest = plan.nearest_keys(jnp.int32(i), jnp.int32(j))
        assert nearest == j if seen else visible[i, nearest]
        nearest = plan.nearest_queries(jnp.int32(j), jnp.int32(i))
        assert nearest == i if seen else visible[nearest, j]
    assert plan.visited() == visible.sum()


def test_a_prefix_hides_no_block():
    plan = Plan(512, 512, 128, 128, causal=True, has_prefix=True)
    assert not plan.is_skipping and plan.visited() == 16
    assert plan.nearest_keys(jnp.int32(0), jnp.int32(3)) == 3
