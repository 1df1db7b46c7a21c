"""Rows with certain values."""

import pytest

from tasks.errors import TaskError
from tasks.sources import TabSeparated, Where


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "rows.tsv"
    path.write_text("a\t1\nb\t0\nc\t-1\nd\t1\n")
    files = {split: str(path) for split in ("train", "validation")}
    return TabSeparated(files=files, columns=("text", "label"))


def test_rows_with_the_values_are_kept_in_the_splits_that_are_named(source):
    right = Where(source, "label", ("1",), only_in=("train",))
    assert [row["text"] for row in right.rows("train")] == ["a", "d"]
    assert [row["text"] for row in right.rows("validation")] == ["a", "b", "c", "d"]
    labelled = Where(source, "label", ["0", "1"])
    assert [row["text"] for row in labelled.rows("validation")] == ["a", "b", "d"]
    assert labelled == Where(source, "label", ("0", "1"))
    assert right.splits == source.splits and right.columns == source.columns
    assert list(right.rows("train", ())) == []


def test_mistakes_are_one_line(source):
    with pytest.raises(TaskError, match=r"Where\.column is 'mark': its source has text, label"):
        Where(source, "mark", ("1",))
    with pytest.raises(TaskError, match=r"Where\.values is '1': a list of what 'label' has"):
        Where(source, "label", "1")
    assert "no row has one of 2 in its column 'label'" in Where(source, "label", ("2",)).why_empty(
        "train"
    )
