"""Caches that are read shard by shard, through a store that is smaller than they are."""

import json
import subprocess
import sys
import threading

import numpy as np
import pytest
from etils import epath

from t5x_like import data
from t5x_like.data.cache import layout
from t5x_like.data.sharded import store as store_lib
from t5x_like.errors import DataFault, UserError
from t5x_like.host import files

LENGTHS = {"inputs": 32, "targets": 16}


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """A folder that stands for gs://bucket, and how much of it was read."""
    place = tmp_path / "bucket"

    def location(path):
        name = str(path)
        remote = name.removeprefix("gs://bucket")
        return epath.Path(f"{place}{remote}") if remote != name else epath.Path(name)

    monkeypatch.setattr(files, "location", location)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    return place


def opened(task, index=0, count=1, cache_dir="gs://bucket", lengths=LENGTHS, **settings):
    settings = {
        "batch_size": 8, "prefetch": 0, "virtual_streams": 4,
        "shard_store": data.ShardStore(shards_together=2), **settings,
    }  # fmt: skip
    config = data.DatasetConfig(task, lengths, cache_dir, **settings)
    return data.open_dataset(
        config, batch_format=FORMATS[len(lengths)], shard_index=index, shard_count=count
    )


FORMATS = {1: "causal_language_model", 2: "encoder_decoder"}


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


def inputs(batches):
    rows = [row[row > 1] for batch in batches for row in batch["encoder_input_tokens"]]
    return sorted(tuple(row.tolist()) for row in rows)


def test_every_epoch_has_every_example_once_in_another_order(kit, bucket, pairs):
    task = kit.task("pairs")
    # Ten examples in each of 24 shards: four streams of 6, and 3 groups of 20 examples.
    kit.write(task, bucket, pairs, shards=24)
    with opened(task, pack=False) as batches:
        whole = [next(batches) for _ in range(60)]
        assert batches.epochs(batches.get_state()) == {"pairs": 2.0}
    wanted = sorted(tuple(pair["inputs"].tolist()) for pair in pairs)
    assert inputs(whole[:30]) == inputs(whole[30:]) == wanted
    assert not same(whole[0], whole[30])
    # Rows of a stream stand together: its first twenty are the examples of two of its shards.
    first = inputs([{"encoder_input_tokens": b["encoder_input_tokens"][:2]} for b in whole[:10]])
    shards = [
        {tuple(pair["inputs"].tolist()) for pair in pairs[shard::24]} for shard in range(0, 24, 4)
    ]
    assert sorted(len(shard & set(first)) for shard in shards) == [0, 0, 0, 0, 10, 10]


def test_pieces_of_text_lose_less_than_one_of_each_group(kit, bucket):
    task = kit.task("text", ("targets",), kit.causal())
    texts = [np.full(99, 10 + number, np.int32) for number in range(16)]  # and its end
    kit.write(task, bucket, [{"targets": text} for text in texts], shards=16)
    # Each group is 200 tokens, of which an epoch has 12 pieces of 16; 96 in all.
    with opened(task, lengths={"targets": 16}, batch_size=4) as batches:
        tokens = np.concatenate([next(batches)["decoder_target_tokens"].ravel() for _ in range(24)])
        assert batches.epochs(batches.get_state()) == {"text": 1.0}
    counts = np.bincount(tokens, minlength=26)
    assert counts[10:].sum() + counts[1] == 96 * 16
    assert all(99 - 8 <= count <= 99 for count in counts[10:])


@pytest.mark.slow
@pytest.mark.parametrize("pack", [True, False])
def test_resuming_is_exact_on_any_number_of_processes(kit, bucket, pairs, pack):
    tasks = [kit.task("web"), kit.task("books")]
    for task, part in zip(tasks, (pairs[:200], pairs[200:]), strict=True):
        kit.write(task, bucket, part, shards=20)
    changing = data.MixtureSchedule(((0, {"web": 1}), (3, {"web": 1, "books": 1})))
    both = kit.mixture("both", [(task, 1.0) for task in tasks])
    settings = {"pack": pack, "mixing": changing}
    with opened(both, **settings) as batches:
        wanted = [next(batches) for _ in range(13)]
    for restart_at in (1, 9):
        states = []
        for index in range(2):
            with opened(both, index, 2, **settings) as half:
                mine = [next(half) for _ in range(restart_at)]
                assert all(
                    np.array_equal(m[name], w[name][4 * index : 4 * index + 4])
                    for m, w in zip(mine, wanted, strict=False)
                    for name in w
                )
                states.append(json.loads(json.dumps(half.get_state())))
        with opened(both, **settings) as alone:
            alone.set_state(data.merge_states(states))
            for batch in wanted[restart_at:]:
                assert same(next(alone), batch)


def test_the_store_holds_two_groups_of_each_stream_and_is_gone_at_the_end(kit, bucket, pairs):
    task = kit.task("pairs")
    folder = kit.write(task, bucket, pairs, shards=24)
    largest = max(path.stat().st_size for path in folder.glob("*.tfrecord-*"))
    needed = 2 * 2 * 4 * largest
    store = data.ShardStore(shards_together=2, store_bytes=needed)
    root = store.root
    most = 0
    with opened(task, pack=False, shard_store=store) as batches:
        for _ in range(40):
            next(batches)
            here = list(root.rglob("*.tfrecord-*"))
            most = max(most, len(here))
            assert sum(path.stat().st_size for path in here if path.exists()) <= needed
        assert len(list(root.iterdir())) == 1
    assert 8 <= most <= 16
    assert not list(root.iterdir())
    small = data.ShardStore(shards_together=2, store_bytes=needed - 1)
    with pytest.raises(UserError, match=f"store_bytes is .*, but {needed:,} may be needed"):
        opened(task, shard_store=small)
    assert not list(root.iterdir())


@pytest.mark.slow
def test_what_a_killed_process_has_left_is_removed(tmp_path):
    settings = data.ShardStore(store_dir=str(tmp_path))
    child = (
        "import os, signal; from t5x_like.data.sharded.store import LocalStore, ShardStore; "
        f"s = LocalStore(ShardStore(store_dir={str(tmp_path)!r})); s.new_folder(); "
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", child], check=False, timeout=120)
    assert done.returncode == -9
    (left,) = tmp_path.iterdir()
    one, two = store_lib.LocalStore(settings), store_lib.LocalStore(settings)
    assert {path for path in tmp_path.iterdir()} == {one.folder, two.folder}
    assert not left.exists()
    one.close()
    two.close()
    assert not list(tmp_path.iterdir())


def test_on_a_shared_file_system_shards_are_read_where_they_are(kit, bucket, pairs, tmp_path):
    task = kit.task("pairs")
    kit.write(task, bucket, pairs, shards=20)
    little = data.ShardStore(shards_together=2, store_bytes=1)
    with (
        opened(task, pack=False) as remote,
        opened(task, pack=False, cache_dir=tmp_path / "bucket", shard_store=little) as local,
    ):
        assert all(same(next(remote), next(local)) for _ in range(20))


def test_a_shard_that_is_damaged_on_its_way_is_fetched_again(kit, bucket, pairs, monkeypatch):
    task = kit.task("pairs")
    folder = kit.write(task, bucket, pairs, shards=8)
    with opened(task, pack=False) as batches:
        wanted = [next(batches) for _ in range(10)]
    fetch, damaged = store_lib.LocalStore.fetch, threading.Event()

    def badly(self, remote, target):
        fetch(self, remote, target)
        if not damaged.is_set():
            damaged.set()
            content = bytearray(target.read_bytes())
            content[30] ^= 1
            target.write_bytes(content)

    monkeypatch.setattr(store_lib.LocalStore, "fetch", badly)
    with opened(task, pack=False) as batches:
        assert all(same(next(batches), batch) for batch in wanted)
    assert damaged.is_set()
    monkeypatch.undo()
    path = layout.shard_path(folder, "train", 3, 8)
    path.write_bytes(path.read_bytes()[:-1])
    with (
        opened(task, pack=False, cache_dir=folder.parent) as batches,
        pytest.raises(UserError, match=r"bucket/pairs/train.tfrecord-00003-of-00008 is corrupt"),
    ):
        for _ in range(60):
            next(batches)


def test_a_store_that_does_not_answer_is_asked_several_times(tmp_path, monkeypatch):
    monkeypatch.setattr(store_lib.LocalStore, "_copy", lambda *_: 1 / 0)
    store = store_lib.LocalStore(data.ShardStore(store_dir=str(tmp_path)))
    store.close()  # which ends the waiting between
    with pytest.raises(DataFault, match="far/away cannot be read: division by zero"):
        store.fetch(epath.Path("far/away"), tmp_path / "here")


def test_no_record_is_read_or_copied_to_know_that_a_cache_is_there(kit, bucket, pairs, tmp_path):
    task = kit.task("pairs")
    kit.write(task, bucket, pairs)
    (bucket / "pairs" / "train.tfrecord-00001-of-00002").unlink()
    status = data.CacheStatus
    assert data.cache_status(task, bucket).status is status.INCOMPLETE
    for place in (bucket, "gs://bucket"):
        assert data.status_of_description(task, place, "train").status is status.READY
        assert data.status_of_description(task, place, "test").status is status.MISSING
    other = kit.task("pairs", print_of_source="1" * 64)
    assert data.status_of_description(other, bucket).status is status.STALE
    assert not list((tmp_path).glob("home/**/*"))


def test_what_is_measured_is_copied_without_the_training_split(kit, bucket, pairs, tmp_path):
    task = kit.task("pairs")
    kit.write(task, bucket, pairs)
    kit.write(task, bucket, pairs[:9], split="validation")
    settings = data.DatasetConfig(
        task, LENGTHS, "gs://bucket", split="validation", shard_store=data.ShardStore()
    )
    assert data.open_evaluation(settings, batch_format="encoder_decoder").num_examples == 9
    copied = {path.name for path in tmp_path.glob("home/**/*.tfrecord-*")}
    assert copied == {f"validation.tfrecord-0000{shard}-of-00002" for shard in range(2)}


def test_what_needs_the_whole_split_is_refused(kit, bucket, pairs):
    task = kit.task("pairs")
    kit.write(task, bucket, pairs, shards=3)
    with pytest.raises(UserError, match="first_tokens needs the whole split at once"):
        opened(task, first_tokens=9)
    with pytest.raises(UserError, match="has 3 shards, too few for 4 streams"):
        opened(task)
    with pytest.raises(UserError, match=r"data\.ShardStore\.shards_together is 0"):
        data.ShardStore(shards_together=0)
    with opened(task, virtual_streams=None) as batches:
        assert len(batches.get_state()["streams"]) == 2
