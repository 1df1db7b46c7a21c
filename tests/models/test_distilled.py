"""A student that learns from a teacher: the loss by hand, and what cannot be compared."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import bart, bert, deberta, distilbert, gpt, unilm
from models.distilled import Distilled, cosine_distance, soft_divergence
from models.errors import ModelError
from models.heads import Classification, MultipleChoice, Regression, Reward, Tagging
from models.recurrent import RecurrentLM
from tests.models.families import drawn

TEXT = {
    "decoder_input_tokens": jnp.array([[0, 3, 4, 5], [0, 6, 7, 0]]),
    "decoder_target_tokens": jnp.array([[3, 4, 5, 1], [6, 7, 1, 0]]),
}
MASKED = {
    "encoder_input_tokens": jnp.array([[2, 3, 4, 5], [2, 6, 7, 0]]),
    "encoder_target_tokens": jnp.array([[2, 3, 8, 5], [2, 9, 7, 0]]),
    "encoder_loss_weights": jnp.array([[0, 0, 1, 0], [0, 1, 0, 0]]),
}


def decoder(width, layers=1, **more):
    return gpt.GPT2(
        vocab_size=12, embed_dim=width, num_heads=1, num_layers=layers, max_length=8, **more
    )


def encoder(kind, width=8, layers=1, **more):
    return kind(
        vocab_size=12, embed_dim=width, num_heads=1, num_layers=layers, mlp_dim=8, max_length=8,
        **more,
    )  # fmt: skip


def params_of(*models):
    return [drawn(model, seed) for seed, model in enumerate(models)]


@functools.partial(jax.jit, static_argnums=0)
def loss_of(model, params, batch):
    return model.loss(params, batch)


@functools.partial(jax.jit, static_argnums=0)
def distilled(model, ours, batch, theirs):
    return model.loss_with_frozen(ours, batch, {"teacher": theirs})


@functools.partial(jax.jit, static_argnums=0)
def outputs_of(model, params, batch):
    return model.apply({"params": params}, **batch)


def test_distilberts_three_terms_by_hand():
    """T 2, teacher (2, 0, 0), student (1, 1, 0), target 0; cosine of (1, 0) and (1, 1)."""
    teacher, student = jnp.array([2.0, 0, 0]), jnp.array([1.0, 1, 0])
    np.testing.assert_allclose(
        jax.nn.softmax(teacher / 2), [0.576117, 0.211942, 0.211942], atol=1e-6
    )
    np.testing.assert_allclose(
        jax.nn.softmax(student / 2), [0.383652, 0.383652, 0.232697], atol=1e-6
    )
    soft = soft_divergence(teacher, student, 2.0)
    np.testing.assert_allclose(soft, 0.354652, atol=1e-6)
    np.testing.assert_allclose(soft / 4, 0.088663, atol=1e-6)
    masked = -jax.nn.log_softmax(student)[0]
    np.testing.assert_allclose(masked, 0.861995, atol=1e-6)
    cosine = cosine_distance(jnp.array([1.0, 0]), jnp.array([1.0, 1]))
    np.testing.assert_allclose(cosine, 0.292893, atol=1e-6)
    np.testing.assert_allclose(5 * soft + 2 * masked + cosine, 3.790144, atol=1e-5)


@pytest.mark.parametrize(
    ("temperature", "expected"), [(1.0, (0.665, 0.245, 0.090)), (2.0, (0.506, 0.307, 0.186))]
)
def test_a_higher_temperature_softens(temperature, expected):
    """Logits (2, 1, 0); the divergence from equal chances is log 3 less the entropy, times T²."""
    logits = jnp.array([2.0, 1, 0])
    p = np.asarray(jax.nn.softmax(logits / temperature))
    np.testing.assert_allclose(p, expected, atol=6e-4)
    entropy = -(p * np.log(p)).sum()
    found = soft_divergence(logits, jnp.zeros(3), temperature)
    np.testing.assert_allclose(found, temperature**2 * (np.log(3) - entropy), rtol=1e-5)


@pytest.mark.slow
def test_a_decoders_terms_count_its_targets_and_move_the_student_alone():
    student, teacher = decoder(4), decoder(8, layers=2)
    model = Distilled(student=student, teacher=teacher, temperature=2.0)
    ours, theirs = params_of(student, teacher)
    assert model.loss_terms == {"targets": 0.5, "soft_targets": 0.5}
    assert {k: float(v) for k, v in model.loss_weights(TEXT).items()} == {
        "targets": 7, "soft_targets": 7,
    }  # fmt: skip
    terms, metrics = distilled(model, ours, TEXT, theirs)
    np.testing.assert_allclose(terms["targets"], loss_of(student, ours, TEXT)[0]["loss"], rtol=1e-5)
    logits = outputs_of(teacher, theirs, TEXT), outputs_of(student, ours, TEXT)
    divergence = soft_divergence(*logits, 2.0)
    real = TEXT["decoder_target_tokens"] != 0
    np.testing.assert_allclose(terms["soft_targets"], (divergence * real).sum(), rtol=1e-5)
    assert metrics["targets"][1] == 7 and "token_accuracy" in metrics

    def total(own, frozen):
        return distilled(model, own, TEXT, frozen)[0]["soft_targets"]

    to_ours, to_theirs = jax.jit(jax.grad(total, argnums=(0, 1)))(ours, theirs)
    assert any(np.any(leaf) for leaf in jax.tree.leaves(to_ours))
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(to_theirs))


@pytest.mark.slow
def test_a_student_that_is_its_teacher_has_nothing_to_learn_from_it():
    student = encoder(bert.BERT, use_next_sentence_head=False)
    model = Distilled(student=student, teacher=student, soft_targets=5.0, hidden_states=1.0)
    (params,) = params_of(student)
    terms, _ = distilled(model, params, MASKED, params)
    np.testing.assert_allclose([terms["soft_targets"], terms["hidden_states"]], 0, atol=1e-5)
    own = loss_of(student, params, MASKED)[0]["masked_language_model"]
    np.testing.assert_allclose(terms["targets"], own, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [deberta.DeBERTa, unilm.UniLM])
def test_the_own_loss_and_the_logits_are_those_of_the_model(kind):
    """DeBERTa's decoder, which alone reads positions, and UniLM's smoothing are in both."""
    more = {"label_smoothing": 0.3, "mask_id": 11} if kind is unilm.UniLM else {"max_distance": 4}
    student = encoder(kind, use_next_sentence_head=False, **more)
    model = Distilled(student=student, teacher=student, soft_targets=1.0, temperature=1.0)
    ours, theirs = drawn(student, 0), drawn(student, 1)
    batch = MASKED | {"encoder_segment_ids": (MASKED["encoder_input_tokens"] != 0).astype(int)}
    if kind is unilm.UniLM:
        batch |= {"row_mask_kind": jnp.array([0, 3]), "row_prefix_length": jnp.array([0, 2])}
    terms, _ = distilled(model, ours, batch, theirs)
    own = loss_of(student, ours, batch)[0]["masked_language_model"]
    np.testing.assert_allclose(terms["targets"], own, rtol=1e-5)
    each = soft_divergence(*(outputs_of(student, p, batch) for p in (theirs, ours)), 1.0)
    tokens = each * (batch["encoder_segment_ids"] != 0)
    np.testing.assert_allclose(terms["soft_targets"], tokens.sum(), rtol=1e-4)
    table = jax.grad(lambda p: distilled(model, p, batch, theirs)[0]["targets"])(ours)
    assert np.any(table["position_embedder"]["embedding"])


def test_distilbert_compares_every_token_or_the_hidden_ones():
    student = encoder(distilbert.DistilBERT)
    teacher = encoder(bert.BERT, layers=2, use_next_sentence_head=False)
    both = {"student": student, "teacher": teacher, "hidden_states": 1.0}
    every = Distilled(**both).loss_weights(MASKED)
    hidden = Distilled(**both, masked_only=True).loss_weights(MASKED)
    assert [float(w["soft_targets"]) for w in (every, hidden)] == [7, 2]
    assert [float(w["hidden_states"]) for w in (every, hidden)] == [7, 7]
    assert float(every["targets"]) == 2
    ours, theirs = params_of(student, teacher)
    terms, _ = distilled(Distilled(**both), ours, MASKED, theirs)
    assert 0 < float(terms["hidden_states"]) <= 14


ROWS = {
    "decoder_input_tokens": jnp.array([[0, 3, 4, 5], [0, 6, 7, 0]]),
    "decoder_segment_ids": jnp.array([[1, 1, 1, 1], [1, 1, 1, 0]]),
    "encoder_input_tokens": jnp.array([[3, 4, 5, 1], [6, 7, 1, 0]]),
    "encoder_segment_ids": jnp.array([[1, 1, 1, 1], [1, 1, 1, 0]]),
    "decoder_target_tokens": jnp.array([[3, 4, 5, 1], [6, 7, 1, 0]]),
    "decoder_loss_weights": jnp.array([[1, 1, 1, 0], [1, 1, 0, 0]]),
    "label_weight": jnp.array([1, 0]),
}


def both_sides(head):
    return bart.BART(
        vocab_size=12, embed_dim=8, num_heads=1, num_encoder_layers=1, num_decoder_layers=1,
        mlp_dim=8, max_length=8, head=head,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("make", [lambda head: decoder(8, head=head), both_sides])
@pytest.mark.parametrize("kind", ["classes", "numbers"])
def test_with_a_head_its_outputs_are_compared_of_rows_with_a_label(make, kind):
    head = Classification(labels=("a", "b", "c")) if kind == "classes" else Regression()
    model = make(head)
    batch = ROWS | {"label": jnp.array([2, 0]) if kind == "classes" else jnp.array([2.5, 0.0])}
    ours, theirs = params_of(model, model)
    outputs = [np.asarray(outputs_of(model, p, batch)) for p in (theirs, ours)]
    both = Distilled(student=model, teacher=model, temperature=2.0)
    terms, metrics = distilled(both, ours, batch, theirs)
    if kind == "classes":
        teacher, student = (np.exp(x / 2) / np.exp(x / 2).sum(-1, keepdims=True) for x in outputs)
        expected = 4 * (teacher * np.log(teacher / student)).sum(-1)[0]
        own = -np.log(np.exp(outputs[1][0]) / np.exp(outputs[1][0]).sum())[2]
    else:
        expected, own = (outputs[0] - outputs[1])[0, 0] ** 2, (outputs[1][0, 0] - 2.5) ** 2
    np.testing.assert_allclose(terms["soft_targets"], expected, rtol=1e-4)
    np.testing.assert_allclose(terms["targets"], own, rtol=1e-4)
    assert float(metrics["soft_targets"][1]) == 1


@pytest.mark.slow
def test_tags_are_compared_where_a_word_begins_and_choices_with_one_another():
    rows = jnp.array([[2, 3, 4], [2, 5, 0]])
    cases = [
        (
            Tagging(labels=("O", "B-x")),
            {
                "encoder_input_tokens": rows,
                "word_labels": jnp.array([[0, 1, 0], [0, 1, 0]]),
                "word_weights": jnp.array([[0, 1, 1], [0, 1, 0]]),
            },
        ),
        (
            MultipleChoice(),
            {
                "encoder_input_tokens": rows[None],
                "label": jnp.array([1]),
                "label_weight": jnp.array([1]),
            },
        ),
    ]
    for head, batch in cases:
        model = encoder(bert.BERT, head=head)
        ours, theirs = params_of(model, model)
        theirs = jax.tree.map(lambda x: 2 * x, theirs)  # choices are much alike
        outputs = [np.asarray(outputs_of(model, p, batch)) for p in (theirs, ours)]
        tags = isinstance(head, Tagging)
        teacher, student = (
            np.exp(x) / np.exp(x).sum(-1, keepdims=True)
            for x in (outputs if tags else [x[..., 0] for x in outputs])
        )
        each = (teacher * np.log(teacher / student)).sum(-1)
        weight = np.asarray(batch["word_weights" if tags else "label_weight"])
        both = Distilled(student=model, teacher=model, temperature=1.0)
        terms, metrics = distilled(both, ours, batch, theirs)
        np.testing.assert_allclose(terms["soft_targets"], (each * weight).sum(), rtol=1e-4)
        assert float(metrics["soft_targets"][1]) == weight.sum()


def test_what_cannot_be_compared_is_refused_in_one_line():
    def refused(message, student, teacher, **more):
        with pytest.raises(ModelError, match=message):
            Distilled(student=student, teacher=teacher, **more)

    small = decoder(4)
    refused(r"temperature is 0: it must be above 0", small, small, temperature=0)
    refused(r"1, 0 and 0: none may be negative", small, small, targets=1.0, soft_targets=0.0)
    refused(r"vocab_size is 12 and the teacher's 13", small, small.clone(vocab_size=13))
    refused(r"vectors of 4 and 8 numbers", small, decoder(8), hidden_states=1.0)
    carrying = RecurrentLM(vocab_size=12, embed_dim=4, carries=True)
    refused(r"the student is a RecurrentLM that carries its state", carrying, carrying)
    masked = encoder(bert.BERT, use_next_sentence_head=False)
    refused(r"the student writes text, but the teacher restores hidden tokens", small, masked)
    refused(r"terms masked_language_model, next_sentence: only one", encoder(bert.BERT), masked)
    two, three = (
        encoder(bert.BERT, head=Classification(labels=labels)) for labels in ("ab", "abc")
        for labels in [tuple(labels)]
    )  # fmt: skip
    refused(r"head has 2 outputs and the teacher's 3", two, three)
    turned = encoder(bert.BERT, head=Classification(labels=("b", "a")))
    refused(r"labels a, b and the teacher's b, a: .* in the same order", two, turned)
    for names in (("A", "B"), ("LABEL_0", "LABEL_1")):
        Distilled(student=two, teacher=encoder(bert.BERT, head=Classification(labels=names)))
    one_way = encoder(unilm.UniLM, use_next_sentence_head=False, mask_id=11)
    refused(r"'multidirectional_language_model' and the teacher's 'masked_", one_way, masked)
    reward = decoder(4, head=Reward())
    refused(r"^GPT2 with Reward cannot be distilled", reward, reward)
    headed = decoder(4, head=Regression())
    refused(r"the student has the head Regression, but the teacher writes text", headed, small)
