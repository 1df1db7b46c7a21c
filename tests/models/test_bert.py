"""BERT by hand: its embeddings, heads and two losses (Devlin et al. 2019)."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.bert import BERT
from models.errors import ModelError
from models.layers.mlps import ACTIVATIONS
from models.layers.norms import LayerNorm
from t5x_like import cli, load_run, protocols
from t5x_like.training.loss import scales, total
from tests.models.families import V, batch_for, drawn

bert = functools.partial(
    BERT, vocab_size=V, embed_dim=24, mlp_dim=40, num_heads=3, num_layers=2, max_length=32
)


@pytest.fixture(scope="module")
def model():
    return bert()


@pytest.fixture(scope="module")
def params(model):
    return drawn(model)


@functools.partial(jax.jit, static_argnums=0)
def logits_of(model, params, batch):
    return model.apply({"params": params}, **batch)


@functools.partial(jax.jit, static_argnums=0)
def predictions_of(model, params, batch):
    return model.predict(params, batch)


@functools.partial(jax.jit, static_argnums=0)
def loss_of(model, params, batch, key=None):
    return model.loss(params, batch, key)


# -- Constants -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("epsilon", "value"), [(1e-12, 0.447214), (1e-7, 0.001581), (1e-5, 0.000158)]
)
def test_the_norms_epsilon_is_1e_12(epsilon, value):
    """Of the vector (0, 1e-6).

    With the mean m = 5e-7 and d = 5e-7 from it, the value is d / sqrt(d² + epsilon).
    """
    norm = LayerNorm(epsilon)
    x = jnp.array([0.0, 1e-6])
    found = norm.apply(norm.init(jax.random.key(0), x), x)
    np.testing.assert_allclose(found, [-value, value], atol=2e-6)
    assert BERT(vocab_size=V).norm_epsilon == 1e-12


@pytest.mark.parametrize(
    ("name", "at_1", "at_minus_2"),
    [("gelu", 0.841345, -0.045500), ("gelu_tanh", 0.841192, -0.045402)],
)
def test_the_activation_is_gelu_by_the_error_function(name, at_1, at_minus_2):
    found = ACTIVATIONS[name](jnp.array([1.0, -2.0]))
    np.testing.assert_allclose(found, [at_1, at_minus_2], atol=1e-6)
    assert BERT(vocab_size=V).activation == "gelu"


@pytest.mark.slow
def test_initial_values_are_normal_with_0_02_cut_off_at_two_deviations():
    params = jax.jit(bert(vocab_size=5000).init)(jax.random.key(0))["params"]
    table = np.asarray(params["token_embedder"]["embedding"])
    assert np.abs(table).max() <= 0.04
    # The standard deviation of a normal cut off at two is 0.8796.
    assert table.std() == pytest.approx(0.02 * 0.8796, rel=0.01)
    assert not np.any(params["masked_head"]["bias"])


# -- What it computes ------------------------------------------------------------------------


def test_the_next_sentence_losses_of_logits_2_and_0_by_hand(params):
    """log(1 + e^-2) = .126928 for "is next", log(1 + e^2) = 2.126928 for "is not"."""
    model = bert()
    head = {"kernel": np.zeros((24, 2), np.float32), "bias": np.array([2.0, 0.0], np.float32)}
    params = {**params, "next_sentence_head": head}
    batch = batch_for(model)
    for label, loss in ((0, 0.126928), (1, 2.126928)):
        sums, metrics = loss_of(model, params, batch | {"pair_label": jnp.array([label, label])})
        assert sums["next_sentence"] == pytest.approx(2 * loss, abs=1e-5)
        assert metrics["next_sentence_accuracy"] == (2 * (1 - label), 2)
    # A row that has no pair counts nothing.
    sums, _ = loss_of(
        model, params, batch | {"pair_label": jnp.array([1, 0]), "pair_weight": jnp.array([0, 1])}
    )
    assert sums["next_sentence"] == pytest.approx(0.126928, abs=1e-5)


@pytest.mark.slow
def test_the_loss_is_the_mean_over_hidden_tokens_plus_the_mean_over_pairs(model, params):
    batch = batch_for(model, rows=4)
    sums, metrics = loss_of(model, params, batch)
    log_p = jax.nn.log_softmax(logits_of(model, params, batch))
    picked = jnp.take_along_axis(log_p, batch["encoder_target_tokens"][..., None], -1)[..., 0]
    hidden = np.asarray(batch["encoder_loss_weights"])
    masked = -np.asarray(picked)[hidden].mean()
    pairs = np.log(predictions_of(model, params, batch)["next_sentence_probabilities"])
    following = -pairs[np.arange(4), batch["pair_label"]].mean()
    found = total(sums, scales(model, model.loss_weights(batch)))
    assert found == pytest.approx(masked + following, rel=1e-5)
    assert metrics["masked_language_model"][1] == hidden.sum() == 13
    right = np.asarray(logits_of(model, params, batch)).argmax(-1) == batch["encoder_target_tokens"]
    assert metrics["masked_language_model_accuracy"][0] == right[hidden].sum()


def test_tokens_types_and_positions_are_summed_and_normed():
    """Without layers, what is left is LN(E_token + E_type + E_position) and the masked head."""
    model = bert(use_pooler=False, use_next_sentence_head=False, use_masked_head=False)
    params = drawn(model)
    tokens, types = jnp.array([[7, 3, 7]]), jnp.array([[0, 0, 1]])
    tables = [np.asarray(params[f"{name}_embedder"]["embedding"], np.float64)
              for name in ("token", "token_type", "position")]  # fmt: skip
    x = tables[0][[7, 3, 7]] + tables[1][[0, 0, 1]] + tables[2][:3]
    x = (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)
    norm = params["embedding_norm"]
    embed = jax.jit(functools.partial(model.apply, method="embed"))
    found = embed({"params": params}, tokens, types, None)
    np.testing.assert_allclose(found[0], x * norm["scale"] + norm["bias"], atol=1e-5)


@pytest.mark.slow
def test_padding_changes_nothing_and_segments_do_not_see_each_other(model, params):
    batch = batch_for(model)
    features = {name: batch[name] for name in ("encoder_input_tokens", "encoder_token_types")}
    logits = logits_of(model, params, features)
    ones = jnp.ones((2, 10), jnp.int32)
    wide = {name: jnp.pad(x, ((0, 0), (0, 3)), constant_values=1) for name, x in features.items()}
    wide["encoder_segment_ids"] = jnp.pad(ones, ((0, 0), (0, 3)))
    np.testing.assert_allclose(logits_of(model, params, wide)[:, :10], logits, atol=2e-5)
    # Without segments token 0 pads, as everywhere.
    zeros = {name: jnp.pad(x, ((0, 0), (0, 3))) for name, x in features.items()}
    np.testing.assert_allclose(logits_of(model, params, zeros)[:, :10], logits, atol=2e-5)
    packed = {name: jnp.concatenate([x, x], axis=1) for name, x in features.items()} | {
        "encoder_segment_ids": jnp.concatenate([ones, 2 * ones], axis=1),
        "encoder_positions": jnp.tile(jnp.arange(10), (2, 2)),
    }
    found = logits_of(model, params, packed)
    np.testing.assert_allclose(found[:, 10:], logits, atol=2e-5)


def test_every_token_sees_those_before_and_after_it(model, params):
    batch = batch_for(model)
    changed = batch | {"encoder_input_tokens": batch["encoder_input_tokens"].at[:, 4].set(9)}
    moved = np.abs(logits_of(model, params, batch) - logits_of(model, params, changed)).max((0, 2))
    assert (moved > 1e-4).all()


def test_predictions_have_rows_first_and_say_what_each_head_says(model, params):
    batch = batch_for(model, rows=3)
    found = predictions_of(model, params, batch)
    assert isinstance(model, protocols.Predicts) and not isinstance(model, protocols.Decodes)
    assert {name: x.shape for name, x in found.items()} == {
        "hidden_states": (3, 10, 24),
        "tokens": (3, 10),
        "pooled": (3, 24),
        "next_sentence_probabilities": (3, 2),
    }
    np.testing.assert_array_equal(found["tokens"], logits_of(model, params, batch).argmax(-1))
    np.testing.assert_allclose(found["next_sentence_probabilities"].sum(-1), 1, rtol=1e-6)
    pooler = params["pooler"]
    pooled = np.tanh(found["hidden_states"][:, 0] @ pooler["kernel"] + pooler["bias"])
    np.testing.assert_allclose(found["pooled"], pooled, atol=1e-5)


def test_attention_of_every_layer_and_head_can_be_seen(model, params):
    weights = jax.jit(model.attention_weights)(params, batch_for(model))
    assert weights.keys() == {"encoder"} and weights["encoder"].shape == (2, 2, 3, 10, 10)
    np.testing.assert_allclose(weights["encoder"].sum(-1), 1, rtol=1e-5)
    assert weights["encoder"][:, :, :, 0, -1].min() > 0


def test_flops_by_hand(model):
    """The heads are a transform, the output, and for each row a pooler and two scores."""
    e, ff, t, layers, rows = 24, 40, 16, 2, 3
    head = 2 * t * (e * e + e * V) + 2 * (e * e + 2 * e)
    expected = {
        "attention_projections": layers * 2 * t * 4 * e * e,
        "attention_scores": layers * 4 * t * t * e,
        "mlp": layers * 2 * t * 2 * e * ff,
        "head": head,
    }
    counted = model.forward_flops({"encoder_input_tokens": (rows, t)})
    # Every pair of tokens is needed: no mask hides the future.
    assert counted == {name: (rows * flops,) * 2 for name, flops in expected.items()}
    # The transform is of all places, the output of those where training has logits.
    head = 2 * t * e * e + 2 * 5 * e * V + 2 * (e * e + 2 * e)
    counted = model.clone(masked_places=5).forward_flops({"encoder_input_tokens": (rows, t)})
    assert counted["head"] == (rows * head,) * 2


# -- Heads -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_without_a_head_there_is_neither_its_loss_nor_its_prediction():
    masked = bert(use_pooler=False, use_next_sentence_head=False)
    batch = batch_for(masked)
    params = drawn(masked)
    sums, metrics = loss_of(masked, params, batch)
    assert sums.keys() == masked.loss_terms.keys() == {"masked_language_model"}
    assert "next_sentence" not in metrics
    assert jax.eval_shape(masked.predict, params, batch).keys() == {"hidden_states", "tokens"}
    with pytest.raises(ModelError, match="use_next_sentence_head is False: only with this head"):
        masked.apply({"params": params}, **batch, method="next_sentence_logits")
    encoder = bert(use_masked_head=False, use_next_sentence_head=False)
    params = drawn(encoder)
    predicted = jax.eval_shape(encoder.predict, params, batch)
    assert encoder.loss_terms == {} and predicted.keys() == {"hidden_states", "pooled"}
    with pytest.raises(ModelError, match=r"BERT without .* has no loss: set one of them to train"):
        encoder.loss(params, batch)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("activation", "silu", "one of gelu, gelu_tanh, relu"),
        ("attention_dropout_rate", 1.0, "at least 0 and below 1"),
        ("use_pooler", False, "next-sentence head reads the pooler"),
        ("num_layers", 0, "1 or more"),
        ("dropout_rate", 1, "at least 0 and below 1"),
    ],
)
def test_what_it_cannot_be_built_with_is_said_in_one_line(field, value, message):
    with pytest.raises(ModelError, match=f"BERT.{field} is .*{message}") as raised:
        bert(**{field: value})
    assert "\n" not in str(raised.value)


def test_a_rate_may_be_a_whole_number():
    """As in the config.json of ALBERT, and where a rate is given on the command line."""
    assert bert(dropout_rate=0, attention_dropout_rate=0).dropout_rate == 0


def test_mistakes_in_a_batch_are_told_in_one_line(model, params):
    with pytest.raises(ModelError, match=r"reads encoder_input_tokens: .* 'masked_language_model'"):
        model.apply({"params": params}, decoder_input_tokens=jnp.ones((1, 3), jnp.int32))
    with pytest.raises(ModelError, match=r"33 tokens .* max_length is 32"):
        model.apply({"params": params}, encoder_input_tokens=jnp.ones((1, 33), jnp.int32))


@pytest.mark.slow
def test_attention_has_a_dropout_rate_of_its_own(model, params):
    batch = batch_for(model)
    key = jax.random.key(0)

    def loss(**rates):
        return float(loss_of(bert(**rates), params, batch, key)[0]["masked_language_model"])

    plain = loss()
    assert loss(dropout_rate=0.2) != loss(dropout_rate=0.2, attention_dropout_rate=0.0) != plain
    assert loss(attention_dropout_rate=0.2) != plain


# -- By the command line -----------------------------------------------------------------------

RUN = """
from __gin__ import dynamic_registration
import tasks
from models import bert
from t5x_like import train

include 'tasks/objectives/sentence_pairs.gin'
include 'optimizers/bert.gin'
include 'runs/pretrain.gin'

MODEL = @bert.BERT()
bert.BERT:
  vocab_size = 384
  embed_dim = 16
  mlp_dim = 32
  num_heads = 2
  num_layers = 2
  max_length = 32
tasks.unsupervised.objective = %OBJECTIVE
TASK_FEATURE_LENGTHS = {'targets': 32}
TRAIN_STEPS = 4
WARMUP_STEPS = 1
train.train.log_period = 2
train.train.validation_period = 4
train.train.tensorboard = False
"""


@pytest.mark.slow
def test_it_trains_is_evaluated_and_opened_and_says_that_it_writes_no_text(
    corpus, tmp_path, capsys
):
    (tmp_path / "run.gin").write_text(RUN)
    run_dir = tmp_path / "run"
    flags = [corpus[1], f"--gin_file={tmp_path}/run.gin", f"--gin.MODEL_DIR={run_dir}"]
    assert cli.main(["train", *flags]) == 0
    records = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    for record in records:
        total = record["masked_language_model"] + record["next_sentence"]
        assert record["loss"] == pytest.approx(total, rel=1e-5)
        assert {"masked_language_model_accuracy", "next_sentence_accuracy"} <= record.keys()
    assert {record["split"] for record in records} == {"train", "validation"}
    config = f"--gin_file={run_dir}/config.gin"
    assert cli.main(["eval", config, "--gin_file=runs/eval.gin"]) == 0
    run = load_run(str(run_dir))
    found = run.predict(["def f(x):", "import os"])
    assert found["lengths"].tolist() == [11, 11]  # between [CLS] and [SEP]
    assert found["tokens"].shape == found["hidden_states"].shape[:2] == (2, 16)
    np.testing.assert_allclose(found["next_sentence_probabilities"].sum(-1), 1, rtol=1e-6)
    assert run.step == 4 and run.model.loss_terms.keys() == {
        "masked_language_model",
        "next_sentence",
    }
    assert run.attention(["waters run"])[0].encoder.shape == (2, 2, 12, 12)
    capsys.readouterr()
    assert cli.main(["infer", config, "--gin_file=runs/infer.gin"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "BERT does not generate or score text: it can be trained" in line
