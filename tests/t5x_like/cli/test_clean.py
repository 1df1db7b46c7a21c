"""`t5x-like clean`: the files that filters leave, and `dedup --write`."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from t5x_like import cli
from tasks.sources import JsonLines

ROOT = Path(__file__).parents[3]
GOOD = "A page of this kind stays. It has a second line. And a third one."
PAGES = [f"{GOOD}\nMenu", "Too few words.", "A line { of five words.", GOOD]


def flags(path, *more):
    return [
        "--gin_file=tasks/text_files.gin", f"--gin.TRAIN_FILES={path}/pages/*.txt",
        "--gin.HELD_OUT=0", *more,
    ]  # fmt: skip


@pytest.fixture
def pages(tmp_path):
    (tmp_path / "pages").mkdir()
    for i in range(2):
        (tmp_path / "pages" / f"{i}.txt").write_text("\n\n".join(PAGES))
    return tmp_path


@pytest.mark.slow
def test_pages_are_cleaned_into_files(pages, capsys):
    c4 = flags(pages, "--gin_file=tasks/filters/c4.gin")
    assert cli.main(["clean", *c4, f"--out={pages}/out", "--num_workers=2"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("text_files train: 4 of 8 documents are kept, in 2 files of ")
    assert said[1:] == [
        "text_files train: 4 documents dropped: curly bracket 2, too few sentences 2",
        "text_files train: 4 lines dropped: no mark at its end 2, too few words 2",
        f"text_files: {pages}/out/report.html",
    ]
    source = JsonLines(files={"train": f"{pages}/out/train-*.jsonl.zst"})
    assert [row["text"] for row in source.rows("train")] == [GOOD] * 4
    page = (pages / "out" / "report.html").read_text()
    assert page.count("<pre>A line { of five words.</pre>") == 2
    assert page.count("<pre>Menu</pre>") == 2

    assert cli.main(["clean", *c4, f"--out={pages}/out"]) == 0  # what is there
    assert capsys.readouterr().out.splitlines() == said


def test_what_stays_of_duplicates_is_written(pages, capsys):
    out = [f"--out={pages}/lists", f"--write={pages}/out", "--num_workers=1", "--json", "--exact"]
    assert cli.main(["dedup", *flags(pages), *out, "--format=txt"]) == 0
    found = json.loads(capsys.readouterr().out)["text_files"]
    counts = found["written"]["splits"]["train"]
    assert (found["dropped"], counts["written"], counts["read"]) == (4, 4, 8)
    assert counts["dropped"] == {"document: duplicate": 4}
    assert counts["examples"]["document: duplicate"] == PAGES[:3]  # as many as are kept
    assert (pages / "out" / "train-00000-of-00002.txt").read_text() == "\n\n".join(PAGES)
    assert not (pages / "out" / "train-00001-of-00002.txt").exists()


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["clean", "--format=csv"], "--format=csv: there are jsonl, jsonl.gz, "),
        (["clean", "--num_workers=0"], "--num_workers=0: give a whole number of 1 or more."),
        (["clean", "--splits=test"], "--splits=test: the source has train."),
        (["dedup", "--format=txt"], "--rows_per_file are for --write=DIR."),
    ],
)
def test_wrong_arguments_are_one_line(pages, capsys, command, said):
    assert cli.main([*command, *flags(pages), f"--out={pages}/out"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


@pytest.mark.parametrize(
    ("command", "out"),
    [
        (["clean"], "--out={}/pages"),
        (["clean"], "--out={}/pages/../pages"),
        (["dedup", "--exact", "--out={}/lists"], "--write={}/pages"),
    ],
)
def test_a_folder_whose_files_the_source_reads_is_refused(pages, capsys, command, out):
    """The next run would read them as input."""
    out = out.format(pages)
    given = [each.format(pages) for each in command]
    assert cli.main([*given, *flags(pages), out, "--format=txt"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{out}: 'train-00000-of-00002.txt' there would be read as a file of 'text_f" in line
    assert f"whose source reads '{pages}/pages/*.txt': give another folder." in line
    assert sorted(each.name for each in (pages / "pages").iterdir()) == ["0.txt", "1.txt"]
    assert not (pages / "lists").exists()


KEPT = "files that were finished are kept; the same command resumes with the others."


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "said"),
    [
        (signal.SIGKILL, -9, []),
        (signal.SIGTERM, 143, [f"t5x-like: error: SIGTERM received: {KEPT}"]),
    ],
)
def test_a_command_that_was_ended_goes_on_where_it_was(pages, number, code, said):
    """While two processes write; then the files are as if nothing had happened."""
    for i in range(2, 24):
        (pages / "pages" / f"{i}.txt").write_text("\n\n".join(PAGES * 50))
    # What a killed process leaks, Python itself may count before or after this test reads it.
    silent = {"PYTHONWARNINGS": "ignore:resource_tracker:UserWarning"}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **silent}
    command = [sys.executable, "-m", "t5x_like", "clean", *flags(pages), "--num_workers=2"]
    command += ["--gin_file=tasks/filters/gopher.gin", "--gin.FILTERS=[@filters.Pattern()]"]
    command += ["--gin.filters.Pattern.pattern=Menu"]
    with open(pages / "said", "w") as errors:
        started = subprocess.Popen([*command, f"--out={pages}/out"], env=environment, stderr=errors)
    deadline = time.monotonic() + 60
    while len(list(pages.glob("out/.parts-*/*.json"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    started.send_signal(number)
    assert started.wait() == code
    assert (pages / "said").read_text().splitlines() == said
    assert not (pages / "out" / "corpus.json").exists()
    for out in ("out", "whole"):
        subprocess.run([*command, f"--out={pages}/{out}"], env=environment, check=True)
    whole = {path.name: path.read_bytes() for path in (pages / "whole").iterdir()}
    assert {path.name: path.read_bytes() for path in (pages / "out").iterdir()} == whole
