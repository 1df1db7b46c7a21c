"""From (family, N, D) to a model that can be built and how it is trained."""

import math

import pytest

from t5x_like import config
from t5x_like.errors import UserError
from t5x_like.scaling.recipe import Family, Recipe, Shape, families, model_of, size_of

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


# A published file of each family, and its shape: both must build the same model.
FILES = {
    "models/chinchilla/70b.gin": Shape(80, 8192, 64, 128, 32768),
    "models/gpt2/124m.gin": Shape(12, 768, 12, 64, 3072),
    "models/gpt3/6.7b.gin": Shape(32, 4096, 32, 128, 16384),
    "models/gpt1/117m.gin": Shape(12, 768, 12, 64, 3072),
    "models/lamda/137b.gin": Shape(64, 8192, 128, 128, 65536),
    "models/lstm/zaremba_large.gin": Shape(2, 1500, 12, 128, 1536),
    "models/llama/6.7b.gin": Shape(32, 4096, 32, 128, 11008),
    "models/palm/8b.gin": Shape(32, 4096, 16, 256, 16384),
    "models/pythia/410m.gin": Shape(24, 1024, 16, 64, 4096),
    "models/t5_1_0/base.gin": Shape(12, 768, 12, 64, 3072),
    "models/t5_1_1/small.gin": Shape(8, 512, 6, 64, 1024),
    "models/transformer/base.gin": Shape(6, 512, 8, 64, 2048),
    "models/bart/base.gin": Shape(6, 768, 12, 64, 3072),
    "models/mass/base.gin": Shape(6, 768, 12, 64, 3072),
    "models/gopher/1.4b.gin": Shape(24, 2048, 16, 128, 8192),
    "models/switch/base.gin": Shape(12, 768, 12, 64, 2048),
}
EXTRA = {"models/switch/base.gin": (("NUM_EXPERTS", "128"),)}


@pytest.mark.parametrize(("name", "shape"), FILES.items(), ids=list(FILES))
def test_the_shape_of_a_published_file_builds_its_model(name, shape):
    family = Family(name.split("/")[1], bindings=EXTRA.get(name, ()))
    with config.isolated():
        config.parse([name])
        published = config.macro("MODEL")
    assert size_of(family, shape).parameters == published.parameter_count()


# No size is published: bytes of vocabulary V, both layers of E inputs and units, by hand.
GATES = {"rnn": (1, 1), "gru": (3, 4)}  # matrices of each kind in a layer, and biases


@pytest.mark.parametrize(("name", "gates"), GATES.items())
def test_the_shape_of_a_recurrent_family_has_the_parameters_of_its_gates(name, gates):
    matrices, biases = gates
    v, e = 384, 100
    family = Family(name, bindings=BYTES)
    layer = matrices * 2 * e * e + biases * e
    assert size_of(family, Shape(2, e, 1, e, e)).parameters == 2 * v * e + v + 2 * layer


def test_the_shape_of_attention_in_translation_has_the_parameters_of_its_layers():
    v, e = 384, 100
    lstm = 4 * (2 * e * e + e)
    encoder = 2 * lstm + lstm + 4 * e * e  # in both directions, then above both
    decoder = lstm + 4 * e * e + lstm  # the first layer reads the context too
    between = e * e + 2 * e * e + e * 4 * e + 4 * e  # score, join and the first states
    found = size_of(Family("attention_seq2seq", bindings=BYTES), Shape(2, e, 1, e, e)).parameters
    assert found == 2 * v * e + v + encoder + decoder + between


def test_every_family_of_shapes_has_been_compared():
    compared = {name.split("/")[1] for name in FILES} | set(GATES) | {"attention_seq2seq"}
    assert compared == set(families())


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


def test_counts_are_those_of_the_model():
    family = Family("palm", bindings=BYTES)
    shape = Recipe().shape(family, 1e5)
    model, size = model_of(family, shape), size_of(family, shape)
    assert size.parameters == model.parameter_count()
    assert size.without_embeddings == size.parameters - 384 * shape.embed_dim


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
    with pytest.raises(UserError, match=r"no family 'lama'.*Did you mean llama"):
        Family("lama")
    with pytest.raises(UserError, match="no llama of 1e\\+03 parameters can be built: the nearest"):
        Recipe().shape(Family("llama", bindings=BYTES), 1e3)
    with pytest.raises(UserError, match="updates"):
        Recipe().training(1e6, 1000, row_tokens=512)
