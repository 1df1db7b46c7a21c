"""From (family, N, D) to a model that can be built and how it is trained."""

import math

import pytest

from t5x_like.errors import UserError
from t5x_like.scaling.family import Family, size_of
from t5x_like.scaling.recipe import Recipe

BYTES = (("VOCAB_SIZE", "384"),)

# Published shapes: Hoffmann et al. 2022, table 4; Brown et al. 2020, table 2.1; Rae et al. 2021,
# table 1 (44M, whose heads are narrower there).
PUBLISHED = {
    "chinchilla": (70e9, 80, 8192),
    "gpt3": (175e9, 96, 12288),
    "gopher": (44e6, 8, 512),
}


@pytest.mark.slow
@pytest.mark.parametrize(("family", "published"), PUBLISHED.items())
def test_published_models_are_found_from_their_size(family, published):
    parameters, layers, width = published
    shape = Recipe().shape(family, parameters)
    assert (shape.num_layers, shape.embed_dim) == (layers, width)
    assert shape.num_heads * shape.head_dim == width
    assert size_of(Family(family), shape).parameters == pytest.approx(parameters, rel=0.01)


@pytest.mark.slow
def test_small_models_are_found_within_a_fifth_of_their_size():
    recipe = Recipe()
    family = Family("llama", bindings=BYTES)
    for parameters in (30e3, 100e3, 300e3, 1e6, 3e6):
        found = size_of(family, recipe.shape(family, parameters)).parameters
        assert abs(math.log(found / parameters)) < math.log(1.2)


@pytest.mark.slow
def test_experts_are_sized_by_what_a_token_meets():
    family = Family("switch", bindings=(*BYTES, ("NUM_EXPERTS", "4")))
    size = size_of(family, Recipe().shape(family, 200e3))
    assert size.active == pytest.approx(200e3, rel=0.25)
    assert size.parameters > 1.5 * size.active


def test_heads_come_in_the_multiples_asked_for():
    recipe = Recipe(head_dims=((0, 8),), heads_multiple=4)
    shape = recipe.shape(Family("palm", bindings=BYTES), 3e5)
    assert shape.head_dim == 8 and shape.num_heads % 4 == 0


def test_batch_and_rate_are_the_published_power_laws():
    """Bi et al. 2024, equation 1, at C = 6 * 1e9 * 2e10 = 1.2e20."""
    training = Recipe().training(1e9, 2e10, row_tokens=2048)
    assert training.batch_tokens == pytest.approx(0.2920 * 1.2e20**0.3271, rel=0.002)
    assert training.learning_rate == pytest.approx(0.3118 * 1.2e20**-0.1250, rel=0.005)
    assert training.tokens == pytest.approx(2e10, rel=1e-3)
    assert training.warmup_steps == round(0.05 * training.steps)
    assert Recipe().training(1e9, 2e11, row_tokens=2048).warmup_steps == 2000


def test_a_short_run_has_smaller_batches_and_not_fewer_steps():
    training = Recipe(min_steps=100).training(1e6, 1e6, row_tokens=128)
    assert training.steps >= 100
    assert training.warmup_steps == round(0.05 * training.steps)


def test_what_cannot_be_is_refused_in_a_line():
    with pytest.raises(UserError, match="no llama of 1e\\+03 parameters can be built: the nearest"):
        Recipe().shape(Family("llama", bindings=BYTES), 1e3)
    with pytest.raises(UserError, match="updates"):
        Recipe().training(1e6, 1000, row_tokens=512)
