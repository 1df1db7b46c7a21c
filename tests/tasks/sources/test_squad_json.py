"""SQuAD's JSON, and articles that are held out as a whole."""

import json

import pytest

from tasks.errors import TaskError
from tasks.sources import HoldOut, SquadJson


def question(name, *answers, **more):
    found = [{"text": text, "answer_start": start} for text, start in answers]
    return {"id": name, "question": f"{name}?", "answers": found, **more}


ARTICLES = [
    {
        "title": f"article {i}",
        "paragraphs": [
            {"context": f"one {i}", "qas": [question("a", ("one", 0)), question("b", (str(i), 4))]},
            {"context": "two", "qas": [question("c", ("two", 0))]},
        ],
    }
    for i in range(40)
]


def source(path, data):
    path.write_text(json.dumps(data))
    return SquadJson(files={"train": str(path)})


def test_a_row_for_each_question(tmp_path):
    rows = list(source(tmp_path / "x.json", {"data": ARTICLES, "version": "1.1"}).rows("train"))
    assert len(rows) == 120
    assert rows[1] == {
        "id": "b",
        "title": "article 0",
        "question": "b?",
        "context": "one 0",
        "answers": '[{"text": "0", "answer_start": 4}]',
    }


def test_an_impossible_question_has_no_answer_however_plausible(tmp_path):
    impossible = question("a", is_impossible=True, plausible_answers=[{"text": "two"}])
    listed = question("b", ("two", 0), is_impossible=True)
    data = {"data": [{"paragraphs": [{"context": "two", "qas": [impossible, listed]}]}]}
    rows = list(source(tmp_path / "x.json", data).rows("train"))
    assert [row["answers"] for row in rows] == ["[]", "[]"] and rows[0]["title"] == ""


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ([], "the file lacks"),
        ({"data": [{}]}, "'paragraphs'"),
        ({"data": [{"paragraphs": [{"context": "x", "qas": [{"id": "a", "question": "q"}]}]}]},
         "question 0 of paragraph 0 of article 0 lacks 'answers'"),
        ({"data": [{"paragraphs": [{"context": 3, "qas": [question("a")]}]}]},
         "question 0 of paragraph 0 of article 0 lacks a text as context"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_squads_is_refused_in_one_line(data, said, tmp_path):
    with pytest.raises(TaskError) as caught:
        list(source(tmp_path / "x.json", data).rows("train"))
    assert said in str(caught.value) and "x.json" in str(caught.value)


def test_a_file_that_is_not_json_is_refused(tmp_path):
    (tmp_path / "x.json").write_text('{"data": ')
    with pytest.raises(TaskError, match="is not JSON"):
        list(SquadJson(files={"train": str(tmp_path / "x.json")}).rows("train"))


def test_all_questions_about_an_article_are_in_the_same_split(tmp_path):
    whole = source(tmp_path / "x.json", {"data": ARTICLES})
    held_out = HoldOut(whole, validation=0.3, column="title")
    titles = {split: [r["title"] for r in held_out.rows(split)] for split in held_out.splits}
    assert not set(titles["train"]) & set(titles["validation"])
    assert len(titles["train"]) + len(titles["validation"]) == 120
    assert 4 <= len(set(titles["validation"])) <= 20
    assert held_out.fingerprint() != HoldOut(whole, validation=0.3).fingerprint()
    with pytest.raises(TaskError, match=r"HoldOut.column is 'author'"):
        HoldOut(whole, column="author")
