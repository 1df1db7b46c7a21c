"""What metrics understand of what postprocessors give, and what they refuse by name."""

import numpy as np
import pytest

from tasks import metrics
from tasks.errors import TaskError

OF_ANSWERS = ("squad", "squad2", "trivia_qa", "natural_questions", "coqa", "quac", "drop")
OF_TEXTS = (*OF_ANSWERS, "bleu", "chrf", "nist", "rouge")


@pytest.mark.parametrize("name", OF_ANSWERS)
def test_a_text_is_the_only_accepted_answer(name):
    metric = getattr(metrics, name)
    for answer, prediction in (("New York", "new york"), ("Paris is", "Paris"), ("abc", "a")):
        alone = metric([answer], [prediction])
        assert alone == metric([[answer]], [prediction])
        right = {"new york": 100, "Paris": 67 if name == "drop" else 200 / 3, "a": 0}
        assert alone["f1"] == pytest.approx(right[prediction])
    assert metric([("x", "new york")], ["New York"]) == metric([["x", "new york"]], ["New York"])


@pytest.mark.parametrize("name", OF_TEXTS)
def test_what_is_no_text_names_the_postprocessor_of_texts(name):
    metric = getattr(metrics, name)
    said = rf"^metrics.{name} got 3: a text is needed, as postprocessors.Text gives it\.$"
    for target, prediction in ((3, "a"), ("a", 3), ([3], "a")):
        with pytest.raises(TaskError, match=said):
            metric([target], [prediction])


@pytest.mark.parametrize(
    ("name", "postprocessor"),
    [
        ("pearson_corrcoef", "Number"),
        ("spearman_corrcoef", "Number"),
        ("f1", "LabelClass"),
        ("macro_f1", "LabelClass"),
        ("multirc", "GroupedLabel"),
    ],
)
def test_a_text_is_no_number_and_names_the_postprocessor_that_makes_one(name, postprocessor):
    """ "10" is below "2" and "9", as texts are sorted."""
    with pytest.raises(TaskError, match=rf"^metrics.{name} got the text '2': .*{postprocessor}"):
        getattr(metrics, name)(["2", "9", "10"], ["3", "5", "7"])


def test_numbers_are_those_of_python_numpy_and_single_arrays():
    whole, single = [1, 0, 1], [np.array(1), np.array(0), np.array(1)]
    for values in (whole, single, np.array(whole), [True, False, True], [1.0, 0.0, 1.0]):
        assert metrics.f1(values, whole) == metrics.f1(whole, values) == {"f1": 100}
        assert metrics.accuracy(values, whole) == {"accuracy": 100}
    for value in (None, [1], np.ones(1), b"1"):
        with pytest.raises(TaskError, match="the number of a class is needed"):
            metrics.f1(whole, [0, 0, value])


@pytest.mark.parametrize(
    "name", ["entity_f1", "word_accuracy", "ndcg", "pairwise_accuracy", "matthews_corrcoef"]
)
def test_lists_are_no_single_values_and_these_no_lists(name):
    given = [["B-A"], ["O"]] if name == "matthews_corrcoef" else ["B-A", "O"]
    with pytest.raises(TaskError, match=rf"^metrics.{name} got .*B-A.*needed"):
        getattr(metrics, name)(given, given)


def test_a_text_and_a_list_of_accepted_answers_are_not_compared():
    for metric in (metrics.exact_match, metrics.accuracy):
        with pytest.raises(TaskError, match=r"got \['Paris'\]: the prediction is the text 'Paris'"):
            metric([["Paris"]], ["Paris"])
        with pytest.raises(TaskError, match=r"got 1: .* must be texts, or both numbers"):
            metric([1], ["1"])
    # No answer is a wrong one.
    assert metrics.exact_match(["a", "b"], ["a", None]) == {"exact_match": 50}
    assert metrics.accuracy([["O", "O"]], [["O", "O"]]) == {"accuracy": 100}


def test_a_long_value_is_told_in_part_on_one_line():
    with pytest.raises(TaskError) as refusal:
        metrics.f1([np.arange(300).reshape(100, 3)], [1])
    assert len(str(refusal.value)) < 200 and "\n" not in str(refusal.value)
