"""A query with candidates."""

import pytest

from tasks.errors import TaskError
from tasks.forms import Ranked

ROW = {"q": "Who?", "a": "Ann.", "b": "Ben.", "c": "Cy.", "right": "2"}


def test_the_query_the_candidates_and_the_number_of_the_relevant_one():
    form = Ranked("q", ["a", "b", "c"], "right")
    assert form.columns == ("q", "a", "b", "c", "right")
    assert form(ROW) == {
        "inputs": "Who?", "inputs_1": "Ann.", "inputs_2": "Ben.", "inputs_3": "Cy.", "label": 2
    }  # fmt: skip
    assert form == Ranked("q", ("a", "b", "c"), "right")


def test_what_cannot_be_ranked_is_refused():
    with pytest.raises(TaskError, match="a list of two columns or more"):
        Ranked("q", ["a"], "right")
    with pytest.raises(TaskError, match="column 'right' is '2': the number of a candidate is"):
        Ranked("q", ["a", "b"], "right")(ROW)
