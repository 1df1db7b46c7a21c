"""What RoBERTa and DistilBERT do otherwise than BERT."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.bert import BERT
from models.distilbert import DistilBERT
from models.errors import ModelError
from models.hf import load_hf
from models.roberta import RoBERTa, counted_positions
from t5x_like import cli, load_run
from tests.models.families import ENCODERS, batch_for, drawn

roberta, distilbert = ENCODERS["roberta"], ENCODERS["distilbert"]


def test_positions_begin_after_padding_which_has_a_row_of_its_own():
    """Rows of the table, as the released code gives them for these two rows of tokens."""
    tokens = jnp.array([[0, 9, 8, 2, 1, 1], [0, 7, 2, 1, 1, 1]])
    model = roberta()
    assert (model.pad_id, model.position_offset) == (1, 2)
    rows = counted_positions(tokens, model.pad_id) + model.position_offset
    assert rows.tolist() == [[2, 3, 4, 5, 1, 1], [2, 3, 4, 1, 1, 1]]


@functools.partial(jax.jit, static_argnums=0)
def embedded(model, params, tokens, types=None):
    return model.apply({"params": params}, tokens, types, None, method="embed")


def test_the_tables_rows_are_read_as_counted():
    """Without layers: the norm of the vectors of token, the one type, and row 2, 3, 1."""
    model = roberta(use_masked_head=False)
    params = drawn(model)
    table, position, norm = (
        params[name] for name in ("token_embedder", "position_embedder", "embedding_norm")
    )
    assert position["embedding"].shape == (2 + 32, 24)
    tokens = jnp.array([[0, 9, 1]])
    x = table["embedding"][tokens[0]] + params["token_type_embedder"]["embedding"][0]
    x = x + position["embedding"][jnp.array([2, 3, 1])]
    x = (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-5)
    found = embedded(model, params, tokens)
    np.testing.assert_allclose(found[0], x * norm["scale"] + norm["bias"], atol=1e-5)


def test_a_single_type_is_every_tokens_and_none_is_read():
    """A batch of pairs has types 0 and 1; RoBERTa has one of them, DistilBERT none."""
    for model in (roberta(), distilbert()):
        params, batch = drawn(model), batch_for(model)
        assert np.asarray(batch["encoder_token_types"]).max() == 1
        with_types, without = (
            embedded(model, params, batch["encoder_input_tokens"], types)
            for types in (batch["encoder_token_types"], None)
        )
        np.testing.assert_array_equal(with_types, without)
    assert "token_type_embedder" not in drawn(distilbert())


def test_the_defaults_are_the_published_ones():
    model = RoBERTa(vocab_size=50_265)
    assert (model.norm_epsilon, model.num_token_types, model.max_length) == (1e-5, 1, 512)
    assert not model.use_pooler and not model.use_next_sentence_head
    # Whichever activation the layers have.
    assert RoBERTa(vocab_size=9, activation="relu").head_activation == "gelu"
    assert BERT(vocab_size=9, activation="relu").head_activation == "relu"
    student = DistilBERT(vocab_size=30_522)
    assert (student.num_layers, student.num_token_types, student.norm_epsilon) == (6, 0, 1e-12)
    assert student.loss_terms == model.loss_terms == {"masked_language_model": 1.0}


def test_the_papers_comparison_with_pairs_has_bert_s_second_loss():
    """Section 4.2: SEGMENT-PAIR and SENTENCE-PAIR are trained with next-sentence prediction."""
    model = roberta(use_pooler=True, use_next_sentence_head=True)
    batch = batch_for(model)
    sums, _ = jax.jit(model.loss)(drawn(model), batch)
    assert sums.keys() == {"masked_language_model", "next_sentence"}
    assert np.isfinite(list(sums.values())).all()


def test_what_it_cannot_be_built_with_is_said():
    with pytest.raises(ModelError, match=r"RoBERTa.pad_id is 61: it must be below vocab_size 61"):
        roberta(pad_id=61)
    with pytest.raises(ModelError, match=r"BERT.num_token_types is 0: it must be 1 or more"):
        ENCODERS["bert"](num_token_types=0)
    model = roberta()
    with pytest.raises(ModelError, match="33 tokens in a row, but the model's max_length is 32"):
        model.apply({"params": drawn(model)}, encoder_input_tokens=jnp.ones((1, 33), jnp.int32))


# -- By the command line -----------------------------------------------------------------------

RUN = """
from __gin__ import dynamic_registration
import tasks
from tasks import objectives
from models import roberta
from t5x_like import train

include 'models/roberta/tiny.gin'
include 'tasks/objectives/{objective}.gin'
include 'optimizers/roberta.gin'
include 'runs/pretrain.gin'

roberta.RoBERTa:
  embed_dim = 16
  mlp_dim = 32
  num_heads = 2
  num_layers = 2
  max_length = 32
tasks.unsupervised.objective = %OBJECTIVE
objectives.{kind}.full_stop_ids = (35,)
TASK_FEATURE_LENGTHS = {{'targets': 32}}
TRAIN_STEPS = 4
WARMUP_STEPS = 1
train.train.log_period = 2
train.train.tensorboard = False
"""
PAIRS = "roberta.RoBERTa.use_pooler = True\nroberta.RoBERTa.use_next_sentence_head = True\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("objective", "kind", "heads"),
    [
        ("roberta_full_sentences", "PackedSentences", ""),
        ("roberta_sentence_pair", "SentencePairs", PAIRS),
    ],
)
def test_it_trains_on_rows_with_pairs_and_without_and_goes_to_hugging_face(
    objective, kind, heads, corpus, tmp_path
):
    (tmp_path / "run.gin").write_text(RUN.format(objective=objective, kind=kind) + heads)
    run_dir = tmp_path / "run"
    flags = [corpus[1], f"--gin_file={tmp_path}/run.gin", f"--gin.MODEL_DIR={run_dir}"]
    assert cli.main(["train", *flags]) == 0
    records = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert all(np.isfinite(record["loss"]) for record in records)
    assert all(("next_sentence" in record) == bool(heads) for record in records)
    run = load_run(str(run_dir))
    found = run.predict(["def f(x):", "import os"])
    assert found["tokens"].shape == found["hidden_states"].shape[:2]
    exported = cli.main(["export-hf", str(run_dir), f"--out={tmp_path}/hf"])
    # A pair's head has no place there.
    assert exported == (2 if heads else 0)
    if not heads:
        model, params = load_hf(tmp_path / "hf")
        batch = {"encoder_input_tokens": jnp.array([[382, 70, 71, 0, 0], [382, 80, 81, 82, 381]])}
        ours, theirs = (
            one.apply({"params": p}, **batch)
            for one, p in ((run.model, run.params), (model, params))
        )
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
        assert (model.pad_id, model.max_length) == (0, 32)
