"""`t5x-like dedup`: lists of duplicates, and caches without them."""

import json
import random

import pytest

from t5x_like import cli
from t5x_like.near_duplicates import deduplicate
from t5x_like.near_duplicates.documents import DocumentRule
from tasks.errors import TaskError
from tasks.sources import Deduplicated, HoldOut, TextFiles


def written(path, count=6):
    """A file for each of two shards; the second has a near and an exact copy, both of the first."""
    draw = random.Random(0)
    texts = [" ".join(f"w{draw.randrange(10**6)}" for _ in range(200)) for _ in range(count)]
    near = " ".join([*texts[1].split()[:-2], "other", "end"])
    shards = [texts[:3], [texts[3], near, *texts[4:], texts[0]]]
    for number, shard in enumerate(shards):
        (path / f"{number}.txt").write_text("\n\n".join(shard))
    return shards


def source_of(path, **settings):
    """As `tasks/text_files.gin` binds it."""
    files = TextFiles(files={"train": f"{path}/*.txt"}, separator="\n\n", **settings)
    return HoldOut(files, validation=0)


def command(path, *more, name="dedup", held_out=0, num_workers=1):
    flags = ["--gin_file=tasks/text_files.gin", f"--gin.TRAIN_FILES={path}/*.txt"]
    flags += [f"--gin.HELD_OUT={held_out}", f"--num_workers={num_workers}", *more]
    return cli.main([name, *flags, *([f"--out={path}/lists"] if name == "dedup" else [])])


def test_the_first_of_duplicates_stays(tmp_path, capsys):
    one, other = written(tmp_path)
    assert command(tmp_path) == 0
    said = capsys.readouterr().out
    assert said.startswith("text_files: 2 of 8 documents (25.0%) are duplicates of 2 others: ")
    path = tmp_path / "lists" / "text_files.jsonl"
    head, *lines = map(json.loads, path.read_text().splitlines())
    assert lines == [{"split": "train", "shard": 1, "rows": [1, 4]}]
    assert {name: head[name] for name in ("n", "bands", "rows", "seed")} == {
        "n": 13, "bands": 14, "rows": 8, "seed": 1
    }  # fmt: skip
    assert sorted(each.name for each in path.parent.iterdir()) == ["text_files.jsonl"]

    duplicates = f"--gin.DUPLICATES={path}"
    assert command(tmp_path, duplicates) == 0  # of the same source: the list is not applied
    assert capsys.readouterr().out == said

    rows = Deduplicated(source_of(tmp_path), str(path))
    assert [row["text"] for row in rows.rows("train")] == [*one, other[0], *other[2:4]]
    assert list(rows.rows("train", [f"{tmp_path}/1.txt"])) == list(rows.rows("train"))[3:]
    assert rows.dropped == {"document: duplicate": 6}


@pytest.mark.slow
def test_a_cache_is_without_duplicates(tmp_path, capsys):
    written(tmp_path)
    assert command(tmp_path) == 0
    path = capsys.readouterr().out.split()[-1]
    cached = [f"--gin.DUPLICATES={path}", f"--gin.CACHE_DIR={tmp_path}/cache"]
    assert command(tmp_path, *cached, name="cache") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("text_files train: 6 examples")
    assert lines[1] == "text_files train: 2 documents dropped: duplicate 2"


def test_exact_copies_alone(tmp_path, capsys):
    written(tmp_path)
    assert command(tmp_path, "--exact", "--json", num_workers=2) == 0
    found = json.loads(capsys.readouterr().out)["text_files"]
    assert (found["documents"], found["dropped"], found["exact"]) == (8, 1, True)


def test_a_list_of_other_settings_is_replaced_with_a_word(tmp_path, capsys):
    written(tmp_path)
    assert command(tmp_path) == 0
    assert command(tmp_path) == 0
    assert capsys.readouterr().err == ""
    assert command(tmp_path, "--n=5", "--rows=4") == 0
    (line,) = capsys.readouterr().err.splitlines()
    path = tmp_path / "lists" / "text_files.jsonl"
    assert line == (f"text_files: {path} replaces an earlier list with other settings (n, rows)")


def test_a_list_is_of_the_text_that_was_compared(tmp_path, capsys):
    rows = [{"title": "all the same", "text": f"text {i}"} for i in range(9)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = [
        "dedup", "--gin_file=tasks/jsonl.gin", f"--gin.TRAIN_FILES={tmp_path}/a.jsonl",
        f"--gin.VALIDATION_FILES={tmp_path}/a.jsonl", f"--out={tmp_path}/lists",
        "--gin.sources.JsonLines.columns=['title', 'text']", "--num_workers=1", "--json",
    ]  # fmt: skip
    dropped = []
    for column in ("text", "title", "text"):
        assert cli.main([*flags, f"--gin.TEXT_COLUMN={column}"]) == 0
        said = capsys.readouterr()
        (found,) = json.loads(said.out).values()
        dropped.append(found["dropped"])
    assert dropped == [0, 8, 0] and "other settings (columns, form)" in said.err


@pytest.mark.parametrize("splits", ["validation", "train,validation"])
def test_a_split_without_documents_is_refused(tmp_path, capsys, splits):
    (tmp_path / "a.txt").write_text("text")
    assert command(tmp_path, f"--splits={splits}", held_out=0.01) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "text_files: split 'validation' has no documents: " in line
    assert list((tmp_path / "lists").iterdir()) == []


class Texts:
    """Documents in memory; those that are read are counted."""

    def __init__(self, shards):
        self._shards = shards

    def shards(self, split):
        return [str(number) for number in range(len(self._shards))]

    def texts(self, split, shard):
        if self._shards[int(shard)] is None:
            raise ValueError("cannot be read")
        return iter(self._shards[int(shard)])

    def settings(self):
        return {"source": "the same"}


def test_a_shard_that_is_finished_is_not_read_again(tmp_path):
    one, other = written(tmp_path)
    path = tmp_path / "lists" / "texts.jsonl"
    rule = DocumentRule()
    with pytest.raises(ValueError, match="cannot be read"):
        deduplicate.deduplicate(Texts([one, None]), ["train"], path, rule)
    assert not path.exists()
    with pytest.raises(ValueError, match="cannot be read"):  # by another rule
        deduplicate.deduplicate(Texts([None, other]), ["train"], path, DocumentRule(n=5))
    found = deduplicate.deduplicate(Texts([None, other]), ["train"], path, rule)
    assert (found["documents"], found["dropped"], found["clusters"]) == (8, 2, 2)


def test_a_list_of_other_files_is_refused(tmp_path):
    written(tmp_path)
    assert command(tmp_path) == 0
    source = source_of(tmp_path, undecodable="replace")
    path = str(tmp_path / "lists" / "text_files.jsonl")
    with pytest.raises(TaskError, match="lists duplicates of other files"):
        list(Deduplicated(source, path).rows("train"))
    path = tmp_path / "empty.jsonl"
    with pytest.raises(TaskError, match=r"empty\.jsonl' cannot be read \(No such file"):
        Deduplicated(source, str(path)).fingerprint()
    path.write_text("{}\n")
    with pytest.raises(TaskError, match=r"empty\.jsonl' is not a list of duplicates"):
        Deduplicated(source, str(path)).fingerprint()


@pytest.mark.parametrize("rule", [["--exact"], ["--lines"]])
def test_a_list_that_was_cut_at_the_end_of_a_line_is_refused(tmp_path, capsys, rule):
    for i in range(3):
        (tmp_path / f"{i}.txt").write_text("The same text.\n\nAnd another one.")
    assert command(tmp_path, *rule) == 0
    path = tmp_path / "lists" / "text_files.jsonl"
    whole = path.read_text()
    path.write_text("".join(whole.splitlines(keepends=True)[:2]))
    capsys.readouterr()
    flags = [f"--gin.DUPLICATES={path}", f"--out={tmp_path}/out"]
    assert command(tmp_path, *flags, name="clean") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(
        f"'{path}' names 2 of 4 duplicates: it is cut; write it again with `t5x-like dedup`."
    )
    assert command(tmp_path, *rule) == 0  # it is not taken for finished
    assert path.read_text() == whole
    assert command(tmp_path, *flags, name="clean") == 0


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--jaccard=0.8", "--rows=4"], "--jaccard chooses bands and rows: leave out --rows."),
        (["--permutations=64"], "--permutations is for --jaccard"),
        (["--splits=test"], "--splits=test: the source has train."),
        (["--n=0"], "--n=0: give a whole number of 1 or more."),
        (["--lines", "--exact"], "--exact is for documents"),
        (["--exact", "--n=3"], "--n is for near duplicates: --exact compares whole texts"),
        (["--exact", "--seed=1"], "--seed is for near duplicates: --exact"),
        (["--lines", "--jaccard=0.8"], "--jaccard is for near duplicates: --lines"),
        (["--lines", "--bands=3", "--rows=2"], "--bands and --rows are for near duplicates"),
        (["--rows_per_file=0"], "--rows_per_file are for --write=DIR."),
    ],
)
def test_wrong_arguments_are_one_line(tmp_path, capsys, flags, said):
    (tmp_path / "a.txt").write_text("text")
    assert command(tmp_path, *flags) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--rows_per_file=0"], "--rows_per_file=0: give a whole number of 1 or more."),
        (["--format=csv"], "--format=csv: there are jsonl, "),
        (["--format=txt", "--separator="], "--separator is empty"),
        (["--separator=\\n"], "--separator is for --format=txt: jsonl.zst needs none."),
    ],
)
def test_flags_of_what_is_written_are_looked_at_first(tmp_path, capsys, flags, said):
    (tmp_path / "a.txt").write_text("text")
    assert command(tmp_path, f"--write={tmp_path}/out", *flags) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert not (tmp_path / "lists").exists()


def test_lines_are_deduplicated_and_written(tmp_path, capsys):
    (tmp_path / "a.txt").write_text("Menu\nOne story.\n\nmenu\nAnother.\n\nMENU")
    flags = ["--lines", f"--write={tmp_path}/out", "--format=txt"]
    assert command(tmp_path, *flags) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("text_files: 2 of 5 lines (40.0%) in 3 documents are copies of other")
    assert said[1].startswith("text_files train: 2 of 3 documents are kept, in 1 files")
    assert said[2] == "text_files train: 1 documents dropped: no line is left 1"
    assert said[3] == "text_files train: 2 lines dropped: duplicate 2"
    written = (tmp_path / "out" / "train-00000-of-00001.txt").read_text()
    assert written == "Menu\nOne story.\n\nAnother."
