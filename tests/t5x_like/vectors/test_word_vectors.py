"""Neighbours and analogies of vectors that are known, and their files."""

import gzip

import numpy as np
import pytest

from t5x_like.errors import UserError
from t5x_like.vectors import WordVectors, read_vectors, write_vectors

# Royalty is the second axis, and sex the first.
KINGS = WordVectors(
    ("man", "woman", "king", "queen", "apple"),
    np.array([(1, 0, 1), (-1, 0, 1), (2, 6, 2), (-1, 3, 1), (0.5, -1, 9)]),
)


def test_neighbours_are_by_cosine_whatever_the_lengths():
    found = KINGS.neighbours("man", 2)
    # man · king / (sqrt 2 sqrt 44) = 4 / 9.3808; man · apple = 9.5 / (sqrt 2 sqrt 82.25).
    assert found["word"].tolist() == ["apple", "king"]
    np.testing.assert_allclose(found["similarity"], [0.740698, 0.426401], atol=1e-6)
    assert KINGS.neighbours(np.array([-1, 2, 0]), 1)["word"].tolist() == ["queen"]
    assert len(KINGS.neighbours("man", 100)) == 4
    for count in (0, 2.5):
        with pytest.raises(UserError, match=f"count is {count}: 1 or more"):
            KINGS.neighbours("man", count)


def test_man_is_to_king_as_woman_is_to_queen():
    assert KINGS.analogy("man", "king", "woman")["word"].tolist() == ["queen"]


QUESTIONS = """: family
man king woman queen
MAN King woman QUEEN
king man queen woman
: fruit
man king pear queen
"""


def test_analogies_are_counted_by_section(tmp_path):
    path = tmp_path / "questions.txt"
    path.write_text(QUESTIONS)
    found = KINGS.analogies(path).set_index("section")
    assert found.loc["family"].tolist() == [2, 3, 0, pytest.approx(200 / 3)]
    assert found.loc["fruit"][:3].tolist() == [0, 0, 1] and np.isnan(found.loc["fruit", "accuracy"])
    assert found.loc["total"].tolist() == [2, 3, 1, pytest.approx(200 / 3)]
    told_apart = KINGS.analogies(path, case_sensitive=True).set_index("section")
    assert told_apart.loc["family"][:3].tolist() == [1, 2, 1]
    assert KINGS.analogies(path, most_frequent=3)["questions"].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (": family\nman king woman\n", "line 2, has 3 words: an analogy has four"),
        (": family\n", "has no analogies"),
    ],
)
def test_a_file_without_analogies_is_told_in_a_line(content, said, tmp_path):
    path = tmp_path / "questions.txt"
    path.write_text(content)
    with pytest.raises(UserError, match=said):
        KINGS.analogies(path)


def test_what_has_no_vector_is_told_in_a_line(tmp_path):
    with pytest.raises(UserError, match="'pear' is none of the 5 words that have a vector"):
        KINGS.neighbours("pear")
    with pytest.raises(UserError, match="count is 0"):
        KINGS.neighbours("man", 0)
    with pytest.raises(UserError, match="questions-words"):
        KINGS.analogies(tmp_path / "none.txt")
    with pytest.raises(UserError, match=r"2 words have vectors of the shape \[1, 2\]"):
        WordVectors(("a", "b"), np.zeros((1, 2)))


# -- Files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["v.txt", "v.txt.gz"])
@pytest.mark.parametrize("form", ["word2vec", "glove"])
def test_what_is_written_is_read_to_the_last_digit(form, name, tmp_path):
    rng = np.random.default_rng(0)
    vectors = WordVectors(("the", "5", "naïve"), rng.standard_normal((3, 4)))
    write_vectors(vectors, tmp_path / name, form)
    content = (tmp_path / name).read_bytes()
    lines = (gzip.decompress(content) if name.endswith("gz") else content).decode().splitlines()
    assert lines[0] == "3 4" if form == "word2vec" else lines[0].startswith("the ")
    again = read_vectors(tmp_path / name)
    assert again.words == ("the", "5", "naïve")
    np.testing.assert_array_equal(again.vectors, vectors.vectors)


@pytest.mark.parametrize("head", ["", "2 2\n"])
def test_a_mark_of_byte_order_is_no_part_of_the_first_word(tmp_path, head):
    path = tmp_path / "v.txt"
    path.write_bytes(f"\ufeff{head}the 1 2\nof 3 4\n".encode())
    assert read_vectors(path).words == ("the", "of")


def test_files_of_the_programs_are_read_as_they_write_them(tmp_path):
    # word2vec.c ends each line with a space; GloVe has words with white space in them.
    (tmp_path / "w").write_text("2 2\n</s> 0.25 -1.000000 \nthe 1e-3 2 \n")
    (tmp_path / "g").write_text("the 1 2\n. . 3 4\n")
    (tmp_path / "n").write_text("5 3\n6 4\n")
    assert read_vectors(tmp_path / "w").vectors.tolist() == [[0.25, -1], [np.float32(1e-3), 2]]
    assert read_vectors(tmp_path / "g").words == ("the", ". .")
    assert read_vectors(tmp_path / "n")["6"] == [4]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "has no vectors"),
        (b"0 5\n", "has no vectors"),
        (b"the 1 2\na 1\n", "line 2, has 1 numbers, where 2 are needed"),
        (b"the 1 2\na 1 2 3\n", "line 2, has 3 numbers, where 2 are needed"),
        (b"3 2\nthe 1 2\na 1 2\n", "has 2 vectors, and says in its first line that there are 3"),
        (b"2 3\nthe 1 2\na 1 2\n", "line 2, has 2 numbers, where 3 are needed"),
        (b"the 1 x\n", "line 1, is no vector"),
        (b"the 1 2\na nan 1\n", "line 2, has numbers that are not finite"),
        (b"3 2\nthe \xff\xfe\n", "is no text: word2vec's binary files are not read"),
    ],
)
def test_a_file_that_holds_no_vectors_is_told_in_a_line(content, said, tmp_path):
    (tmp_path / "v").write_bytes(content)
    with pytest.raises(UserError, match=said):
        read_vectors(tmp_path / "v")


def test_a_damaged_gzip_file_is_told_in_a_line(tmp_path):
    packed = gzip.compress(b"".join(b"word%d %d\n" % (i, i * i) for i in range(50)))
    (tmp_path / "v.gz").write_bytes(packed[:30] + b"\xff\xff\xff\xff" + packed[34:])
    with pytest.raises(UserError, match=r"v\.gz' cannot be read"):
        read_vectors(tmp_path / "v.gz")


def test_of_a_word_that_is_there_twice_the_first_counts_and_this_is_said(tmp_path):
    (tmp_path / "v").write_text("the 1 2\na 1 2\nthe 3 4\n")
    with pytest.warns(UserWarning, match="1 words of .* are there twice: the first counts"):
        found = read_vectors(tmp_path / "v")
    assert found.words == ("the", "a") and found["the"].tolist() == [1, 2]


def test_a_word_that_a_line_cannot_hold_leaves_no_file(tmp_path):
    with pytest.raises(UserError, match="the word 'a b' cannot be written"):
        write_vectors(WordVectors(("a b",), np.ones((1, 2))), tmp_path / "v")
    with pytest.raises(UserError, match="form is 'text'"):
        write_vectors(KINGS, tmp_path / "v", "text")
    with pytest.raises(UserError, match="cannot be written"):
        write_vectors(KINGS, "/proc/none/v")
    with pytest.raises(UserError, match="is not there"):
        read_vectors(tmp_path / "v")
