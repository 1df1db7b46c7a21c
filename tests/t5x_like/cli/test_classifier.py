"""`t5x-like classifier`, and filters by what it writes."""

import json

import pytest

from t5x_like import cli


@pytest.fixture
def files(tmp_path):
    good = [{"text": f"the study of {i} shows that it is known"} for i in range(40)]
    (tmp_path / "good.jsonl").write_text("".join(json.dumps(row) + "\n" for row in good))
    (tmp_path / "raw.txt").write_text("\n".join(f"buy {i} now, click cheap" for i in range(60)))
    return tmp_path


def test_a_classifier_of_files_is_fitted_and_filters(files, capsys):
    flags = [f"--positive={files}/good.jsonl", f"--negative={files}/raw.txt", "--separator=\\n"]
    assert cli.main(["classifier", *flags, f"--out={files}/c.npz"]) == 0
    line = capsys.readouterr().out.strip()
    assert line == (
        f"{files}/c.npz: 36 positive and 54 negative documents; of 10 others 100.0% are told right"
    )
    (files / "page.txt").write_text("the study of 7 shows that it is known\nbuy 7 now, click cheap")
    clean = [
        "clean", "--gin_file=tasks/text_files.gin", f"--gin.TRAIN_FILES={files}/page.txt",
        "--gin.HELD_OUT=0", "--gin.SEPARATOR=\\n", f"--out={files}/out", "--format=txt",
        "--gin.FILTERS=[@filters.MinScore()]", f"--gin.filters.MinScore.classifier={files}/c.npz",
    ]  # fmt: skip
    assert cli.main(clean) == 0
    (kept,) = (files / "out").glob("train-*.txt")
    assert kept.read_text() == "the study of 7 shows that it is known"


def test_what_is_not_measured_has_no_accuracy(files, capsys):
    (files / "few.jsonl").write_text("".join(json.dumps({"text": f"few {i}"}) + "\n" for i in "ab"))
    flags = [f"--positive={files}/few.jsonl", f"--negative={files}/few.jsonl"]
    assert cli.main(["classifier", *flags, f"--out={files}/c.npz"]) == 0
    said = capsys.readouterr().out
    assert (
        "none is left to measure it by, of fewer than 10 of each kind" in said and "%" not in said
    )
    assert cli.main(["classifier", *flags, f"--out={files}/c.npz", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] is None


def test_wrong_arguments_are_one_line(files, capsys):
    flags = [f"--positive={files}/good.jsonl", f"--negative={files}/good.jsonl"]
    assert cli.main(["classifier", *flags, f"--out={files}/c.npz", "--separator=x"]) == 2
    assert "--separator is between the documents of .txt" in capsys.readouterr().err
    flags = [f"--positive={files}/good.jsonl", f"--negative={files}/none.txt"]
    assert cli.main(["classifier", *flags, f"--out={files}/c.npz"]) == 2
    assert f"file '{files}/none.txt' not found." in capsys.readouterr().err.splitlines()[-1]
    assert cli.main(["classifier", *flags, f"--out={files}/c.txt"]) == 2
    assert "a classifier is written to NAME.npz." in capsys.readouterr().err
