"""C4's rules: the versions that were published, a page that tells them apart, and TFDS's code."""

import re
from collections import Counter

import pytest

from tasks.errors import TaskError
from tasks.filters import C4, sentences

PAGE = "\n".join(
    [
        "We use cookies to serve you well.",
        "Menu",
        "The cat sat on the mat. It purred.",
        "Read all of it here...",
        "Yes it is.",
        'He said "stop now please"',
    ]
)
CAT, STOP = PAGE.splitlines()[2], PAGE.splitlines()[5]


def filtered(text, **settings):
    reasons = Counter()
    return C4(**settings)(text, reasons), dict(reasons)


def test_the_released_code_keeps_two_lines_of_three_sentences():
    assert filtered(PAGE) == (
        f"{CAT}\n{STOP}",
        {"line: policy": 1, "line: no mark at its end": 2, "line: too few words": 1},
    )


def test_the_first_printed_text_keeps_all_but_the_menu():
    kept, reasons = filtered(PAGE, version="jmlr")
    assert kept == PAGE.replace("Menu\n", "")  # of 1 + 2 + 1 + 1 + 1 sentences
    assert reasons == {"line: no mark at its end": 1}


def test_datatrove_keeps_three_lines_of_four_sentences_and_so_not_the_page():
    kept, reasons = filtered(PAGE, version="datatrove")
    assert kept is None and reasons["document: too few sentences"] == 1
    assert filtered(PAGE, version="datatrove", min_sentences=4)[0] == f"{CAT}\nYes it is.\n{STOP}"


def test_todays_text_wants_five_words_and_takes_an_ellipsis():
    kept, reasons = filtered(PAGE, version="arxiv")
    assert kept == f"{CAT}\nRead all of it here...\n{STOP}"
    assert reasons == {
        "line: policy": 1,
        "line: no mark at its end": 1,
        "line: too few words": 1,
    }


@pytest.mark.parametrize("version", ["tfds", "datatrove"])
def test_code_is_met_only_in_lines_that_survive(version):
    """`{` in a menu drops nothing there, and the whole page by the paper's text."""
    page = "menu {\n" + "One sentence has five words. " * 6
    assert filtered(page, version=version)[0] is not None
    assert filtered(page, version="arxiv") == (None, {"document: curly bracket": 1})
    assert filtered("A line { that has survived so far.", version=version)[0] is None


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("It has five words now[1].", None),
        ("Only four words[citation needed] here.", "too few words"),
        ("You must enable JavaScript for this page.", "javascript"),
        (f"This line has one {'x' * 1001} word.", "a word that is too long"),
        (f"This line has one {'x' * 1000} word.", None),
        ("Our Privacy Policy is to be read.", "policy"),
        ("It ends in nothing but words", "no mark at its end"),
    ],
)
def test_each_rule_of_a_line(line, reason):
    kept, reasons = filtered(line, min_sentences=0)
    assert reasons == ({} if reason is None else {f"line: {reason}": 1})
    assert kept == ("" if reason else re.sub(r"\[.*?\]", "", line))


def test_citations_count_as_words_where_they_are_cut_later():
    line = "Two words [1]."
    assert filtered(line, version="datatrove", min_sentences=1)[0] == "Two words ."
    assert filtered(line, min_words=3, min_sentences=1)[0] == "Two words ."


def test_lorem_ipsum_drops_the_page():
    assert filtered("He wrote Lorem ipsum dolor sit amet.") == (None, {"document: lorem ipsum": 1})


HANDMADE = [
    PAGE,
    "",
    "One two three four five. Six seven. Eight?\n\n  An indented line of six words!  ",
    "javascript { is needed for this line.\nA { line of five words.",
    'He said "one". She said "two". They all said "three".\nlorem ipsum',
    "[edit] A line that begins so.[12] It has[] two sentences. And a third one.",
    "Trailing ellipsis is cut out...\nBut this line stays here. And it has friends. Three.",
]


@pytest.mark.parametrize("page", HANDMADE)
def test_equal_to_the_released_code_line_for_line(page, monkeypatch):
    from tensorflow_datasets.text import c4_utils as utils

    monkeypatch.setattr(utils, "_get_sentences", lambda line: range(sentences.by_marks(line)))
    found = list(
        utils.get_clean_page_fn()(utils.PageFeatures(text=page), counter_inc_fn=lambda *_: None)
    )
    assert filtered(page)[0] == (found[0].text if found else None)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("One.", 1),
        ("One. Two! Three?", 3),
        ("No mark", 1),
        ('He said "go." Then he went.', 2),
        ("Dr. Smith met J. R. R. Tolkien, i.e. the author. They spoke.", 2),
        ("It costs 3.50 today. Yes.", 2),
        ("Wait... what?! Yes.", 3),
    ],
)
def test_sentences_end_in_marks(text, count):
    assert sentences.by_marks(text) == count


def test_a_version_that_is_not_there_is_refused():
    with pytest.raises(TaskError, match=r"'2020': there are tfds, jmlr, arxiv, datatrove\.$"):
        C4(version="2020")
    with pytest.raises(TaskError, match="sentences is 'spacy'"):
        C4(sentences="spacy")
