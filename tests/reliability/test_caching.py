"""Caching that is killed, finds no room or loses a worker: what is half never counts as whole."""

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from t5x_like import cli, data
from t5x_like.errors import DataFault
from t5x_like.host import disk_space
from tests.reliability import sums
from tests.reliability.sums import cache_flags, visible, write_corpus


@pytest.mark.slow
def test_wherever_caching_is_killed_the_next_start_finishes_it_to_the_same_bytes(
    tmp_path, monkeypatch, tally
):
    """A kill leaves the files as they are between two operations on them: all such states."""
    corpus_folder = tmp_path / "corpus"
    corpus_folder.mkdir()
    write_corpus(corpus_folder)
    states = []

    def keeping(operation):
        def kept(path, *arguments, **options):
            if "cache" in path.parts:
                states.append(tmp_path / f"state-{len(states)}")
                shutil.copytree(tmp_path / "cache", states[-1])
            return operation(path, *arguments, **options)

        return kept

    monkeypatch.setattr(Path, "replace", keeping(Path.replace))
    monkeypatch.setattr(Path, "unlink", keeping(Path.unlink))
    assert cli.main(cache_flags(corpus_folder, tmp_path / "cache", shards=1)) == 0
    monkeypatch.undo()
    # Of each of two splits a shard, its sidecar and its counts, then info and statistics; then
    # task.json and COMPLETED; then both counts are removed.
    assert len(states) >= 2 * 5 + 2 + 2
    changed = tmp_path / "changed"
    shutil.copytree(corpus_folder, changed)
    (changed / "train.tsv").write_text("Something else.\t0\n" * 40)
    assert cli.main(cache_flags(changed, tmp_path / "fresh", shards=1)) == 0
    for i, state in enumerate(states):
        finished = (sums.cached(corpus_folder, state) / "COMPLETED").exists()
        report = data.cache_status(sums.task(folder=corpus_folder), state)
        assert finished == (report.status is data.CacheStatus.READY)
        # Every second one finds that the source has changed meanwhile.
        source, whole = (changed, "fresh") if i % 2 else (corpus_folder, "cache")
        assert cli.main(cache_flags(source, state, shards=1)) == 0
        built, wanted = (sums.cached(source, one) for one in (state, tmp_path / whole))
        assert visible(built) == visible(wanted)
    tally("kills", times=len(states), what="caching stopped between two operations on files")


# -- No room -----------------------------------------------------------------------------------


def one_line(capsys):
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


@pytest.fixture
def big_corpus(tmp_path):
    """Half a megabyte, of which the cache is larger."""
    folder = tmp_path / "big"
    folder.mkdir()
    rows = [f"{i} {'word ' * 100}\t{i}" for i in range(1000)]
    (folder / "train.tsv").write_text("\n".join(rows) + "\n")
    (folder / "validation.tsv").write_text("\n".join(rows[:5]) + "\n")
    return folder


@pytest.mark.slow
def test_a_full_disk_ends_caching_with_one_line_and_more_room_finishes_it(
    big_corpus, tmp_path, capsys, tally
):
    if os.geteuid() != 0:
        pytest.skip("mounting a small filesystem takes root")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(disk)]
    if subprocess.run(mounted, capture_output=True, check=False).returncode:
        pytest.skip("this place mounts no tmpfs")
    try:
        assert cli.main(cache_flags(big_corpus, disk)) == 1
        line = one_line(capsys)
        folder = sums.cached(big_corpus, disk)
        assert f"{folder} cannot be written: the disk has no room" in line
        assert re.search(r"more than the [\d,]+ bytes written are needed, \d+ bytes are free", line)
        assert not (folder / "COMPLETED").exists()
        assert not list(folder.glob(".*.tmp"))
        task = sums.task(folder=big_corpus)
        assert data.cache_status(task, disk).status is data.CacheStatus.INCOMPLETE
        tally("faults", what="a full disk while caching")
        subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
        assert cli.main(cache_flags(big_corpus, disk)) == 0
        assert cli.main(cache_flags(big_corpus, tmp_path / "roomy")) == 0
        assert visible(folder) == visible(sums.cached(big_corpus, tmp_path / "roomy"))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.slow
def test_a_limit_on_files_ends_caching_with_one_line(big_corpus, tmp_path, capsys, tally):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        assert cli.main(cache_flags(big_corpus, tmp_path / "cache")) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "larger than is allowed (`ulimit -f`)" in one_line(capsys)
    assert not (sums.cached(big_corpus, tmp_path / "cache") / "COMPLETED").exists()
    assert cli.main(cache_flags(big_corpus, tmp_path / "cache")) == 0
    tally("faults", what="a limit on the size of files while caching")


def test_room_is_asked_for_and_every_form_of_the_error_is_understood(tmp_path):
    disk_space.require(tmp_path / "not" / "there", 1)
    with pytest.raises(disk_space.DiskFull, match=r"not/there cannot be written: .* free"):
        disk_space.require(tmp_path / "not" / "there", 1 << 60)

    def wrapped(error):
        with disk_space.explained(tmp_path, 1234):
            try:
                raise error
            except Exception:
                raise ValueError("another words it") from None

    for error in (
        OSError(28, "No space left on device"),
        OSError(122, "Disk quota exceeded"),
        OSError(27, "File too large"),
        ValueError("RESOURCE_EXHAUSTED: write failed [No space left on device]"),
        ExceptionGroup("several", [OSError(28, "No space left on device")]),
    ):
        with pytest.raises(disk_space.DiskFull, match="1,234 bytes are needed") as found:
            wrapped(error)
        assert found.value.exit_code == 1
    with pytest.raises(ValueError, match="another words it"):
        wrapped(OSError(2, "No such file"))


# -- Processes ---------------------------------------------------------------------------------


def processes_of_session(leader):
    """Ids of the living processes of a session."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, session = stat.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(session) == leader and state != "Z":
            found.append(int(stat.parent.name))
    return found


@pytest.fixture
def caching(tmp_path):
    """Starts `t5x-like cache` with two workers, in a session of its own."""
    started = []

    def start(flags, **options):
        process = subprocess.Popen(
            [sys.executable, "-m", "t5x_like", *flags],
            env={**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[2])},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            **options,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stderr.close()


def start_until_first_shard(caching, flags, folder):
    """A process that caches, when it has finished its first shard and not yet all."""
    process = caching(flags)
    deadline = time.monotonic() + 120
    while not list(folder.glob("*.tfrecord-*")):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process


def eventually(holds, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_killed_while_caching_leaves_no_process_and_the_next_start_finishes(
    big_corpus, tmp_path, caching, tally
):
    flags = cache_flags(big_corpus, tmp_path / "cache", shards=16, workers=2)
    for _ in range(2):
        killed = start_until_first_shard(
            caching, flags, sums.cached(big_corpus, tmp_path / "cache")
        )
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
        eventually(lambda killed=killed: not processes_of_session(killed.pid))
        assert not (sums.cached(big_corpus, tmp_path / "cache") / "COMPLETED").exists()
        for shard in list(sums.cached(big_corpus, tmp_path / "cache").glob("*.tfrecord-*"))[1:]:
            shard.unlink()  # so that there is something left to interrupt
        tally("kills", what="caching with two workers")
    assert caching(flags).wait() == 0
    assert cli.main(cache_flags(big_corpus, tmp_path / "fresh", shards=16)) == 0
    assert visible(sums.cached(big_corpus, tmp_path / "cache")) == visible(
        sums.cached(big_corpus, tmp_path / "fresh")
    )


@pytest.mark.slow
def test_a_killed_worker_ends_caching_with_one_line(big_corpus, tmp_path, caching, tally):
    flags = cache_flags(big_corpus, tmp_path / "cache", shards=16, workers=2)
    process = start_until_first_shard(caching, flags, sums.cached(big_corpus, tmp_path / "cache"))
    workers = [
        pid
        for pid in processes_of_session(process.pid)
        if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    os.kill(workers[0], signal.SIGKILL)
    _, error = process.communicate(timeout=60)
    assert process.returncode == DataFault.exit_code == 1
    assert len(error.strip().splitlines()) == 1, error
    assert "was killed by SIGKILL; what is finished is kept: run it again" in error
    eventually(lambda: not processes_of_session(process.pid), seconds=5)
    assert not list(sums.cached(big_corpus, tmp_path / "cache").glob(".*.tmp"))
    tally("faults", what="a worker killed while caching")


@pytest.mark.slow
def test_an_error_in_one_worker_ends_the_others(big_corpus, tmp_path, caching, tally):
    """Half of the files are read by one worker that is not done for long."""
    for i in range(8):
        (big_corpus / f"train-{i}.tsv").write_text("a\tb\n" * (200_000 if i % 2 else 10))
    (big_corpus / "train-2.tsv").write_text("no column\n")
    flags = cache_flags(big_corpus, tmp_path / "cache", shards=8, workers=2)
    flags = [f"--gin.TRAIN_FILES={big_corpus}/train-*.tsv" if "TRAIN" in f else f for f in flags]
    process = caching(flags)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 2
    assert len(error.strip().splitlines()) == 1, error
    assert "train-2.tsv', line 1 has 1 columns: 2 are named" in error
    eventually(lambda: not processes_of_session(process.pid), seconds=5)
    assert not (tmp_path / "cache").exists()
    tally("bad inputs", what="a bad row, found by one of several workers")
