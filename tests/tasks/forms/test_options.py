"""Rows with options as benchmarks have them, to what is ranked."""

import numpy as np
import pytest

import tasks
from tasks import filters, forms, sources
from tasks.errors import TaskError
from tasks.forms import Options

PIQA = Options("Question: {goal}\nAnswer:", ["sol1", "sol2"])
ARC = Options("Question: {question}\nAnswer:", "text", "answerKey", label_column="labels")
# The labels are "1" and "2" in WinoGrande's files.
WINOGRANDE = Options(
    "{sentence}", ["option1", "option2"], "answer", labels=["1", "2"], blank="_", unlabelled=""
)
SENTENCE = "The trophy doesn't fit into the brown suitcase because the _ is too large."


def test_options_in_columns_follow_the_context_after_a_space():
    row = {"goal": "boil an egg", "sol1": "heat water", "sol2": "ask it", "label": 1}
    assert PIQA.columns == ("goal", "sol1", "sol2", "label")
    assert PIQA(row) == {
        "inputs": "Question: boil an egg\nAnswer:",
        "targets": "ask it",
        "contexts": ["Question: boil an egg\nAnswer:"],
        "continuations": [" heat water", " ask it"],
        "label": 1,
    }


@pytest.mark.parametrize(
    ("texts", "labels"),
    [
        ('["iron", "gold", "tin"]', '["A", "B", "C"]'),  # of a file of JSON lines
        (np.array([b"iron", b"gold", b"tin"], object), np.array([b"A", b"B", b"C"], object)),
    ],
)
def test_a_list_of_options_may_come_with_the_labels_of_each(texts, labels):
    made = ARC({"question": "Which rusts?", "text": texts, "labels": labels, "answerKey": b"C"})
    assert (made["continuations"], made["label"]) == ([" iron", " gold", " tin"], 2)
    assert made["targets"] == "tin"


def test_options_that_fill_a_blank_make_contexts_and_the_rest_is_scored():
    """The partial score of Trinh and Le 2018, as WinoGrande is evaluated."""
    row = {"sentence": SENTENCE, "option1": "trophy", "option2": "suitcase", "answer": "1"}
    made = WINOGRANDE(row)
    begin = "The trophy doesn't fit into the brown suitcase because the "
    assert made["contexts"] == [begin + "trophy", begin + "suitcase"]
    assert made["continuations"] == [" is too large."]
    assert (made["inputs"], made["targets"], made["label"]) == (
        begin + "trophy", "is too large.", 0
    )  # fmt: skip
    assert WINOGRANDE(row | {"answer": ""})["label"] == -1


@pytest.mark.parametrize(
    ("form", "row", "said"),
    [
        (PIQA, {"goal": "g", "sol1": "a", "sol2": " ", "label": 0},
         "columns sol1, sol2: option 2 of 2 has no text"),
        (PIQA, {"goal": "g", "sol1": "a", "sol2": "b", "label": 2},
         "column 'label' is '2', which is none of the 2 options' labels: they are 0, 1"),
        (ARC, {"question": "q", "text": "iron", "labels": "[]", "answerKey": "A"},
         "column 'text' is no list of texts"),
        (ARC, {"question": "q", "text": '["iron"]', "labels": '["A"]', "answerKey": "A"},
         "column 'text': 1 options, of which two or more are needed"),
        (ARC, {"question": "q", "text": '["iron", ["tin"]]', "labels": "[]", "answerKey": "A"},
         r'2 of 2 is \["tin"\]: a text or a number is needed'),
        (ARC, {"question": "q", "text": '[null, "tin"]', "labels": "[]", "answerKey": "A"},
         "column 'text', 1 of 2 is null: a text or a number is needed"),
        (WINOGRANDE, {"sentence": "It is too large.", "option1": "a", "option2": "b", "answer": 1},
         "the context 'It is too large.' has no blank '_' with text after it"),
        (WINOGRANDE, {"sentence": SENTENCE, "option1": "a", "option2": "b", "answer": "3"},
         "column 'answer' is '3', which is none of the 2 options' labels: they are 1, 2"),
    ],
)  # fmt: skip
def test_rows_that_cannot_be_ranked_are_refused(form, row, said):
    with pytest.raises(TaskError, match=said):
        form(row)


def test_settings_that_fit_no_row_are_refused():
    with pytest.raises(TaskError, match=r"Options.options is \['a'\]: the column of a list"):
        Options("{q}", ["a"])
    with pytest.raises(TaskError, match="labels and label_column: give one"):
        Options("{q}", labels=["A"], label_column="b")


ROWS = """{"q": "Which rusts?", "a": ["gold", "iron"], "y": 1}

{"q": "Which one?", "a": ["tin", " "], "y": 0}
"""


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda source: source,
        lambda source: sources.Where(source, "y", ("0", "1")),
        lambda source: sources.HoldOut(source, validation=0.0),
        lambda source: sources.Filtered(source, (filters.Length(),), "q"),
        lambda source: sources.EachAnswer(source, "a"),
    ],
    ids=["none", "where", "held out", "filtered", "each answer"],
)
def test_the_line_of_a_row_without_a_text_is_told_whatever_wraps_its_file(tmp_path, wrapped):
    """Line 3: the empty line counts, as in an editor."""
    path = tmp_path / "q.jsonl"
    path.write_text(ROWS)
    source = wrapped(sources.JsonLines(files={"train": str(path)}, columns=("q", "a", "y")))
    task = tasks.text_to_text("placed", source, forms.Options("{q}", "a", "y"))
    with pytest.raises(TaskError, match=r"q\.jsonl', line 3: column 'a': option 2 of 2 has no"):
        list(task.examples("train"))


def test_rows_that_know_no_line_are_counted():
    rows = [{"q": "x", "a": ["b", "c"], "y": "0"}, {"q": "x", "a": ["b", "c"], "y": "2"}]
    with pytest.raises(TaskError, match="split 'test', row 2: column 'y' is '2', which is none"):
        list(forms.written(forms.Options("{q}", "a", "y"), rows, "split 'test'"))
