"""LaMDA's rows (Thoppilan et al. 2022, section 6): one source for a generator and its judges."""

import json

import pytest

import tasks
from tasks.errors import TaskError
from tasks.forms import Rated
from tasks.sources import JsonLines, RatedResponses

# The paper's own example.
WHATS_UP = {
    "context": "What's up?",
    "response": "not much.",
    "ratings": {"SENSIBLE": 1, "INTERESTING": False, "UNSAFE": "0"},
}
NADAL = {
    "context": ["Hi!", "How old is Rafael Nadal?"],
    "response": "He is 31 years old right now.",
    "ratings": {"SENSIBLE": 0},
    "research": ["Rafael Nadal's age", "Rafael Nadal / Age / 35", "He is 35 years old right now."],
}


@pytest.fixture
def rows(tmp_path):
    """The texts of inputs and targets that come of rows, in order."""

    def of(*given, columns=("context", "response", "ratings"), **settings):
        path = tmp_path / "rated.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in given))
        lines = JsonLines(files={"train": str(path), "validation": str(path)}, columns=columns)
        task = tasks.rated_responses("rated", RatedResponses(lines, **settings))
        return [(row["inputs"], row["targets"]) for row in task.examples("train")]

    return of


def test_a_response_is_learned_and_each_of_its_ratings(rows):
    assert rows(WHATS_UP) == [
        ("What's up? RESPONSE", " not much."),
        ("What's up? RESPONSE not much. SENSIBLE", " 1"),
        ("What's up? RESPONSE not much. INTERESTING", " 0"),
        ("What's up? RESPONSE not much. UNSAFE", " 0"),
    ]


def test_one_kind_of_rows_alone_and_only_good_responses_written(rows):
    assert rows(WHATS_UP, rows_of=["generator"]) == [("What's up? RESPONSE", " not much.")]
    assert len(rows(WHATS_UP, rows_of=["discriminators"])) == 3
    bad = {**WHATS_UP, "ratings": {"SENSIBLE": 0}}
    unrated = {**WHATS_UP, "ratings": {}}
    found = rows(bad, WHATS_UP, unrated, rows_of=["generator"], written_if={"SENSIBLE": "1"})
    assert len(found) == 2


def test_queries_are_learned_and_the_response_that_what_was_found_leads_to(rows):
    columns = (*NADAL,)
    found = rows(NADAL, columns=columns, research="research", rows_of=["generator"])
    draft = "Hi!\nHow old is Rafael Nadal? RESPONSE He is 31 years old right now."
    assert found[1:] == [
        (f"{draft} RESEARCH", " TS, Rafael Nadal's age"),
        (
            f"{draft} RESEARCH TS, Rafael Nadal's age TS Rafael Nadal / Age / 35 RESEARCH",
            " User, He is 35 years old right now.",
        ),
    ]
    nothing = {**NADAL, "research": ["his age", "", "I do not know."]}
    found = rows(nothing, columns=columns, research="research", rows_of=["generator"])
    assert found[-1] == (f"{draft} RESEARCH TS, his age TS RESEARCH", " User, I do not know.")
    assert len(rows({**NADAL, "research": []}, columns=columns, research="research")) == 2


def test_a_prompt_is_what_was_read_before_the_response_in_training():
    row = {"context": json.dumps(NADAL["context"]), "pieces": '["RESPONSE", "Hi"]'}
    assert Rated().inputs_of(row) == Rated()(row)["inputs"]
    assert Rated().inputs_of({"context": "[laughs]"}) == "[laughs] RESPONSE"
    lines = JsonLines(files={"train": "none"}, columns=("context", "response", "ratings"))
    task = tasks.rated_responses("rated", RatedResponses(lines))
    assert task.inputs_form == Rated()
    # One line of text: what is written follows what is read, without an end token between.
    assert [task.output_features[name].add_eos for name in ("inputs", "targets")] == [False, True]
    # What is asked stands at the end.
    assert [task.output_features[name].keeps for name in ("inputs", "targets")] == [
        "end",
        "beginning",
    ]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"response": " "}, "line 1: column 'response' has no text"),
        ({"context": []}, "column 'context' has no text"),
        ({"ratings": [1]}, "line 1: column 'ratings' is no object of ratings"),
        ({"ratings": {"SAFE": [1]}}, "column 'ratings' is no object of ratings"),
        ({"research": ["a query", "what was found"]}, "column 'research' has 2 texts: queries"),
    ],
)
def test_rows_that_cannot_be_learned_are_one_line(rows, changed, said):
    with pytest.raises(TaskError, match=said):
        rows({**NADAL, **changed}, columns=(*NADAL,), research="research")


def test_settings_that_mean_nothing_are_refused(tmp_path):
    (path := tmp_path / "x.jsonl").touch()
    lines = JsonLines(files={"train": str(path)}, columns=("context", "response", "ratings"))
    with pytest.raises(TaskError, match="names the column 'research': its source has context"):
        RatedResponses(lines, research="research")
    with pytest.raises(TaskError, match="rows_of is \\('judges',\\)"):
        RatedResponses(lines, rows_of=["judges"])
    one = RatedResponses(lines, rows_of=["generator"])
    assert one.fingerprint() != RatedResponses(lines).fingerprint()
