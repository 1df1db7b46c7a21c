"""The counts that `make reliability` prints."""

import importlib.util
import json
from pathlib import Path

import pytest

SPEC = importlib.util.spec_from_file_location("table", Path(__file__).with_name("table.py"))
table = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(table)


def write(path, *records):
    path.write_text(
        "".join(
            json.dumps(dict(zip(("kind", "times", "what"), r, strict=True))) + "\n" for r in records
        )
    )
    return path


def test_counts_are_sums_over_tests_and_written_between_the_marks(tmp_path, capsys):
    tally = write(tmp_path / "tally", ("kills", 20, "a"), ("kills", 3, "b"), ("faults", 1, "c"))
    document = tmp_path / "reliability.md"
    document.write_text(f"before {table.BEGIN} old {table.END} after")
    table.main([str(tally), "--write", str(document)])
    assert "     23  kills survived" in capsys.readouterr().out
    written = document.read_text()
    assert "| 23 |" in written and "old" not in written
    assert written.startswith("before ") and written.endswith(" after")


def test_a_count_of_no_kind_is_refused(tmp_path):
    tally = write(tmp_path / "tally", ("mishaps", 1, "a"))
    with pytest.raises(ValueError, match="'mishaps', which is no kind"):
        table.counts(tally)
