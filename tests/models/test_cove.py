"""CoVe: what is read of it, and PyTorch's encoder."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from models.cove import CoVe

V, E, F = 19, 6, 4
small = functools.partial(
    CoVe, vocab_size=V, embed_dim=E, encoder_dim=F, hidden_dim=2 * F, init_scale=0.5
)
BATCH = {
    "encoder_input_tokens": jnp.asarray(np.random.default_rng(0).integers(1, V, (2, 5))),
    "decoder_input_tokens": jnp.zeros((2, 1), jnp.int32),
}


@jax.jit
def vectors_of(params):
    return small().contextual_vectors(params, BATCH)


@pytest.fixture(scope="module")
def params():
    return jax.jit(small().init)(jax.random.key(0))["params"]


def test_the_encoder_has_the_published_count_but_for_the_second_biases():
    shapes = nn.unbox(CoVe(vocab_size=30_000).abstract_params())["encoder"]
    found = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    # Two layers, two directions, four gates of 300 units.
    assert found == 3_609_600 - 2 * 2 * 4 * 300


@pytest.mark.slow
def test_a_word_has_its_own_vector_and_then_what_the_encoder_has_of_it(params):
    found = np.asarray(vectors_of(params))
    assert found.shape == (2, 5, E + 2 * F)
    table = np.asarray(params["source_embedder"]["embedding"])
    np.testing.assert_array_equal(found[..., :E], table[BATCH["encoder_input_tokens"]])


@pytest.mark.interop
def test_the_encoder_is_pytorchs_of_two_layers_in_both_directions(params):
    torch = pytest.importorskip("torch")
    theirs = torch.nn.LSTM(E, F, 2, batch_first=True, bidirectional=True)
    tensor = lambda a: torch.tensor(np.asarray(a))  # noqa: E731
    with torch.no_grad():
        for i in range(2):
            for name, ending in (("forward", ""), ("backward", "_reverse")):
                ours = params["encoder"][f"layers_{i}"][name]
                place = f"l{i}{ending}"
                kernels = {"weight_ih": "kernel", "weight_hh": "recurrent_kernel"}
                for their_name, our_name in kernels.items():
                    stacked = tensor(ours[our_name]).flatten(1).T
                    getattr(theirs, f"{their_name}_{place}").copy_(stacked)
                getattr(theirs, f"bias_ih_{place}").copy_(tensor(ours["bias"]).flatten())
                getattr(theirs, f"bias_hh_{place}").zero_()
    table = tensor(params["source_embedder"]["embedding"])
    words = table[tensor(BATCH["encoder_input_tokens"]).long()]
    expected = torch.cat([words, theirs(words)[0]], dim=-1)
    found = vectors_of(params)
    np.testing.assert_allclose(found, expected.detach(), atol=1e-5)
