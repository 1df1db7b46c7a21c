"""Text-to-text forms, word for word as T5 wrote them (Raffel et al. 2020, appendix D)."""

import re

import numpy as np
import pytest

import tasks
from tasks import forms, generation
from tasks.errors import TaskError
from tasks.glue import glue


def glue_form(name):
    return glue.TASKS[name].form(name)


@pytest.mark.parametrize(
    ("name", "row", "inputs", "targets"),
    [
        (
            "cola",
            {"sentence": b"John made Bill master of himself.", "label": np.int64(1)},
            "cola sentence: John made Bill master of himself.",
            "acceptable",
        ),
        (
            "rte",
            {"sentence1": "A.", "sentence2": "B.", "label": 1},
            "rte sentence1: A. sentence2: B.",
            "not_entailment",
        ),
        (
            "mnli",
            {"hypothesis": "H.", "premise": "P.", "label": 2},
            "mnli hypothesis: H. premise: P.",
            "contradiction",
        ),
        (
            "qnli",
            {"question": "Q?", "sentence": "S.", "label": 0},
            "qnli question: Q? sentence: S.",
            "entailment",
        ),
        (
            "qqp",
            {"question1": "A?", "question2": "B?", "label": 0},
            "qqp question1: A? question2: B?",
            "not_duplicate",
        ),
        (
            "mrpc",
            {"sentence1": "A.", "sentence2": "B.", "label": 1},
            "mrpc sentence1: A. sentence2: B.",
            "equivalent",
        ),
        ("sst2", {"sentence": "fine", "label": 0}, "sst2 sentence: fine", "negative"),
        (
            "wnli",
            {"sentence1": "A.", "sentence2": "B.", "label": 1},
            "wnli sentence1: A. sentence2: B.",
            "entailment",
        ),
    ],
)
def test_glue_is_written_as_t5_wrote_it(name, row, inputs, targets):
    assert glue_form(name)(row) == {"inputs": inputs, "targets": targets}


def test_a_test_set_without_labels_has_unknown_targets():
    example = glue_form("sst2")({"sentence": "fine", "label": -1})
    assert example["targets"] == "<unk>"


@pytest.mark.parametrize(
    ("score", "text"),
    # 2.5 x 5 = 12.5 lies in the middle: halves go to the even neighbour, 12.
    [(3.25, "3.2"), (0.0, "0.0"), (4.99, "5.0"), ("2.5", "2.4"), (np.float32(1.8), "1.8")],
)
def test_similarity_is_rounded_to_the_nearest_fifth(score, text):
    example = forms.Similarity()({"sentence1": "A.", "sentence2": "B.", "label": score})
    assert example == {"inputs": "stsb sentence1: A. sentence2: B.", "targets": text}


def test_translation_names_the_languages():
    form = generation.translation("en", "de")
    row = {"en": "That is good.", "de": "Das ist gut."}
    assert form(row) == {
        "inputs": "translate English to German: That is good.",
        "targets": "Das ist gut.",
    }


def test_squad_pads_punctuation_and_keeps_all_answers():
    row = {
        "question": "What's it?",
        "context": "It is 3.5  km\nlong.",
        "answers/text": np.array([b"3.5 km", b"3.5"], object),
    }
    # Spaces around every character that is no word character, then runs of space are one.
    assert forms.Squad()(row) == {
        "inputs": "question: What ' s it ? context: It is 3 . 5 km long . ",
        "targets": "3 . 5 km",
        "answers": ["3 . 5 km", "3 . 5"],
    }


def test_a_summary_begins_with_summarize():
    task = tasks.get_mixture_or_task("cnn_dailymail")
    row = {"article": "Long.", "highlights": "Short."}
    assert task.form(row) == {"inputs": "summarize: Long.", "targets": "Short."}


def test_braces_in_values_are_left_alone_and_doubled_ones_are_braces():
    form = forms.Template("{{x}} {code}", "{code}!")
    assert form({"code": "{a} {{b}}"}) == {"inputs": "{x} {a} {{b}}", "targets": "{a} {{b}}!"}


def test_template_mistakes_are_one_line():
    with pytest.raises(TaskError, match=r"column 'y' is '2', which has no word"):
        forms.Template("{x}", "{y}", words={"y": {"0": "no"}})({"x": "a", "y": 2})
    with pytest.raises(TaskError, match="names 'z', which neither template uses: they use x, y"):
        forms.Template("{x}", "{y}", words={"z": {"0": "no"}})
    for part in ("{}", "{y:.1f}", "{y!r}", "{y!r:>5}"):
        with pytest.raises(TaskError, match=re.escape(f"'{part}' is not the name of a column")):
            forms.Template("{x}", f"a {part}").columns  # noqa: B018
    with pytest.raises(TaskError, match="double a literal brace"):
        _ = forms.Template("{x", "{y}").columns
    with pytest.raises(TaskError, match="column 'label' is 'high': a number is needed"):
        forms.Similarity()({"sentence1": "A.", "sentence2": "B.", "label": "high"})


@pytest.mark.parametrize("value", [None, float("nan"), np.float32("inf")])
def test_a_value_that_is_missing_is_no_text(value):
    with pytest.raises(TaskError, match="where a text or a number is needed"):
        forms.PlainText("text")({"text": value})


@pytest.mark.parametrize(
    ("form", "begin", "columns"),
    [
        (forms.Template("ask: {{{q}}} of {c}", "{a}"), "ask: {", ("q", "c")),
        (forms.Template("{q}?", "{a}"), "", ("q",)),
        (forms.Template("say it", "{a}"), "say it", ()),
        (forms.Squad(), "question: ", ("question", "context")),
        (forms.Similarity(), "stsb sentence1: ", ("sentence1", "sentence2")),
    ],
)
def test_inputs_are_written_without_what_is_to_be_found(form, begin, columns):
    row = {"q": "who", "c": "all", "a": "me", "question": "Who?", "context": "Us.", "label": 3.25}
    row |= {"sentence1": "A.", "sentence2": "B.", "answers/text": ["we"]}
    assert (form.inputs_begin, form.input_columns) == (begin, columns)
    inputs = form.inputs_of({column: row[column] for column in columns})
    assert inputs == form(row)["inputs"]
    assert inputs.startswith(begin)


def test_a_task_says_how_its_inputs_are_written_unless_an_objective_writes_them():
    task = tasks.get_mixture_or_task("glue_cola")
    assert task.inputs_form.inputs_of({"sentence": "Go."}) == "cola sentence: Go."
    assert tasks.get_mixture_or_task("stdlib_lm").inputs_form is None
