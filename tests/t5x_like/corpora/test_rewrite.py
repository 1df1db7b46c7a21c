"""Corpora written as files: what is read back, what is counted, and what a kill leaves."""

import gzip
import json

import pytest

from t5x_like.corpora import report
from t5x_like.corpora.file_formats import ENDINGS, FileFormat
from t5x_like.corpora.rewrite import rewrite
from t5x_like.errors import UserError
from tasks.sources import JsonLines, ParquetFiles, TextFiles

TEXTS = ["One line.\nÄnother.", "three", "four\n", " five", "six"]


class Rows:
    """Rows in memory; a shard that is None cannot be read, and one row in a shard is dropped."""

    columns = ("text",)

    def __init__(self, *shards, digest="the same"):
        self._shards, self._digest = shards, digest

    def shards(self, split):
        return [str(number) for number in range(len(self._shards))]

    def rows(self, split, shard):
        if self._shards[int(shard)] is None:
            raise ValueError("cannot be read")
        return ({"text": text} for text in self._shards[int(shard)])

    def take_dropped(self):
        return {"document: empty": 1, "line: short": 2}, {"document: empty": ["<nothing>"]}

    def fingerprint(self):
        return self._digest


def written(folder, corpus, ending="jsonl", **settings):
    return rewrite(corpus, ["train"], folder, FileFormat(ending), title="A title", **settings)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_is_written_is_read_back(tmp_path, ending):
    written(tmp_path, Rows(TEXTS[:2], [], TEXTS[2:]), ending)
    files = [f"train-00000-of-00003.{ending}", f"train-00002-of-00003.{ending}"]
    assert names(tmp_path) == sorted(["corpus.json", "report.html", *files])
    kind = {"j": JsonLines, "p": ParquetFiles}.get(ending[0])
    given = {"train": f"{tmp_path}/train-*"}
    source = kind(files=given) if kind else TextFiles(files=given, separator="\n\n")
    ends = str if kind else str.rstrip  # a text's last line end is none of its own
    assert [row["text"] for row in source.rows("train")] == list(map(ends, TEXTS))


def test_the_same_rows_are_the_same_bytes(tmp_path):
    for ending in ENDINGS:
        for name in ("one", "other"):
            written(tmp_path / name / ending, Rows(TEXTS), ending)
        first, second = (
            next((tmp_path / name / ending).glob("train-*")).read_bytes()
            for name in ("one", "other")
        )
        assert first == second
    packed = tmp_path / "one" / "jsonl.gz" / "train-00000-of-00001.jsonl.gz"
    assert json.loads(gzip.decompress(packed.read_bytes()).splitlines()[1]) == {"text": "three"}


def test_a_shard_of_more_rows_becomes_several_files(tmp_path):
    written(tmp_path, Rows(TEXTS), rows_per_file=2)
    found = [len(path.read_text().splitlines()) for path in sorted(tmp_path.glob("train-*"))]
    assert found == [2, 2, 1]
    assert "train-00000-of-00001-part-00002.jsonl" in names(tmp_path)


def test_counts_and_examples_are_those_of_all_shards(tmp_path):
    done = []
    found = written(tmp_path, Rows(TEXTS[:2], TEXTS[2:]), progress=done.append)
    counts = found["splits"]["train"]
    assert sum(done) == counts["written"] == 5
    assert (counts["read"], counts["files"]) == (7, 2)
    assert counts["dropped"] == {"document: empty": 2, "line: short": 4}
    assert counts["examples"] == {"document: empty": ["<nothing>", "<nothing>"]}
    page = (tmp_path / "report.html").read_text()
    assert "5 of 7 documents are kept (71.4%)" in page
    assert "<td>empty</td><td>2</td><td>28.57%</td>" in page  # of all documents
    assert "<td>short</td><td>4</td><td>100.00%</td>" in page  # of the lines that were cut out
    assert page.count("<pre>&lt;nothing&gt;</pre>") == 2
    assert "http" not in page.replace("http-equiv", "")  # nothing is loaded


def test_a_page_of_nothing_dropped_is_a_page():
    counts = {"written": 0, "read": 0, "bytes": 0, "files": 0, "dropped": {}, "examples": {}}
    assert "0 of 0 documents" in report.page({"title": "<b>", "splits": {"train": counts}})


def test_a_shard_that_is_finished_is_not_read_again(tmp_path):
    with pytest.raises(ValueError, match="cannot be read"):
        written(tmp_path, Rows(TEXTS[:2], None))
    assert names(tmp_path)[1:] == ["train-00000-of-00002.jsonl"]
    found = written(tmp_path, Rows(None, TEXTS[2:]))
    assert found["splits"]["train"]["written"] == 5
    assert [name for name in names(tmp_path) if name.startswith(".")] == []
    assert written(tmp_path, Rows(None, None)) == found  # it is finished


@pytest.mark.parametrize("settings", [{}, {"rows_per_file": 1}])
def test_a_folder_that_lost_a_file_is_refused(tmp_path, settings):
    found = written(tmp_path, Rows(TEXTS[:2], TEXTS[2:]), **settings)
    (tmp_path / "train-00001-of-00009.jsonl").write_text("of others")
    assert written(tmp_path, Rows(None, None), **settings) == found
    lost = next(tmp_path.glob("train-00001-of-00002*"))
    size = lost.stat().st_size
    lost.write_bytes(lost.read_bytes()[:-1])
    with pytest.raises(UserError, match=rf"with {found['splits']['train']['bytes'] - 1} bytes"):
        written(tmp_path, Rows(None, None), **settings)
    lost.unlink()
    with pytest.raises(UserError, match=r"where corpus\.json counts .*: remove corpus\.json"):
        written(tmp_path, Rows(None, None), **settings)
    (tmp_path / "corpus.json").unlink()
    assert written(tmp_path, Rows(TEXTS[:2], TEXTS[2:]), **settings) == found
    assert lost.stat().st_size == size


@pytest.mark.parametrize("finished", [True, False])
def test_a_folder_of_another_corpus_is_left_alone(tmp_path, finished):
    if finished:
        written(tmp_path, Rows(TEXTS))
    else:
        with pytest.raises(ValueError, match="cannot be read"):
            written(tmp_path, Rows(TEXTS, None))
    before = names(tmp_path)
    with pytest.raises(UserError, match=r"holds another corpus.*: remove it, or give another"):
        written(tmp_path, Rows(TEXTS, digest="another"))
    assert names(tmp_path) == before


def test_text_that_would_be_read_otherwise_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"holds the separator '\\n\\n'.*'one\\n\\ntwo'"):
        written(tmp_path, Rows(["one\n\ntwo"]), "txt")
    assert list(tmp_path.glob("*train*")) == []
    several = Rows(TEXTS)
    several.columns = ("text", "url")
    with pytest.raises(UserError, match="no place for the columns text, url"):
        written(tmp_path, several, "txt")


def test_settings_are_checked():
    with pytest.raises(UserError, match="--format=csv: there are jsonl, "):
        FileFormat("csv")
    with pytest.raises(UserError, match="--separator is empty"):
        FileFormat(separator="")
