"""Heads for fine-tuning by hand: what they read, their losses, what they predict."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.bert import BERT
from models.errors import ModelError
from models.heads import Classification, Regression
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


@pytest.fixture(scope="module")
def case():
    model = bert(head=THREE)
    return model, drawn(model), batch_for(model)


def test_a_row_head_reads_the_pooler_of_the_first_token(case):
    model, params, batch = case
    found = model.predict(params, batch)
    first = found["hidden_states"][:, 0]
    pooled = jnp.tanh(first @ params["pooler"]["kernel"] + params["pooler"]["bias"])
    close(found["pooled"], pooled)
    layer = params["output_head"]["output"]
    logits = pooled @ layer["kernel"] + layer["bias"]
    close(model.apply({"params": params}, **batch), logits)
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
        return float(model.loss(params, batch, jax.random.key(key))[0]["loss"])

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
