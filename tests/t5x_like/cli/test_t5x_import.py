"""`import-t5x` as a user meets it; what is read is tested in tests/models/t5x."""

import json

import jax
import numpy as np

from models.t5x import load_t5x
from t5x_like import cli, load_run
from tasks.vocabularies import train_sentencepiece
from tests.models.t5x import checkpoints

TEXTS = ["many hands make light work", "still waters run deep"] * 20


def of_text(name):
    """A fixture's parameters with ids for a vocabulary of 26 pieces and 100 sentinels."""
    params = checkpoints.fixture(name)[0]
    rng = np.random.default_rng(0)
    params["token_embedder/embedding"] = rng.normal(size=(128, 12)).astype(np.float32)
    params["decoder/logits_dense/kernel"] = rng.normal(size=(12, 128)).astype(np.float32)
    return params


def test_a_checkpoint_becomes_a_run_of_step_0(tmp_path, capsys):
    checkpoints.write(tmp_path / "t5x", of_text("scanned"), step=524_288)
    vocabulary = tmp_path / "sentencepiece.model"
    train_sentencepiece(TEXTS, str(vocabulary), vocab_size=26)
    run_dir = tmp_path / "run"
    arguments = ["import-t5x", str(tmp_path / "t5x"), f"--out={run_dir}"]
    assert cli.main([*arguments, f"--vocabulary={vocabulary}"]) == 0
    said = capsys.readouterr().out.splitlines()
    # By hand: 2 layers of 1,192, 3 of 1,588, two norms of 12 and twice 128 x 12.
    assert said == [
        f"{run_dir}: T5_1_1, 10,244 parameters, sentencepiece.model",
        "step 524,288 of T5X is step 0 here; the optimizer's state is left out: training begins "
        "with a fresh one",
        "supposed: gelu in its layers, dropout of 0.1, as no config.gin is beside it",
    ]
    run, read = load_run(str(run_dir)), load_t5x(tmp_path / "t5x")
    assert run.steps == [0]
    assert run.model == read.model
    jax.tree.map(np.testing.assert_array_equal, run.params, read.params)
    # The file is the run's own from now on.
    assert run.codec.targets.vocabulary.path == str(run_dir / "sentencepiece.model")
    assert run.codec.targets.vocabulary.vocab_size == 126


def test_the_report_as_json(tmp_path, capsys):
    checkpoints.write(tmp_path / "t5x", checkpoints.fixture("decoder_only")[0], step=7)
    arguments = ["import-t5x", str(tmp_path / "t5x"), f"--out={tmp_path}/run", "--json"]
    assert cli.main(arguments) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["model"], report["step"], report["vocabulary"]) == ("LaMDA", 7, None)
    assert report["optimizer_left_out"] is True


def test_mistakes_are_one_line(tmp_path, capsys):
    def said(*arguments):
        assert cli.main(["import-t5x", *arguments, f"--out={tmp_path}/run"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    assert "is remote: copy it first" in said("gs://bucket/t5_1_1_base/checkpoint_1000000")
    assert "is no checkpoint of T5X" in said(str(tmp_path))
    checkpoints.write(tmp_path / "t5x", checkpoints.fixture("t5_1_0")[0])
    wrong = said(str(tmp_path / "t5x"), f"--vocabulary={tmp_path}/none.model")
    assert "none.model': --vocabulary is a local SentencePiece model" in wrong
    assert not (tmp_path / "run").exists()
