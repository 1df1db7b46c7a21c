"""What a run leaves behind: no memory while it goes on, nothing at all when it has ended."""

import contextlib
import gc
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from t5x_like import checkpoints, cli
from tests.reliability.kill_harness import STEP, left_behind

ROOT = Path(__file__).parents[2]
STEPS, SETTLED = 2000, 200
GROWTH = 0.02


def resident_bytes(pid):
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def children():
    """Of every thread of this process."""
    return {
        pid
        for task in Path("/proc/self/task").iterdir()
        for pid in (task / "children").read_text().split()
    }


def open_files(folder):
    """What this process has open below a folder."""
    found = set()
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the listing's own
            found.add(os.readlink(link))
    return {name for name in found if name.startswith(str(folder))}


@pytest.mark.slow
def test_two_thousand_steps_leave_memory_flat(train_flags, tmp_path, tally):
    """With all that a run does: validation, records, event files and saves."""
    flags = [
        *train_flags,
        f"--gin.MODEL_DIR={tmp_path}/run",
        f"--gin.TRAIN_STEPS={STEPS}",
        "--gin.train.train.log_period=10",
        "--gin.train.train.validation_period=100",
        "--gin.checkpoints.CheckpointPolicy.period=100",
    ]
    log = tmp_path / "log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "t5x_like", *flags],
            env={**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
            stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    samples = []
    while process.poll() is None:
        steps = [int(step) for step, _ in STEP.findall(log.read_text())]
        if steps and steps[-1] >= SETTLED:
            samples.append((steps[-1], resident_bytes(process.pid)))
        time.sleep(0.05)
    assert process.returncode == 0, log.read_text()
    assert left_behind(process.pid) == []
    assert checkpoints.checkpoint_steps(f"{tmp_path}/run")[-1] == STEPS
    early = statistics.median(size for step, size in samples if step < SETTLED + 200)
    late = statistics.median(size for step, size in samples if step >= STEPS - 200)
    print(f"{early / 2**20:.1f} MiB after {SETTLED} steps, {late / 2**20:.1f} MiB at the end")
    assert late < early * (1 + GROWTH)
    tally("faults")


class Signalling:
    """Standard output that sends SIGTERM when a text is written to it."""

    def __init__(self, text):
        self.text = text

    def write(self, text):
        if self.text and self.text in text:
            self.text = ""
            os.kill(os.getpid(), signal.SIGTERM)
        return len(text)

    def flush(self):
        pass

    def isatty(self):
        return False


@pytest.mark.parametrize(
    ("more", "signalled", "code"),
    [
        pytest.param([], "", 0, id="done"),
        pytest.param(["--gin.LEARNING_RATE=1e30"], "", 1, id="diverged", marks=pytest.mark.slow),
        pytest.param(
            ["--gin.gpt.GPT2.vocab_size=100"], "", 2, id="refused", marks=pytest.mark.slow
        ),
        pytest.param([], "step 4/8", 143, id="SIGTERM", marks=pytest.mark.slow),
    ],
)
def test_an_ended_run_leaves_no_thread_no_process_and_no_open_file(
    train_flags, tmp_path, monkeypatch, tally, more, signalled, code
):
    gc.collect()  # what other tests have left
    threads, processes = set(threading.enumerate()), children()
    opened = open_files(tmp_path.parent)
    with monkeypatch.context() as patched:
        if signalled:
            patched.setattr(sys, "stdout", Signalling(signalled))
        assert cli.main([*train_flags, f"--gin.MODEL_DIR={tmp_path}", *more]) == code
    left = {thread.name for thread in set(threading.enumerate()) - threads if thread.is_alive()}
    assert left == set()
    assert children() == processes
    if code:
        gc.collect()  # an error's traceback holds what its frames used
    assert open_files(tmp_path.parent) <= opened  # its own, and those of the cache
    tally("faults")
