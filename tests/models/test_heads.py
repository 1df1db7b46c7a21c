"""Heads for fine-tuning by hand: what they read, their losses, what they predict."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.bert import BERT
from models.errors import ModelError
from models.heads import Classification, MultipleChoice, Regression, Tagging
from tests.models.families import V, batch_for, drawn

bert = functools.partial(
    BERT, vocab_size=V, embed_dim=24, mlp_dim=40, num_heads=3, num_layers=2, max_length=32
)
THREE = Classification(("no", "maybe", "yes"))


def close(found, expected):
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_cross_entropy_of_two_labels_is_the_specifications():
    """Scores (2, 0): .126928 nats for the first label and 2.126928 for the second."""
    batch = {"label": jnp.array([0, 1, 0]), "label_weight": jnp.array([1, 1, 0])}
    head = Classification(("a", "b"))
    loss, metrics = head.loss(jnp.array([[2.0, 0], [2, 0], [0, 5]]), batch)
    close(loss, 0.126928 + 2.126928)
    assert head.weight(batch) == 2
    close(metrics["label_accuracy"], (1.0, 2.0))  # the row without a label is in neither


def test_a_number_has_the_squared_error():
    batch = {"label": jnp.array([1.0, 4.5, 9.0]), "label_weight": jnp.array([1, 1, 0])}
    loss, metrics = Regression().loss(jnp.array([[3.0], [4.0], [0.0]]), batch)
    close(loss, 2.0**2 + 0.5**2)
    close(metrics["loss"], (4.25, 2.0))


def test_the_likeliest_label_is_predicted_with_all_probabilities():
    found = THREE.predictions(jnp.log(jnp.array([[1.0, 2.0, 5.0], [6.0, 1.0, 1.0]])))
    assert found["label"].tolist() == [2, 0] and found["label"].dtype == jnp.int32
    close(found["probabilities"], [[0.125, 0.25, 0.625], [0.75, 0.125, 0.125]])
    assert THREE.label_names == {"label": ("no", "maybe", "yes")}


@functools.partial(jax.jit, static_argnums=0)
def predictions_of(model, params, batch):
    return model.predict(params, batch)


@functools.partial(jax.jit, static_argnums=0)
def logits_of(model, params, batch):
    return model.apply({"params": params}, **batch)


@functools.partial(jax.jit, static_argnums=0)
def loss_of(model, params, batch, key=None):
    return model.loss(params, batch, key)[0]["loss"]


@pytest.fixture(scope="module")
def case():
    model = bert(head=THREE)
    return model, drawn(model), batch_for(model)


def test_a_row_head_reads_the_pooler_of_the_first_token(case):
    model, params, batch = case
    found = predictions_of(model, params, batch)
    first = found["hidden_states"][:, 0]
    pooled = jnp.tanh(first @ params["pooler"]["kernel"] + params["pooler"]["bias"])
    close(found["pooled"], pooled)
    layer = params["output_head"]["output"]
    logits = pooled @ layer["kernel"] + layer["bias"]
    close(logits_of(model, params, batch), logits)
    close(found["probabilities"], jax.nn.softmax(logits))


def test_what_pre_training_alone_needs_is_left_out_and_nothing_else():
    """BERT base: 109,482,240 with its pooler, and for each label a column of 768 and a bias."""
    large = BERT(vocab_size=30522, head=THREE)
    assert large.parameter_count() == 109_482_240 + 3 * 769
    assert not large.use_masked_head and not large.use_next_sentence_head and large.use_pooler
    assert large.batch_format == "sequence_classification"
    assert BERT(vocab_size=30522, head=Regression()).batch_format == "sequence_regression"
    assert set(drawn(bert())) - set(drawn(bert(head=THREE))) == {
        "masked_head",
        "next_sentence_head",
    }


def test_a_head_may_drop_more_than_the_rest(case):
    _, params, batch = case

    def loss(head, key):
        model = bert(head=head, dropout_rate=0.0)
        return float(loss_of(model, params, batch, jax.random.key(key)))

    plain, own = THREE, Classification(THREE.labels, dropout_rate=0.5)
    assert loss(plain, 0) == loss(plain, 1)
    assert loss(own, 0) != loss(own, 1)


@pytest.mark.parametrize("labels", ["yes", (), ("one",), ("a", "b", "a")])
def test_fewer_than_two_labels_and_equal_ones_are_refused(labels):
    with pytest.raises(ModelError, match="two or more different names"):
        Classification(labels)


@pytest.mark.parametrize("rate", [1.0, -0.1])
def test_a_rate_that_is_none_is_refused(rate):
    with pytest.raises(ModelError, match="dropout_rate"):
        Regression(rate)


def test_lists_as_gin_has_them_make_the_same_head():
    assert Classification(["no", "maybe", "yes"]) == THREE
    assert hash(bert(head=Classification(["no", "maybe", "yes"]))) == hash(bert(head=THREE))


# -- Tags of words ----------------------------------------------------------------------------


def test_only_the_first_token_of_a_word_has_a_tag():
    """Tokens 1 and 3 begin words; what is said of the others costs nothing."""
    logits = jnp.log(jnp.array([[[0.5, 0.5], [0.25, 0.75], [0.9, 0.1], [0.5, 0.5]]]))
    batch = {
        "word_labels": jnp.array([[0, 1, 0, 0]]),
        "word_weights": jnp.array([[0, 1, 0, 1]]),
    }
    head = Tagging(["O", "B-x"])
    loss, metrics = head.loss(logits, batch)
    close(loss, -np.log(0.75) - np.log(0.5))
    assert head.weight(batch) == 2 and head.outputs == 2
    close(metrics["tag_accuracy"], (2.0, 2.0))
    found = head.predictions(logits)
    assert found["tags"].tolist() == [[0, 1, 0, 0]] and head.label_names == {"tags": ("O", "B-x")}
    close(found["probabilities"], jnp.exp(logits))


def test_a_tagger_reads_the_vector_of_each_token_and_has_no_pooler():
    """BERT base without its pooler: 108,891,648, and for each tag a column of 768 and a bias."""
    assert BERT(vocab_size=30522, head=Tagging(("O", "B", "I"))).parameter_count() == (
        108_891_648 + 3 * 769
    )
    model = bert(head=Tagging(("O", "B", "I")))
    assert model.batch_format == "token_classification"
    params = drawn(model)
    found = predictions_of(model, params, batch_for(model))
    layer = params["output_head"]["output"]
    logits = found["hidden_states"] @ layer["kernel"] + layer["bias"]
    assert "pooled" not in found
    close(found["probabilities"], jax.nn.softmax(logits))
    np.testing.assert_array_equal(found["tags"], logits.argmax(axis=-1))


# -- Choices ----------------------------------------------------------------------------------


def test_the_loss_of_a_choice_is_the_specifications():
    """Scores (1, 0, 2, -1), of which the third is right: .440190 nats."""
    logits = jnp.array([[[1.0], [0.0], [2.0], [-1.0]], [[0.0], [9.0], [0.0], [0.0]]])
    batch = {"label": jnp.array([2, 0]), "label_weight": jnp.array([1, 0])}
    head = MultipleChoice()
    loss, metrics = head.loss(logits, batch)
    close(loss, 0.440190)
    assert head.weight(batch) == 1
    close(metrics["label_accuracy"], (1.0, 1.0))
    assert head.predictions(logits)["choice"].tolist() == [2, 1]


@pytest.mark.slow
def test_each_choice_is_read_as_a_row_and_one_without_tokens_has_no_probability():
    """BERT base with its pooler, and one column of 768 with a bias."""
    assert BERT(vocab_size=30522, head=MultipleChoice()).parameter_count() == 109_482_240 + 769
    model = bert(head=MultipleChoice())
    params, rows = drawn(model), batch_for(model, rows=6)
    segments = jnp.where(jnp.arange(6) == 4, 0, 1)[:, None] * jnp.ones((1, 10), int)
    rows["encoder_segment_ids"] = segments
    choices = {name: x.reshape(2, 3, *x.shape[1:]) for name, x in rows.items()}
    one_by_one = logits_of(model, params, rows)
    found = predictions_of(model, params, choices)
    scores = np.array(one_by_one).reshape(2, 3)
    scores[1, 1] = -np.inf
    close(found["probabilities"], jax.nn.softmax(scores))
    assert found["probabilities"][1, 1] == 0 and found["pooled"].shape == (2, 3, 24)
    assert found["hidden_states"].shape == (2, 3, 10, 24)
    # Without segments, padding says which choices there are.
    padded = {"encoder_input_tokens": choices["encoder_input_tokens"].at[1, 1].set(0)}
    assert predictions_of(model, params, padded)["probabilities"][1, 1] == 0
    labelled = choices | {"label": jnp.array([0, 2]), "label_weight": jnp.array([1, 1])}
    loss = loss_of(model, params, labelled)
    close(loss, -np.log(found["probabilities"][0, 0]) - np.log(found["probabilities"][1, 2]))
