"""Splits made from one, by a hash of the text."""

import itertools

import pytest

from tasks import sources
from tasks.errors import TaskError


def texts(source, split="train"):
    return [row["text"] for row in source.rows(split)]


def test_held_out_rows_are_a_share_that_more_files_do_not_move(tmp_path):
    (tmp_path / "1.txt").write_text("\n".join(f"line {i}" for i in range(2000)))
    lines = sources.TextFiles(files={"train": str(tmp_path / "*.txt")}, separator="\n")
    source = sources.HoldOut(lines, validation=0.1, test=0.05)
    parts = {split: texts(source, split) for split in source.splits}
    assert sorted(itertools.chain(*parts.values())) == sorted(texts(lines))
    # Binomial with 2000 x 0.1: standard deviation 13.
    assert abs(len(parts["validation"]) - 200) < 60
    before = source.fingerprint()
    (tmp_path / "2.txt").write_text("another\nline 7\n")
    assert set(parts["validation"]) <= set(texts(source, "validation"))
    assert source.fingerprint() != before
    with pytest.raises(TaskError, match=r"\(HELD_OUT\) .* shares of 0 or more that leave"):
        sources.HoldOut(lines, validation=1.0)


def test_nothing_is_held_out_where_nothing_is_asked_for(tmp_path):
    (tmp_path / "1.txt").write_text("one\ntwo\n")
    lines = sources.TextFiles(files={"train": str(tmp_path / "1.txt")}, separator="\n")
    source = sources.HoldOut(lines, validation=0)
    assert source.splits == ("train",)
    assert texts(source) == ["one", "two"]
