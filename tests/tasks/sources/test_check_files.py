"""Sources look for their files without reading them, whatever they are wrapped in."""

import pytest

from tasks import filters, sources
from tasks.benchmarks.source import BenchmarkSource
from tasks.errors import SourceUnavailable, TaskError
from tasks.sources import check_files


@pytest.fixture
def path(tmp_path):
    """A file that is of no kind."""
    file = tmp_path / "train.file"
    file.write_bytes(b"\xff\0\xfe")
    return file


def text_files(path, **more):
    return sources.TextFiles(files={"train": str(path)}, **more)


@pytest.mark.parametrize(
    "make",
    [
        text_files,
        lambda path: sources.ParallelFiles(files={"train": {"source": str(path)}}),
        lambda path: sources.HoldOut(text_files(path), 0.1),
        lambda path: sources.Where(text_files(path), "text", ("a",)),
        lambda path: sources.Filtered(text_files(path), (filters.Pattern("a"),)),
        lambda path: sources.HoldOut(sources.Where(text_files(path), "text", ("a",)), 0.1),
    ],
)
def test_a_file_is_opened_and_not_read(make, path):
    check_files(make(path))
    check_files(make(path), ["train"])
    path.unlink()
    with pytest.raises(SourceUnavailable, match=rf"^file '{path}' not found\.$"):
        check_files(make(path))
    with pytest.raises(SourceUnavailable, match=rf"^file '{path}' not found\.$"):
        make(path).fingerprint()


def test_only_the_splits_that_are_asked_for_are_looked_for(path):
    source = sources.TextFiles(files={"train": str(path), "validation": f"{path}.dev"})
    check_files(source, ["train"])
    with pytest.raises(SourceUnavailable, match=r"dev' not found"):
        check_files(source)
    with pytest.raises(TaskError, match="split 'test' not found in TextFiles: it has train, val"):
        check_files(source, ["test"])


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("nowhere/*.txt", r"TextFiles\.files\['train'\]: no file matches 'nowhere/\*\.txt'\."),
        ("nowhere/a.txt", r"file 'nowhere/a\.txt' not found\."),
        ("/", r"TextFiles\.files\['train'\]: '/' is a folder: name its files, as '/\*'\."),
        ("/dev/null", r"TextFiles\.files\['train'\]: '/dev/null' is no regular file\."),
    ],
)
def test_what_is_there_in_place_of_a_file_is_said(pattern, said):
    with pytest.raises(SourceUnavailable, match=f"^{said}$"):
        check_files(text_files(pattern))


def test_the_files_of_filters_are_looked_for(path):
    kinds = [
        (filters.BadWords, "file"),
        (filters.MinScore, "classifier"),
        (filters.Perplexity, "model"),
    ]
    for kind, name in kinds:
        more = {"max_perplexity": 9.0} if kind is filters.Perplexity else {}
        for file in (path, f"{path}.away"):
            source = sources.Filtered(text_files(path), (kind(**{name: str(file)}, **more),))
            if file is path:
                check_files(source)
                continue
            with pytest.raises(SourceUnavailable, match=r"away' not found"):
                check_files(source)


def test_a_list_of_duplicates_is_looked_for(path):
    source = sources.Deduplicated(text_files(path), f"{path}.list")
    with pytest.raises(TaskError, match=r"list' cannot be read .*: `t5x-like dedup` writes it"):
        check_files(source)
    path.with_name(f"{path.name}.list").touch()
    check_files(source)


def test_benchmarks_and_what_reads_no_files_are_looked_at_too(tmp_path):
    check_files(sources.StandardLibraryModules())
    source = BenchmarkSource("piqa", ("goal",), files_dir=str(tmp_path))
    with pytest.raises(SourceUnavailable, match=r"has no piqa/SPLIT\.jsonl"):
        check_files(source)
