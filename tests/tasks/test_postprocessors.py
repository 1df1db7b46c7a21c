"""Postprocessors: generated text to what the metrics compare."""

import numpy as np
import pytest

from tasks import metrics, postprocessors


def test_an_output_that_is_no_label_is_wrong():
    labels = postprocessors.LabelClass(("unacceptable", "acceptable"))
    outputs = ["acceptable", "unacceptable", "acceptabl", "Acceptable", ""]
    assert [labels(text, {}, False) for text in outputs] == [1, 0, -2, -2, -2]


def test_of_rows_without_a_label_no_output_is_right():
    labels = postprocessors.LabelClass(("not_entailment", "entailment"))
    targets = [labels("<unk>", {}, True)] * 2
    outputs = [labels(text, {}, False) for text in ("entailment", "of no label")]
    assert metrics.accuracy(targets, outputs)["accuracy"] == 0


def test_an_output_that_is_no_number_is_minus_one():
    number = postprocessors.Number()
    assert [number(t, {}, False) for t in ("3.2", "x", "nan", "inf", "")] == [3.2, -1, -1, -1, -1]


def test_the_target_of_squad_is_every_answer():
    answers = postprocessors.AllAnswers()
    assert answers("a", {"answers": [b"a", b"b"]}, True) == ["a", "b"]
    assert answers("a", {}, False) == "a"


def test_a_label_of_a_group_has_the_groups_number_beside_its_target():
    labels = postprocessors.GroupedLabel(("False", "True"), "question_number")
    example = {"question_number": np.array(7, np.int32)}
    assert labels("True", example, True) == (7, 1)
    assert [labels(text, example, False) for text in ("True", "False", "true")] == [1, 0, -2]


@pytest.mark.parametrize(
    ("prediction", "referent", "found"),
    [
        ("potato", "turnip", 0),
        ("turnip", "turnip", 1),
        ("the cat", "cat", 1),
        ("potato", "Potato", 1),
        ("a potato", "my potato", 1),
        ("fuzzy bunny", "fuzzy hungry bunny", 1),
        ("hungry fuzzy bunny", "bunny", 1),
        ("Bob's hat", "Bob", 0),
        ("Bob", "Bob's hat", 0),
        ("Bob's hat", "Bob's hat", 1),
        # Nothing but determiners is no answer, neither right nor wrong.
        ("", "cat", -1),
        ("a this", "cat", -1),
        ("cat", "", 0),
    ],
)
def test_a_prediction_means_the_referent_by_t5s_rule(prediction, referent, found):
    means = postprocessors.Referent()
    example = {"label": np.array(1), "targets_pretokenized": np.array(referent.encode(), object)}
    assert means(prediction, example, False) == found
    assert means("whatever", {**example, "label": -1}, True) == -1


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("It has 3. It gets 6 more, so it has 3 + 6 = 9. The answer is 9.", "9"),
        ("The answer is 50.", "50"),
        ("The answer is 1,003.\n\nQ: The answer is 7.", "1003"),
        ("The answer is -2.5.", "-2.5"),
        ("The answer is $18.", ""),
        ("Nine.", ""),
    ],
)
def test_a_worked_solution_ends_in_a_number(text, number):
    """Wei et al. 2022: steps, and then `The answer is 9.`"""
    assert postprocessors.FinalAnswer()(text, {}, is_target=False) == number


def test_a_word_may_say_that_there_is_no_answer():
    answers = postprocessors.AllAnswers("unanswerable")
    assert answers(" unanswerable", {}, is_target=False) == ""
    assert answers("the unanswerable", {}, is_target=False) == "the unanswerable"
