"""Postprocessors: generated text to what the metrics compare."""

from tasks import postprocessors


def test_an_output_that_is_no_label_is_wrong():
    labels = postprocessors.LabelClass(("unacceptable", "acceptable"))
    outputs = ["acceptable", "unacceptable", "acceptabl", "Acceptable", ""]
    assert [labels(text, {}, False) for text in outputs] == [1, 0, -1, -1, -1]


def test_an_output_that_is_no_number_is_minus_one():
    number = postprocessors.Number()
    assert [number(t, {}, False) for t in ("3.2", "x", "nan", "inf", "")] == [3.2, -1, -1, -1, -1]


def test_the_target_of_squad_is_every_answer():
    answers = postprocessors.AllAnswers()
    assert answers("a", {"answers": [b"a", b"b"]}, True) == ["a", "b"]
    assert answers("a", {}, False) == "a"
