"""TinyBERT's layer losses (Jiao et al. 2020, equations 5 to 9): by hand, and between encoders."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.bert import BERT
from models.bigbird import BigBird
from models.errors import ModelError
from models.heads import Classification
from models.layers import intermediates
from models.tiny_bert import (
    LayerDistilled,
    TinyBERT,
    matched_layers,
    score_difference,
    squared_difference,
)

BATCH = {
    "encoder_input_tokens": jnp.array([[2, 3, 4, 5], [2, 6, 7, 0]]),
    "encoder_target_tokens": jnp.array([[2, 3, 8, 5], [2, 9, 7, 0]]),
    "encoder_loss_weights": jnp.array([[0, 0, 1, 0], [0, 1, 0, 0]]),
}


def encoder(kind, width, layers, **more):
    return kind(
        vocab_size=12, embed_dim=width, num_heads=2, num_layers=layers, mlp_dim=8, max_length=8,
        use_masked_head=False, use_next_sentence_head=False, **more,
    )  # fmt: skip


def test_mean_squares_by_hand():
    found = squared_difference(jnp.array([[1.0, 2], [3, 4]]), jnp.array([[1.0, 0], [3, 2]]))
    assert found.mean() == 2.0
    # A masked score is 0 on both sides, and counts among the four.
    teacher = jnp.array([[1.0, -10000], [2, 3]])[None, None]
    student = jnp.array([[0.0, -10000], [2, 1]])[None, None]
    assert score_difference(teacher, student).mean() == 1.25


@pytest.mark.slow
def test_each_layer_is_compared_with_the_last_of_its_share_and_padding_with_nothing():
    student, teacher = encoder(TinyBERT, 4, 2, teacher_dim=8), encoder(BERT, 8, 6)
    ours, theirs = (m.init(jax.random.key(i))["params"] for i, m in enumerate((student, teacher)))
    assert ours["fit_dense"]["kernel"].shape == (4, 8)
    model = LayerDistilled(student=student, teacher=teacher)
    terms, _ = model.loss_with_frozen(ours, BATCH, {"teacher": theirs})
    assert {name: float(w) for name, w in model.loss_weights(BATCH).items()} == dict.fromkeys(
        ("embeddings", "hidden_states", "attention"), 7.0
    )

    def seen(model, params):  # one record at a time, and layers by their numbers
        left = []

        def run():
            x, variables = model.apply(
                {"params": params}, **BATCH, mutable=["intermediates"], method="hidden_states"
            )
            left.append(x)
            return variables

        scores = intermediates.collect("attention_scores", run)
        states = intermediates.collect("entering", run)
        assert [one.layer for one in scores] == list(range(model.num_layers))
        weights = model.attention_weights(params, BATCH)["encoder"]
        tokens = BATCH["encoder_input_tokens"] != 0
        for one, expected in zip(scores, weights, strict=True):  # scores are what weights are of
            masked = jnp.where(tokens[:, None, None], one.value, -jnp.inf)
            np.testing.assert_allclose(jax.nn.softmax(masked), expected, atol=1e-6)
        return [one.value for one in scores], [*(one.value for one in states), left[0]]

    (a, h), (b, g) = seen(student, ours), seen(teacher, theirs)
    dense = ours["fit_dense"]
    tokens = np.array(BATCH["encoder_input_tokens"] != 0)

    def state(m, n):
        own = h[m] @ dense["kernel"] + dense["bias"]
        return (np.square(own - g[n]).mean(-1) * tokens).sum()

    def attention(m, n):
        between = np.where(tokens[:, None, None], a[m] - b[n], 0)
        return (np.square(between).mean((1, 3)) * tokens).sum()

    # Two of six: states 0, 3, 6 and attention of layers 2 and 5, from 0.
    np.testing.assert_allclose(terms["embeddings"], state(0, 0), rtol=1e-4)
    np.testing.assert_allclose(terms["hidden_states"], state(1, 3) + state(2, 6), rtol=1e-4)
    np.testing.assert_allclose(terms["attention"], attention(0, 2) + attention(1, 5), rtol=1e-4)
    # The gradient moves the student's layers; what is after them stays.
    gradient = jax.grad(
        lambda params: sum(model.loss_with_frozen(params, BATCH, {"teacher": theirs})[0].values())
    )(ours)
    moved = {name: any(np.any(x) for x in jax.tree.leaves(gradient[name])) for name in gradient}
    assert moved["encoder"] and moved["token_embedder"] and moved["fit_dense"]
    assert not moved["pooler"]


def test_four_layers_of_twelve():
    assert matched_layers(4, 12) == ([2, 5, 8, 11], [0, 3, 6, 9, 12])
    assert matched_layers(6, 12) == ([1, 3, 5, 7, 9, 11], [0, 2, 4, 6, 8, 10, 12])


def test_what_cannot_be_compared_is_refused_in_one_line():
    student = encoder(TinyBERT, 4, 2, teacher_dim=8)
    for teacher, said in (
        (encoder(BERT, 8, 3), "3 layers are no multiple of the student's 2"),
        (encoder(BigBird, 8, 4), "layers cannot learn from a BigBird"),
        (encoder(BERT, 16, 4), "teacher_dim is 8, and the teacher's embed_dim 16"),
        (encoder(BERT, 8, 4).clone(num_heads=4), "num_heads is 2 and the teacher's 4"),
    ):
        with pytest.raises(ModelError, match=said):
            LayerDistilled(student=student, teacher=teacher)
    with pytest.raises(ModelError, match="the student must be a TinyBERT"):
        LayerDistilled(student=encoder(BERT, 4, 2), teacher=encoder(BERT, 8, 4))
    with pytest.raises(ModelError, match="one must be above 0"):
        LayerDistilled(
            student=student, teacher=encoder(BERT, 8, 4),
            embeddings=0, hidden_states=0, attention=0,
        )  # fmt: skip


def test_the_published_layer_counts_are_those_of_the_released_code():
    """The layer that is added: 312 · 768 + 768, and 768 · 768 + 768."""
    for width, count in ((312, 240_384), (768, 590_592)):
        sizes = {"num_heads": 12, "mlp_dim": 8, "num_layers": 1, "vocab_size": 12}
        own = {"use_masked_head": False, "use_next_sentence_head": False}
        student = TinyBERT(embed_dim=width, **sizes, **own)
        plain = BERT(embed_dim=width, **sizes, **own)
        assert student.parameter_count() - plain.parameter_count() == count


def test_a_students_labels_are_known_to_whoever_checks_a_run():
    head = Classification(labels=("bad", "good"))
    student = encoder(TinyBERT, 4, 2, teacher_dim=8, head=head)
    model = LayerDistilled(student=student, teacher=encoder(BERT, 8, 4, head=head))
    assert model.label_names == {"label": ("bad", "good")}
    assert model.batch_format == "sequence_classification"
    student, teacher = encoder(TinyBERT, 4, 2, teacher_dim=8), encoder(BERT, 8, 4)
    assert LayerDistilled(student=student, teacher=teacher).label_names == {}
