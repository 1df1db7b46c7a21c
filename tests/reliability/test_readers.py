"""Reading that is slow goes on; reading that has stopped ends the run with the cause, soon."""

import ctypes
import errno
import os
import threading
import time

import numpy as np
import pytest

import tasks
from t5x_like import data
from t5x_like.data import iterator
from t5x_like.data.cache import layout
from t5x_like.data.formats import Item
from t5x_like.data.rows.numbered import NumberedRows
from t5x_like.errors import DataFault, UserError
from tasks import objectives, sources

READER = "data"  # the thread's name


def readers():
    return [thread for thread in threading.enumerate() if thread.name == READER]


def reading(item_at, prefetch=2, patience=60.0, batch_size=4):
    """An iterator whose examples come from a function of their number."""
    rows = NumberedRows(item_at, data.BatchSchedule(((0, batch_size),)), 0, 1)

    def convert(batch):
        return {"tokens": np.stack([row[0].parts[0] for row in batch])}

    return iterator.DataIterator(rows, convert, "data", prefetch, patience)


def number(index):
    return Item((np.array([index], np.int32),))


def seconds_of(call):
    started = time.monotonic()
    with pytest.raises(DataFault) as found:
        call()
    return time.monotonic() - started, str(found.value)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_dies_hard_ends_the_run_with_the_cause(tally):
    with reading(number, prefetch=1) as batches:
        next(batches)
        (thread,) = readers()
        time.sleep(0.3)  # the queue is full, and the thread waits for room
        # Ends the thread where no handler of its own sees it, as a crash of an extension would.
        ended = ctypes.c_ulong(thread.ident)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ended, ctypes.py_object(SystemExit))
        thread.join(5)
        assert not thread.is_alive()
        next(batches)  # what it had made
        seconds, said = seconds_of(lambda: next(batches))
    assert seconds < 5
    assert "the thread that reads the data has ended without saying why" in said
    assert not readers()
    tally("faults", what="a dead reader thread")


def test_an_error_of_the_reader_is_the_error_of_the_run(tally):
    def item_at(index):
        if index == 6:
            raise OSError(errno.EIO, "Input/output error")
        return number(index)

    with reading(item_at) as batches:
        next(batches)
        with pytest.raises(OSError, match="Input/output error"):
            next(batches)
    assert not readers()
    tally("faults", what="an error in the reader thread")


@pytest.mark.slow
def test_a_source_that_stops_answering_ends_the_run_and_is_left_behind(monkeypatch, tally):
    monkeypatch.setattr(iterator, "_LEAVE", 0.2)
    answers = threading.Event()

    def item_at(index):
        if index == 5:
            answers.wait()  # as a read from a file server that is gone
        return number(index)

    with reading(item_at, patience=2.0) as batches:
        next(batches)
        seconds, said = seconds_of(lambda: next(batches))
    assert 2 <= seconds < 10
    assert "no example could be read for 2 s" in said
    assert "\n" not in said
    answers.set()
    deadline = time.monotonic() + 5
    while readers():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    tally("faults", what="a source that does not answer")


@pytest.mark.slow
def test_a_slow_source_goes_on_and_says_so(monkeypatch, capfd, tally):
    """Each batch takes longer than the patience, each example less."""
    monkeypatch.setattr(iterator, "_SLOW", 2.0)

    def item_at(index):
        time.sleep(0.7)
        return number(index)

    with reading(item_at, patience=2.0) as batches:
        assert next(batches)["tokens"].ravel().tolist() == [0, 1, 2, 3]
    assert "no batch for 2 s: reading is slow" in capfd.readouterr().err
    tally("faults", what="a slow source")


def test_a_full_queue_makes_the_reader_wait_and_ends_with_it(tally):
    made = []

    def item_at(index):
        made.append(index)
        return number(index)

    with reading(item_at, prefetch=3) as batches:
        next(batches)
        time.sleep(0.5)
        # Three in the queue and one in the hand, beside the one that was taken.
        assert len(made) == (1 + 3 + 1) * 4
        started = time.monotonic()
    assert time.monotonic() - started < 2
    assert not readers()
    tally("faults", what="a full queue")


# -- Files that change under a run -------------------------------------------------------------


@pytest.fixture
def opened(tmp_path, write_cache):
    """Opens a small cache of documents; also its folder."""
    files = {"train": str(tmp_path / "train.txt")}
    (tmp_path / "train.txt").write_text("never read\n")

    def open_it(documents, objective, length, **settings):
        source = sources.TextFiles(files=files, separator="\n")
        task = tasks.unsupervised("documents", source, objective=objective)
        write_cache(task, tmp_path / "cache", {"train": documents})
        config = data.DatasetConfig(
            task, {"targets": length}, tmp_path / "cache", batch_size=2, **settings
        )
        folder = layout.cache_path(tmp_path / "cache", task.cache_name)
        return data.open_dataset(config, batch_format="prefix_language_model"), folder

    return open_it


@pytest.mark.parametrize("concatenate", [True, False])
def test_a_file_that_shrinks_under_a_run_is_an_error_and_no_signal(opened, concatenate, tally):
    documents = [f"document {i} " * 20 for i in range(40)]
    batches, folder = opened(documents, objectives.CausalLM(concatenate=concatenate), 32)
    with batches:
        next(batches)
        (shard,) = folder.glob("train.tfrecord-*")
        os.truncate(shard, 100)
        with pytest.raises(UserError, match="is corrupt at byte 100: it ends there since it"):
            for _ in range(1000):
                next(batches)
    assert not readers()
    tally("faults", what="a file cut while it is read")


def test_a_disk_that_fails_is_named(opened, monkeypatch, tally):
    batches, _ = opened(["some document"] * 40, objectives.CausalLM(), 8)

    def fail(*_):
        raise OSError(errno.EIO, "Input/output error")

    with batches:
        next(batches)
        monkeypatch.setattr(os, "pread", fail)
        _, said = seconds_of(lambda: [next(batches) for _ in range(100)])
    assert "train.tfrecord-00000-of-00001 cannot be read at byte" in said
    assert said.endswith("Input/output error.")
    tally("faults", what="a disk that fails")


# -- Long examples -----------------------------------------------------------------------------

LONG = ["four", "a document of thirty letters..", "eleven char"]


def tokens_of(batches, count):
    """The rows of the first batches as text, without EOS (1) and padding; a byte `b` is `b + 3`."""
    rows = [row for _ in range(count) for row in next(batches)["decoder_target_tokens"].tolist()]
    return ["".join(chr(i - 3) for i in row if i > 2) for row in rows]


def test_long_examples_are_trimmed_and_counted(opened, capfd, tally):
    """Twelve tokens are eleven letters and EOS: only the second document has more."""
    objective = objectives.CausalLM(concatenate=False)
    batches, _ = opened(LONG, objective, 12, pack=False, shuffle=False, prefetch=0)
    assert capfd.readouterr().err == (
        "documents train: 1 of 3 examples have targets of more than 11 tokens (at most 30): "
        "trimmed\n"
    )
    assert tokens_of(batches, 2) == ["four", "a document ", "eleven char", "four"]
    tally("bad inputs", what="an example longer than the limit, trimmed")


def test_long_examples_are_split_by_option_and_nothing_is_lost(opened, capfd, tally):
    objective = objectives.CausalLM(concatenate=False)
    batches, _ = opened(
        LONG,
        objective,
        12,
        pack=False,
        shuffle=False,
        prefetch=0,
        long_examples=data.SplitLong(),
    )
    assert capfd.readouterr().err.endswith("(at most 30): split\n")
    assert tokens_of(batches, 3) == [
        "four", "a document ", "of thirty l", "etters..", "eleven char", "four"
    ]  # fmt: skip
    tally("bad inputs", what="an example longer than the limit, split")


def test_split_examples_go_on_exactly_where_they_were(opened, tally):
    objective = objectives.CausalLM(concatenate=False)
    settings = {"pack": True, "long_examples": data.SplitLong(), "virtual_streams": 2}
    batches, _ = opened([f"{i} " * i for i in range(1, 60)], objective, 24, **settings)
    with batches:
        for _ in range(5):
            next(batches)
        state = batches.get_state()
        expected = [next(batches) for _ in range(5)]
        batches.set_state(state)
        for batch in expected:
            again = next(batches)
            assert all(np.array_equal(again[name], batch[name]) for name in batch)


def test_nothing_is_said_where_every_example_fits(opened, capfd):
    opened(LONG, objectives.CausalLM(concatenate=False), 31, prefetch=0)
    opened_text = capfd.readouterr().err
    assert opened_text == ""


def test_pairs_cannot_be_split(tmp_path, write_cache):
    from t5x_like.data.long_examples import SplitLong

    sizes = np.array([3, 30])
    with pytest.raises(UserError, match="SplitLong is for tasks of one feature"):
        SplitLong().source([], {"inputs": sizes, "targets": sizes}, {"inputs": 8, "targets": 8})
