"""Random and spoiled JSONL and TSV files: rows, or one line that says which line is wrong."""

import json

import pytest
from hypothesis import strategies as st

from tasks.sources import JsonLines, TabSeparated
from tests.reliability import mutations

DEPTHS = [150, pytest.param(600, marks=pytest.mark.slow)]
OBJECTS = [{"text": "Many hands", "label": 1}, {"text": "é\u2028\n\t", "label": None}]
JSONL = "".join(json.dumps(value) + "\n" for value in OBJECTS).encode()
JSON_TOKENS = (b"{", b"}", b"[", b'"', b"\\u", b"\\ud800", b"\n", b"\r", b"\x00", b"\xff", b"NaN",
               b"1e999", b"[" * 5000, "\u2028".encode(), b"\xef\xbb\xbf")  # fmt: skip
TSV = b"sentence\tlabel\nMany hands\t1\nStill waters\t0\n"
TSV_TOKENS = (b"\t", b"\n", b"\r\n", b"\x00", b"\xff", b'"', "\x85".encode(), "\u2028".encode())


def reading(source, path):
    """Writes what is given and reads it all; the rows must be texts of the named columns."""

    def check(content):
        path.write_bytes(content)
        for row in source(files={"train": str(path)}).rows("train"):
            assert list(row) == list(source(files={}).columns)
            assert all(isinstance(value, str) for value in row.values())

    return check


@pytest.fixture
def read_jsonl(tmp_path):
    return reading(lambda files: JsonLines(files=files, columns=("text", "label")), tmp_path / "a")


@pytest.fixture
def read_tsv(tmp_path):
    columns = ("sentence", "label")
    return reading(lambda files: TabSeparated(files=files, columns=columns), tmp_path / "a")


@pytest.mark.parametrize("examples", DEPTHS)
@pytest.mark.parametrize("kind", ["jsonl", "tsv"])
def test_random_bytes(fuzz, read_jsonl, read_tsv, kind, examples):
    fuzz(st.binary(max_size=200), read_jsonl if kind == "jsonl" else read_tsv, examples)


@pytest.mark.parametrize("examples", DEPTHS)
def test_jsonl_with_slips(fuzz, read_jsonl, examples):
    fuzz(mutations.spoiled(JSONL, JSON_TOKENS), read_jsonl, examples)


@pytest.mark.slow
@pytest.mark.parametrize("examples", DEPTHS)
def test_any_json_on_a_line(fuzz, read_jsonl, examples):
    lines = mutations.json_values() | mutations.changed(OBJECTS[0])
    fuzz(lines.map(lambda value: json.dumps(value).encode()), read_jsonl, examples)


@pytest.mark.parametrize("examples", DEPTHS)
def test_tsv_with_slips(fuzz, read_tsv, examples):
    fuzz(mutations.spoiled(TSV, TSV_TOKENS), read_tsv, examples)
