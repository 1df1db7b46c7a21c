"""How layers are wired to the residual stream, by maps that can be followed by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from models.layers.attention.attention import Attention
from models.layers.attention.masks import Mask
from models.layers.block import (
    Context,
    ParallelBlock,
    PostNormBlock,
    PreNormBlock,
    TwoNormParallelBlock,
)
from models.layers.dropout import Dropout
from models.layers.linear import normal
from models.layers.mlps import MLP
from models.layers.norms import LayerNorm
from models.layers.stacks.layer_group import LayerGroup
from models.layers.stacks.stack import Stack

E = 6
CONTEXT = Context(Mask(causal=True))


class Halve(nn.Module):
    """Stands for a norm: what it does shows where it was applied."""

    def __call__(self, x):
        return x / 2


class Square(nn.Module):
    """Stands for an MLP."""

    def __call__(self, x, *, enable_dropout=False):
        return x * x


class Sum(nn.Module):
    """Stands for attention: each token gets the sum of those up to itself."""

    def keys_values(self, x_bse, positions_bs=None):
        return x_bse

    def __call__(self, x_bte, keys_values, mask, **_):
        return jnp.cumsum(keys_values, axis=1)


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        # x = 2, 4. Norms give 1, 2, whose sums are 1, 3: 3, 7. Then 1.5², 3.5² are added.
        (PreNormBlock, [3 + 1.5**2, 7 + 3.5**2]),
        # Sums 2, 6 are added to x, 4, 10, and halved: 2, 5. Then 2², 5² are added, and halved.
        (PostNormBlock, [(2 + 4) / 2, (5 + 25) / 2]),
        # The norm gives 1, 2: sums 1, 3 and squares 1, 4 are both added to x.
        (ParallelBlock, [2 + 1 + 1, 4 + 3 + 4]),
        (TwoNormParallelBlock, [2 + 1 + 1, 4 + 3 + 4]),
    ],
)
def test_branches_join_the_residual_stream_as_the_paper_says(block, expected):
    x = jnp.array([[[2.0], [4.0]]])
    y, cache = block(Halve, Sum, Square).apply({}, x, CONTEXT)
    assert y[0, :, 0].tolist() == expected
    assert cache is None


def test_a_parallel_block_has_one_norm_and_drops_what_each_branch_adds():
    norm = functools.partial(LayerNorm, use_bias=False)
    block = ParallelBlock(norm, *branches(), dropout=Dropout(0.5))
    x = jnp.ones((2, 5, E)) * jnp.arange(E)
    variables = nn.unbox(block.init(jax.random.key(0), x, CONTEXT))
    assert set(variables["params"]) == {"norm", "self_attention", "mlp"}
    assert set(variables["params"]["norm"]) == {"scale"}
    rngs = {"dropout": jax.random.key(1)}
    drawn, _ = jax.jit(
        lambda x: block.apply(variables, x, CONTEXT.replace(enable_dropout=True), rngs=rngs)
    )(x)
    # Where both branches are dropped, a share of 1/4, the stream passes unchanged.
    unchanged = np.mean(np.asarray(drawn == x))
    assert 0.1 < unchanged < 0.45


def branches(window=None):
    attention = functools.partial(
        Attention, E, 2, 4, normal(0.5), normal(0.5), normal(0.5), window=window
    )
    return attention, functools.partial(MLP, 8, nn.gelu, normal(0.5), normal(0.5))


def test_a_stack_of_periods_is_its_layers_one_after_the_other():
    """Dense and banded layers alternate, each with parameters of its own."""
    makers = [functools.partial(PreNormBlock, LayerNorm, *branches(window)) for window in (None, 2)]
    stack = Stack(functools.partial(LayerGroup, tuple(makers)), num_layers=2)
    x = jax.random.normal(jax.random.key(0), (1, 7, E))
    variables = nn.unbox(stack.init(jax.random.key(1), x, CONTEXT))
    params = variables["params"]["layers"]
    assert set(params) == {"block_0", "block_1"}

    @jax.jit
    def one_by_one(params, x):
        for i in range(2):
            for j, make in enumerate(makers):
                layer = jax.tree.map(lambda p, i=i: p[i], params[f"block_{j}"])
                x = make().apply({"params": layer}, x, CONTEXT)[0]
        return x

    found = jax.jit(stack.apply)(variables, x, CONTEXT)
    np.testing.assert_allclose(found, one_by_one(params, x), atol=1e-5)
