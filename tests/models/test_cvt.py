"""Cross-view training: its loss by hand, what each module sees, and its size."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.cvt import CROSS_VIEW, CVT, SUPERVISED, VIEWS, divergence
from models.errors import ModelError
from models.heads import Classification, Tagging
from tests.models.families import FAMILIES, batch_for, drawn

make = FAMILIES["cvt"]


@functools.partial(jax.jit, static_argnums=0)
def logits_of(model, params, batch):
    return model.apply({"params": params}, **batch, method="all_logits")


@functools.partial(jax.jit, static_argnums=0)
def loss_of(model, params, batch, key=None):
    return model.loss(params, batch, key)


@pytest.fixture(scope="module")
def case():
    """A model, parameters of which every one matters, a row with tags and one without."""
    model = make()
    return model, drawn(model), batch_for(model)


def test_the_divergence_of_two_distributions_is_the_specifications():
    """KL((.8, .2) | (.6, .4)) = .091516, and .104650 the other way."""
    one, other = (jnp.log(jnp.array([[p]])) for p in ([0.8, 0.2], [0.6, 0.4]))
    weight = jnp.ones((1, 1))
    assert divergence(one, other, weight) == pytest.approx(0.091516, abs=1e-6)
    assert divergence(other, one, weight) == pytest.approx(0.104650, abs=1e-6)


@pytest.mark.slow
def test_the_loss_of_two_words_with_tags_and_two_without(case):
    """One row each; what stands around the words counts in neither term."""
    model, params, batch = case
    inside = jnp.zeros((2, 10), int).at[:, 1:3].set(1)
    batch = batch | {
        "word_begins": inside,
        "word_weights": inside.at[1].set(0),
        "encoder_segment_ids": jnp.zeros((2, 10), int).at[:, :4].set(1),
    }
    primary, views = jax.tree.map(np.asarray, logits_of(model, params, batch))
    sums, metrics = loss_of(model, params, batch)

    def log_p(logits):
        return logits - np.log(np.exp(logits).sum(-1, keepdims=True))

    tags = np.asarray(batch["word_labels"])[0]
    by_hand = -sum(log_p(primary)[0, place, tags[place]] for place in (1, 2))
    assert sums[SUPERVISED] == pytest.approx(by_hand, rel=1e-5)
    p = np.exp(log_p(primary)[1])
    by_hand = sum(
        (p[place] * (log_p(primary)[1] - log_p(views[name])[1])[place]).sum()
        for name in VIEWS
        for place in (1, 2)
    )
    assert sums[CROSS_VIEW] == pytest.approx(by_hand, rel=1e-5)
    assert {k: float(v) for k, v in model.loss_weights(batch).items()} == {
        SUPERVISED: 2.0,
        CROSS_VIEW: 2.0,
    }
    assert metrics[SUPERVISED] == (sums[SUPERVISED], 2) and metrics[CROSS_VIEW][1] == 2


def test_each_module_sees_its_part_of_the_text(case):
    """Word 4 changed: what changes in the tags that each module says."""
    model, params, batch = case
    primary, views = logits_of(model, params, batch)
    changed = batch | {
        "encoder_characters": batch["encoder_characters"].at[:, 4].set(99),
        "encoder_input_tokens": batch["encoder_input_tokens"].at[:, 4].set(1),
    }
    other, others = logits_of(model, params, changed)
    where = {
        name: np.flatnonzero((np.asarray(views[name]) != others[name]).any((0, 2))).tolist()
        for name in VIEWS
    }
    everywhere = list(range(10))
    assert np.flatnonzero((np.asarray(primary) != other).any((0, 2))).tolist() == everywhere
    assert where == {
        "full": everywhere,
        "forward": [4, 5, 6, 7, 8, 9],
        "backward": [0, 1, 2, 3, 4],
        "future": [5, 6, 7, 8, 9],
        "past": [0, 1, 2, 3],
    }


@pytest.mark.slow
def test_the_primary_module_learns_of_tags_alone_and_the_others_of_text_alone(case):
    model, params, batch = case
    pulled = jax.jit(jax.jacrev(lambda p: model.loss(p, batch)[0]))(params)
    assert pulled.keys() == {SUPERVISED, CROSS_VIEW}
    moved = {
        term: {name for name, part in tree.items() if any(map(np.any, jax.tree.leaves(part)))}
        for term, tree in pulled.items()
    }
    shared = {"token_embedder", "words", "layers_0", "layers_1"}
    assert moved[SUPERVISED] == shared | {"output_head"}
    assert moved[CROSS_VIEW] == shared | {f"views_{name}" for name in VIEWS}


@pytest.mark.slow
def test_the_teacher_drops_nothing_and_rows_without_tags_their_own_share(case):
    _, params, batch = case
    key = jax.random.key(3)
    labelled = make(dropout_rate=0.5)
    plain, dropped = (
        loss_of(make(), params, batch, key)[0],
        loss_of(labelled, params, batch, key)[0],
    )
    assert dropped[SUPERVISED] != plain[SUPERVISED]
    np.testing.assert_allclose(dropped[CROSS_VIEW], plain[CROSS_VIEW], rtol=1e-5)
    other = loss_of(make(unlabelled_dropout_rate=0.5), params, batch, key)[0]
    np.testing.assert_allclose(other[SUPERVISED], plain[SUPERVISED], rtol=1e-5)
    assert other[CROSS_VIEW] != plain[CROSS_VIEW]


@pytest.mark.slow
def test_tags_are_smoothed_in_training_and_not_where_they_are_measured(case):
    _, params, batch = case
    smooth, plain = make(label_smoothing=0.1), make(label_smoothing=0.0)
    measured = [loss_of(model, params, batch)[0][SUPERVISED] for model in (smooth, plain)]
    assert measured[0] == measured[1]
    key = jax.random.key(0)
    learned = [loss_of(model, params, batch, key)[0][SUPERVISED] for model in (smooth, plain)]
    assert learned[0] != learned[1]


def test_its_count_by_hand():
    """Of the published size, as the specification of its parts has it; 400,259 ids and 9 tags."""
    characters = 262 * 50 + 50 * 100 * (2 + 3 + 4) + 300
    first = 2 * ((600 + 512 + 1) * 4 * 1024 + 1024 * 512)
    second = 2 * ((1024 + 512 + 1) * 4 * 512 + 512 * 512)
    whole, part = ((size + 1) * 512 + 513 * 9 for size in (2048, 512))
    rest = characters + first + second + 2 * whole + 4 * part
    assert rest == 20_221_014
    assert CVT(vocab_size=400_259).parameter_count() == rest + 400_259 * 300


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"head": None}, "Tagging is needed"),
        ({"head": Classification(("a", "b"))}, "Tagging is needed"),
        ({"longest_word": 2}, "3 characters at once"),
        ({"unlabelled_dropout_rate": 1.0}, "at least 0 and below 1"),
        ({"cross_view_coefficient": -1.0}, "0 or more"),
    ],
)
def test_what_cannot_be_built_is_refused(options, said):
    with pytest.raises(ModelError, match=said):
        make(**options)


def test_its_tags_are_those_of_its_head(case):
    model, params, batch = case
    found = jax.jit(model.predict)(params, batch)
    assert model.label_names == {"tags": ("O", "B-x", "I-x")}
    assert make(head=Tagging(["O", "B-x", "I-x"])) == model
    np.testing.assert_array_equal(found["tags"], logits_of(model, params, batch)[0].argmax(-1))
