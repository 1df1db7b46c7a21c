"""The head that marks a span by hand: its loss, what it predicts, what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.bert import BERT
from models.errors import ModelError
from models.heads import Spans
from tests.models.families import V, drawn

HEAD = Spans()


def close(found, expected):
    np.testing.assert_allclose(found, expected, atol=1e-5)


def batch_of(starts, ends, weights, real):
    return {
        "span_start": jnp.array(starts),
        "span_end": jnp.array(ends),
        "span_weight": jnp.array(weights),
        "encoder_segment_ids": jnp.array(real),
    }


def logits_of(starts, ends):
    return jnp.stack([jnp.array(starts), jnp.array(ends)], axis=-1).astype(jnp.float32)


def test_the_loss_is_the_specifications():
    """Starts (1, 2, 0) with 1 right, ends (0, 0, 3) with 2 right: .407606 and .094923 nats."""
    logits = logits_of([[1, 2, 0]] * 2, [[0, 0, 3]] * 2)
    batch = batch_of([1, 0], [2, 0], [1, 0], [[1] * 3] * 2)
    loss, metrics = HEAD.loss(logits, batch)
    close(loss, (0.407606 + 0.094923) / 2)
    close(loss, 0.251264)
    close(metrics["loss"], (0.251264, 1.0))  # the row that is not known is in neither
    close(metrics["span_accuracy"], (1.0, 1.0))
    assert HEAD.weight(batch) == 1


def test_both_ends_must_be_right():
    logits = logits_of([[9, 0, 0]] * 2, [[0, 9, 0]] * 2)
    batch = batch_of([0, 0], [1, 2], [1, 1], [[1] * 3] * 2)
    close(HEAD.loss(logits, batch)[1]["span_accuracy"], (1.0, 2.0))


def test_padding_has_no_probability_and_a_row_of_padding_alone_no_nan():
    short = logits_of([[1, 2, 0]], [[0, 0, 3]])
    padded = jnp.concatenate([short, jnp.full((1, 2, 2), 50.0)], axis=1)
    batch = batch_of([1, 0], [2, 0], [1, 0], [[1, 1, 1, 0, 0], [0] * 5])
    loss, metrics = HEAD.loss(jnp.concatenate([padded] * 2), batch)
    close(loss, 0.251264)
    close(metrics["span_accuracy"], (1.0, 1.0))


def test_it_reads_the_last_layers_vector_of_every_token_and_no_pooler():
    model = BERT(
        vocab_size=V, embed_dim=24, mlp_dim=40, num_heads=3, num_layers=1, max_length=32, head=HEAD
    )
    assert model.batch_format == "span_extraction" and model.span_rules is HEAD
    assert BERT(vocab_size=V).span_rules is None
    assert not model.use_pooler and not model.use_masked_head
    params = drawn(model)
    tokens = np.random.default_rng(0).integers(1, V, (2, 7))
    found = jax.jit(model.predict)(params, {"encoder_input_tokens": jnp.asarray(tokens)})
    layer = params["output_head"]["output"]
    expected = found["hidden_states"] @ layer["kernel"] + layer["bias"]
    close(found["start_logits"], expected[..., 0])
    close(found["end_logits"], expected[..., 1])
    assert "pooled" not in found


def test_a_base_model_has_two_columns_more_than_its_encoder():
    """108,891,648 of BERT base without a pooler (the specification), and 2 · 769."""
    model = BERT(vocab_size=30522, head=HEAD)
    assert model.parameter_count() == 108_891_648 + 2 * 769


@pytest.mark.parametrize(
    ("options", "said"),
    [({"n_best": 0}, "n_best"), ({"longest": 1.5}, "longest"), ({"dropout_rate": 1.0}, "rate")],
)
def test_settings_that_are_none_are_refused(options, said):
    with pytest.raises(ModelError, match=said):
        Spans(**options)


def test_it_drops_nothing_of_what_it_reads_unless_it_is_told():
    """As the released code, whose classifier for rows drops."""
    model = BERT(vocab_size=V, embed_dim=24, mlp_dim=40, num_heads=3, num_layers=1, max_length=32,
                 dropout_rate=0.5, head=HEAD)  # fmt: skip
    assert model.head_dropout_rate == 0.0
    assert model.clone(head=Spans(dropout_rate=None)).head_dropout_rate == 0.5
    assert jax.tree.leaves(model.label_names) == []
