"""Caches that were cut, flipped, interrupted or made from something else are never trained on."""

import dataclasses
import os
import random
import re
import shutil

import numpy as np
import pytest

import tasks
from models import gpt
from t5x_like import cli, data, optimizers
from t5x_like.data.cache.building import build_folder
from t5x_like.errors import UserError
from t5x_like.schedules import Constant
from t5x_like.train import train
from t5x_like.training.run import TrainingRun
from tests.reliability import sums
from tests.reliability.sums import cache_flags, visible, write_corpus


@pytest.fixture(scope="module")
def corpus_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sums")
    write_corpus(folder)
    return folder


@pytest.fixture(scope="module")
def whole(corpus_folder, tmp_path_factory):
    """A task and its cache, as the command line makes it."""
    cache_dir = tmp_path_factory.mktemp("whole") / "cache"
    assert cli.main(cache_flags(corpus_folder, cache_dir)) == 0
    return sums.task(folder=corpus_folder), cache_dir


def first_batches(task, cache_dir):
    """What training reads first, of both splits."""
    config = data.DatasetConfig(
        task, {"inputs": 32, "targets": 8}, cache_dir, batch_size=8, prefetch=0, pack=False
    )
    batches = data.open_dataset(config, batch_format="encoder_decoder")
    validation = dataclasses.replace(config, split="validation")
    read = [next(batches) for _ in range(5)]  # all 40 examples
    read += [b.batch for b in data.open_evaluation(validation, batch_format="encoder_decoder")]
    return [array for batch in read for _, array in sorted(batch.items())]


def is_refused_or_the_same(task, cache_dir, expected):
    """Whether training is refused in one line, and a status says so; else it must read the same."""
    report = data.cache_status(task, cache_dir)
    try:
        found = first_batches(task, cache_dir)
    except UserError as error:
        assert report.status is not data.CacheStatus.READY
        assert "\n" not in str(error)
        assert "\n" not in report.reason
        return True
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
    return False


def damaged_copies(whole, tmp_path, damage, positions):
    """Copies of the cache, each with one file damaged; times are kept, as a failing disk does."""
    task, cache_dir = whole
    folder = build_folder(task, cache_dir)
    files = [p for p in sorted(folder.iterdir()) if p.is_file() and p.name != ".lock"]
    for file in files:
        for i, position in enumerate(positions(file.stat().st_size)):
            # A new place each time: a process verifies a version of a file once.
            copy = tmp_path / f"{file.name}-{i}"
            shutil.copytree(cache_dir, copy)
            victim = build_folder(task, copy) / file.name
            before = victim.stat()
            damage(victim, position)
            os.utime(victim, ns=(before.st_atime_ns, before.st_mtime_ns))
            yield file.name, copy
            shutil.rmtree(copy)


@pytest.mark.slow
def test_a_file_cut_at_any_byte_is_noticed_before_the_first_step(whole, tmp_path, tally):
    task, cache_dir = whole
    expected = first_batches(task, cache_dir)
    rng = random.Random(1)

    def positions(size):
        return sorted({0, 1, size - 1, *(rng.randrange(size) for _ in range(3))})

    cut, refused = 0, set()
    for name, copy in damaged_copies(whole, tmp_path, os.truncate, positions):
        cut += 1
        if is_refused_or_the_same(task, copy, expected):
            refused.add(name)
        else:
            # What can be made again, and the empty COMPLETED of seqio's tools.
            assert name.startswith(".") or name == "COMPLETED", name
    assert {"info.train.json", "stats.train.json", "task.json", "COMPLETED"} <= refused
    assert {f"train.tfrecord-0000{i}-of-00002" for i in range(2)} <= refused
    tally("faults", times=cut, what="a file of a cache cut short")


@pytest.mark.slow
def test_a_flipped_bit_is_noticed_before_the_first_step(whole, tmp_path, tally):
    task, cache_dir = whole
    expected = first_batches(task, cache_dir)
    rng = random.Random(2)

    def flip(path, position):
        octets = bytearray(path.read_bytes())
        octets[position] ^= 1 << rng.randrange(8)
        path.write_bytes(octets)

    flipped = 0
    for name, copy in damaged_copies(
        whole, tmp_path, flip, lambda size: [rng.randrange(size) for _ in range(5)]
    ):
        refused = is_refused_or_the_same(task, copy, expected)
        assert refused or name.startswith(".") or name == "COMPLETED", name
        flipped += 1
    tally("faults", times=flipped, what="a bit of a cache flipped")


@pytest.mark.parametrize(
    "name",
    ["train.tfrecord-00001-of-00002", "info.train.json", "stats.validation.json", "task.json"],
)
@pytest.mark.parametrize("kind", ["cut", "gone"])
def test_the_cache_command_mends_what_is_damaged(corpus_folder, whole, tmp_path, name, kind, tally):
    task, cache_dir = whole
    copy = tmp_path / "cache"
    shutil.copytree(cache_dir, copy)
    folder = build_folder(task, copy)
    expected = visible(folder)
    if kind == "cut":
        os.truncate(folder / name, len(expected[name]) // 2)
    else:
        (folder / name).unlink()
    if (name, kind) == ("task.json", "gone"):
        # As a cache of seqio's own tools, which is read but not built over.
        assert data.cache_status(task, copy).status is data.CacheStatus.READY
        assert cli.main(cache_flags(corpus_folder, copy)) == 2
        return
    assert data.cache_status(task, copy).status is not data.CacheStatus.READY
    assert cli.main(cache_flags(corpus_folder, copy)) == 0
    assert visible(folder) == expected
    tally("faults", what=f"{name} {kind}, and made again")


@pytest.mark.slow
def test_a_cache_of_something_else_is_refused_and_built_beside_it(
    corpus_folder, whole, tmp_path, tally
):
    _, cache_dir = whole
    changed = tmp_path / "changed"
    shutil.copytree(corpus_folder, changed)
    (changed / "train.tsv").write_text("\n".join(["What is 0 and 0?\t1", *sums.ROWS[1:]]) + "\n")
    different = [
        sums.task(folder=changed),
        sums.task("Please: {question}", folder=corpus_folder),
        sums.task(vocabulary=tasks.vocabularies.ByteVocabulary(extra_ids=30), folder=corpus_folder),
    ]
    for task in different:
        report = data.cache_status(task, cache_dir)
        assert report.status is data.CacheStatus.STALE
        with pytest.raises(UserError, match="another source, vocabulary or preprocessing"):
            first_batches(task, cache_dir)
        tally("faults", what="a stale cache")
    copy = tmp_path / "cache"
    shutil.copytree(cache_dir, copy)
    assert cli.main(cache_flags(changed, copy)) == 0
    assert cli.main(cache_flags(changed, tmp_path / "fresh")) == 0
    built = sums.cached(changed, copy)
    assert visible(built) == visible(sums.cached(changed, tmp_path / "fresh"))
    earlier = sums.cached(corpus_folder, copy)
    assert visible(built) != visible(earlier)
    # The earlier cache is as it was: a run may be reading it.
    assert visible(earlier) == visible(sums.cached(corpus_folder, cache_dir))


@pytest.mark.slow
def test_training_builds_a_damaged_cache_anew_before_the_first_step(
    corpus_folder, whole, tmp_path, corpus, capfd, tally
):
    task, cache_dir = whole
    copy = tmp_path / "cache"
    shutil.copytree(cache_dir, copy)
    folder = build_folder(task, copy)
    os.truncate(folder / "train.tfrecord-00000-of-00002", 1000)
    model_flags = [flag for flag in corpus if flag.endswith("model.gin")]
    flags = [*model_flags, *cache_flags(corpus_folder, copy)[1:-2], "--gin_file=runs/pretrain.gin"]
    flags += ["--gin.BATCH_SIZE=4", "--gin.TRAIN_STEPS=1", "--gin.WARMUP_STEPS=1"]
    flags += ["--gin.TASK_FEATURE_LENGTHS={'inputs': 16, 'targets': 8}"]
    flags += [f"--gin.MODEL_DIR={tmp_path / 'run'}"]
    flags = [flag for flag in flags if "'inputs': 32" not in flag]
    assert cli.main(["train", *flags]) == 0
    said = capfd.readouterr().out
    assert re.search(r"train\.tfrecord-00000-of-00002 is corrupt at byte \d+.*: building it", said)
    assert data.cache_status(task, copy).status is data.CacheStatus.READY
    tally("faults", what="a damaged cache at the start of training")


@pytest.mark.slow
def test_a_run_measures_what_it_opened_at_its_start(proverbs, tmp_path, monkeypatch, tally):
    """Its cache is removed, or its text changes, while it trains."""
    task, cache_dir = proverbs
    shutil.copytree(cache_dir, tmp_path / "cache")
    lengths = {"targets": 24}
    config = data.DatasetConfig(task, lengths, tmp_path / "cache", batch_size=4, prefetch=0)
    validate, losses = TrainingRun.validate, []

    def removed_before(run, step, state):
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)
        state = validate(run, step, state)
        losses.append(run._measured[step]["validation/loss"])
        return state

    monkeypatch.setattr(TrainingRun, "validate", removed_before)
    train(
        model=gpt.GPT2(vocab_size=384, embed_dim=8, num_heads=2, num_layers=1, max_length=24),
        model_dir=str(tmp_path / "run"),
        dataset=config,
        validation=[dataclasses.replace(config, split="validation")],
        validation_period=1,
        train_steps=2,
        optimizer=optimizers.adamw(Constant(1e-2)),
        tensorboard=False,
    )
    assert len(losses) == 2 and losses[1] < losses[0]
    tally("faults", what="the cache removed while a run reads it")
