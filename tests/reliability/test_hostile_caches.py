"""Cache files that someone has put there: refused in one line, without waiting for anything."""

import json
import os
import shutil

import pytest

from t5x_like import data
from t5x_like.cli import caching
from t5x_like.data.cache import layout, listing, writer
from t5x_like.errors import UserError
from tasks import manifest
from tasks.errors import TaskError


@pytest.fixture
def cache(proverbs, tmp_path):
    """A task, and a copy of its cache to spoil."""
    task, whole = proverbs
    folder = layout.cache_folder(tmp_path / "cache", task.cache_name, task.fingerprint())
    shutil.copytree(layout.cache_path(whole, task.cache_name), folder)
    return task, tmp_path / "cache", folder


def refused(task, cache_dir):
    """The one line with which training refuses a cache."""
    report = data.cache_status(task, cache_dir)
    assert report.status is not data.CacheStatus.READY
    config = data.DatasetConfig(task, {"targets": 24}, cache_dir, batch_size=4, prefetch=0)
    with pytest.raises(UserError) as found:
        data.open_dataset(config, batch_format="causal_language_model")
    assert "\n" not in str(found.value)
    return str(found.value)


FILES = ("COMPLETED", "task.json", "info.train.json", "stats.train.json")
SHARD = "train.tfrecord-00000-of-00001"


@pytest.mark.parametrize("name", [*FILES, SHARD])
@pytest.mark.parametrize("kind", ["directory", "pipe"])
def test_a_directory_or_a_pipe_in_place_of_a_file(cache, name, kind, tally):
    task, cache_dir, folder = cache
    (folder / name).unlink()
    (os.mkfifo if kind == "pipe" else os.mkdir)(folder / name)
    refused(task, cache_dir)
    (one,) = listing.caches(cache_dir)
    listing.prune(one)
    tally("bad inputs", what=f"a {kind} in place of a file of a cache")


def test_a_pipe_in_place_of_an_index_is_replaced(cache):
    task, cache_dir, folder = cache
    config = data.DatasetConfig(task, {"targets": 24}, cache_dir, batch_size=4, prefetch=0)
    data.open_dataset(config, batch_format="causal_language_model").close()
    for index in folder.glob(".*.index-*"):
        index.unlink()
        os.mkfifo(index)
    with data.open_dataset(config, batch_format="causal_language_model") as batches:
        assert next(batches)["decoder_target_tokens"].shape == (4, 24)
    assert all(index.is_file() for index in folder.glob(".*.index-*"))


def test_the_lock_of_a_cache_follows_no_link(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    folder = tmp_path / "cache"
    folder.mkdir()
    (folder / writer.LOCK).symlink_to(tmp_path / "mine.txt")
    with pytest.raises(OSError, match="symbolic links"), writer.locked(folder):
        pass
    assert (tmp_path / "mine.txt").read_text() == "mine"


NESTED = "[" * 100_000


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("task.json", NESTED),
        ("task.json", '{"features": ' + NESTED),
        ("task.json", {"features": []}),
        ("task.json", {"features": {"targets": 3}}),
        ("task.json", {"features": {"targets": {"vocabulary": [1]}}}),
        ("task.json", {"features": {"targets": {"vocabulary": {"vocab_size": 384}}}}),
        ("task.json", {"eos_id": "1"}),
        ("task.json", {"eos_id": -1}),
        ("task.json", {"eos_id": 2**40}),
        ("task.json", {"start_id": [0]}),
        ("task.json", {"vocab_size": 1e300}),
        ("task.json", {"full_stop_ids": {"0": 1}}),
        ("info.train.json", NESTED),
        ("info.train.json", {"num_shards": 10**15}),
        ("info.train.json", {"num_shards": -1}),
        ("info.train.json", '{"num_shards": 1e999, "features": {}}'),
        ("info.train.json", {"features": [1]}),
        ("info.train.json", {"features": {"targets": 1}}),
        ("stats.train.json", NESTED),
        ("stats.train.json", {"examples": {"a": 1}}),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_description_that_caching_does_not_write(cache, name, content, tally):
    """Sealed again: `COMPLETED` agrees with it."""
    task, cache_dir, folder = cache
    if isinstance(content, dict):
        whole = json.loads((folder / name).read_text())
        if not set(content) <= set(whole):  # a change of the vocabulary
            spec = whole["features"]["targets"]["vocabulary"]
            content = {"features": {"targets": {"vocabulary": {**spec, **content}}}}
        content = json.dumps({**whole, **content})
    (folder / name).write_text(content)
    layout.complete(folder)
    assert name in refused(task, cache_dir)
    tally("bad inputs", what="a file of a cache, changed and sealed again")


GOOD = {
    "name": "user",
    "cache_name": "user",
    "fingerprint": "0" * 64,
    "features": {"targets": {"add_eos": True, "vocabulary": {"kind": "bytes", "extra_ids": 5}}},
    "objective": {"name": "CausalLM", "settings": {}},
}


@pytest.mark.parametrize(
    "change",
    [
        {"features": []},
        {"features": {"targets": {"add_eos": True, "vocabulary": {"kind": "no"}}}},
        {"objective": {"name": "__builtins__", "settings": {}}},
        {"objective": {"name": "CausalLM", "settings": {"no": 1}}},
        {"objective": []},
        {"tasks": 3},
        {"tasks": [[{}, 1.0]]},
        {"tasks": [[{"tasks": []}, "x"]]},
    ],
    ids=str,
)
def test_a_manifest_that_caching_does_not_write(change, tally):
    assert manifest.from_json(GOOD).name == "user"
    with pytest.raises(TaskError) as found:
        manifest.from_json({**GOOD, **change})
    assert "\n" not in str(found.value)
    tally("bad inputs", what="a malformed manifest of a seqio task")


@pytest.mark.parametrize("name", ["../outside", "..", "a/../../b"])
def test_no_name_of_a_task_reads_a_manifest_elsewhere(name, tmp_path):
    with pytest.raises(UserError, match="cannot be the name of a cache"):
        caching.declaration_path(name, str(tmp_path))
