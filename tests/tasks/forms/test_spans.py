"""Answers of every form, with their places in the text."""

import json

import numpy as np
import pytest

from tasks.errors import TaskError
from tasks.forms import Spans

CONTEXT = "Über 60 Löwen. Lions, 60 of them."


def made(answers, form=None, **more):
    row = {"question": "How many?", "context": CONTEXT, "answers": answers, **more}
    return (form or Spans())(row)


@pytest.mark.parametrize(
    "answers",
    [
        "60",
        "[\"60\"]",
        json.dumps([{"text": "60", "answer_start": 5}]),
        json.dumps({"text": ["60"], "answer_start": [5]}),
        json.dumps({"text": ["60"], "answer_start": 5}),
        json.dumps({"text": "60", "answer_start": [5]}),
        ["60"],
        [b"60"],
        np.array([b"60"], object),
    ],
)  # fmt: skip
def test_an_answer_may_be_a_text_a_list_or_objects_and_stands_at_its_first_place(answers):
    assert made(answers) == {
        "inputs": "How many?",
        "inputs_pair": CONTEXT,
        "answers": ["60"],
        "answer_begins": [5],
        "answer_ends": [7],
    }


def test_a_place_that_is_given_counts_in_characters():
    found = made(json.dumps([{"text": "60", "answer_start": 22}, {"text": "Löwen"}]))
    assert found["answer_begins"] == [22, 8] and found["answer_ends"] == [24, 13]


def test_places_may_be_a_column_of_their_own_as_in_tfds():
    form = Spans(answers="answers/text", starts="answers/answer_start", id="id")
    assert form.columns == ("question", "context", "answers/text", "answers/answer_start", "id")
    row = {"question": b"Q", "context": CONTEXT.encode(), "id": b"7",
           "answers/text": np.array([b"60", b"Lions"], object),
           "answers/answer_start": np.array([22, 15])}  # fmt: skip
    found = form(row)
    assert found["answer_begins"] == [22, 15] and found["id"] == "7"
    assert form.kept["id"] == "text" and "id" not in Spans().kept


@pytest.mark.parametrize(
    ("answers", "starts", "begins"),
    [
        ("60", "22", [22]),
        ("60", b"[22]", [22]),
        ("60", 22, [22]),
        ('["60", "Lions"]', "[22, 15]", [22, 15]),
        ("", "", []),
    ],
)
def test_places_in_a_column_of_text_are_numbers_too(answers, starts, begins):
    form = Spans(starts="start", unanswerable=True)
    assert made(answers, form, start=starts)["answer_begins"] == begins


@pytest.mark.parametrize(
    ("starts", "said"),
    [
        ("twenty", "answers to 'How many?' begin at 'twenty': the number of a character"),
        ("22.5", "begin at '22.5'"),
        ("[22, 15]", "1 answers and 2 places"),
        ("", "1 answers and 0 places"),
        ('["22"]', "no text, list of texts"),
    ],
)
def test_a_place_that_is_none_is_named(starts, said):
    with pytest.raises(TaskError) as caught:
        made("60", Spans(starts="start"), start=starts)
    assert said in str(caught.value)


@pytest.mark.parametrize("answers", ["[]", "", '{"text": [], "answer_start": []}'])
def test_no_answer_is_taken_where_it_may_be(answers):
    found = made(answers, Spans(unanswerable=True))
    assert found["answers"] == found["answer_begins"] == found["answer_ends"] == []
    with pytest.raises(TaskError, match=r"'How many\?' has no answer: UNANSWERABLE = True"):
        made(answers)


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ("sixty", "'sixty' to 'How many?' is not in its text"),
        ('[{"text": "60", "answer_start": 6}]', "character 6 of its text, where '0 ' stands"),
        ('[{"text": "60", "answer_start": -3}]', "at character -3"),
        ('[{"text": "60", "answer_start": 900}]', "at character 900 of its text, where ''"),
        ('{"text": ["60"], "answer_start": [5, 6]}', "1 answers and 2 places"),
        ('{"text": ["60"], "answer_start": "5"}', "no text, list of texts"),
        ('{"text": 60, "answer_start": 5}', "no text, list of texts"),
        ('[" "]', "' ' to 'How many?' is not in its text"),
        ('[{"answer_start": 5}]', "no text, list of texts"),
        ('{"a": 1}', "no text, list of texts"),
        ('[{"text": "60", "answer_start": "5"}]', "no text, list of texts"),
    ],
)
def test_an_answer_that_is_no_part_of_the_text_is_named(answers, said):
    with pytest.raises(TaskError) as caught:
        made(answers)
    assert said in str(caught.value)


def test_or_it_is_measured_by_and_not_learned_from(caplog):
    found = made('["sixty", "60"]', Spans(misplaced="skip"))
    assert found["answers"] == ["sixty", "60"]
    assert found["answer_begins"] == [-1, 5] and found["answer_ends"] == [-1, 7]
    assert "not learned from" in caplog.text
    unlike = made('{"text": ["60"], "answer_start": [5, 6]}', Spans(misplaced="skip"))
    assert unlike["answers"] == ["60"] and unlike["answer_begins"] == [-1]
    with pytest.raises(TaskError, match="'error' or 'skip'"):
        Spans(misplaced="keep")


def test_inputs_are_the_question_a_tab_and_the_text_as_it_is():
    row = {"question": "a\tb", "context": "c\td\n"}
    assert Spans().inputs_of(row) == "a b\tc\td\n"
