"""Opinions that are made: their shares, their sentiment, and which of two is preferred."""

import json

import numpy as np
import pytest

from tasks.alignment.rewards import positive_opinion
from tasks.errors import TaskError
from tasks.sources import Opinions


@pytest.fixture(scope="module")
def rows():
    return list(Opinions(rows_in_all=2000).rows("train"))


def test_as_many_sentences_are_positive_as_was_asked_for(rows):
    share = np.mean([row["sentiment"] == "positive" for row in rows])
    assert abs(share - 0.3) < 4 * np.sqrt(0.3 * 0.7 / len(rows))
    assert all(row["sentence"] == row["opening"] + row["continuation"] for row in rows)
    assert all(Opinions.sentiment(row["continuation"]) == row["sentiment"] for row in rows)
    turned = np.mean([" never " in row["sentence"] for row in rows])
    assert 0.25 < turned < 0.45  # a quarter of one or two adjectives


def test_the_positive_one_of_two_completions_is_ranked_first(rows):
    for row in rows:
        ranks, completions = (json.loads(row[name]) for name in ("ranks", "completions"))
        by_rank = dict(zip(ranks, completions, strict=True))
        assert [Opinions.sentiment(by_rank[rank]) for rank in (0, 1)] == ["positive", "negative"]
    assert 0.4 < np.mean([json.loads(row["ranks"])[0] for row in rows]) < 0.6


def test_the_rule_reads_never_and_what_is_no_opinion():
    answers = {
        " rather witty.": 1, " witty and never dull.": 1, " never dull.": 1, " never witty.": 0,
        " dull.": 0, " witty and dull.": 0, " witty": 0, "witty.": 0, " very witty.": 0, "": 0,
        " witty and .": 0, " rather never dull.": 0,
    }  # fmt: skip
    found = positive_opinion(["the plot is"] * len(answers), list(answers))
    assert dict(zip(answers, found, strict=True)) == answers


def test_rows_are_the_same_each_time_and_of_one_split():
    source = Opinions(rows_in_all=100, most=1)
    train, held_out = (list(source.rows(split)) for split in source.splits)
    assert list(source.rows("train")) == train and (len(train), len(held_out)) == (96, 4)
    assert all(" and " not in row["sentence"] for row in train)
    assert tuple(train[0]) == source.columns
    assert source.fingerprint() != Opinions(rows_in_all=100).fingerprint()
    with pytest.raises(TaskError, match=r"Opinions has .*positive 1.5 .* shares from 0 to 1"):
        Opinions(positive=1.5)
