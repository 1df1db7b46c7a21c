"""A family of any shape is the published model at its shape, and counts what it builds."""

import pytest

from t5x_like import config
from t5x_like.errors import UserError
from t5x_like.scaling.family import Family, Shape, families, model_of, size_of
from t5x_like.scaling.recipe import Recipe

BYTES = (("VOCAB_SIZE", "384"),)

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


def test_counts_are_those_of_the_model():
    family = Family("palm", bindings=BYTES)
    shape = Recipe().shape(family, 1e5)
    model, size = model_of(family, shape), size_of(family, shape)
    assert size.parameters == model.parameter_count()
    assert size.without_embeddings == size.parameters - 384 * shape.embed_dim


def test_an_unknown_family_is_refused_with_the_nearest():
    with pytest.raises(UserError, match=r"no family 'lama'.*Did you mean llama"):
        Family("lama")
