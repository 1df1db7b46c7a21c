"""Encoders with objectives of their own, by the command line: trained, resumed, exported."""

import json
import shutil

import pytest

from t5x_like import cli

RUN = """
from __gin__ import dynamic_registration
import tasks
from models import {family}
from tasks import objectives
from t5x_like import checkpoints
from t5x_like import train

include 'tasks/objectives/{objective}.gin'
include 'optimizers/{optimizer}.gin'
include 'runs/pretrain.gin'

MODEL = @{family}.{kind}()
{family}.{kind}:
  vocab_size = 384
  embed_dim = 16
  mlp_dim = 32
  num_heads = 2
  num_layers = 2
  max_length = 32
  dropout_rate = 0.1
tasks.unsupervised.objective = %OBJECTIVE
TASK_FEATURE_LENGTHS = {{'targets': 32}}
TRAIN_STEPS = 4
WARMUP_STEPS = 1
checkpoints.CheckpointPolicy.period = 2
train.train.log_period = 1
train.train.validation_period = 4
train.train.tensorboard = False
"""
GENERATOR = """
electra.ELECTRA:
  embedding_dim = 12
  generator_embed_dim = 8
  generator_mlp_dim = 16
  generator_num_heads = 1
"""
MASKED = "masked_language_model"
RUNS = {
    "electra": ("ELECTRA", "replaced_tokens", "electra", ("replaced_token_detection", 50)),
    "spanbert": ("SpanBERT", "masked_spans", "spanbert", ("span_boundary", 1)),
    "structbert": ("StructBERT", "sentence_structure", "bert", ("sentence_structure", 1)),
}
EXPORTED = {
    "electra": {"discriminator": "ElectraForPreTraining", "generator": "ElectraForMaskedLM"},
    "spanbert": {None: "BertForMaskedLM"},
    "structbert": {None: "BertForMaskedLM"},
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "family",
    [
        "electra",
        *(pytest.param(name, marks=pytest.mark.release) for name in ("spanbert", "structbert")),
    ],
)
def test_it_trains_resumes_with_what_it_would_have_drawn_and_is_exported(
    family, corpus, tmp_path, capsys
):
    kind, objective, optimizer, (term, coefficient) = RUNS[family]
    text = RUN.format(family=family, kind=kind, objective=objective, optimizer=optimizer)
    (tmp_path / "run.gin").write_text(text + (GENERATOR if family == "electra" else ""))
    run_dir = tmp_path / "run"
    flags = [corpus[1], f"--gin_file={tmp_path}/run.gin", f"--gin.MODEL_DIR={run_dir}"]

    def records():
        assert cli.main(["train", *flags]) == 0
        lines = map(json.loads, (run_dir / "metrics.jsonl").read_text().splitlines())
        names = (MASKED, term, f"{term}_accuracy", "loss")
        return {(line["split"], line["step"]): [line[name] for name in names] for line in lines}

    whole = records()
    assert {split for split, _ in whole} == {"train", "validation"}
    for masked, other, _, loss in whole.values():
        assert loss == pytest.approx(masked + coefficient * other, rel=1e-5)
    shutil.rmtree(run_dir / "checkpoints/4")
    (run_dir / "metrics.jsonl").unlink()
    again = records()
    assert {step for _, step in again} == {3, 4}
    assert again == {place: whole[place] for place in again}
    for part, architecture in EXPORTED[family].items():
        out = tmp_path / f"exported_{part}"
        named = [] if part is None else [f"--part={part}"]
        assert cli.main(["export-hf", str(run_dir), f"--out={out}", *named]) == 0
        assert json.loads((out / "config.json").read_text())["architectures"] == [architecture]
    capsys.readouterr()
    assert cli.main(["export-hf", str(run_dir), f"--out={tmp_path}/x", "--part=teacher"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "'teacher'" in line
