"""Sources of files: what they read, and one clear line for what they cannot."""

import dataclasses
import gzip

import pyarrow
import pytest
import zstandard
from pyarrow import parquet

from tasks import sources
from tasks.errors import SourceUnavailable, TaskError
from tasks.sources import files


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return str(path)


def texts(source, split="train"):
    return [row["text"] for row in source.rows(split)]


@pytest.mark.parametrize(
    ("separator", "expected"),
    [
        (None, ["a b\nc\n\nd\n"]),
        ("\n", ["a b", "c", "d"]),
        ("\n\n", ["a b\nc", "d\n"]),
        ("\r\n", ["a b", "c", "d"]),
        ("\r\n\r\n", ["a b\nc", "d\n"]),
    ],
)
@pytest.mark.parametrize("name", ["x.txt", "x.txt.gz"])
def test_text_is_cut_where_the_separator_says(tmp_path, name, separator, expected):
    path = write(tmp_path / name, "\ufeffa b\r\nc\r\n\r\nd\r\n")
    assert texts(sources.TextFiles(files={"train": path}, separator=separator)) == expected


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("a/*.txt", "a/1.txt", True),
        ("a/*.txt", "a/b/1.txt", False),
        ("a/**/*.txt", "a/1.txt", True),
        ("a/**/*.txt", "a/b/c/1.txt", True),
        ("a/**", "a/b/1.txt", True),
        ("a/**", "a/.b/1.txt", False),
        ("a/*", "a/.1.txt", False),
        ("a/../b/1.txt", "b/1.txt", True),
        ("link/[0-9].txt", "a/1.txt", True),
        ("a/1.*", "link/1.txt", True),
        ("a/[*].txt", "a/1.txt", False),
    ],
)
def test_a_glob_names_files_that_are_not_there_yet(tmp_path, pattern, path, expected):
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert files.names(f"{tmp_path}/{pattern}", f"{tmp_path}/{path}") == expected


def test_globs_give_files_in_order_at_any_depth(tmp_path):
    for name in ("b/2.txt", "a/1.txt", "a/3.md"):
        write(tmp_path / name, name)
    files = {"train": str(tmp_path / "*" / "*.txt"), "test": [str(tmp_path / "a/3.md")]}
    source = sources.TextFiles(files=files)
    assert texts(source) == ["a/1.txt", "b/2.txt"]
    assert texts(source, "test") == ["a/3.md"]
    assert texts(dataclasses.replace(source, files={"train": str(tmp_path / "**/*.txt")})) == [
        "a/1.txt",
        "b/2.txt",
    ]
    assert source.is_local
    assert not sources.TextFiles(files={"train": "gs://bucket/*.txt"}).is_local


def test_json_lines_give_columns_as_text(tmp_path):
    path = write(tmp_path / "x.jsonl", '{"a": "x", "b": 1}\n\n{"b": [true, "é"], "a": "y"}\n')
    rows = list(sources.JsonLines(files={"train": path}, columns=("a", "b")).rows("train"))
    assert rows == [{"a": "x", "b": "1"}, {"a": "y", "b": '[true, "é"]'}]


def test_tab_separated_columns_are_named_in_order(tmp_path):
    path = write(tmp_path / "x.tsv", 'source\tlabel\tsentence\ngj04\t1\t"Quoted, as it is.\n')
    source = sources.TabSeparated(
        files={"train": path}, columns=("source", "label", "sentence"), header=True
    )
    assert list(source.rows("train")) == [
        {"source": "gj04", "label": "1", "sentence": '"Quoted, as it is.'}
    ]


def test_parquet_columns_are_read(tmp_path):
    table = pyarrow.table({"text": ["x", ""], "n": [1, 2], "other": [0.5, 0.5]})
    parquet.write_table(table, tmp_path / "x.parquet")
    path = str(tmp_path / "x.parquet")
    rows = list(sources.ParquetFiles(files={"train": path}, columns=("n", "text")).rows("train"))
    assert rows == [{"n": "1", "text": "x"}, {"n": "2", "text": ""}]
    with pytest.raises(TaskError, match="no column 'missing': it has text, n, other"):
        list(sources.ParquetFiles(files={"train": path}, columns=("missing",)).rows("train"))


def test_fingerprints_follow_contents_and_settings(tmp_path):
    path = write(tmp_path / "x.txt", "one")
    source = sources.TextFiles(files={"train": path})
    first = source.fingerprint()
    assert source.fingerprint() == first
    moved = write(tmp_path / "elsewhere" / "x.txt", "one")
    assert sources.TextFiles(files={"train": [moved]}).fingerprint() == first
    assert dataclasses.replace(source, separator="\n").fingerprint() != first
    # A run's config.gin has splits in the order of their names.
    splits = {"train": path, "test": path}, {"test": path, "train": path}
    one, other = (sources.TextFiles(files=files).fingerprint() for files in splits)
    assert one == other != first
    write(tmp_path / "x.txt", "two")
    assert source.fingerprint() != first


def test_bytes_that_are_not_utf8_are_named_by_offset_or_replaced(tmp_path, caplog):
    # Ten bytes and a newline, then the offending one at 11 + 3.
    path = write(tmp_path / "x.txt", b"0123456789\nabc\xff\xfe\n")
    for separator in (None, "\n"):
        source = sources.TextFiles(files={"train": path}, separator=separator)
        with pytest.raises(TaskError, match=r"x\.txt' is not UTF-8: byte 0xff at offset 14"):
            texts(source)
        assert "abc\ufffd\ufffd" in texts(dataclasses.replace(source, undecodable="replace"))[-1]
        assert "2 undecodable characters replaced" in caplog.text


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{", "line 2 is not JSON"),
        (b"[1]", "line 2 is a JSON list: an object is needed"),
        (b'{"b": 1}', "line 2 has no key 'text': it has 'b'"),
        (b"[" * 100_000, "line 2 is not JSON"),
    ],
)
def test_a_json_line_that_does_not_fit_is_named(tmp_path, line, message):
    path = write(tmp_path / "x.jsonl", b'{"text": "a"}\n' + line + b"\n")
    with pytest.raises(TaskError, match=message):
        list(sources.JsonLines(files={"train": path}).rows("train"))


def test_a_row_with_the_wrong_number_of_columns_is_named(tmp_path):
    path = write(tmp_path / "x.tsv", "a\tb\na\tb\tc\n")
    source = sources.TabSeparated(files={"train": path}, columns=("x", "y"))
    with pytest.raises(TaskError, match=r"x\.tsv', line 2 has 3 columns: 2 are named \(x, y\)"):
        list(source.rows("train"))


@pytest.mark.parametrize("kind", [sources.TabSeparated, sources.CommaSeparated])
def test_a_header_of_other_columns_or_that_nobody_named_is_no_row(tmp_path, kind):
    """Columns in another order would be silently exchanged."""
    comma = "," if kind is sources.CommaSeparated else "\t"
    path = write(tmp_path / "x", f"Label{comma}text\n0{comma}good\n")
    source = kind(files={"train": path}, columns=("text", "label"), header=True)
    with pytest.raises(TaskError, match=r"line 1 names the columns Label, text, in another order"):
        list(source.rows("train"))
    named = dataclasses.replace(source, columns=("label", "text"))
    assert list(named.rows("train")) == [{"label": "0", "text": "good"}]
    with pytest.raises(TaskError, match=r"line 1 is the names of the columns.*HEADER=True"):
        list(dataclasses.replace(named, header=False).rows("train"))
    # Names of one's own may stand for those of the file.
    own = dataclasses.replace(source, columns=("class", "sentence"))
    assert list(own.rows("train")) == [{"class": "0", "sentence": "good"}]


@pytest.mark.parametrize(
    "kind", [sources.TabSeparated, sources.CommaSeparated, sources.JsonLines, sources.ParquetFiles]
)
def test_columns_are_a_list_in_which_each_is_named_once(kind):
    with pytest.raises(TaskError, match=r"columns names 'a' twice"):
        kind(files={"train": "x"}, columns=("a", "b", "a"))
    with pytest.raises(TaskError, match=r"columns is 'a,b': a list is needed"):
        kind(files={"train": "x"}, columns="a,b")


@pytest.mark.parametrize(
    "source",
    [
        sources.TextFiles(files={"train": "x"}),
        sources.JsonLines(files={"train": "x"}),
        sources.TabSeparated(files={"train": "x"}, columns=("a",)),
    ],
)
def test_an_empty_file_is_named(tmp_path, source):
    path = write(tmp_path / "empty", "\n")
    with pytest.raises(TaskError, match="empty' is empty"):
        list(dataclasses.replace(source, files={"train": path}).rows("train"))


@pytest.mark.parametrize(("name", "content"), [("x.txt.gz", b"plain"), ("y.gz", None)])
def test_broken_gzip_is_named(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content or gzip.compress(b"a" * 1000)[:-12])
    with pytest.raises(TaskError, match=r"is damaged gzip: [^.]*\. Fetch or write it again\.$"):
        texts(sources.TextFiles(files={"train": str(path)}))


def test_zstd_is_read_frame_after_frame_and_broken_zstd_is_named(tmp_path):
    whole = b"".join(zstandard.compress(text) for text in (b"one\ntwo\nth", b"ree\n", b""))
    path = tmp_path / "x.txt.zst"
    source = sources.TextFiles(files={"train": str(path)}, separator="\n")
    path.write_bytes(whole)
    assert texts(source) == ["one", "two", "three"]
    for damaged in (whole[:20], whole[:-1], whole + b"rest", b"plain text"):
        path.write_bytes(damaged)
        with pytest.raises(TaskError, match="is damaged zstd"):
            texts(source)


def test_a_file_that_is_no_parquet_is_named(tmp_path):
    path = write(tmp_path / "x.parquet", "hello")
    with pytest.raises(TaskError, match=r"x\.parquet' cannot be read as Parquet"):
        list(sources.ParquetFiles(files={"train": path}).rows("train"))


def test_a_pattern_without_files_and_an_unknown_split_are_named(tmp_path):
    pattern = str(tmp_path / "*.txt")
    source = sources.TextFiles(files={"train": pattern})
    with pytest.raises(SourceUnavailable, match=r"TextFiles.files\['train'\]: no file matches"):
        texts(source)
    with pytest.raises(SourceUnavailable, match="no file matches"):
        source.fingerprint()
    with pytest.raises(TaskError, match="split 'dev' not found in TextFiles: it has train"):
        texts(source, "dev")


def test_a_file_is_named_once(tmp_path):
    path = write(tmp_path / "a.txt", "a")
    source = sources.TextFiles(files={"train": [path, str(tmp_path / "*.txt")]})
    with pytest.raises(TaskError, match=r"\['train'\] names '.*a\.txt' twice, .*: name it once"):
        source.shards("train")


def test_an_empty_line_before_the_names_of_columns_is_none(tmp_path):
    path = write(tmp_path / "a.tsv", "\na\tb\n1\t2\n")
    source = sources.TabSeparated(files={"train": path}, columns=("a", "b"), header=True)
    assert [dict(row) for row in source.rows("train")] == [{"a": "1", "b": "2"}]


def test_a_change_within_a_large_file_is_another_content(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_HASHED_WHOLE", 1000)
    monkeypatch.setattr(files, "_HASHED_END", 100)
    monkeypatch.setattr(files, "_HASHED_PLACE", 10)
    found = set()
    for place in (None, 0, 150_000, 299_990):
        text = bytearray(b"0" * 300_000)
        if place is not None:
            text[place : place + 5_000] = b"1" * len(text[place : place + 5_000])
        path = write(tmp_path / "a.txt", text.decode())
        found.add(sources.TextFiles(files={"train": path}).fingerprint())
    assert len(found) == 4


def test_a_value_of_a_csv_file_may_be_as_long_as_a_row(tmp_path):
    path = write(tmp_path / "a.csv", f"a,{'b' * 200_000}\n")
    source = sources.CommaSeparated(files={"train": path}, columns=("x", "y"))
    assert [len(row["y"]) for row in source.rows("train")] == [200_000]
