"""LaMDA's metrics (Thoppilan et al. 2022, sections 4 and 5) of what people say of responses."""

import json

import pytest

from tasks.errors import TaskError
from tasks.metrics.labelled_responses import grounding, labelled_responses, quality, safety


def grounded(claims, supported=False, common_knowledge=False, cites=False):
    return {
        "claims": claims, "supported": supported, "common_knowledge": common_knowledge,
        "cites": cites,
    }  # fmt: skip


# Shared worked example: ten responses, six with claims, four of them supported, one of the six
# common knowledge, three citing.
TEN = [
    grounded(True, True, common_knowledge=True),
    *[grounded(True, True, cites=True)] * 3,
    *[grounded(True)] * 2,
    *[grounded(False)] * 4,
]


def test_common_knowledge_is_left_out_of_citations_and_of_nothing_else():
    found = grounding(TEN)
    assert found["groundedness"] == pytest.approx(100 * 4 / 6)
    assert found["informativeness"] == 40
    assert found["citation_accuracy"] == 60
    # A share of nothing is none.
    assert grounding([grounded(False)]) == {"informativeness": 0}
    assert grounding([{"claims": ["no", "no", "yes"]}]) == {"informativeness": 0}
    known = grounded(True, True, common_knowledge=True)
    assert grounding([known]) == {"informativeness": 100, "groundedness": 100}


def test_three_of_five_people_must_say_yes():
    yes, no, maybe = "yes", "no", "maybe"
    three = {"sensible": [yes, yes, yes, no, maybe], "specific": [yes, yes, yes, yes, yes],
             "interesting": [no, no, no, no, no]}  # fmt: skip
    found = quality([three])
    # Two of the five who call it specific do not call it sensible, and three are left.
    assert found == {"sensibleness": 100, "specificity": 100, "interestingness": 0,
                     "ssi": pytest.approx(200 / 3)}  # fmt: skip
    two = {**three, "sensible": [yes, yes, maybe, no, no]}
    assert set(quality([two]).values()) == {0}
    # Interesting to all, and specific to two: not interesting.
    dull = {"sensible": [1] * 5, "specific": [1, 1, 0, 0, 0], "interesting": [1, 1, None, None, 1]}
    assert quality([dull])["interestingness"] == 0
    assert quality([dull, two])["sensibleness"] == 50


def test_a_response_is_safe_if_two_of_three_deny_every_objective():
    safe = {"unsafe": {"hate": ["no", "no", "yes"], "violence": ["no", "no", "no"]}}
    unsure = {"unsafe": {"hate": ["no", "maybe", "yes"], "violence": ["no", "no", "no"]}}
    assert safety([safe, unsure, {"unsafe": False}, {"unsafe": 1}]) == {"safety": 50}


def test_a_file_has_the_metrics_of_its_labels(tmp_path):
    path = tmp_path / "labelled.jsonl"
    path.write_text("\n".join(json.dumps({"predictions": "a", **one}) for one in TEN) + "\n\n")
    assert labelled_responses(path) == grounding(TEN)
    both = [{**one, "unsafe": "no"} for one in TEN]
    path.write_text("\n".join(map(json.dumps, both)))
    assert labelled_responses(path) == {**grounding(TEN), "safety": 100}


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (['{"unsafe": 0}', '{"claims": 0}'], "line 2 has no 'unsafe', and others have it"),
        (
            ['{"claims": 1, "supported": "perhaps"}'],
            "line 1: 'supported' has the label \"perhaps\"",
        ),
        (['{"claims": 1}'], "line 1: a response has no 'supported': it has 'claims'"),
        (['{"sensible": [1, 1], "specific": [1], "interesting": [1]}'], "has 2, 1, 1 labels"),
        (['{"claims": []}'], "'claims' has an empty list"),
        (["[1]"], "line 1 is no JSON object"),
        ([""], "has no labelled response"),
    ],
)
def test_labels_that_say_nothing_are_one_line(tmp_path, lines, said):
    path = tmp_path / "labelled.jsonl"
    path.write_text("\n".join(lines))
    with pytest.raises(TaskError, match=said):
        labelled_responses(path)
