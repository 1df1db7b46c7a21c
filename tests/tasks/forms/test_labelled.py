"""Rows with labels or numbers: what a head learns from."""

import math

import pytest

from tasks.errors import TaskError
from tasks.forms import Choices, Labelled, Tags


def test_a_label_is_its_place_in_the_list():
    form = Labelled(["sentence"], label="mood", labels=["bad", "good"])
    assert form({"sentence": "A film.", "mood": "good"}) == {"inputs": "A film.", "label": 1}
    assert form.columns == ("sentence", "mood") and form.kept == {"label": "integer"}


def test_a_pair_has_two_texts_and_a_number_is_a_number():
    form = Labelled(["a", "b"], label="score")
    row = {"a": b"x", "b": "y", "score": "4.25"}
    assert form(row) == {"inputs": "x", "inputs_pair": "y", "label": 4.25}
    assert form.kept == {"label": "number"} and form.inputs_of(row) == "x\ty"


def test_a_row_of_a_test_set_has_no_label():
    assert (
        Labelled(["a"], labels=["0", "1"], unlabelled="-1")({"a": "x", "label": -1})["label"] == -1
    )
    assert math.isnan(Labelled(["a"], unlabelled="-1")({"a": "x", "label": -1.0})["label"])
    # As a command line gives it, and what is no number.
    assert Labelled(["a"], labels=["0", "1"], unlabelled=-1)({"a": "x", "label": "-1"})["label"] < 0
    for none in ("", "n/a", "nan"):
        form = Labelled(["a"], unlabelled=none)
        assert math.isnan(form({"a": "x", "label": none})["label"])
        assert form({"a": "x", "label": "3"})["label"] == 3.0
    # Where nobody says so, -1 is a number like any other.
    assert Labelled(["a"])({"a": "x", "label": "-1"})["label"] == -1.0


def test_names_are_what_people_read():
    assert Labelled(["a"], labels=["0", "1"], names=["no", "yes"]).label_names == ("no", "yes")
    assert Labelled(["a"], labels=["0", "1"]).label_names == ("0", "1")
    assert Labelled(["a"]).label_names == ()


@pytest.mark.parametrize(
    ("form", "label", "said"),
    [
        (
            Labelled(["a"], labels=["0", "1"]),
            "2",
            "is '2', which is none of the labels: they",
        ),
        (Labelled(["a"], labels=["0", "1"]), "-1", "is '-1', which is none of the labels"),
        (Labelled(["a"]), "high", "is 'high': a number is needed"),
        (Labelled(["a"]), "nan", "a number is needed"),
    ],
)
def test_other_labels_are_refused(form, label, said):
    with pytest.raises(TaskError, match=said):
        form({"a": "x", "label": label})


def test_so_are_three_texts_one_that_is_no_list_and_names_of_other_labels():
    for texts in (["a", "b", "c"], [], "sentence"):
        with pytest.raises(TaskError, match="a list of one column, or of two"):
            Labelled(texts)
    with pytest.raises(TaskError, match="1 names, but there are 2 labels"):
        Labelled(["a"], labels=["0", "1"], names=["no"])


def test_labels_are_a_list_without_repetitions_and_no_text_of_the_row():
    assert Labelled(["a"], labels=["no ", "yes"])({"a": "x", "label": "no "})["label"] == 0
    for form, rest in ((Labelled, (["a"],)), (Tags, ()), (Choices, ("{a}", ["b", "c"]))):
        with pytest.raises(TaskError, match=r"labels is 'ab': a list is needed"):
            form(*rest, labels="ab")
        with pytest.raises(TaskError, match=r"labels has 'O' twice"):
            form(*rest, labels=["O", "B-x", "O "])
    with pytest.raises(TaskError, match="label is 'a', which is one of the texts"):
        Labelled(["a", "b"], label="a")
