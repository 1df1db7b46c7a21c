"""Heads that mark spans, `…ForQuestionAnswering`, read and written as `transformers` has them."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from models.heads import Spans
from models.hf import load_hf, save_hf
from models.hf.tensor_files import TensorFiles
from tests.models.hf.test_bert import (
    FIXTURES,
    TOLERANCE,
    equal,
    fixture,
    outputs,
    rewritten,
    theirs_of,
    worst,
)

CLASSES = {
    "bert_spans": "BertForQuestionAnswering",
    "roberta_spans": "RobertaForQuestionAnswering",
    "distilbert_spans": "DistilBertForQuestionAnswering",
    "albert_spans": "AlbertForQuestionAnswering",
    "deberta_spans": "DebertaForQuestionAnswering",
    "electra_spans": "ElectraForQuestionAnswering",
    "bigbird_spans": "BigBirdForQuestionAnswering",
}


@pytest.mark.parametrize("name", CLASSES)
def test_both_ends_numbers_are_what_transformers_gives(name):
    model, params, batch, expected = fixture(name)
    assert model.batch_format == "span_extraction" and expected.keys() == {"head_logits"}
    found = outputs(model, params, batch)
    assert worst(found, expected, batch) <= TOLERANCE
    both = np.stack([found["start_logits"], found["end_logits"]], axis=-1)
    np.testing.assert_array_equal(both, found["head_logits"])


@pytest.mark.parametrize(
    ("name", "part"),
    [
        *(("bert_spans", part) for part in ("output_head", "token_type_embedder")),
        ("roberta_spans", "output_head"),
        ("distilbert_spans", "output_head"),
        *(("albert_spans", part) for part in ("output_head", "embedding_projection")),
        ("deberta_spans", "output_head"),
        *(("bigbird_spans", part) for part in ("output_head", "span_mlp", "span_norm")),
    ],
)
def test_no_part_could_be_missing_unnoticed(name, part):
    model, params, batch, expected = fixture(name)
    without = params | {part: jax.tree.map(np.zeros_like, params[part])}
    assert worst(outputs(model, without, batch), expected, batch) > 100 * TOLERANCE


@pytest.mark.parametrize("name", CLASSES)
def test_the_head_goes_back_as_it_came(name, tmp_path):
    model, params = load_hf(FIXTURES / name)
    rate = 0.3 if name == "distilbert_spans" else 0.0
    assert model.head == Spans(dropout_rate=rate)
    # How spans are chosen is no matter of the files.
    chosen = dataclasses.replace(model.head, null_threshold=1.5, longest=10)
    save_hf(model.clone(head=chosen), params, tmp_path / "out")
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert config["architectures"] == [CLASSES[name]]
    assert config["id2label"] == {"0": "LABEL_0", "1": "LABEL_1"}
    assert config.get("qa_dropout", 0.0) == rate
    again, same = load_hf(tmp_path / "out")
    assert again == model
    equal(same, params)


def test_a_pooler_that_older_files_have_is_left_aside(tmp_path):
    def with_pooler(found):
        return found | {
            "bert.pooler.dense.weight": np.ones((24, 24), np.float32),
            "bert.pooler.dense.bias": np.ones(24, np.float32),
        }

    equal(
        load_hf(rewritten(tmp_path, "bert_spans", with_pooler))[1],
        load_hf(FIXTURES / "bert_spans")[1],
    )


@pytest.mark.interop
@pytest.mark.parametrize("name", CLASSES)
def test_transformers_loads_what_is_exported_and_gives_the_same(name, tmp_path):
    transformers = pytest.importorskip("transformers")
    model, params, batch, expected = fixture(name)
    # By which BigBird knows where the question ends.
    save_hf(model, params, tmp_path / "out", options={"sep_token_id": 3})
    assert not (tmp_path / "out/generation_config.json").exists()
    kind = transformers.AutoModelForQuestionAnswering
    theirs, report = kind.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(report.values()), report
    assert type(theirs).__name__ == CLASSES[name]
    found = theirs.eval()(**theirs_of(batch, theirs.config))
    both = np.stack([found[n].detach().numpy() for n in ("start_logits", "end_logits")], axis=-1)
    assert worst({"head_logits": both}, expected, batch) <= TOLERANCE
    # The loss is theirs too, where there is no padding.
    whole = {feature: value[:1] for feature, value in batch.items()}
    starts, ends = np.array([3]), np.array([5])
    import torch

    loss = theirs(
        **theirs_of(whole, theirs.config),
        start_positions=torch.tensor(starts),
        end_positions=torch.tensor(ends),
    ).loss
    labels = {"span_start": starts, "span_end": ends, "span_weight": np.ones(1, np.int32)}
    ours, _ = model.loss(params, {**whole, **labels})
    np.testing.assert_allclose(ours["loss"], loss.detach().numpy(), atol=TOLERANCE)
    theirs.save_pretrained(tmp_path / "again")
    assert set(TensorFiles(tmp_path / "out")) == set(TensorFiles(tmp_path / "again"))
