"""SpanBERT by hand: the head of span boundaries, its loss, what leaves it (Joshi et al. 2020)."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.bert import BERT
from models.errors import ModelError
from models.heads import Classification
from models.hf import load_hf, save_hf
from models.spanbert import SpanBERT
from models.structbert import StructBERT
from t5x_like.data import formats
from t5x_like.errors import UserError
from tests.models.families import V, batch_for, drawn

sizes = dict(
    vocab_size=V, embed_dim=24, mlp_dim=40, num_heads=3, num_layers=2, max_length=32,
    norm_epsilon=1e-3,
)  # fmt: skip
spanbert = functools.partial(SpanBERT, **sizes, max_span_targets=4, span_position_dim=10)


@pytest.fixture(scope="module")
def model():
    return spanbert()


@pytest.fixture(scope="module")
def params(model):
    return drawn(model)


@functools.partial(jax.jit, static_argnums=(0, 3))
def output_of(model, params, batch, method="__call__"):
    return model.apply({"params": params}, **batch, method=method)


@functools.partial(jax.jit, static_argnums=0)
def loss_of(model, params, batch):
    return model.loss(params, batch)


# -- The head of span boundaries -----------------------------------------------------------------


def gelu(x):
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def norm(x, p, epsilon=1e-3):
    x = x - x.mean(-1, keepdims=True)
    x = x / np.sqrt((x**2).mean(-1, keepdims=True) + epsilon)
    return x * p["scale"] + p["bias"]


def linear(x, p):
    return x @ p["kernel"] + p["bias"]


def reference(params, x_bse, batch, without=()):
    """Section 3.2 in NumPy: y = LN(GeLU(W2 LN(GeLU(W1 [x_(s-1); x_(e+1); p_(i-s+1)])))) to logits.

    `without` names terms that are left out.
    """
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    head, rows = p["span_boundary_head"], np.arange(x_bse.shape[0])[:, None]
    parts = {
        "left": x_bse[rows, batch["encoder_span_left"]],
        "right": x_bse[rows, batch["encoder_span_right"]],
        "position": head["position"]["embedding"][np.minimum(batch["encoder_span_offset"], 4) - 1],
    }
    parts = {name: 0 * x if name in without else x for name, x in parts.items()}
    h = norm(gelu(linear(np.concatenate(list(parts.values()), -1), head["boundary"])),
             head["boundary_norm"])  # fmt: skip
    second = head["masked"]
    y = norm(gelu(linear(h, second["transform"])), second["norm"])
    bias = 0 if "bias" in without else second["bias"]
    return y @ p["token_embedder"]["embedding"].T + bias


TERMS = ("left", "right", "position", "bias")


def test_logits_of_boundaries_are_those_of_the_papers_equations_with_each_term(model, params):
    batch = batch_for(model)
    x_bse = np.asarray(output_of(model, params, batch, "hidden_states"), np.float64)
    batch_np = jax.tree.map(np.asarray, batch)
    found = output_of(model, params, batch, "span_boundary_logits")
    np.testing.assert_allclose(found, reference(params, x_bse, batch_np), atol=1e-4)
    for term in TERMS:
        assert np.abs(found - reference(params, x_bse, batch_np, (term,))).max() > 1e-2, term


@pytest.mark.slow
def test_football_is_restored_from_was_and_to_and_the_third_place(model, params):
    """Super Bowl 50 was [an American football game] to determine the champion.

    The span is 5 to 8, counted from 1: x_4 is "was", x_9 "to", and football, x_7, has p_3.
    """
    words = 10
    batch = {"encoder_input_tokens": jnp.arange(1, words + 1)[None]}
    x_bse = output_of(model, params, batch, "hidden_states")
    places = {name: jnp.zeros((1, words), int) for name in ("left", "right", "offset")}
    spans = {"left": 4 - 1, "right": 9 - 1, "offset": 3}
    batch |= {f"encoder_span_{k}": x.at[0, 6].set(spans[k]) for k, x in places.items()}
    found = output_of(model, params, batch, "span_boundary_logits")[0, 6]
    head = params["span_boundary_head"]
    read = jnp.concatenate([x_bse[0, 3], x_bse[0, 8], head["position"]["embedding"][2]])
    h = norm(gelu(linear(np.asarray(read, np.float64), head["boundary"])), head["boundary_norm"])
    y = norm(gelu(linear(h, head["masked"]["transform"])), head["masked"]["norm"])
    table = np.asarray(params["token_embedder"]["embedding"])
    np.testing.assert_allclose(found, y @ table.T + head["masked"]["bias"], atol=1e-4)


# -- The loss ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_both_losses_are_means_over_hidden_tokens_and_the_second_ends_with_its_table(model, params):
    """The fifth token of a span has no vector where there are four."""
    batch = batch_for(model)
    assert model.loss_terms == {"masked_language_model": 1.0, "span_boundary": 1.0}
    sums, metrics = loss_of(model, params, batch)
    weights = model.loss_weights(batch)
    hidden = np.asarray(batch["encoder_loss_weights"]) == 1
    counted = hidden & (np.asarray(batch["encoder_span_offset"]) <= 4)
    assert counted.sum() < hidden.sum()
    for name, method, places in (
        ("masked_language_model", "__call__", hidden),
        ("span_boundary", "span_boundary_logits", counted),
    ):
        log_p = jax.nn.log_softmax(output_of(model, params, batch, method))
        picked = np.take_along_axis(log_p, batch["encoder_target_tokens"][..., None], -1)[..., 0]
        assert sums[name] == pytest.approx(-float(picked[places].sum()), rel=1e-5)
        assert weights[name] == metrics[name][1] == places.sum()
    assert "span_boundary_accuracy" in metrics


def test_without_the_head_it_is_berts_masked_language_model(model, params):
    plain = spanbert(use_span_boundary_head=False)
    assert plain.batch_format == "masked_language_model"
    assert plain.loss_terms == {"masked_language_model": 1.0}
    own = {name: x for name, x in params.items() if name != "span_boundary_head"}
    batch = batch_for(plain)
    expected = loss_of(BERT(**sizes, use_pooler=False, use_next_sentence_head=False), own, batch)
    assert loss_of(plain, own, batch)[0] == expected[0]
    with pytest.raises(ModelError, match="use_span_boundary_head is False: only with this head"):
        plain.apply({"params": own}, **batch, method="span_boundary_logits")
    classifier = spanbert(head=Classification(("no", "yes")))
    assert classifier.batch_format == "sequence_classification"
    assert drawn(classifier).keys() - own.keys() == {"pooler", "output_head"}


def test_flops_by_hand(model):
    """The second head reads two vectors of 24 and one of 10, and has an output of its own."""
    e, ff, t, layers, rows = 24, 40, 16, 2, 3
    heads = 2 * t * (e * e + e * V) + 2 * t * ((2 * e + 10) * e + e * e + e * V)
    counted = model.forward_flops({"encoder_input_tokens": (rows, t)})
    in_full = layers * (2 * t * 4 * e * e + 4 * t * t * e + 2 * t * 2 * e * ff) + heads
    assert sum(part.full for part in counted.values()) == rows * in_full


def test_a_task_without_spans_is_refused_in_one_line(model):
    """The examples of masked_lm.gin do not say where spans are."""
    own = ("inputs", "targets", "loss_weights", "token_types")
    facts = formats.TaskFacts(("targets",), own)
    with pytest.raises(UserError, match="lack 'span_left'"):
        formats.bound(model.batch_format, facts)
    spans = formats.TaskFacts(("targets",), (*own, "span_left", "span_right", "span_offset"))
    formats.bound("masked_language_model", spans)


def test_the_batch_has_where_each_hidden_tokens_span_lies(model):
    own = ("inputs", "targets", "loss_weights", "span_left", "span_right", "span_offset")
    bound = formats.bound(model.batch_format, formats.TaskFacts(("targets",), own))
    row = {"inputs": [5, 9, 9, 6], "targets": [5, 7, 8, 6], "loss_weights": [0, 1, 1, 0],
           "span_left": [0, 0, 0, 0], "span_right": [0, 3, 3, 0],
           "span_offset": [0, 1, 2, 0]}  # fmt: skip
    item = bound.item({name: np.array(x, np.int32) for name, x in row.items()})
    batch = bound.batch([(item,), ()], {"targets": 6}, False)
    assert batch["encoder_span_right"].tolist() == [[0, 3, 3, 0, 0, 0], [0] * 6]
    assert batch["encoder_span_offset"].tolist() == [[0, 1, 2, 0, 0, 0], [0] * 6]
    assert batch["encoder_span_left"].dtype == np.int32


# -- Hugging Face ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["spanbert", "structbert"])
def test_files_are_berts_without_the_heads_that_berts_have_not(kind, tmp_path):
    model = spanbert() if kind == "spanbert" else StructBERT(**sizes)
    params, batch = drawn(model), batch_for(model)
    written = save_hf(model, jax.tree.map(np.asarray, params), tmp_path / "out")
    read, its = load_hf(tmp_path / "out")
    assert type(written) is type(read) is BERT and read.use_masked_head
    assert not read.use_next_sentence_head and read.use_pooler == (kind == "structbert")
    assert params.keys() - its.keys() == (
        {"span_boundary_head"} if kind == "spanbert" else {"next_sentence_head"}
    )
    found, expected = output_of(read, its, batch), output_of(model, params, batch)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    with pytest.raises(ModelError, match="is one network: it has no part 'generator'"):
        save_hf(model, params, tmp_path / "other", part="generator")
