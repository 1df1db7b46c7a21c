"""ULMFiT's fine-tuning of layers (Howard and Ruder 2018, section 3): rates, and when they thaw."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from t5x_like import optimizers
from t5x_like.errors import UserError
from t5x_like.schedules import Constant

STACKED = {
    "axes": {
        "token_embedder": {"embedding": ("vocab", "embed")},
        "decoder": {"layers": {"kernel": ("layers", "embed", "mlp")}},
        "output_head": {"kernel": ("embed", None)},
    },
    "shapes": {
        "token_embedder": {"embedding": (4, 2)},
        "decoder": {"layers": {"kernel": (3, 2, 2)}},
        "output_head": {"kernel": (2, 2)},
    },
}
# As recurrent models have them.
APART = {
    "axes": {
        "token_embedder": {"embedding": ("vocab", "embed")},
        "decoder": {f"layers_{i}": {"kernel": ("embed", "mlp")} for i in range(3)},
        "output_head": {"kernel": ("embed", None)},
    },
    "shapes": {
        "token_embedder": {"embedding": (4, 2)},
        "decoder": {f"layers_{i}": {"kernel": (2, 2)} for i in range(3)},
        "output_head": {"kernel": (2, 2)},
    },
}
MODELS = pytest.mark.parametrize("model", [STACKED, APART], ids=["stacked", "apart"])


def sgd(rate):
    return optimizers.Optimizer("SGD", Constant(rate), lambda axes: optax.sgd(rate))


def ones(model):
    return jax.tree.map(jnp.ones, model["shapes"], is_leaf=lambda node: isinstance(node, tuple))


def by_part(tree):
    """The first number of embeddings, each layer and head."""
    decoder = tree["decoder"]
    layers = (
        [decoder["layers"]["kernel"][i, 0, 0] for i in range(3)]
        if "layers" in decoder
        else [decoder[f"layers_{i}"]["kernel"][0, 0] for i in range(3)]
    )
    embedding, head = tree["token_embedder"]["embedding"], tree["output_head"]["kernel"]
    return [float(x) for x in (embedding[0, 0], *layers, head[0, 0])]


def updates_of(model, optimizer, count, gradients=None):
    """By part, the updates of each of some steps."""
    rule = optimizer.build(model["axes"])
    params = ones(model)
    state, found = rule.init(params), []
    step = jax.jit(rule.update)
    for number in range(count):
        state = optimizers.schedules_at(state, jnp.int32(number))
        updates, state = step(ones(model) if gradients is None else gradients, state, params)
        found.append(by_part(updates))
    return np.array(found), state


@MODELS
def test_discriminative_rates_fall_by_2_6_from_layer_to_layer(model):
    """Section 3.2, from 0.01 at the head: 0.00384615, 0.00147929, 0.00056896."""
    optimizer = optimizers.layerwise_decay(sgd(0.01), decay=1 / 2.6, head_distance=1)
    (found,), _ = updates_of(model, optimizer, 1)
    expected = [0.00021883, 0.00056896, 0.00147929, 0.00384615, 0.01]
    np.testing.assert_allclose(-found, expected, rtol=1e-4)


def moving(model, steps, **options):
    found, _ = updates_of(model, optimizers.gradual_unfreezing(sgd(1.0), **options), steps)
    return [["e012h"[i] for i in np.flatnonzero(row)] for row in found]


@MODELS
def test_layers_thaw_one_after_the_other_from_the_last(model):
    """Three layers, a layer every 2 updates; T5's, whose embeddings are always trained."""
    found = moving(model, 6, steps_per_layer=2, first_layers=1, embeddings_train=True)
    assert ["".join(one) for one in found] == ["e2h", "e2h", "e12h", "e12h", "e012h", "e012h"]


def test_ulmfit_begins_with_the_head_alone_and_ends_with_the_embeddings():
    found = moving(STACKED, 5, steps_per_layer=1)
    assert ["".join(one) for one in found] == ["h", "2h", "12h", "012h", "e012h"]


@MODELS
def test_adams_bias_is_corrected_from_the_thaw_on(model):
    """The first update of each part is the sign of its gradient, whenever it comes.

    Corrected by the count of all steps, the last layer's at the third would be
    0.1 / 0.271 over sqrt(0.01 / 0.029701), 0.636 of it.
    """
    adam = optimizers.adamw(
        Constant(1.0), b1=0.9, b2=0.99, eps=0.0, weight_decay=0.0, global_norm=None
    )
    optimizer = optimizers.gradual_unfreezing(adam, steps_per_layer=2)
    found, state = updates_of(model, optimizer, 4)
    np.testing.assert_allclose(found[:, 4], -1, rtol=1e-5)
    np.testing.assert_allclose(found[:, 3], [0, 0, -1, -1], rtol=1e-5)
    assert state.ages.tolist() == [4, 2, 0, 0, 0]


def test_a_frozen_parameter_has_no_moments_no_decay_and_no_part_in_the_norm():
    adam = optimizers.adamw(Constant(1.0), eps=0.0, weight_decay=0.5, global_norm=1.0)
    optimizer = optimizers.gradual_unfreezing(adam, steps_per_layer=9)
    gradients = ones(STACKED)
    gradients["token_embedder"]["embedding"] *= 1e6
    found, state = updates_of(STACKED, optimizer, 1, gradients)
    np.testing.assert_allclose(found[0], [0, 0, 0, 0, -1.5])
    moments = next(
        node
        for node in jax.tree.leaves(
            state.rule, is_leaf=lambda node: isinstance(node, optax.ScaleByAdamState)
        )
        if isinstance(node, optax.ScaleByAdamState)
    )
    assert by_part(moments.nu)[:4] == [0, 0, 0, 0]
    # 1 / sqrt(4) after clipping, times 1 - b1.
    np.testing.assert_allclose(by_part(moments.mu)[4], 0.05, rtol=1e-5)


def test_what_cannot_be_is_refused():
    for settings in ({"steps_per_layer": 0}, {"steps_per_layer": 1, "first_layers": -1}):
        with pytest.raises(UserError, match=f"gradual_unfreezing.{[*settings][-1]} is"):
            optimizers.gradual_unfreezing(sgd(1.0), **settings)
    optimizer = optimizers.gradual_unfreezing(sgd(1.0), steps_per_layer=1)
    with pytest.raises(UserError, match="gradual_unfreezing needs a stack of layers"):
        optimizer.build({"x": ("embed", "mlp")})


def test_of_stacked_parameters_the_first_layers_alone_are_trained():
    optimizer = optimizers.adamw(Constant(0.1), weight_decay=0.5, global_norm=None)
    rule = optimizers.first_layers(optimizer, ["^decoder/layers/"], layers=2)
    found, _ = updates_of(STACKED, rule, 2)
    plain, _ = updates_of(STACKED, optimizer, 2)
    np.testing.assert_array_equal(found[:, [0, 1, 2, 4]], plain[:, [0, 1, 2, 4]])
    assert not found[:, 3].any() and plain[:, 3].all()


def test_gradients_of_layers_that_stay_do_not_count_in_the_norm():
    """Of 8 + 3 · 4 + 4 numbers, all 1, two layers are out: the norm is √16, and not √24."""
    clipped = optimizers.Optimizer(
        "clipped", Constant(1.0), lambda axes: optax.chain(optax.clip_by_global_norm(1.0))
    )
    found, _ = updates_of(STACKED, optimizers.first_layers(clipped, ["^decoder/"]), 1)
    np.testing.assert_allclose(found[0], [0.25, 0.25, 0, 0, 0.25], rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((["decoder"], 0), r"first_layers.layers is 0: 1 or more"),
        (("decoder",), r"first_layers.parameters is 'decoder': a list of regular expressions"),
        ((["("],), r"not regular expressions"),
        ((["nothing"],), r"'nothing' finds no parameter, such as 'decoder/layers/kernel'"),
        ((["^token"],), r"finds 'token_embedder/embedding', which is not stacked in layers"),
    ],
)
def test_first_layers_that_cannot_be_are_refused(arguments, said):
    with pytest.raises(UserError, match=said):
        optimizers.first_layers(sgd(1.0), *arguments).build(STACKED["axes"])
