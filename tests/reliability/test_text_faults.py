"""Text that cannot be read as it was declared: one line with the file and the place, exit 2."""

import gzip
import importlib.util
import json
import os

import pytest

from t5x_like import cli

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("seqio") is None, reason="caching needs seqio"
)


@pytest.fixture
def cache_of(tmp_path):
    """The command that caches files of a kind: `cache_of(kind, {split: content}, *flags)`."""

    def command(kind, train, validation=b'{"text": "fine", "other": 1}\n', *flags, suffix=None):
        suffix = suffix or kind
        for split, content in (("train", train), ("validation", validation)):
            (tmp_path / f"{split}.{suffix}").write_bytes(content)
        bound = {
            "txt": ["--gin_file=tasks/text_files.gin"],
            "jsonl": ["--gin_file=tasks/jsonl.gin"],
            "parquet": ["--gin_file=tasks/parquet.gin"],
            "tsv": [
                "--gin_file=tasks/tsv.gin",
                "--gin.COLUMNS=['en', 'de']",
                "--gin.INPUTS='{en}'",
                "--gin.TARGETS='{de}'",
                "--gin.TASK_FEATURE_LENGTHS={'inputs': 8, 'targets': 8}",
            ],
        }[kind]
        if kind != "txt":
            bound.append(f"--gin.VALIDATION_FILES={tmp_path}/validation.{suffix}")
        return [
            "cache",
            *bound,
            f"--gin.TRAIN_FILES={tmp_path}/train.{suffix}",
            f"--gin.CACHE_DIR={tmp_path}/cache",
            "--num_workers=1",
            "--num_shards=2",
            *flags,
        ]

    return command


FINE = b'{"text": "fine", "other": 1}\n'
PAIRS = b"one\teins\ntwo\tzwei\n"


@pytest.mark.parametrize(
    ("kind", "content", "words"),
    [
        # Ten bytes and a newline, then the offending one at 11 + 3.
        ("txt", b"0123456789\nabc\xff\n", ["train.txt' is not UTF-8: byte 0xff at offset 14"]),
        ("txt", b"one\n\ntwo\xc3", ["byte 0xc3 at offset 8; convert it, or set undecodable="]),
        ("txt", b"", ["train.txt' is empty"]),
        ("txt", b"\n \n\n", ["train.txt' is empty"]),
        ("jsonl", FINE + b'{"text": \n', ["train.jsonl', line 2 is not JSON"]),
        ("jsonl", FINE + FINE + b"\xfe", ["train.jsonl' is not UTF-8: byte 0xfe at offset 58"]),
        ("jsonl", FINE + b'["text"]\n', ["line 2 is a JSON list: an object is needed"]),
        ("jsonl", b'{"texts": "x"}\n', ["line 1 has no key 'text': it has 'texts'"]),
        ("jsonl", b"\n\n" + b"[" * 100_000, ["line 3 is not JSON"]),
        ("jsonl", b'{"text": ' + b"1" * 5000 + b"}", ["line 1 is not JSON", "4300 digits"]),
        ("jsonl", FINE + b'{"text": "\\ud800"}', ["line 2, key 'text' has half a surrogate"]),
        ("jsonl", b"", ["train.jsonl' is empty"]),
        ("tsv", PAIRS + b"three\n", ["train.tsv', line 3 has 1 columns: 2 are named (en, de)"]),
        ("tsv", PAIRS + b"\nthree\tdrei\t3\n", ["train.tsv', line 4 has 3 columns"]),
        ("tsv", b"", ["train.tsv' is empty"]),
        ("parquet", b"PAR1, but no more", ["train.parquet' cannot be read as Parquet"]),
        ("parquet", b"", ["train.parquet' cannot be read as Parquet"]),
    ],
    ids=lambda value: None if isinstance(value, bytes) else str(value)[:40],
)
def test_a_file_that_is_not_what_it_should_be(cache_of, refused, kind, content, words):
    good = {"tsv": PAIRS, "jsonl": FINE, "txt": FINE, "parquet": content}[kind]
    refused(cache_of(kind, content, good), *words)


def test_a_row_that_the_form_cannot_write_is_told_by_its_line(cache_of, refused):
    """The second file's fourth line, of which the second shard is made by rows in turn."""
    rows = b'{"text": "q", "options": ["a", "b"], "label": 0}\n' * 3
    flags = ["--gin_file=tasks/options_jsonl.gin", "--gin.CONTEXT='{text}'"]
    flags += ["--gin.COLUMNS=['text', 'options', 'label']", "--gin.TASK_FEATURE_LENGTHS=None"]
    command = cache_of("jsonl", rows, rows + b'{"text": "q", "options": [], "label": 0}\n', *flags)
    words = ["validation.jsonl', line 4: column 'options': 0 options, of which two or more"]
    refused(command, *words)


def test_gzip_that_is_cut_off(cache_of, refused):
    whole = gzip.compress(b"".join(b'{"text": "line %d"}\n' % i for i in range(1000)))
    command = cache_of("jsonl", whole[:-100], gzip.compress(FINE), suffix="jsonl.gz")
    refused(command, "train.jsonl.gz' is damaged gzip")


def test_a_file_that_is_missing_or_may_not_be_read(cache_of, refused, tmp_path):
    command = cache_of("jsonl", FINE)
    (tmp_path / "train.jsonl").unlink()
    refused(command, f"file '{tmp_path}/train.jsonl' not found.")
    (tmp_path / "train.jsonl").mkdir()
    refused(command, "train.jsonl' is a folder: name its files, as ")
    (tmp_path / "train.jsonl").rmdir()
    if os.geteuid():
        (tmp_path / "train.jsonl").write_bytes(FINE)
        (tmp_path / "train.jsonl").chmod(0)
        refused(command, "train.jsonl' cannot be read: Permission denied")


def test_an_option_that_there_is_not(cache_of, refused):
    flag = "--gin.sources.JsonLines.undecodable='ignore'"
    refused(cache_of("jsonl", FINE, FINE, flag), "undecodable is 'ignore'", "'error' or 'replace'")


def test_a_bad_file_leaves_an_older_cache_as_it_was(cache_of, refused, tmp_path):
    """Not the declared source any more, but whole: a host without the source still trusts it."""
    assert cli.main(cache_of("jsonl", FINE, FINE)) == 0
    cache_of("jsonl", b"rubbish\n", FINE)
    command = [*cache_of("jsonl", b"rubbish\n", FINE), "--gin.MIXTURE_OR_TASK_NAME=another"]
    refused(command, "train.jsonl', line 1 is not JSON")
    assert (tmp_path / "cache" / "jsonl" / "COMPLETED").exists()


def test_undecodable_bytes_are_replaced_by_option_and_counted(cache_of, tmp_path, capfd, tally):
    """Two stray bytes; the U+FFFD that stood there already is not counted."""
    content = '{"text": "già \ufffd"}\n'.encode() + b'{"text": "gi\xe0, \xff"}\n'
    command = cache_of("jsonl", content, FINE, "--gin.sources.JsonLines.undecodable='replace'")
    capfd.readouterr()
    assert cli.main(command) == 0
    said = capfd.readouterr().err
    assert said == (f"warning: file '{tmp_path}/train.jsonl': 2 undecodable characters replaced.\n")
    stats = json.loads((tmp_path / "cache" / "jsonl" / "stats.train.json").read_text())
    # Bytes of UTF-8: à has two, U+FFFD three.
    assert stats["targets_tokens"] == len("già \ufffd".encode()) + len("gi\ufffd, \ufffd".encode())
    tally("bad inputs", what="undecodable bytes, replaced and counted")


def test_long_examples_are_split_by_a_flag(corpus, tmp_path, capfd):
    flags = [*corpus, "--gin_file=runs/pretrain.gin", f"--gin.MODEL_DIR={tmp_path / 'run'}"]
    flags += ["--gin.TRAIN_STEPS=1", "--gin.data.DatasetConfig.long_examples=@data.SplitLong()"]
    assert cli.main(["train", *flags, "--dry_run"]) == 0
    assert "long_examples = @data.SplitLong()" in capfd.readouterr().out
