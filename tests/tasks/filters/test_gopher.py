"""Gopher's rules at the numbers of its appendix, each by a text that only this rule drops."""

from collections import Counter

import pytest

from tasks.filters import GopherQuality, GopherRepetition, gopher

WORDS = ["the", "cat", "and", "that", "other", "one", "have", "gone", "to", "sea", "with", "him"]
PROSE = " ".join(WORDS * 5)  # 60 words


def reason_of(one, text):
    reasons = Counter()
    kept = one(text, reasons)
    assert kept in (text, None) and (kept is None) == bool(reasons)
    return next(iter(reasons), "").removeprefix("document: ")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (PROSE, ""),
        (" ".join(WORDS * 4), "too few words"),  # 48
        ("the of " * 30, "words too short"),  # of 2.5 characters
        (" ".join(["the", "of"] + ["x" * 12] * 58), "words too long"),
        # 12 numbers among 50 words: 0.76 < 0.8.
        (" ".join(WORDS * 3 + ["seas", "gone"] + ["1234"] * 12), "too few words with a letter"),
        (" ".join(["cats", "seas"] * 30), "too few stop words"),
        (PROSE + " #" * 7, "too many hash signs"),
        (PROSE + " ..." * 4 + " …" * 3, "too many ellipses"),
        ("\n".join(f"- {word} another" for word in WORDS * 5), "too many bullets"),
        ("\n".join([" ".join(WORDS * 4)] + ["that one ..."] * 3 + ["so"]),
         "too many lines end in an ellipsis"),
    ],
)  # fmt: skip
def test_quality(text, reason):
    assert reason_of(GopherQuality(), text) == reason


def distinct(count, start=0):
    """Words none of which repeats, and so no sequence of them."""
    return [f"word{start + i}" for i in range(count)]


LINES = [" ".join(distinct(6, 10 * i)) for i in range(10)]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("\n".join(LINES), ""),
        ("\n".join(LINES[:6] + ["a"] * 5), "lines repeat"),  # 4 copies of 11: .36
        ("\n".join(LINES[:7] + ["b"] * 4), ""),  # 3 of 11: .27
        ("\n\n".join(LINES[:6] + ["a"] * 5), "paragraphs repeat"),
        ("\r\n\r\n".join(LINES), ""),
        ("\r\n\r\n".join(LINES[:6] + ["a"] * 5), "paragraphs repeat"),
        # One copy of ten, but a third of the characters.
        ("\n".join([" ".join(distinct(30))] * 2 + LINES[4:8]), "lines repeat"),
        ("buy now " * 3 + "buy now", "2 words repeat"),  # 28 of 31 characters
        (" ".join(["so it is", *distinct(3), "so it is", *distinct(4, 3)]), "3 words repeat"),
    ],
)
def test_repetition(text, reason):
    assert reason_of(GopherRepetition(), text) == reason


def test_characters_of_sequences_by_hand():
    words = ["buy", "now", "buy", "now", "buy", "now", "buy", "now"]
    assert gopher.top_sequence_characters(words, 2) == 28
    assert gopher.top_sequence_characters(distinct(9), 2) == 0
    # After the first `a b c` two copies, `x` between them; `b c a` never stands twice apart.
    assert gopher.repeated_characters(["a", "b", "c", "a", "b", "c", "x", "a", "b", "c"], 3) == 6
    assert gopher.copies_among(["a", "bb", "bb", "a", "bb"]) == (3, 5)
