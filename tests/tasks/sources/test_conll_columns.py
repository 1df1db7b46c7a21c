"""CoNLL's columns: sentences of a word a line."""

import json

import pytest

from tasks import sources
from tasks.errors import TaskError


def rows(tmp_path, text, **options):
    path = tmp_path / "x.conll"
    path.write_text(text, encoding="utf-8")
    source = sources.ConllColumns(files={"train": str(path), "test": []}, **options)
    assert source.splits == ("train",) and source.columns == ("words", "tags")
    return [(json.loads(row["words"]), json.loads(row["tags"])) for row in source.rows("train")]


def test_an_empty_line_or_a_document_ends_a_sentence(tmp_path):
    """CoNLL-2003's four columns, the tag in the last."""
    text = (
        "-DOCSTART- -X- -X- O\n\nEU NNP B-NP B-ORG\nrejects VBZ B-VP O\n\n\n"
        "Peter NNP B-NP B-PER\n-DOCSTART- -X- -X- O\n\nÜber NN O O\n"
    )
    assert rows(tmp_path, text) == [
        (["EU", "rejects"], ["B-ORG", "O"]), (["Peter"], ["B-PER"]), (["Über"], ["O"]),
    ]  # fmt: skip
    assert rows(tmp_path, text, tag_column=1)[0][1] == ["NNP", "VBZ"]


def test_tabs_divide_where_there_are_any_and_a_line_of_tabs_is_empty(tmp_path):
    """WNUT 2017's files; a word may have a space."""
    text = "New York\tB-location\n's\tO\n\t\nESB\tB-location\r\n"
    assert rows(tmp_path, text) == [
        (["New York", "'s"], ["B-location", "O"]), (["ESB"], ["B-location"]),
    ]  # fmt: skip


def test_a_sentence_is_where_its_first_word_is(tmp_path):
    (tmp_path / "x.conll").write_text("\na O\nb O\n\n\nc O\n")
    source = sources.ConllColumns(files={"train": f"{tmp_path}/x.conll"})
    assert [row.place.split(", ")[1] for row in source.rows("train")] == ["line 2", "line 6"]


def test_columns_and_comments_are_chosen(tmp_path):
    """CoNLL-U's: the word is the second column, its part of speech the fourth."""
    text = "# sent_id = 1\n1\tDogs\tdog\tNOUN\n2\tbark\tbark\tVERB\n"
    options = {"word_column": 1, "tag_column": 3, "comment": "#"}
    assert rows(tmp_path, text, **options) == [(["Dogs", "bark"], ["NOUN", "VERB"])]


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("a x O\nb O\n", {}, r"x\.conll', line 2 has 2 columns, but line 1 has 3: give every"),
        ("a O\n\nb\n", {}, "line 3 has 1 column, but line 1 has 2"),
        ("a\n", {}, "line 1 has 1 column: a word and its tag are needed"),
        ("a O\n", {"tag_column": 3}, "line 1 has 2 columns: word_column is 0 and tag_column 3"),
        ("\n\n", {}, r"x\.conll' is empty"),
    ],
)
def test_a_ragged_file_is_refused_with_its_line(tmp_path, text, options, said):
    with pytest.raises(TaskError, match=said):
        rows(tmp_path, text, **options)
