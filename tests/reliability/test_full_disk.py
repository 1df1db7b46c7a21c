"""A disk that fills up while a run saves or logs: one line, and the last checkpoint restores."""

import errno
import itertools
import os
import re
import resource
import signal
import subprocess
import sys

import pytest

from t5x_like import checkpoints, cli, load_run
from t5x_like.host import disk_space
from t5x_like.training import metrics_log

MEBIBYTE = 2**20


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a filesystem of its own: `small_disk(bytes, mount options)`."""
    mounted = []

    def mount(size, options=""):
        place = tmp_path / f"disk-{len(mounted)}"
        place.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}{options}", "tmpfs", str(place)]
        if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("a filesystem of a few kilobytes can be mounted by root only")
        mounted.append(place)
        return place

    yield mount
    for place in mounted:
        subprocess.run(["umount", "-l", str(place)], check=True)


def one_line(capsys):
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


def fill(disk, leave):
    """Takes what is free of a disk but for `leave` bytes."""
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    (disk / "ballast").write_bytes(b"\0" * max(free - leave, 0))


@pytest.mark.slow
def test_no_room_for_a_checkpoint(small_disk, train_flags, capsys, tally):
    disk = small_disk(8 * MEBIBYTE)
    flags = [*train_flags, f"--gin.MODEL_DIR={disk}/run"]
    assert cli.main([f for f in flags if "TRAIN_STEPS" not in f] + ["--gin.TRAIN_STEPS=4"]) == 0
    fill(disk, leave=40_000)
    capsys.readouterr()
    assert cli.main(flags) == 1
    line = one_line(capsys)
    assert f"{disk}/run/checkpoints cannot be written" in line
    needed, free = (int(n.replace(",", "")) for n in re.findall(r"([\d,]+) bytes", line))
    # AdamW or Adafactor: at least the parameters, four bytes each.
    assert needed > 4 * load_run(f"{disk}/run").model.parameter_count() > free
    assert checkpoints.checkpoint_steps(f"{disk}/run") == [4]
    assert load_run(f"{disk}/run").step == 4 and load_run(f"{disk}/run").params
    # With room again the run goes on as if nothing had been.
    (disk / "ballast").unlink()
    assert cli.main(flags) == 0
    steps = [r["step"] for r in metrics_log.read_records(f"{disk}/run") if r["split"] == "train"]
    assert steps == [2, 4, 6, 8] and checkpoints.checkpoint_steps(f"{disk}/run") == [4, 8]
    tally("faults")


def test_no_room_for_a_record(small_disk, tmp_path, tally):
    disk = small_disk(128 * 1024)
    log = metrics_log.MetricsLog(str(disk))
    log.write(1, "train", {"loss": 1.0})
    fill(disk, leave=0)
    with pytest.raises(disk_space.DiskFull, match=r"metrics\.jsonl cannot be written: .* needed"):
        for step in range(2, 2000):
            log.write(step, "train", {"loss": 1.0})
    log.close()
    (disk / "ballast").unlink()
    steps = [record["step"] for record in metrics_log.read_records(str(disk))]
    assert steps == list(range(1, len(steps) + 1))
    # What was cut in the middle of a line is not there for the next start.
    metrics_log.MetricsLog(str(disk), resumed_step=len(steps)).close()
    assert (disk / "metrics.jsonl").read_text().endswith("}\n")
    tally("faults")


SAVES = """
import sys
from models import gpt
from t5x_like import optimizers, schedules
from t5x_like.checkpoints import Checkpointer
from t5x_like.partitioning import Partitioner
from t5x_like.training import state as train_state
sizes = {"vocab_size": 64, "embed_dim": 8, "num_heads": 2, "num_layers": 1, "max_length": 8}
state = train_state.create_state(
    gpt.GPT2(**sizes), optimizers.lion(schedules.Constant(1.0)), Partitioner(), seed=0
)
opened = [Checkpointer(place) for place in sys.argv[1:]]
for checkpointer in opened:
    checkpointer.save(state, 1, {}, {})
    checkpointer.wait()
print("saved", flush=True)
sys.stdin.readline()
for checkpointer in opened:
    try:
        checkpointer.save(state, 2, {}, {})
        checkpointer.wait()
    except Exception as error:
        print(error.exit_code, type(error).__name__, error, flush=True)
for checkpointer in opened:
    checkpointer.close()
"""


def remount_read_only(disk):
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)


def use_up_inodes(disk):
    for number in itertools.count():
        try:
            (disk / f"small-{number}").touch()
        except OSError:
            return


def replace_by_a_file(disk):
    (disk / "checkpoints").rename(disk / "old")
    (disk / "checkpoints").touch()


@pytest.mark.slow
def test_saves_that_cannot_begin_end_the_process_within_seconds(small_disk, tally):
    """Orbax's threads would wait five minutes for a directory that nobody makes."""
    harms = {
        use_up_inodes: "DiskFull .*: the disk has no inodes left",
        remount_read_only: "CannotWrite .*: read-only file system",
        replace_by_a_file: "CannotWrite .*: not a directory",
    }
    disks = [small_disk(8 * MEBIBYTE, ",nr_inodes=100") for _ in harms]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    saving = subprocess.Popen([sys.executable, "-c", SAVES, *disks], **pipes)
    assert saving.stdout.readline() == "saved\n"
    for harm, disk in zip(harms, disks, strict=True):
        harm(disk)
    lines, _ = saving.communicate("go on\n", timeout=15)
    for said, disk, line in zip(harms.values(), disks, lines.splitlines(), strict=True):
        assert re.match(f"1 {said}", line) and f"{disk}/checkpoints cannot be written" in line
        tally("faults")


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EPERM, "operation not permitted: something there is marked as immutable"),
        (errno.EACCES, "permission denied"),
        (errno.EROFS, "read-only file system"),
    ],
)
def test_an_error_of_permissions_is_named_as_what_it_is(tmp_path, number, said):
    """Not as a full disk: "5,060,744 bytes are needed, 53,293,056 bytes are free"."""
    with pytest.raises(disk_space.CannotWrite) as found, disk_space.explained(tmp_path, 10**6):
        raise OSError(number, os.strerror(number))
    assert not isinstance(found.value, disk_space.DiskFull)
    assert str(found.value).startswith(f"{tmp_path} cannot be written: {said}")
    assert "bytes" not in str(found.value)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_write_that_fails_late_is_explained_too(train_flags, tmp_path, capsys, tally):
    """The threads that write arrays meet a limit that no look at the disk foretells."""
    flags = [*train_flags, f"--gin.MODEL_DIR={tmp_path}/run", "--gin.train.train.tensorboard=False"]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (16384, hard))
        assert cli.main(flags) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    # Before it stand complaints of threads that write arrays, which cannot be caught.
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("t5x-like: error: ") and "checkpoints cannot be written" in last
    assert checkpoints.checkpoint_steps(f"{tmp_path}/run") == []
    tally("faults")
