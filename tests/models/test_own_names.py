"""A family whose modules have names that are found nowhere else is accounted for like any other."""

import functools
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from models.gpt import GPT2
from models.language_model import LanguageModel
from models.layers import intermediates
from models.layers.attention.attention import Attention
from models.layers.attention.masks import Mask
from models.layers.embeddings import Embed
from models.layers.linear import normal
from models.layers.mlps import MLP
from tests.models.families import drawn

V, E, HEADS, LAYERS, T = 61, 24, 3, 2, 16


class Nook(nn.Module):
    """A layer that is no `Block`: attention, then an MLP."""

    is_layer: ClassVar[bool] = True

    def setup(self):
        inits = [normal(0.5)] * 3
        self.gaze = Attention(E, HEADS, E // HEADS, *inits)
        self.brew = MLP(4 * E, nn.gelu, *inits[:2])

    def __call__(self, x_bte):
        x_bte += self.gaze(x_bte, self.gaze.keys_values(x_bte), Mask(causal=True))
        return x_bte + self.brew(x_bte)


class Burrow(LanguageModel):
    """A language model of two nooks, in a list and not in a scan."""

    input_features: ClassVar = ("decoder_input_tokens",)

    def setup(self):
        self.lexicon = Embed(self.vocab_size, E, normal(1.0))
        self.nooks = [Nook() for _ in range(LAYERS)]

    @intermediates.within(intermediates.DECODER)
    def hidden_states(self, *, decoder_input_tokens, **_):
        return functools.reduce(
            lambda x, nook: nook(x), self.nooks, self.lexicon(decoder_input_tokens)
        )

    def output_kernel(self):
        return self.lexicon.output_kernel()


def test_its_flops_have_the_parts_of_gpt2_with_the_same_sizes():
    shapes = {"decoder_input_tokens": (3, T)}
    gpt2 = GPT2(vocab_size=V, embed_dim=E, num_heads=HEADS, num_layers=LAYERS, max_length=T)
    assert Burrow(vocab_size=V).forward_flops(shapes) == gpt2.forward_flops(shapes)


@pytest.mark.slow
def test_its_attention_weights_are_found_layer_by_layer():
    model = Burrow(vocab_size=V)
    params = drawn(model)
    batch = {"decoder_input_tokens": jnp.arange(1, T + 1)[None]}
    weights = jax.jit(model.attention_weights)(params, batch)
    assert list(weights) == ["decoder"]
    assert weights["decoder"].shape == (LAYERS, 1, HEADS, T, T)
    np.testing.assert_allclose(weights["decoder"].sum(-1), 1, rtol=1e-5)
    # The first layer reads the embeddings, so its weights follow from them alone.
    x_te = params["lexicon"]["embedding"][1 : T + 1]
    gaze = params["nooks_0"]["gaze"]
    q, k = (
        (x_te @ gaze[name]["kernel"]).reshape(T, HEADS, -1).swapaxes(0, 1)
        for name in ("query", "key")
    )
    scores = jnp.where(jnp.tri(T, dtype=bool), q @ k.swapaxes(1, 2), -jnp.inf)
    np.testing.assert_allclose(weights["decoder"][0, 0], jax.nn.softmax(scores), atol=1e-5)
