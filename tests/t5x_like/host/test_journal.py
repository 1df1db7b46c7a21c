"""Results of batches that are kept on disk."""

import json

import numpy as np
import pytest
from etils import epath

from t5x_like.host import journal
from t5x_like.host.journal import NO_JOURNAL, FileJournal

INPUTS = {"tokens": np.array([[1, 2], [3, 0]], np.int32)}
RESULTS = {
    "scores": np.array([0.1, -np.inf, np.float32(1) / 3], np.float32),
    "sums": np.array([1 / 3, 1e-300]),
    "rows": np.array(7, np.int32),
    "ended": np.array([[True], [False]]),
}


def opened(path, **arguments):
    return FileJournal(path, journal.read(path), **arguments)


@pytest.fixture
def path(tmp_path):
    return epath.Path(tmp_path / "below" / "5.partial.jsonl")


def never():
    raise AssertionError("it is known already")


def test_what_was_computed_is_given_again_to_the_last_bit(path):
    first = opened(path)
    assert first("greedy", INPUTS, lambda: RESULTS) is RESULTS
    again = opened(path)
    assert len(again) == 1
    found = again("greedy", {"tokens": INPUTS["tokens"].copy()}, never)
    assert found.keys() == RESULTS.keys()
    for name, wanted in RESULTS.items():
        np.testing.assert_array_equal(found[name], wanted, strict=True)
    again.remove()
    assert not path.exists() and not opened(path)


@pytest.mark.parametrize(
    ("settings", "inputs"),
    [
        ("sampling", INPUTS),
        ("greedy", {"tokens": INPUTS["tokens"] + 1}),
        ("greedy", {"tokens": INPUTS["tokens"].astype(np.int64)}),
        ("greedy", {"tokens": INPUTS["tokens"].reshape(1, 4)}),
        ("greedy", {"ids": INPUTS["tokens"]}),
    ],
)
def test_nothing_of_other_settings_or_inputs_is_given(path, settings, inputs):
    opened(path)("greedy", INPUTS, lambda: RESULTS)
    other = {"scores": np.zeros(1)}
    assert opened(path)(settings, inputs, lambda: other) is other
    assert len(opened(path)) == 2


@pytest.mark.parametrize("damage", [b"", b'{"key": "a", "val', b"\xff\xfe\n", b'{"key": "a"}\n'])
def test_a_line_that_was_cut_or_damaged_is_left_out(path, damage):
    kept = opened(path)
    for count in range(3):
        kept.put(str(count), {"count": np.array(count)})
    kept.close()
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + damage + (b"" if damage.endswith(b"\n") else lines[1][:9]))
    found = opened(path)
    assert found.get("0") is not None and found.get("1") is None and found.get("2") is None
    found.put("2", {"count": np.array(2)})  # on a line of its own
    assert [int(opened(path).get(key)["count"]) for key in ("0", "2")] == [0, 2]
    shape = json.loads(lines[0])
    shape["values"]["count"]["shape"] = [2]
    path.write_text(json.dumps(shape) + "\n")
    assert not opened(path)


def test_one_process_writes_and_all_are_given_what_is_known(path):
    opened(path)("greedy", INPUTS, lambda: RESULTS)
    other = opened(path, writes=False)
    other("greedy", INPUTS, never)
    other("sampling", INPUTS, lambda: RESULTS)
    other.remove()
    assert len(opened(path)) == 1


def test_without_a_journal_everything_is_computed():
    counts = iter(range(9))
    assert [NO_JOURNAL("a", INPUTS, lambda: {"n": next(counts)})["n"] for _ in range(2)] == [0, 1]
