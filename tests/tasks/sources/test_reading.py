"""Files that ask for more than they should, and text that is cut the same however it is read."""

import gzip
import logging
import os

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from tasks import sources
from tasks.errors import TaskError
from tasks.sources import reading

LIMITS = reading.Limits(row_bytes=1 << 20, expansion=50)


@pytest.mark.parametrize("block", [3, 4, 7, 1 << 20])
@pytest.mark.parametrize("separator", [None, "\n\n", "<|>", "é"])
def test_documents_are_those_of_the_whole_text(tmp_path, monkeypatch, block, separator):
    """Whatever the blocks that are read: a CR, a separator or a letter may fall between two."""
    monkeypatch.setattr(reading, "_BLOCK", block)
    rng = np.random.default_rng(block)
    parts = ["a", "é", "\r\n", "\n", "\r", "<|>", "<|", "日本", "\n\n"]
    text = "\ufeff" + "".join(rng.choice(parts, 200)) + "\n"
    path = tmp_path / "x.txt"
    path.write_bytes(text.encode())
    whole = text.removeprefix("\ufeff").replace("\r\n", "\n")
    wanted = [whole] if separator is None else whole.split(separator)
    assert list(reading.documents(str(path), separator, "error", LIMITS)) == wanted


def test_the_place_of_a_wrong_byte_is_that_in_the_file(tmp_path):
    path = tmp_path / "x.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\n\r\ntwo\r\n\r\nth\xffree")
    documents = reading.documents(str(path), "\n\n", "error", LIMITS)
    with pytest.raises(TaskError, match="byte 0xff at offset 19;"):  # 3 + 3 + 4 + 3 + 4 + 2
        list(documents)


def rows_of(source):
    return list(source.rows("train"))


@pytest.mark.parametrize("kind", [sources.TextFiles, sources.JsonLines])
def test_a_row_above_the_limit_is_refused_before_it_is_read(tmp_path, kind):
    path = tmp_path / "x"
    path.write_text('{"text": "fine"}\n' + '{"text": "' + "x" * 5000 + '"}\n')
    lines = {"separator": "\n"} if kind is sources.TextFiles else {}
    files = {"train": str(path)}
    with pytest.raises(TaskError, match="line 2 has more than 1,000 bytes: raise max_row_bytes"):
        rows_of(kind(files=files, max_row_bytes=1000, **lines))
    assert len(rows_of(kind(files=files, max_row_bytes=6000, **lines))) == 2
    if lines:
        with pytest.raises(TaskError, match="document 1 has more than 1,000 bytes"):
            rows_of(kind(files=files, max_row_bytes=1000))


@pytest.mark.slow
def test_gzip_that_unpacks_to_far_more_than_its_size_is_refused_with_both(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "_SMALL", 1 << 16)
    path = tmp_path / "x.txt.gz"
    path.write_bytes(gzip.compress(b"line\n" * 600_000))
    bomb = sources.TextFiles(files={"train": str(path)}, separator="\n", max_expansion=100)
    with pytest.raises(
        TaskError, match=r"more than 100 times its size \([\d,]+ bytes of [\d,]+ so"
    ):
        rows_of(bomb)
    meant = sources.TextFiles(files={"train": str(path)}, separator="\n", max_expansion=10_000)
    assert sum(1 for _ in meant.rows("train")) == 600_000


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-16"])
@pytest.mark.parametrize("undecodable", ["error", "replace"])
@pytest.mark.parametrize("separator", [None, "\n"])
def test_utf16_is_recognised_with_and_without_its_mark(tmp_path, encoding, undecodable, separator):
    path = tmp_path / "x.txt"
    path.write_bytes("Plain English.\nNaïve, too.\n".encode(encoding))
    source = sources.TextFiles(
        files={"train": str(path)}, separator=separator, undecodable=undecodable
    )
    order = "BE" if encoding.endswith("be") else "LE"
    with pytest.raises(TaskError, match=f"is UTF-16: .*iconv -f UTF-16{order} -t UTF-8"):
        rows_of(source)


@pytest.mark.parametrize("separator", [None, "\n", "\n\n"])
def test_line_ends_of_cr_alone_are_named(tmp_path, separator):
    path = tmp_path / "x.txt"
    path.write_bytes(b"one\rtwo\rthree\r")
    source = sources.TextFiles(files={"train": str(path)}, separator=separator)
    with pytest.raises(TaskError, match="ends its lines with CR alone"):
        rows_of(source)
    path.write_bytes(b"one\rtwo\nthree\r\n")  # a CR inside of a line is text
    assert rows_of(source)


def missing_values(tmp_path, kind, **settings):
    """A source of three rows, the second with null and the third with NaN."""
    if kind == "jsonl":
        path = tmp_path / "x.jsonl"
        path.write_text('{"a": "x", "n": 1}\n{"a": null, "n": 2}\n\n{"a": "", "n": NaN}\n')
        made = sources.JsonLines
    else:
        path = tmp_path / "x.parquet"
        table = pyarrow.table({"a": ["x", None, ""], "n": [1.0, 2.0, float("nan")]})
        parquet.write_table(table, path)
        made = sources.ParquetFiles
    return made(files={"train": str(path)}, columns=("a", "n"), **settings)


@pytest.mark.parametrize(("kind", "place"), [("jsonl", "line 2"), ("parquet", "row 2")])
def test_a_row_without_a_value_is_refused_with_its_place(tmp_path, kind, place):
    with pytest.raises(TaskError, match=rf"x.{kind}', {place} has no value in 'a' \(None\)"):
        rows_of(missing_values(tmp_path, kind))


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_rows_without_a_value_are_left_out_by_option_and_counted(tmp_path, kind, caplog):
    with caplog.at_level(logging.WARNING):
        rows = rows_of(missing_values(tmp_path, kind, missing="skip"))
    assert [row["a"] for row in rows] == ["x"]
    assert "1 rows left out, without a value in 'a'" in caplog.text
    assert "1 rows left out, without a value in 'n'" in caplog.text
    # An empty text is a text.
    source = missing_values(tmp_path, kind, missing="skip")
    only_a = type(source)(files=source.files, columns=("a",), missing="skip")
    assert [row["a"] for row in rows_of(only_a)] == ["x", ""]


def test_fingerprints_of_earlier_versions_hold(tmp_path):
    """What limits and `missing` refuse is in no cache."""
    source = missing_values(tmp_path, "jsonl")
    limited = missing_values(tmp_path, "jsonl", max_row_bytes=100, max_expansion=3)
    assert source.fingerprint() == limited.fingerprint()
    assert source.fingerprint() != missing_values(tmp_path, "jsonl", missing="skip").fingerprint()


def test_file_names_need_not_be_utf8(tmp_path):
    path = os.path.join(os.fsencode(tmp_path), b"caf\xe9.txt")
    with open(path, "w") as file:
        file.write("text\n")
    source = sources.TextFiles(files={"train": str(tmp_path / "*.txt")})
    assert rows_of(source) == [{"text": "text\n"}]
    assert len(source.fingerprint()) == 64


@pytest.mark.parametrize(
    ("setting", "value"), [("missing", "ignore"), ("max_row_bytes", 0), ("max_expansion", 1.5)]
)
def test_settings_that_there_are_not(setting, value):
    with pytest.raises(TaskError, match=f"JsonLines.{setting} is {value!r}"):
        sources.JsonLines(files={}, **{setting: value})
