"""A row for each answer to learn from, and one a question to be measured on."""

import json

import pytest

import tasks
from tasks.errors import TaskError
from tasks.sources import EachAnswer, JsonLines

ROWS = [
    {"query": "A @placeholder is a bird.", "answers": ["penguin", "pigeon"]},
    {"query": "@placeholder swam.", "answers": []},
]


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    files = {split: str(path) for split in ("train", "validation")}
    return EachAnswer(JsonLines(files=files, columns=("query", "answers")))


def test_rows_are_multiplied_in_training_only(source):
    bird, fish = (row["query"] for row in ROWS)
    both = '["penguin", "pigeon"]'
    assert list(source.rows("train")) == [
        {"query": bird, "answers": both, "answer": "penguin"},
        {"query": bird, "answers": both, "answer": "pigeon"},
        {"query": fish, "answers": "[]", "answer": "<unk>"},
    ]
    assert [row["answer"] for row in source.rows("validation")] == ["penguin", "<unk>"]
    assert source.columns == ("query", "answers", "answer")
    assert list(source.rows("train", ())) == []


def test_what_has_no_list_of_answers_is_one_line(source):
    with pytest.raises(TaskError, match="answers is 'answer': its source has query, answers"):
        EachAnswer(source.source, answers="answer")
    with pytest.raises(TaskError, match="column 'query' is no list of texts"):
        list(EachAnswer(source.source, answers="query").rows("train"))


def test_its_settings_are_in_the_fingerprint(source):
    other = EachAnswer(source.source, learned=["train", "validation"])
    assert other.fingerprint() != source.fingerprint()
    assert other == EachAnswer(source.source, learned=("train", "validation"))
    assert source.fingerprint() != source.source.fingerprint()


def test_the_data_directory_reaches_the_dataset_inside(tmp_path):
    task = tasks.get_mixture_or_task("super_glue_record", tfds_data_dir=str(tmp_path))
    assert task.source.source.tfds.directory == str(tmp_path) and not task.source_is_local
