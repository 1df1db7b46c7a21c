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


def test_several_files_of_a_column_go_file_by_file(tmp_path):
    for name, text in {"0.en": "a\nb\n", "0.de": "A\nB\n", "1.en": "c\n", "1.de": "C\n"}.items():
        write(tmp_path / name, text)
    files = {"en": str(tmp_path / "*.en"), "de": [str(tmp_path / f"{i}.de") for i in range(2)]}
    source = sources.ParallelFiles(files={"train": files})
    assert [(row["en"], row["de"]) for row in source.rows("train")] == [
        ("a", "A"),
        ("b", "B"),
        ("c", "C"),
    ]
    assert list(source.rows("train", source.shards("train")[2:3])) == [{"en": "c", "de": "C"}]
    assert source.is_local
    before = source.fingerprint()
    write(tmp_path / "1.de", "D\n")
    assert source.fingerprint() != before
    (tmp_path / "1.de").unlink()
    globbed = sources.ParallelFiles(files={"train": files | {"de": str(tmp_path / "*.de")}})
    with pytest.raises(TaskError, match=r"names 2 of 'en', 1 of 'de': .* needs as many"):
        globbed.check_files()
