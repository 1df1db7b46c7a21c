"""Layers that share parameters, in a stack that any family can have."""

import functools

import jax
import numpy as np
import pytest

from models.layers.attention.masks import Mask
from models.layers.block import Context, PreNormBlock
from models.layers.linear import normal
from models.layers.mlps import MLP, exact_gelu
from models.layers.norms import LayerNorm
from models.layers.stacks.builder import TransformerLayers
from models.layers.stacks.stack import unstack_layers
from tests.models.families import gpt2


def stack_of(shared, groups, remat_policy="dots"):
    layers = TransformerLayers.of(gpt2(remat_policy=remat_policy), LayerNorm)
    init = normal(0.3)
    mlp = layers.mlp(MLP, exact_gelu, 40, init, init)
    block = layers.block(PreNormBlock, layers.attention(init, init), mlp)
    return layers.shared_stack(4, block, shared, groups), block


X = jax.random.normal(jax.random.key(1), (2, 5, 24))
CONTEXT = Context(Mask(causal=True))


def test_turns_are_the_layer_applied_again_and_again():
    stack, make_block = stack_of("all", 2, "full")
    params = jax.jit(functools.partial(stack.init, context=CONTEXT))(jax.random.key(0), X)["params"]
    block = make_block()

    @jax.jit
    def again_and_again(params, x):
        for group in range(2):
            own = jax.tree.map(lambda leaf, i=group: leaf[i], params["layers"]["block"])
            for _ in range(2):
                x = block.apply({"params": own}, x, CONTEXT)[0]
        return x

    found = jax.jit(stack.apply)({"params": params}, X, CONTEXT)
    np.testing.assert_allclose(found, again_and_again(params, X), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("shared", "groups"), [("all", 2), ("attention", 1)])
def test_decoding_step_by_step_is_the_whole_row(shared, groups):
    stack, _ = stack_of(shared, groups)
    params = jax.jit(functools.partial(stack.init, context=CONTEXT))(jax.random.key(0), X)["params"]
    expected = jax.jit(stack.apply)({"params": params}, X, CONTEXT)
    # What a decoding loop is given; the layers' own parameters, shared or not.
    variables = {"params": unstack_layers(params)}

    @jax.jit
    def step(x_bte, caches, t):
        context = Context(Mask(causal=True, first_query=t), first_slot=t)
        return stack.apply(variables, x_bte, context, caches, method="decode")

    caches = stack.apply(variables, 2, 5, method="empty_cache")
    for t in range(5):
        found, caches = step(X[:, t : t + 1], caches, t)
        np.testing.assert_allclose(found[:, 0], expected[:, t], rtol=1e-5, atol=1e-5)
