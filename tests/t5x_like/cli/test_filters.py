"""Filters of a corpus, as gin names them, and what the cache says that they dropped."""

import pytest

from t5x_like import cli


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
