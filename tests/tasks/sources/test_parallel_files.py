"""Files whose lines belong together."""

import gzip

import pytest

from tasks import sources
from tasks.errors import TaskError


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return str(path)


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
