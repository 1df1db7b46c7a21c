"""Sources: what they read, and one clear line for what they cannot."""

import dataclasses
import gzip
import itertools

import pytest

from tasks import sources
from tasks.errors import SourceUnavailable, TaskError
from tasks.sources import standard_library


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
    ],
)
@pytest.mark.parametrize("name", ["x.txt", "x.txt.gz"])
def test_text_is_cut_where_the_separator_says(tmp_path, name, separator, expected):
    path = write(tmp_path / name, "\ufeffa b\r\nc\r\n\r\nd\r\n")
    assert texts(sources.TextFiles(files={"train": path}, separator=separator)) == expected


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
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = pyarrow.table({"text": ["x", None], "n": [1, 2], "other": [0.5, 0.5]})
    parquet.write_table(table, tmp_path / "x.parquet")
    path = str(tmp_path / "x.parquet")
    rows = list(sources.ParquetFiles(files={"train": path}, columns=("n", "text")).rows("train"))
    assert rows == [{"n": "1", "text": "x"}, {"n": "2", "text": ""}]
    with pytest.raises(TaskError, match="no column 'missing': it has text, n, other"):
        list(sources.ParquetFiles(files={"train": path}, columns=("missing",)).rows("train"))


def test_parallel_files_go_line_by_line(tmp_path):
    columns = {
        "en": write(tmp_path / "x.en.gz", "one\n\nthree\n"),
        "de": write(tmp_path / "x.de.gz", "eins\nzwei\ndrei\n"),
    }
    source = sources.ParallelFiles(files={"train": columns})
    assert source.columns == ("en", "de")
    assert list(source.rows("train"))[1:] == [
        {"en": "", "de": "zwei"},
        {"en": "three", "de": "drei"},
    ]
    shards = source.shards("train")
    assert list(source.rows("train", shards[2:3])) == [{"en": "three", "de": "drei"}]
    write(tmp_path / "x.de.gz", "eins\nzwei\n")
    with pytest.raises(TaskError, match=r"x\.de\.gz' ends after line 2, .*x\.en\.gz' does not"):
        list(source.rows("train"))


def test_held_out_rows_are_a_share_that_more_files_do_not_move(tmp_path):
    path = write(tmp_path / "1.txt", "\n".join(f"line {i}" for i in range(2000)))
    lines = sources.TextFiles(files={"train": str(tmp_path / "*.txt")}, separator="\n")
    source = sources.HoldOut(lines, validation=0.1, test=0.05)
    parts = {split: texts(source, split) for split in source.splits}
    assert sorted(itertools.chain(*parts.values())) == sorted(texts(lines))
    # Binomial with 2000 x 0.1: standard deviation 13.
    assert abs(len(parts["validation"]) - 200) < 60
    before = source.fingerprint()
    write(tmp_path / "2.txt", "another\nline 7\n")
    assert set(parts["validation"]) <= set(texts(source, "validation"))
    assert source.fingerprint() != before
    assert write(tmp_path / "1.txt", "x") == path
    with pytest.raises(TaskError, match="shares that leave something"):
        sources.HoldOut(lines, validation=0.0)


def test_fingerprints_follow_contents_and_settings(tmp_path):
    path = write(tmp_path / "x.txt", "one")
    source = sources.TextFiles(files={"train": path})
    first = source.fingerprint()
    assert source.fingerprint() == first
    moved = write(tmp_path / "elsewhere" / "x.txt", "one")
    assert sources.TextFiles(files={"train": [moved]}).fingerprint() == first
    assert dataclasses.replace(source, separator="\n").fingerprint() != first
    write(tmp_path / "x.txt", "two")
    assert source.fingerprint() != first


# -- Bad input ---------------------------------------------------------------------------------


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
    with pytest.raises(TaskError, match="is not whole gzip"):
        texts(sources.TextFiles(files={"train": str(path)}))


def test_a_file_that_is_no_parquet_is_named(tmp_path):
    pytest.importorskip("pyarrow")
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


# -- The embedded corpus -----------------------------------------------------------------------


def test_every_module_is_in_one_split_and_the_splits_do_not_change():
    source = sources.StandardLibraryModules(tests=False)
    paths = {split: {row["path"] for row in source.rows(split)} for split in source.splits}
    assert "json/decoder.py" in set().union(*paths.values())
    assert not any("site-packages" in path or "/test/" in path for path in paths["train"])
    for a, b in itertools.combinations(paths.values(), 2):
        assert not a & b
    total = sum(map(len, paths.values()))
    assert 0.8 < len(paths["train"]) / total < 0.97
    # `printf os.py | sha256sum` begins d9d7, of functools.py e72d, of gzip.py fa66:
    # as fractions 0.851, 0.903 and 0.978.
    assert "os.py" in paths["train"]
    assert "functools.py" in paths["validation"]
    assert "gzip.py" in paths["test"]
    shards = source.shards("train")
    assert {r["path"] for shard in shards for r in source.rows("train", [shard])} == paths["train"]


def test_functions_lose_their_docstring_and_keep_the_rest():
    module = '''
class A:
    @property
    def size(self):
        """Number of things.  Never negative.

        More.
        """
        # A comment.
        return self._size

    def only(self):
        """Nothing else."""

def one_line(): "doc"; return 1

async def run(x,
              y=2):
    "Runs x until it ends"
    await x
'''
    assert list(standard_library.documented_functions(module)) == [
        ("run", "async def run(x,\n              y=2):\n    await x", "Runs x until it ends"),
        (
            "size",
            "@property\ndef size(self):\n    # A comment.\n    return self._size",
            "Number of things.",
        ),
    ]
    assert list(standard_library.documented_functions("def f(:")) == []


def test_the_librarys_functions_parse_without_their_docstrings():
    source = sources.StandardLibraryFunctions(tests=False)
    rows = list(source.rows("test", source.shards("test")[:4]))
    assert len(rows) > 10
    for row in rows:
        assert row["summary"] and "\n" not in row["summary"]
        assert row["name"] in row["source"].partition("(")[0] or row["source"].startswith("@")
