"""Rules that reward answers, and rows to try them with."""

import numpy as np
import pytest

from tasks.alignment.rewards import balanced_brackets
from tasks.errors import TaskError
from tasks.sources import Brackets


def test_an_answer_that_closes_all_brackets_in_their_order_is_worth_one():
    answers = {"([": {"])": 1, ")]": 0, "]": 0, "])]": 0, "](])": 0, "]()) ": 0, "]())": 1, "": 0}}
    for prompt, worth in answers.items():
        found = balanced_brackets([prompt] * len(worth), list(worth))
        assert dict(zip(worth, found, strict=True)) == worth


def test_about_one_attempt_in_ten_is_right():
    rows = list(Brackets(rows_in_all=2000).rows("train"))
    assert len(rows) == 1920
    assert all(2 <= len(row["opened"]) <= 6 and set(row["opened"]) <= set("([") for row in rows)
    right = balanced_brackets([row["opened"] for row in rows], [row["closed"] for row in rows])
    # A bracket is closed rightly three times in ten, and else by one draw in three.
    share = 0.3 + 0.7 / 3
    expected = np.mean([share**depth for depth in range(2, 7)])
    assert abs(np.mean(right) - expected) < 4 * np.sqrt(expected / 1920)


def test_rows_are_the_same_each_time_and_of_one_split():
    source = Brackets(rows_in_all=100)
    train, held_out = (list(source.rows(split)) for split in ("train", "validation"))
    assert list(source.rows("train")) == train and (len(train), len(held_out)) == (96, 4)
    assert source.fingerprint() != Brackets(rows_in_all=200).fingerprint()
    with pytest.raises(TaskError, match="fewest 3, most 2"):
        Brackets(fewest=3, most=2)
