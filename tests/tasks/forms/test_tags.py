"""Words with tags, and texts with choices, by hand."""

import numpy as np
import pytest

from tasks.errors import TaskError
from tasks.forms import Choices, Tags

LABELS = ("O", "B-x", "I-x")


def test_words_and_tags_have_spaces_between_them():
    form = Tags(LABELS)
    made = form({"words": "in New  York", "tags": "O B-x I-x"})
    assert made == {"inputs": ["in", "New", "York"], "tags": [0, 1, 2]}
    assert form.columns == ("words", "tags") and form.label_names == LABELS
    assert form.inputs_of({"words": ["in", "York"]}) == "in York"


def test_lists_are_read_as_json_has_them_and_numbers_too():
    form = Tags(["0", "1", "2"], "tokens", "ner_tags", names=LABELS, lists=True)
    row = {"tokens": '["in", "New York", "[1]"]', "ner_tags": "[0, 1, 2]"}
    assert form(row) == {"inputs": ["in", "New York", "[1]"], "tags": [0, 1, 2]}
    # As TFDS has them.
    row = {"tokens": np.array([b"in", b"it"], object), "ner_tags": np.array([0, 1])}
    assert form(row) == {"inputs": ["in", "it"], "tags": [0, 1]}
    # A text is no list, even if it looks like one elsewhere.
    assert Tags(LABELS)({"words": "[1]", "tags": "O"})["inputs"] == ["[1]"]
    with pytest.raises(TaskError, match="'New York' of column 'tokens' is not one word"):
        form.inputs_of({"tokens": ["New York"]})


def test_iob1_is_converted_and_its_numbers_are_those_of_iob2():
    form = Tags(("O", "B-x", "I-x", "B-y", "I-y"), scheme="iob1")
    made = form({"words": "a b c d e", "tags": "I-x I-x B-x I-y O"})
    assert made["tags"] == [1, 2, 1, 3, 0]


def test_tags_of_another_sort_have_no_scheme():
    form = Tags(["NOUN", "VERB"], scheme=None)
    assert form({"words": "dogs bark", "tags": "NOUN VERB"})["tags"] == [0, 1]
    with pytest.raises(TaskError, match=r"neither 'O' nor like.*SCHEME=None"):
        Tags(["NOUN", "VERB"])


def test_a_row_of_a_test_set_has_no_tags():
    made = Tags(LABELS, unlabelled="")({"words": "a b", "tags": ""})
    assert made == {"inputs": ["a", "b"], "tags": [-1, -1]}
    # As a file with a word a line has it.
    form = Tags(LABELS, unlabelled="_", lists=True)
    assert form({"words": '["a", "b"]', "tags": '["_", "_"]'})["tags"] == [-1, -1]
    with pytest.raises(TaskError, match="the tag '_', which is none"):
        form({"words": '["a", "b"]', "tags": '["_", "O"]'})


@pytest.mark.parametrize(
    ("words", "tags", "said"),
    [
        ("a b", "O", r"2 words in column 'words' and 1 tags in 'tags': as many.*\('a b'\)"),
        ("a", "B-y", "the tag 'B-y', which is none of the tags: they are O, B-x, I-x"),
        ("a b", "O I-x", "has the tag 'I-x' after 'O': in IOB2"),
        ("a", "I-x", "has the tag 'I-x' after nothing"),
    ],
)
def test_rows_that_do_not_fit_are_refused(words, tags, said):
    with pytest.raises(TaskError, match=said):
        Tags(LABELS)({"words": words, "tags": tags})


def test_settings_that_do_not_fit_are_refused():
    with pytest.raises(TaskError, match=r"Tags\.scheme is 'bioes'"):
        Tags(LABELS, scheme="bioes")
    with pytest.raises(TaskError, match=r"Tags\.names has 1 names, but there are 3 labels"):
        Tags(LABELS, names=["O"])


# -- Choices ---------------------------------------------------------------------------------


def test_an_option_follows_the_question_or_stands_in_its_blank():
    form = Choices("{text}", ["a", "b"], "{ask}", labels=["A", "B"], blank="_")
    row = {"text": "It rains.", "ask": "So", "a": "go out", "b": "stay", "label": "B"}
    assert form(row) == {"inputs": "It rains.", "choices": ["So go out", "So stay"], "label": 1}
    row |= {"ask": "We _ now.", "label": b"A"}
    assert form(row)["choices"] == ["We go out now.", "We stay now."] and form(row)["label"] == 0
    assert form.columns == ("text", "ask", "a", "b", "label")
    assert form.inputs_of(row) == "It rains.\tWe go out now.\tWe stay now."


@pytest.mark.parametrize(
    "options", ['["x", "y", "z"]', np.array([b"x", b"y", b"z"], object), ["x", "y", "z"]]
)
def test_a_column_may_hold_a_list_of_options(options):
    form = Choices("{text}", ["options"])
    made = form({"text": "t", "options": options, "label": 2})
    assert made == {"inputs": "t", "choices": ["x", "y", "z"], "label": 2}


def test_rows_may_have_fewer_options_and_labels_keep_their_meaning():
    form = Choices("{text}", ["a", "b", "c"])
    assert form({"text": "t", "a": "x", "b": "", "c": "z", "label": "2"}) == {
        "inputs": "t", "choices": ["x", "z"], "label": 1,
    }  # fmt: skip


def test_values_may_stand_for_texts():
    form = Choices("{p}", ["a", "b"], "{q}", words={"q": {"cause": "Why?"}}, unlabelled="-1")
    row = {"p": "p", "q": "cause", "a": "x", "b": "y", "label": -1}
    assert form(row) == {"inputs": "p", "choices": ["Why? x", "Why? y"], "label": -1}
    with pytest.raises(TaskError, match="'q' is 'effect', which has no word"):
        form(row | {"q": "effect"})


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"label": "4"}, "is '4', which is none of the labels: they are 0, 1, 2, 3"),
        ({"label": "3"}, "is '3', and the row has no such option: it has 2"),
        ({"b": " "}, "a row has 1 options in a, b"),
    ],
)
def test_choices_that_do_not_fit_are_refused(changed, said):
    row = {"text": "t", "a": "x", "b": "y", "label": "0"}
    with pytest.raises(TaskError, match=said):
        Choices("{text}", ["a", "b"])(row | changed)
    with pytest.raises(TaskError, match="a list of columns is needed"):
        Choices("{text}", "a")


def test_text_that_has_no_tags_at_all_has_no_column_of_them():
    form = Tags(LABELS, words="text", tags=None)
    assert form.columns == ("text",)
    assert form({"text": "a b"}) == {"inputs": ["a", "b"], "tags": [-1, -1]}
