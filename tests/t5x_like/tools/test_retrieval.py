"""Passages of files by BM25, against the formula with numbers by hand."""

import math

import pytest

from t5x_like.errors import UserError
from t5x_like.tools import Retrieval


@pytest.fixture
def notes(tmp_path):
    (tmp_path / "a.txt").write_text(
        "The tower was built\nin 1889.\n\nThe tower is in Paris, and Paris is in France.\n\n\n"
    )
    (tmp_path / "b.jsonl").write_text(
        '{"text": "Nadal is 35.", "url": "https://x.org/n"}\n\n{"text": "A lake."}\n'
    )
    return tmp_path


def test_the_best_passages_come_first_with_their_addresses(notes):
    find = Retrieval([str(notes / "*.txt"), str(notes / "b.jsonl")])
    paris, built = "The tower is in Paris, and Paris is in France.", "The tower was built in 1889."
    assert find("Which tower is in PARIS?") == [paris, built, "Nadal is 35. https://x.org/n"]
    assert find("nadal") == ["Nadal is 35. https://x.org/n"]
    assert find("unheard of") == find("") == find("?") == []
    assert Retrieval(str(notes / "*"), results=1)("tower") == [built]  # the shorter of two


def test_the_order_is_that_of_bm25(tmp_path):
    passages = ["a b", "a a c c c c", "b c", "d d d"]
    (tmp_path / "x.txt").write_text("\n\n".join(passages))

    def score(passage, query, k1, b):  # with 13 words in 4 passages
        total = 0.0
        for word in query:
            n = sum(word in other.split() for other in passages)
            f, length = passage.split().count(word), len(passage.split()) / (13 / 4)
            idf = math.log(1 + (4 - n + 0.5) / (n + 0.5))
            total += idf * f * (k1 + 1) / (f + k1 * (1 - b + b * length))
        return total

    orders = set()
    for k1, b in ((1.2, 0.75), (1.2, 0.0), (5.0, 0.1)):
        for query in ("a", "c", "abc", "aac"):
            expected = sorted(passages, key=lambda one: -score(one, query, k1, b))
            expected = [one for one in expected if score(one, query, k1, b) > 0]
            find = Retrieval([str(tmp_path / "x.txt")], results=9, k1=k1, b=b)
            assert find(" ".join(query)) == expected
            orders.add((query, *expected))
    assert len(orders) > 4  # the constants matter


def test_long_passages_are_cut(tmp_path):
    (tmp_path / "x.txt").write_text("one two three four five")
    assert Retrieval([str(tmp_path / "x.txt")], most_words=2)("three five") == [
        "five",
        "three four",
    ]


def test_files_that_cannot_be_read_are_one_line(notes):
    (notes / "bad.jsonl").write_text('{"title": "x"}\n')
    (notes / "empty.txt").write_text("\n \n")
    for files, said in (
        ([], "files is empty"),
        (["nowhere/*.txt"], "no file is called 'nowhere/\\*.txt'"),
        ([str(notes / "bad.jsonl")], "line 1 is no JSON object with a text 'text'"),
        ([str(notes / "empty.txt")], "no text in"),
    ):
        with pytest.raises(UserError, match=said):
            Retrieval(files)("x")
    with pytest.raises(UserError, match="results is 0"):
        Retrieval(["x"], results=0)
