"""Filters of a corpus, as gin names them, and what the cache says that they dropped."""

import pytest

from t5x_like import cli, config


@pytest.mark.parametrize("files", [1, 4])
def test_what_is_dropped_is_counted_once_however_shards_are_read(tmp_path, capsys, files):
    """Of fewer files than shards each shard reads all."""
    pages = ["A page of this kind stays. It has a second line. And a third one.\nMenu"] * 3
    pages += ["Too few words.", "A line { of five words."]
    for i in range(files):
        (tmp_path / f"{i}.txt").write_text("\n\n".join(pages))
    flags = [
        "cache", "--gin_file=tasks/text_files.gin", "--gin_file=tasks/filters/c4.gin",
        f"--gin.TRAIN_FILES={tmp_path}/*.txt", "--gin.HELD_OUT=0",
        "--gin.C4_VERSION=tfds", f"--gin.CACHE_DIR={tmp_path}/cache",
        "--num_shards=3", "--num_workers=1",
    ]  # fmt: skip
    assert cli.main(flags) == 0
    said = capsys.readouterr().out.splitlines()
    few = f"curly bracket {files}, too few sentences {files}"
    assert said[0].startswith(f"text_files train: {3 * files} examples")
    assert said[1] == f"text_files train: {2 * files} documents dropped: {few}"
    lines = f"no mark at its end {3 * files}, too few words {files}"
    assert said[2] == f"text_files train: {4 * files} lines dropped: {lines}"

    assert cli.main(flags) == 0  # from what the finished cache has kept
    assert capsys.readouterr().out.splitlines()[:3] == said[:3]


def test_a_filter_that_is_not_there_is_one_line(tmp_path, capsys):
    (tmp_path / "a.txt").write_text("text")
    flags = ["cache", "--gin_file=tasks/text_files.gin", f"--gin.TRAIN_FILES={tmp_path}/a.txt"]
    assert cli.main([*flags, "--gin_file=tasks/filters/c4.gin", "--gin.C4_VERSION=2020s"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "filters.C4.version is '2020s': there are tfds, jmlr, arxiv, datatrove." in line


def test_what_gin_binds_to_a_function_of_ones_own_belongs_to_it(tmp_path, capsys, monkeypatch):
    """In the fingerprint, in other processes, and in what is written of a run."""
    (tmp_path / "filters_of_mine.py").write_text(
        "def at_most(text, limit=1000):\n    return len(text.split()) <= limit\n"
    )
    (tmp_path / "f.gin").write_text(
        "from __gin__ import dynamic_registration\n"
        "import filters_of_mine\nfrom tasks import filters\n"
        "FILTERS = [@filters.Function()]\nfilters.Function.function = @filters_of_mine.at_most\n"
        "filters_of_mine.at_most.limit = %LIMIT\nLIMIT = 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for name in "ab":
        (tmp_path / f"{name}.txt").write_text("\n\n".join("word " * n for n in range(1, 6)))
    flags = [
        "clean", "--gin_file=tasks/text_files.gin", f"--gin_file={tmp_path}/f.gin",
        f"--gin.TRAIN_FILES={tmp_path}/*.txt", "--gin.HELD_OUT=0", "--format=jsonl",
        "--num_workers=2", f"--out={tmp_path}/out",
    ]  # fmt: skip
    assert cli.main(flags) == 0
    assert "train: 4 documents dropped: at_most 4" in capsys.readouterr().out
    assert "filters_of_mine.at_most.limit = %LIMIT" in config.operative_text()
    assert cli.main([*flags, "--gin.LIMIT=2"]) == 2
    assert "holds another corpus, or one that was read or filtered otherwise" in (
        capsys.readouterr().err
    )
    fingerprints = set()
    for limit in (1, 2, 2):
        with config.isolated():
            config.parse([f"{tmp_path}/f.gin"], [("LIMIT", str(limit))])
            (one,) = config.macro("FILTERS")
            fingerprints.add(repr(one))
    assert len(fingerprints) == 2
