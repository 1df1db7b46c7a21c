"""Building caches with seqio, and telling good ones from bad."""

import functools
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import seqio

import tasks
from t5x_like import data
from t5x_like.data.cache import layout, pool, worker
from t5x_like.data.cache.reader import CachedExamples
from t5x_like.errors import UserError
from t5x_like.host.disk_space import CannotWrite
from tasks import sources

LINES = [f"line {i}\t{'answer ' * (i % 5)}{i}" for i in range(150)]


def provider(path, name):
    """A seqio task on a TSV file, with a placeholder after tokenizing."""
    import tensorflow as tf

    vocabulary = seqio.ByteVocabulary(extra_ids=100)
    features = {k: seqio.Feature(vocabulary, add_eos=True) for k in ("inputs", "targets")}

    def split_columns(dataset):
        def columns(line):
            parts = tf.strings.split(line, "\t")
            return {"inputs": parts[0], "targets": parts[1]}

        return dataset.map(columns)

    return seqio.Task(
        name,
        source=seqio.TextLineDataSource({"train": str(path), "test": str(path)}),
        preprocessors=[
            split_columns,
            functools.partial(seqio.preprocessors.tokenize, copy_pretokenized=True),
            seqio.CacheDatasetPlaceholder(),
            seqio.preprocessors.append_eos_after_trim,
        ],
        output_features=features,
    )


@pytest.fixture
def task(kit, tmp_path):
    path = tmp_path / "lines.tsv"
    path.write_text("\n".join(LINES) + "\n", encoding="utf-8")
    return kit.task("group:lines", provider=lambda: provider(path, "group:lines"))


def files(folder: Path):
    return {
        p.name: p.read_bytes()
        for p in sorted(folder.iterdir())
        if p.is_file() and not p.name.startswith(".")
    }


def test_seqio_reads_what_is_written(task, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    counts = data.cache_task(task, cache, num_shards=3, num_workers=1, progress=False)
    assert counts.examples == {"train": 150, "test": 150}
    assert counts.path == cache / "group" / "lines-000000000000"  # the fingerprint's first digits
    # Bytes without EOS: the number of characters of each column.
    assert counts.tokens["train"]["inputs"] == sum(len(x.split("\t")[0]) for x in LINES)
    assert counts.tokens["train"]["targets"] == sum(len(x.split("\t")[1]) for x in LINES)

    reader = task.seqio()
    monkeypatch.setattr(seqio.utils, "_GLOBAL_CACHE_DIRECTORIES", [str(cache)])
    assert reader.cache_dir == str(cache / "group" / "lines")
    assert Path(reader.cache_dir).resolve() == counts.path.resolve()
    options = {"split": "train", "shuffle": False, "sequence_length": {"inputs": 12, "targets": 9}}

    def key(example):
        return example["inputs_pretokenized"]

    cached = sorted(reader.get_dataset(use_cached=True, **options).as_numpy_iterator(), key=key)
    fresh = sorted(reader.get_dataset(use_cached=False, **options).as_numpy_iterator(), key=key)
    assert len(cached) == 150
    for a, b in zip(cached, fresh, strict=True):
        assert set(a) == set(b)
        assert all(np.array_equal(a[k], b[k]) for k in a)
    assert reader.get_cached_stats("train")["examples"] == 150


def test_a_finished_cache_in_other_shards_is_refused(task, tmp_path):
    made = data.cache_task(task, tmp_path, num_shards=2, num_workers=1, progress=False)
    again = data.cache_task(task, tmp_path, num_workers=1, progress=False)
    assert again.path == made.path and again.written == 0
    with pytest.raises(UserError, match="in 2 shards, and num_shards is 3: remove it first"):
        data.cache_task(task, tmp_path, num_shards=3, num_workers=1, progress=False)


@pytest.mark.parametrize(("size", "workers"), [(1 << 20, 4), ((1 << 20) - 1, 1)])
def test_a_small_source_is_not_worth_several_processes(tmp_path, monkeypatch, size, workers):
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    (tmp_path / "x.txt").write_text("a" * size)
    source = sources.TextFiles(files={"train": f"{tmp_path}/x.txt"})
    task = tasks.unsupervised("x", sources.HoldOut(source))
    assert pool.workers_for(task) == workers
    elsewhere = sources.TextFiles(files={"train": "gs://bucket/*.txt"})
    assert pool.workers_for(tasks.unsupervised("x", elsewhere)) == 4


@pytest.mark.slow
def test_the_bytes_are_always_the_same(task, tmp_path):
    for name in ("one", "two"):
        data.cache_task(task, tmp_path / name, num_shards=2, num_workers=1, progress=False)
    one, two = (files(tmp_path / name / "group" / "lines") for name in ("one", "two"))
    assert one == two


def test_the_records_are_those_that_seqio_would_write(task, tmp_path):
    import tensorflow as tf

    folder = data.cache_task(task, tmp_path, num_shards=2, num_workers=1, progress=False).path
    records = tf.data.TFRecordDataset(str(folder / "train.tfrecord-00001-of-00002"))
    ours = [tf.train.Example.FromString(r.numpy()) for r in records]
    plain = task.seqio()
    lines = plain.source.get_dataset("train", shuffle=False)
    examples = list(plain.preprocess_precache(lines).as_numpy_iterator())
    assert ours == [seqio.dict_to_tfexample(e) for e in examples[1::2]]


def test_task_json_describes_the_features(task, tmp_path):
    folder = data.cache_task(task, tmp_path, progress=False, num_workers=1, num_shards=1).path
    description = json.loads((folder / "task.json").read_text())
    assert description["fingerprint"] == task.fingerprint()
    assert description["features"]["inputs"]["add_eos"] is True
    assert description["features"]["targets"]["vocabulary"]["eos_id"] == 1


@pytest.mark.slow
def test_what_is_finished_is_kept_after_an_interruption(task, tmp_path, monkeypatch):
    whole = data.cache_task(task, tmp_path / "a", num_shards=4, num_workers=1, progress=False)
    assert whole.written == 8

    write = worker.Worker.write
    calls = []

    def interrupted(self, folder, split, shard, *rest):
        calls.append((split, shard))
        if len(calls) == 6:
            (folder / f".{split}.tfrecord-{shard:05d}-of-00004.tmp").write_bytes(b"half a rec")
            raise KeyboardInterrupt
        write(self, folder, split, shard, *rest)

    monkeypatch.setattr(worker.Worker, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        data.cache_task(task, tmp_path / "b", num_shards=4, num_workers=1, progress=False)
    monkeypatch.setattr(worker.Worker, "write", write)
    status = data.cache_status(task, tmp_path / "b")
    assert status.status is data.CacheStatus.INCOMPLETE
    again = data.cache_task(task, tmp_path / "b", num_shards=4, num_workers=1, progress=False)
    assert again.written == 3
    assert files(again.path) == files(whole.path)
    assert not list(again.path.glob(".*.tmp")) + list(again.path.glob(".*.part-*"))
    third = data.cache_task(task, tmp_path / "b", num_shards=4, num_workers=1, progress=False)
    assert third.written == 0


@pytest.mark.slow
def test_a_changed_source_has_a_folder_of_its_own(task, tmp_path):
    earlier = data.cache_task(task, tmp_path, num_shards=3, num_workers=1, progress=False)
    before = files(earlier.path)
    task.print_of_source = "1" * 64
    report = data.cache_status(task, tmp_path, "train")
    assert report.status is data.CacheStatus.STALE
    assert "another source, vocabulary or preprocessing" in report.reason
    counts = data.cache_task(task, tmp_path, num_shards=2, num_workers=1, progress=False)
    assert counts.written == 4
    names = sorted(p.name for p in counts.path.glob("train.tfrecord*"))
    assert names == ["train.tfrecord-00000-of-00002", "train.tfrecord-00001-of-00002"]
    assert files(earlier.path) == before
    # seqio finds the one that was built last.
    assert (tmp_path / "group" / "lines").resolve() == counts.path.resolve()
    assert data.cache_status(task, tmp_path, "train").status is data.CacheStatus.READY


def test_a_split_can_be_added_later(task, tmp_path):
    one = data.cache_task(task, tmp_path, ["test"], num_shards=1, num_workers=1, progress=False)
    assert one.examples == {"test": 150}
    assert data.cache_status(task, tmp_path, "train").status is data.CacheStatus.MISSING
    assert (
        data.cache_task(
            task, tmp_path, ["train"], num_shards=1, num_workers=1, progress=False
        ).written
        == 1
    )
    assert data.cache_status(task, tmp_path).status is data.CacheStatus.READY


@pytest.mark.slow
def test_a_lost_shard_is_noticed_and_made_again(task, tmp_path):
    folder = data.cache_task(task, tmp_path, num_shards=3, num_workers=1, progress=False).path
    before = files(folder)
    (folder / "train.tfrecord-00001-of-00003").unlink()
    report = data.cache_status(task, tmp_path, "train")
    assert report.status is data.CacheStatus.INCOMPLETE
    assert "train.tfrecord-00001-of-00003 is missing" in report.reason
    data.cache_task(task, tmp_path, num_shards=3, num_workers=1, progress=False)
    assert files(folder) == before


@pytest.mark.slow
def test_several_workers_write_the_same_bytes(tmp_path):
    from tasks.objectives import SpanCorruption
    from tasks.registry import unsupervised
    from tasks.sources import TextFiles

    for i in range(5):
        (tmp_path / f"{i}.txt").write_text(f"document {i}\n" * (i + 1), encoding="utf-8")
    source = TextFiles(files={"train": str(tmp_path / "*.txt")})
    real = unsupervised("worked", source, objective=SpanCorruption())
    one = data.cache_task(real, tmp_path / "1", num_shards=3, num_workers=1, progress=False)
    two = data.cache_task(real, tmp_path / "2", num_shards=3, num_workers=2, progress=True)
    assert one.examples == two.examples == {"train": 5}
    assert files(one.path) == files(two.path)


def test_a_folder_that_cannot_be_written_is_a_clear_error(task, tmp_path):
    (tmp_path / "cache").write_text("a file where a folder should be")
    with pytest.raises(CannotWrite, match=r"cache/group/lines-0+ cannot be written: not a dir"):
        data.cache_task(task, tmp_path / "cache", num_workers=1, progress=False)


def test_training_from_no_cache_says_what_to_run(task, tmp_path):
    config = data.DatasetConfig(task, {"inputs": 8, "targets": 8}, tmp_path)
    with pytest.raises(UserError, match=r"there is no cache of 'group:lines'.*t5x-like cache"):
        data.open_dataset(config, batch_format="encoder_decoder")


def test_a_truncated_shard_is_refused_before_the_first_step(task, tmp_path):
    folder = data.cache_task(task, tmp_path, num_shards=1, num_workers=1, progress=False).path
    shard = folder / "train.tfrecord-00000-of-00001"
    os.truncate(shard, shard.stat().st_size - 7)
    config = data.DatasetConfig(task, {"inputs": 8, "targets": 8}, tmp_path, batch_size=8)
    with pytest.raises(UserError, match=r"train\.tfrecord-00000-of-00001 is corrupt at byte \d+"):
        data.open_dataset(config, batch_format="encoder_decoder")


def test_an_unknown_or_empty_split_is_a_clear_error(kit, task, tmp_path):
    with pytest.raises(UserError, match=r"no split 'dev'; it has .*train"):
        data.cache_task(task, tmp_path, ["dev"], num_workers=1, progress=False)
    empty = tmp_path / "empty.tsv"
    empty.touch()
    none = kit.task("none", provider=lambda: provider(empty, "none"))
    with pytest.raises(UserError, match=r"none: split .train. of the source has no examples"):
        data.cache_task(none, tmp_path, ["train"], num_workers=1, progress=False)


def test_a_cache_of_seqios_own_tool_is_read(task, tmp_path):
    # Its Beam tool writes the same files, but no task.json, and Beam names no index.
    ours = data.cache_task(task, tmp_path, num_shards=2, num_workers=1, progress=False).path
    (ours / "task.json").unlink()
    for path in ours.glob(".*"):
        path.unlink()
    assert data.cache_status(task, tmp_path, "train").status is data.CacheStatus.READY
    config = data.DatasetConfig(task, {"inputs": 16, "targets": 16}, tmp_path, batch_size=8)
    with data.open_dataset(config, batch_format="encoder_decoder") as batches:
        assert next(batches)["encoder_input_tokens"].shape == (8, 16)
    with pytest.raises(UserError, match="another tool wrote"):
        data.cache_task(task, tmp_path, num_shards=2, num_workers=1, progress=False)
    for path in ours.glob("train.tfrecord-*"):  # as with --output_format=arrayrecord
        path.rename(path.with_name(path.name.replace("tfrecord", "array_record")))
    report = data.cache_status(task, tmp_path, "train")
    assert report.status is data.CacheStatus.INCOMPLETE
    assert "is in ArrayRecord, which is not read" in report.reason
    assert report.remedy == "give seqio_cache_tasks --output_format=tfrecord"


def test_a_cache_of_an_earlier_version_is_used_as_it_is(task, tmp_path):
    """Its folder has no fingerprint in its name."""
    built = data.cache_task(task, tmp_path, num_shards=1, num_workers=1, progress=False).path
    plain = tmp_path / "group" / "lines"
    plain.unlink()
    built.rename(plain)
    report = data.cache_status(task, tmp_path)
    assert (report.status, report.path) == (data.CacheStatus.READY, plain)
    again = data.cache_task(task, tmp_path, num_shards=1, num_workers=1, progress=False)
    assert (again.written, again.path) == (0, plain)
    task.print_of_source = "1" * 64
    assert data.cache_status(task, tmp_path).status is data.CacheStatus.STALE
    assert data.cache_task(task, tmp_path, num_shards=1, num_workers=1, progress=False).written == 2
    assert (plain / "COMPLETED").exists()


def test_a_host_without_the_source_uses_the_only_cache_and_guesses_of_none(kit, tmp_path, pairs):
    class Elsewhere(kit.task):
        def fingerprint(self):
            raise FileNotFoundError

    task = Elsewhere("pairs")
    for digit in "12":
        folder = layout.cache_folder(tmp_path, "pairs", digit * 64)
        kit.write(
            kit.task("pairs", print_of_source=digit * 64, cache_name=folder.name), tmp_path, pairs
        )
        report = data.cache_status(task, tmp_path)
        if digit == "1":
            assert (report.status, report.path) == (data.CacheStatus.READY, folder)
    assert report.status is data.CacheStatus.STALE
    assert "pairs-111111111111, pairs-222222222222" in report.reason
    assert report.reason.startswith("The source of 'pairs' is not on this host. There are several")
    assert report.remedy == "give the file, or a CACHE_DIR that has the one alone"


def test_a_file_that_is_not_there_does_not_become_another_files_cache(tmp_path):
    def task(file):
        source = sources.TextFiles(files={"train": file}, separator="\n")
        return tasks.unsupervised("text", source)

    (tmp_path / "there.txt").write_text("one\ntwo\n")
    there, caches = f"{tmp_path}/there.txt", tmp_path / "caches"
    data.cache_task(task(there), caches, num_shards=1, num_workers=1, progress=False)
    (tmp_path / "there.txt").unlink()
    assert data.cache_status(task(there), caches).status is data.CacheStatus.READY
    # As on a host that has the cache alone, where files would lie elsewhere.
    elsewhere = task(f"{tmp_path}/elsewhere/there.txt")
    assert data.cache_status(elsewhere, caches).status is data.CacheStatus.READY

    report = data.cache_status(task(f"{tmp_path}/typo.txt"), caches)
    assert report.status is data.CacheStatus.STALE
    assert report.reason.startswith(f"file '{tmp_path}/typo.txt' not found. The cache of 'text' in")
    assert "is of other files or settings" in report.reason
    assert "verify_source=False" in report.remedy
    unverified = data.cache_status(task(f"{tmp_path}/typo.txt"), caches, verify_source=False)
    assert unverified.status is data.CacheStatus.READY


@pytest.mark.parametrize("name", ["..", "a:..:b", "../outside", ".", "a::b", "a\0b"])
def test_no_name_leads_out_of_the_cache_directory(kit, tmp_path, name):
    for operation in (data.cache_status, data.cache_task):
        with pytest.raises(UserError, match="cannot be the name of a cache"):
            operation(kit.task("fine", cache_name=name), tmp_path / "caches")
    assert not list(tmp_path.iterdir())


def test_a_read_only_cache_is_read(task, tmp_path):
    folder = data.cache_task(task, tmp_path, num_shards=1, num_workers=1, progress=False).path
    for path in folder.glob(".*.index-*"):
        path.unlink()
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    copy.chmod(0o555)
    assert len(CachedExamples(copy, "train", ("inputs",))) == 150


def test_a_task_without_placeholder_is_cached_whole(kit, task, tmp_path):
    def whole():
        plain = task.seqio()
        return plain.replace(
            name="whole",
            preprocessors=[
                p for p in plain.preprocessors if not isinstance(p, seqio.CacheDatasetPlaceholder)
            ],
        )

    whole_task = kit.task("whole", provider=whole)
    folder = data.cache_task(
        whole_task, tmp_path, ["train"], num_shards=1, num_workers=1, progress=False
    ).path
    first = CachedExamples(folder, "train", ("inputs",))[0]["inputs"]
    assert first.tolist() == [b + 3 for b in b"line 0"] + [1]
    assert layout.read_info(folder, "train").dtypes["inputs_pretokenized"] == "string"
