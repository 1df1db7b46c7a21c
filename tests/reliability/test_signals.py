"""SIGTERM and SIGINT at every stage of a run: what is saved, what is said, what is left."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from t5x_like import checkpoints, cli, load_run
from tests.reliability.kill_harness import left_behind
from tests.untimed import untimed

ROOT = Path(__file__).parents[2]
EXIT_CODE = 143
EXIT_CODES = {signal.SIGTERM: 143, signal.SIGINT: 130}  # as shells report them
RESUMES = "no step was to be saved; the same command resumes where it was."


class Signalling:
    """Standard output that sends this process a signal when a text is first written to it."""

    def __init__(self, text, number):
        self.text, self.number = text, number
        self.written = ""

    def write(self, text):
        self.written += text
        if self.text is not None and self.text in text:
            self.text = None
            os.kill(os.getpid(), self.number)
        return len(text)

    def flush(self):
        pass

    def isatty(self):
        return False


@pytest.fixture(scope="module")
def whole(train_flags, tmp_path_factory):
    """A run of eight steps that no signal disturbs."""
    model_dir = str(tmp_path_factory.mktemp("signals") / "whole")
    assert cli.main([*train_flags, f"--gin.MODEL_DIR={model_dir}"]) == 0
    return model_dir


@pytest.mark.slow
def test_the_step_is_finished_and_saved_and_the_next_start_goes_on_bit_for_bit(
    train_flags, whole, tmp_path, monkeypatch, capfd, tally
):
    flags = [*train_flags, f"--gin.MODEL_DIR={tmp_path}"]
    for number, text, saved in (
        (signal.SIGINT, "first step after", 1),
        # A record is written when the step after it has been dispatched.
        (signal.SIGTERM, "step 4/8", 5),
    ):
        output, before = Signalling(text, number), signal.getsignal(number)
        begun = time.monotonic()
        with monkeypatch.context() as patched:
            patched.setattr(sys, "stdout", output)
            assert cli.main(flags) == EXIT_CODES[number]
        assert output.text is None, "the text never came"
        assert time.monotonic() - begun < 30
        first, line = capfd.readouterr().err.splitlines()
        assert first == (
            f"t5x-like: {number.name} received: saves and ends; a second signal ends at once, "
            "without saving."
        )
        said = f"saved step {saved}; the same command resumes from it."
        assert line == f"t5x-like: error: {number.name} received: {said}"
        assert checkpoints.checkpoint_steps(str(tmp_path))[-1] == saved
        assert signal.getsignal(number) == before
        tally("faults")

    assert cli.main(flags) == 0
    assert untimed(tmp_path)[-1] == untimed(whole)[-1]  # the validation at the end
    found, expected = load_run(str(tmp_path), 8).params, load_run(whole, 8).params
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_before_the_first_step_there_is_nothing_to_save(
    train_flags, tmp_path, monkeypatch, capsys, tally
):
    output = Signalling("writes to", signal.SIGTERM)
    monkeypatch.setattr(sys, "stdout", output)
    assert cli.main([*train_flags, f"--gin.MODEL_DIR={tmp_path}"]) == EXIT_CODE
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"t5x-like: error: SIGTERM received: {RESUMES}"
    assert checkpoints.checkpoint_steps(str(tmp_path)) == []
    tally("faults")


# -- What Python cannot interrupt ------------------------------------------------------------

HASHING = """
import hashlib, sys
from t5x_like.distributed import preemption
preemption.ONE_SIGNAL_SECONDS = 0.5
with getattr(preemption, sys.argv[1])():
    print("begun", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2_000_000_000)  # C, for a quarter of an hour
"""


@pytest.mark.parametrize("context", ["stop_on_signal", "end_on_signal"])
def test_a_second_signal_ends_the_process_whatever_it_is_doing(context, tally):
    process = subprocess.Popen(
        [sys.executable, "-c", HASHING, context],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    with process:
        process.stdout.readline()
        time.sleep(0.3)  # until it hashes
        process.send_signal(signal.SIGTERM)
        time.sleep(0.7)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=5) == 130
        assert (
            process.stderr.read()
            .splitlines()[-1]
            .startswith("t5x-like: error: second SIGINT received: ended without saving.")
        )
    tally("faults")


STEPS = """
import sys, time
from t5x_like.distributed import preemption
preemption.ONE_SIGNAL_SECONDS = float(sys.argv[1])
with preemption.end_on_signal(), preemption.stop_on_signal() as stop:
    stop.last_words = lambda: "The last checkpoint is of step 7."
    stop.after(7)
    print("begun", flush=True)
    while not stop.after(8):
        time.sleep(0.01)
    time.sleep(0.5)  # a save
    raise stop.preempted(8)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("numbers", "code"), [((signal.SIGTERM,) * 2, 143), ((signal.SIGINT, signal.SIGTERM), 130)]
)
def test_signals_20_ms_apart_count_as_one(numbers, code, tally):
    """So `timeout` sends them: to the process, and to its group."""
    with running_steps(seconds=2.0) as process:
        for number in numbers:
            process.send_signal(number)
            time.sleep(0.02)
        _, error = process.communicate(timeout=10)
    assert error.splitlines()[-1] == (
        f"t5x_like.distributed.preemption.Preempted: {numbers[0].name} received: saved step 8; "
        "the same command resumes from it."
    )
    assert error.count("a second signal ends at once") == 1
    tally("faults")


def test_a_hard_end_names_the_last_checkpoint(tally):
    """The time within which signals are one is shorter here."""
    with running_steps(seconds=0.1) as process:
        process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        _, error = process.communicate(timeout=10)
    assert process.returncode == 143
    assert error.splitlines()[-1] == (
        "t5x-like: error: second SIGTERM received: ended without saving. The last checkpoint is "
        "of step 7."
    )
    tally("faults")


def test_a_hard_end_on_a_terminal_shows_the_cursor_again():
    ours, theirs = os.openpty()
    command = [sys.executable, "-c", STEPS, "0.1"]
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, cwd=ROOT) as process:
        os.close(theirs)
        assert b"begun" in os.read(ours, 1000)
        for _ in range(2):
            process.send_signal(signal.SIGINT)
            time.sleep(0.2)
        assert process.wait(timeout=10) == 130
    said = b""
    with contextlib.suppress(OSError):  # the terminal's end
        while part := os.read(ours, 1000):
            said += part
    os.close(ours)
    assert b"\x1b[?25h" in said and said.endswith(b"\n")


@contextlib.contextmanager
def running_steps(seconds):
    process = subprocess.Popen(
        [sys.executable, "-c", STEPS, str(seconds)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    with process:
        assert process.stdout.readline() == "begun\n"
        try:
            yield process
        finally:
            process.kill()


SWALLOWING = """
import gc, time
from t5x_like.distributed import preemption
def swallow(phase, info):
    if phase == "start":
        print("begun", flush=True)
        time.sleep(1000)
gc.callbacks.append(swallow)
with preemption.end_on_signal():
    gc.collect()
    time.sleep(1000)
"""
IMPORTING = """
import importlib, sys
from t5x_like.distributed import preemption
with preemption.end_on_signal():
    try:
        importlib.import_module("slow_to_import")
    except BaseException:
        print("swallowed")
"""


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(HASHING.replace("sys.argv[1]", "'end_on_signal'"), id="in C"),
        pytest.param(SWALLOWING, id="in a callback that swallows what is raised"),
        pytest.param(IMPORTING, id="in an import that does so"),
        pytest.param(
            "import sys, types\nsys.modules['multiprocessing'] = types.ModuleType('it begins')"
            + IMPORTING,
            id="in an import of multiprocessing",
        ),
    ],
)
def test_what_cannot_be_left_is_ended(text, tmp_path, tally):
    waiting = "print('begun', flush=True)\nimport time\ntime.sleep(1000)\n"
    (tmp_path / "slow_to_import.py").write_text(waiting)
    text = text.replace("\nwith ", "\npreemption._LEAVING_SECONDS = 0.5\nwith ", 1)
    process = subprocess.Popen(
        [sys.executable, "-c", text],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}"},
    )
    with process:
        assert process.stdout.readline() == "begun\n"
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        try:
            out, err = process.communicate(timeout=20)
        finally:
            process.kill()
    assert (process.returncode, out) == (EXIT_CODE, "")
    assert err == "t5x-like: error: SIGTERM received: there was nothing to save.\n"
    tally("faults")


CHILD = """
import os, sys, time
from t5x_like.distributed import preemption
preemption.end_with_parent(int(sys.argv[1]))
print(os.getpid(), flush=True)
time.sleep(1000)
"""
PARENT = """
import os, subprocess, sys, time
subprocess.Popen([sys.executable, "-c", sys.argv[1], str(os.getpid())])
time.sleep(1000)
"""


def test_a_child_ends_when_its_parent_is_killed(tally):
    command = [sys.executable, "-c", PARENT, CHILD]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, start_new_session=True)
    with parent:
        parent.stdout.readline()
        parent.kill()
        parent.wait()
        assert left_behind(parent.pid) == []
    tally("faults")


# -- Real processes --------------------------------------------------------------------------


def start(flags, log):
    """`t5x-like train` as the leader of a session."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    with open(log, "w") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "t5x_like", *flags],
            env=environment, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip


def catches_sigterm(pid):
    """Whether a process has a handler for SIGTERM ; Python itself has none."""
    (mask,) = [
        line.split()[1]
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith("SigCgt")
    ]
    return bool(int(mask, 16) >> (signal.SIGTERM - 1) & 1)


def wait_for(text, log, process, seconds=120):
    deadline = time.monotonic() + seconds
    while text not in log.read_text():
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("seconds", [0.0, 1.0, 3.0])
def test_a_start_up_ends_in_one_line(train_flags, tmp_path, tally, number, seconds):
    flags = [*train_flags, f"--gin.MODEL_DIR={tmp_path}/run", "--gin.TRAIN_STEPS=1000000"]
    log = tmp_path / "log"
    process = start(flags, log)
    while not catches_sigterm(process.pid):  # Python itself takes a moment to start
        time.sleep(0.001)
    time.sleep(seconds)
    process.send_signal(number)
    assert process.wait(timeout=30) == EXIT_CODES[number], log.read_text()
    line = log.read_text().splitlines()[-1]
    assert line.startswith(f"t5x-like: error: {number.name} received: ")
    assert "Traceback" not in log.read_text(), log.read_text()
    assert left_behind(process.pid) == []
    tally("faults")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("to_all", [False, True], ids=["one process", "its children too"])
@pytest.mark.parametrize(
    "seconds",
    [
        pytest.param(0.0, marks=pytest.mark.release),
        2.0,
        pytest.param(4.0, marks=pytest.mark.release),
    ],
)
def test_building_a_cache_ends_in_one_line_and_leaves_no_process(
    train_flags, tmp_path, tally, number, to_all, seconds
):
    cache = [f"--gin.CACHE_DIR={tmp_path}/cache", f"--gin.MODEL_DIR={tmp_path}/run"]
    log = tmp_path / "log"
    process = start([*train_flags, *cache], log)
    wait_for("building it", log, process)
    time.sleep(seconds)
    if to_all:  # as a terminal does, and a cluster's agent
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    assert process.wait(timeout=30) == EXIT_CODES[number], log.read_text()
    _, said = log.read_text().split("building it.\n")
    assert said == f"t5x-like: error: {number.name} received: {RESUMES}\n"
    assert left_behind(process.pid) == []
    assert checkpoints.checkpoint_steps(f"{tmp_path}/run") == []
    tally("faults")


@pytest.mark.slow
def test_two_signals_at_once_during_training_save(train_flags, tmp_path, tally):
    endless = [*train_flags, "--gin.train.train.log_period=1", f"--gin.MODEL_DIR={tmp_path}"]
    log = tmp_path / "log"
    process = start([*endless, "--gin.TRAIN_STEPS=1000000"], log)
    wait_for("step 5/", log, process)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) in EXIT_CODES.values(), log.read_text()
    (step,) = re.findall(r"saved step (\d+); the same command resumes", log.read_text())
    assert left_behind(process.pid) == []
    assert checkpoints.checkpoint_steps(str(tmp_path))[-1] == int(step)
    tally("faults")
