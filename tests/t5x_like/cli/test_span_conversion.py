"""A model that answers questions, from a directory of Hugging Face's to answers and back."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from models.heads import Spans
from models.hf import load_hf
from t5x_like import cli, load_run
from tests.models.hf import test_bert

FIXTURE = Path(test_bert.FIXTURES) / "bert_spans"
LETTERS = "abcdefghijklmnopqrstuvwxyz"


@pytest.mark.slow
def test_an_imported_model_answers_at_once_and_goes_back_as_it_came(tmp_path, monkeypatch, capsys):
    directory = tmp_path / "theirs"
    shutil.copytree(FIXTURE, directory)
    (directory / "expected.npz").unlink()
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{c}" for c in LETTERS)]
    (directory / "vocab.txt").write_text("".join(f"{piece}\n" for piece in pieces))
    monkeypatch.chdir(tmp_path)
    assert cli.main(["import-hf", "theirs", "--out=runs/qa"]) == 0
    run = load_run("runs/qa")
    assert run.model.head == Spans() and run.task_feature_lengths == {"inputs": 40}
    assert "tasks/spans_jsonl.gin" in Path("runs/qa/config.gin").read_text()
    flags = ["--gin.objectives.SpanWindows.question_length=8", "--gin.DOC_STRIDE=8"]
    text = "Ab cd  ef! " * 9
    Path("in.jsonl").write_text(json.dumps({"question": "Who?", "context": text}) + "\n")
    config = ["--gin_file=runs/qa/config.gin", "--gin_file=runs/infer.gin", *flags]
    assert cli.main(["infer", *config, "--gin.INPUT_PATH=in.jsonl", "--gin.OUTPUT_PATH=o"]) == 0
    found = json.loads(Path("o").read_text())
    assert found["predictions"] == text[slice(*found["span"])] != ""
    assert len(found["n_best"]) == 20 and found["null_score_difference"] is None
    # SQuAD 2.0's rule needs no other model.
    assert cli.main(["infer", *config, "--gin.NULL_THRESHOLD=1e6", "--gin.INPUT_PATH=in.jsonl",
                     "--gin.OUTPUT_PATH=none"]) == 0  # fmt: skip
    assert json.loads(Path("none").read_text())["span"] is None
    assert cli.main(["export-hf", "runs/qa", "--out=again"]) == 0
    for first, second in zip(load_hf("theirs"), load_hf("again"), strict=True):
        if isinstance(first, dict):
            jax.tree.map(np.testing.assert_array_equal, first, second)
        else:
            assert first == second
    assert Path("again/vocab.txt").read_bytes() == Path("theirs/vocab.txt").read_bytes()
