"""DeBERTa by hand: distances, the terms of attention, the decoder (He et al. 2021)."""

import functools
import json
import math
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from models.deberta import DeBERTa
from models.errors import ModelError
from models.layers.attention.disentangled import DisentangledScores, distance_row
from models.layers.attention.masks import Mask
from models.layers.dropout import Dropout
from models.layers.norms import LayerNorm
from models.layers.stacks.builder import TransformerLayers
from t5x_like import cli
from tests.models.families import ENCODERS, batch_for, drawn

deberta = ENCODERS["deberta"]


@functools.partial(jax.jit, static_argnums=0)
def logits_of(model, params, batch):
    return model.apply({"params": params}, **batch)


def rows(text):
    return np.array([[float(x) for x in row.split()] for row in text.split("|")])


# -- Distances (equation 3) ------------------------------------------------------------------


def test_the_rows_of_six_places_with_k_2():
    distances = np.arange(6)[:, None] - np.arange(6)[None, :]
    found = ["".join(map(str, row)) for row in distance_row(jnp.asarray(distances), 2).tolist()]
    assert found == ["210000", "321000", "332100", "333210", "333321", "333332"]


def test_the_rows_of_the_keys_around_place_10_with_k_5():
    """Of keys 4 to 16: distances k - 1 and beyond share the last row, -k and below the first."""
    found = distance_row(10 - jnp.arange(4, 17), 5)
    assert found.tolist() == [9, 9, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0]


# -- Terms (equation 4) ----------------------------------------------------------------------

# One head of one unit, three places, k = 2: Qc = (1, 2, 3), Kc = (1, 1, 2), Kr = (.1, .2, .3, .4),
# Qr = (1, 2, 3, 4).
QUERIES, KEYS = np.array([1.0, 2, 3]), np.array([1.0, 1, 2])
CONTENT = rows("1 1 2|2 2 4|3 3 6")
WITH_POSITION = rows(".3 .2 .1|.8 .6 .4|1.2 1.2 .9")
OF_POSITION = {False: rows("3 2 2|4 3 4|4 4 6"), True: rows("3 4 8|2 3 8|1 2 6")}
SUM = {
    False: rows("4.3 3.2 4.1|6.8 5.6 8.4|8.2 8.2 12.9"),
    True: rows("4.3 5.2 10.1|4.8 5.6 12.4|5.2 6.2 12.9"),
}


def scores(**options):
    module = DisentangledScores(4, 1, 1, jax.nn.initializers.zeros, **options)
    params = {
        "key": {"kernel": jnp.array([[0.1], [0.2], [0.3], [0.4]])},
        "query": {"kernel": jnp.array([[1.0], [2], [3], [4]]), "bias": jnp.zeros(1)},
    }
    q, k = (jnp.asarray(x, jnp.float32).reshape(1, 1, 3, 1) for x in (QUERIES, KEYS))
    found = module.apply({"params": params}, q, k, Mask(), table_ne=jnp.eye(4))
    return np.asarray(found)[0, 0]


@pytest.mark.parametrize("mirrored", [False, True])
def test_the_terms_of_the_worked_example(mirrored):
    """With δ(i, j) in the last term, as in the released code; mirrored, with the printed one."""
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5)
    close(scores(position_to_content=False), WITH_POSITION)
    close(scores(content_to_position=False, mirrored=mirrored), OF_POSITION[mirrored])
    close(np.outer(QUERIES, KEYS), CONTENT)
    close(CONTENT + scores(mirrored=mirrored), SUM[mirrored])


def test_the_weights_of_the_worked_example():
    weights = jax.nn.softmax(jnp.asarray((CONTENT + scores()) / math.sqrt(3)))
    expected = rows(".413080 .218887 .368033|.248824 .124453 .626724|.058539 .058539 .882922")
    np.testing.assert_allclose(weights, expected, atol=2e-6)


def attention_options(model):
    layers = TransformerLayers.of(model, LayerNorm)
    return model.attention_of(layers).keywords


@pytest.mark.parametrize(("terms", "count"), [((True, True), 3), ((True, False), 2)])
def test_the_scale_counts_the_terms(terms, count):
    model = deberta(content_to_position=terms[0], position_to_content=terms[1])
    assert attention_options(model)["scale"] == (8 * count) ** -0.5


# -- The whole, beside a reference in NumPy ---------------------------------------------------


def norm(x, params, epsilon=1e-7):
    x = x - x.mean(-1, keepdims=True)
    x = x / np.sqrt((x * x).mean(-1, keepdims=True) + epsilon)
    return x * params["scale"] + params["bias"]


def linear(x, params):
    return x @ params["kernel"] + params.get("bias", 0)


def gelu(x):
    return x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2


def reference_layer(queries, source, layer, table, heads, terms):
    """One layer for one row of tokens, from the equations, pair by pair."""
    k, n = len(table) // 2, len(queries)
    own = layer["self_attention"]
    q, kc, v = (
        linear(x, own[name]).reshape(n, heads, -1)
        for x, name in ((queries, "query"), (source, "key"), (source, "value"))
    )
    kr, qr = (linear(table, own["relative"][name]).reshape(2 * k, heads, -1)
              for name in ("key", "query"))  # fmt: skip
    scores = np.zeros((heads, n, n))
    for i in range(n):
        for j in range(n):
            row = 0 if i - j <= -k else 2 * k - 1 if i - j >= k else i - j + k
            parts = {"c2c": (q[i], kc[j]), "c2p": (q[i], kr[row]), "p2c": (qr[row], kc[j])}
            scores[:, i, j] = sum((a * b).sum(-1) for name, (a, b) in parts.items()
                                  if name in terms)  # fmt: skip
    scores = np.exp(scores / math.sqrt(3 * q.shape[-1]))
    weights = scores / scores.sum(-1, keepdims=True)
    y = np.einsum("hij,jhd->ihd", weights, v).reshape(n, -1)
    x = norm(queries + linear(y, own["out"]), layer["self_attention_norm"])
    hidden = gelu(linear(x, layer["mlp"]["wi"]))
    return norm(x + linear(hidden, layer["mlp"]["wo"]), layer["mlp_norm"])


def reference(params, tokens, heads=3, terms=("c2c", "c2p", "p2c"), positions=True, turns=2):
    """Logits of one row, float64."""
    params = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    stacked = params["encoder"]["layers"]
    count = len(stacked["mlp_norm"]["bias"])
    layers = [jax.tree.map(lambda x, i=i: x[i], stacked) for i in range(count)]
    words = params["token_embedder"]["embedding"]
    apply = functools.partial(
        reference_layer, table=params["encoder"]["relative_embedding"], heads=heads, terms=terms
    )
    x = norm(words[tokens], params["embedding_norm"])
    for layer in layers[:-1]:
        x = apply(x, x, layer)
    queries = x + positions * params["position_embedder"]["embedding"][: len(tokens)]
    for _ in range(turns):
        queries = apply(queries, x, layers[-1])
    head = params["masked_head"]
    h = norm(gelu(linear(queries, head["transform"])), head["norm"])
    return h @ words.T + head["bias"]


@pytest.fixture(scope="module")
def case():
    model = deberta()
    params = drawn(model)
    batch = batch_for(model)
    return model, params, batch, np.asarray(logits_of(model, params, batch))[0]


def test_logits_are_the_equations_and_the_decoders(case):
    _, params, batch, logits = case
    expected = reference(params, np.asarray(batch["encoder_input_tokens"])[0])
    np.testing.assert_allclose(logits, expected, atol=1e-4)


@pytest.mark.parametrize(
    "without",
    [
        *({"terms": terms} for terms in (("c2p", "p2c"), ("c2c", "p2c"), ("c2c", "c2p"))),
        {"positions": False},
        {"turns": 1},
    ],
)
def test_no_term_could_be_missing_unnoticed(without, case):
    _, params, batch, logits = case
    other = reference(params, np.asarray(batch["encoder_input_tokens"])[0], **without)
    assert np.abs(logits - other).max() > 1e-2


def test_turns_of_the_decoder_and_none(case):
    """One turn is a layer with queries of its own; without the decoder it is the plain layer."""
    _, params, batch, _ = case
    tokens = np.asarray(batch["encoder_input_tokens"])[0]
    once = logits_of(deberta(decoder_turns=1), params, batch)[0]
    np.testing.assert_allclose(once, reference(params, tokens, turns=1), atol=1e-4)
    plain = logits_of(deberta(decoder_turns=0), params, batch)[0]
    expected = reference(params, tokens, positions=False, turns=1)
    np.testing.assert_allclose(plain, expected, atol=1e-4)


def test_positions_are_the_decoders_and_of_no_state_of_the_encoder(case):
    model, params, batch, _ = case
    moved = {
        **params,
        "position_embedder": jax.tree.map(lambda x: x + 1, params["position_embedder"]),
    }
    run = jax.jit(functools.partial(model.predict, batch=batch))
    here, there = run(params), run(moved)
    np.testing.assert_array_equal(here["hidden_states"], there["hidden_states"])
    assert np.abs(logits_of(model, moved, batch) - logits_of(model, params, batch)).max() > 1e-2
    # What it predicts at each place is read off the decoder.
    np.testing.assert_array_equal(here["tokens"], logits_of(model, params, batch).argmax(-1))


@pytest.mark.slow
def test_padding_changes_nothing_and_segments_do_not_see_each_other(case):
    model, params, batch, _ = case
    tokens = batch["encoder_input_tokens"]
    logits = logits_of(model, params, {"encoder_input_tokens": tokens})
    padded = logits_of(model, params, {"encoder_input_tokens": jnp.pad(tokens, ((0, 0), (0, 3)))})
    np.testing.assert_allclose(padded[:, :10], logits, atol=2e-5)
    ones = jnp.ones_like(tokens)
    packed = {
        "encoder_input_tokens": jnp.concatenate([tokens, tokens], 1),
        "encoder_segment_ids": jnp.concatenate([ones, 2 * ones], 1),
        "encoder_positions": jnp.tile(jnp.arange(10), (2, 2)),
    }
    np.testing.assert_allclose(logits_of(model, params, packed)[:, 10:], logits, atol=2e-5)


def test_rows_shorter_and_longer_than_the_table_give_the_same(case):
    """The table's rows, or those of the distances, are projected, whichever are fewer."""
    _, params, batch, logits = case
    wide = deberta(max_distance=12)
    table = params["encoder"]["relative_embedding"]
    # k = 5 in 24 rows: distances below -4 have row 0 and above 3 the last.
    indices = np.clip(np.arange(24) - 12 + 5, 0, 9)
    params = {**params, "encoder": {**params["encoder"], "relative_embedding": table[indices]}}
    np.testing.assert_allclose(logits_of(wide, params, batch)[0], logits, atol=2e-5)


def test_flops_by_hand():
    """Two layers, the last of which the decoder applies twice; distances are projected once."""
    e, ff, t, layers, batch_rows, v = 24, 40, 4, 3, 3, 61
    distances = 2 * t - 1
    expected = {
        "attention_projections": batch_rows * layers * 2 * t * 4 * e * e,
        "attention_scores": batch_rows * layers * 4 * t * t * e,
        "mlp": batch_rows * layers * 2 * t * 2 * e * ff,
        "head": batch_rows * 2 * t * (e * e + e * v),
        "relative_positions": layers
        * 2
        * (2 * distances * e * e + batch_rows * 2 * t * distances * e),
    }
    counted = deberta().forward_flops({"encoder_input_tokens": (batch_rows, t)})
    assert {name: full for name, (full, _) in counted.items()} == expected


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"content_to_position": False, "position_to_content": False},
            "DeBERTa.position_to_content is False: without content_to_position",
        ),
        ({"use_input_positions": True}, "DeBERTa.decoder_turns is 2: with use_input_positions"),
        ({"use_pooler": True}, "DeBERTa.decoder_turns is 2: with use_pooler it must be 0"),
        ({"max_distance": 0}, "DeBERTa.max_distance is 0: it must be 1 or more"),
        ({"decoder_turns": -1}, "DeBERTa.decoder_turns is -1: it must be 0 or more"),
    ],
)
def test_what_it_cannot_be_built_with_is_said_in_one_line(fields, message):
    with pytest.raises(ModelError, match=message):
        deberta(**fields)


def test_the_table_is_dropped_at_the_rate_of_the_states_and_not_of_the_weights():
    model = deberta(dropout_rate=0.3, attention_dropout_rate=0.0)
    options = attention_options(model)
    assert options["make_relative"].keywords["dropout"].rate == 0.3
    assert DeBERTa(vocab_size=9).max_distance == DeBERTa(vocab_size=9).max_length == 512


def test_without_dropout_of_states_scores_of_distances_are_not_drawn():
    module = DisentangledScores(4, 1, 1, jax.nn.initializers.ones, dropout=Dropout(0.5))
    q = jnp.ones((1, 1, 3, 1))
    run = functools.partial(module.apply, table_ne=jnp.eye(4))
    params = jax.eval_shape(module.init, jax.random.key(0), q, q, Mask(), table_ne=jnp.eye(4))
    params = jax.tree.map(lambda x: jnp.ones(x.shape), nn.unbox(params))
    plain = run(params, q, q, Mask())
    key = {"dropout": jax.random.key(1)}
    drawn_ones = run(params, q, q, Mask(), enable_dropout=True, rngs=key)
    assert np.unique(plain).tolist() == [3.0]
    # Each vector is gone or doubled: 1 + 1 + the bias, with 0 or 2 in place of each 1.
    assert np.unique(drawn_ones).tolist() == [1.0, 5.0]


# -- By the command line ---------------------------------------------------------------------

RUN = """
from __gin__ import dynamic_registration
import tasks
from models import deberta
from t5x_like import checkpoints
from t5x_like import train

include 'models/deberta/tiny.gin'
include 'tasks/objectives/masked_lm.gin'
include 'optimizers/bert.gin'
include 'runs/pretrain.gin'

deberta.DeBERTa:
  embed_dim = 16
  mlp_dim = 32
  num_heads = 2
  num_layers = 2
DROPOUT_RATE = 0.1
tasks.unsupervised.objective = %OBJECTIVE
TASK_FEATURE_LENGTHS = {'targets': 32}
TRAIN_STEPS = 4
WARMUP_STEPS = 1
checkpoints.CheckpointPolicy.period = 2
train.train.log_period = 1
train.train.tensorboard = False
"""


@pytest.mark.slow
def test_it_trains_and_resumes_with_the_same_losses(corpus, tmp_path):
    (tmp_path / "run.gin").write_text(RUN)
    run_dir = tmp_path / "run"
    flags = [corpus[1], f"--gin_file={tmp_path}/run.gin", f"--gin.MODEL_DIR={run_dir}"]

    def losses():
        assert cli.main(["train", *flags]) == 0
        lines = map(json.loads, (run_dir / "metrics.jsonl").read_text().splitlines())
        return {line["step"]: line["loss"] for line in lines if line["split"] == "train"}

    whole = losses()
    shutil.rmtree(run_dir / "checkpoints/4")
    (run_dir / "metrics.jsonl").unlink()
    assert losses() == {step: loss for step, loss in whole.items() if step > 2}
