"""Several processes as one run: real ones, on loopback, with four simulated devices each."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import tasks
from t5x_like.distributed import config_sync, heartbeat, startup
from t5x_like.errors import UserError
from t5x_like.training import metrics_log
from tasks import sources

ROOT = Path(__file__).parents[3]
DEVICES = "--xla_force_host_platform_device_count="


def start(flags, *, devices, log, place=()):
    """`t5x-like train` in a process of its own."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"{DEVICES}{devices}",
    }
    with open(log, "w") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "t5x_like", "train", *flags, *place],
            env=environment,
            stdout=out,
            stderr=subprocess.STDOUT,
        )


def free_address():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@contextlib.contextmanager
def two_processes(flags, folder):
    """Both, and their logs."""
    address = free_address()
    logs = [folder / f"process_{i}.log" for i in range(2)]
    running = []
    for i, log in enumerate(logs):
        place = [f"--coordinator_address={address}", "--process_count=2", f"--process_index={i}"]
        running.append(start(flags, devices=4, log=log, place=place))
    try:
        yield running, logs
    finally:
        for process in running:
            process.kill()
            process.wait()


def wait_for(found, what, seconds=90):
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(0.2)


def losses(model_dir, split="train"):
    """Step to loss, as `metrics.jsonl` has it."""
    records = metrics_log.read_records(str(model_dir))
    return {record["step"]: record["loss"] for record in records if record["split"] == split}


@pytest.fixture(scope="module")
def flags(tmp_path_factory, write_cache):
    """A tiny T5 on a few modules of the standard library, tokenized without TensorFlow."""
    cache = tmp_path_factory.mktemp("cache")
    task = tasks.get_mixture_or_task("stdlib_span_corruption")
    library = sources.StandardLibraryModules(tests=True)
    texts = {
        split: [text for _, text in library.modules(split, [f"{split}-00"])][:4]
        for split in ("train", "validation")
    }
    write_cache(task, cache, texts)
    return [
        "--gin_file=models/t5_1_1/tiny.gin",
        "--gin_file=tasks/stdlib_span_corruption.gin",
        "--gin_file=runs/pretrain.gin",
        f"--gin.CACHE_DIR={cache}",
        "--gin.TASK_FEATURE_LENGTHS={'inputs': 64, 'targets': 32}",
        "--gin.BATCH_SIZE=8",
        "--gin.WARMUP_STEPS=2",
        "--gin.DROPOUT_RATE=0.1",
        "--gin.train.train.log_period=1",
        "--gin.train.train.validation_period=6",
        "--gin.train.train.validation_batches=1",
        "--gin.checkpoints.CheckpointPolicy.period=3",
        "--gin.checkpoints.CheckpointPolicy.keep=None",
    ]


# -- Finding each other ---------------------------------------------------------------------


@pytest.fixture
def nowhere(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("SLURM_", "OMPI_", "KUBERNETES_", "JOB_", "JAX_PROCESS", "JAX_COORD")):
            monkeypatch.delenv(name)
    return monkeypatch


def test_a_machine_of_its_own_waits_for_nobody(nowhere):
    assert not startup.in_cluster()


def test_a_slurm_step_of_several_tasks_is_a_cluster_but_not_the_shell_that_starts_it(nowhere):
    nowhere.setenv("SLURM_NTASKS", "4")
    assert not startup.in_cluster()
    nowhere.setenv("SLURM_STEP_NUM_TASKS", "1")
    assert not startup.in_cluster()
    nowhere.setenv("SLURM_STEP_NUM_TASKS", "4")
    assert startup.in_cluster()


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (("host:1", 2, None), "need coordinator_address, process_count and process_index"),
        (("host", 2, 0), "process 0 of 2 with coordinator 'host'.*host:port"),
        (("host:1", 2, 2), "process 2 of 2.*below the count"),
    ],
)
def test_a_place_that_cannot_be_is_refused(nowhere, place, message):
    with pytest.raises(UserError, match=message):
        startup.initialize(*place)


# -- Agreeing -------------------------------------------------------------------------------

WRITTEN = """
# Macros:
# ==============================================================================
BATCH_SIZE = 8
# Parameters for train.train:
# ==============================================================================
train.train.validation = \\
    [@validation/data.DatasetConfig()]
train.train.model = %MODEL
"""


def test_bindings_are_read_as_gin_writes_them():
    assert config_sync.bindings(WRITTEN) == {
        "BATCH_SIZE": "8",
        "train.train.validation": "[@validation/data.DatasetConfig()]",
        "train.train.model": "%MODEL",
    }


def test_differences_name_what_is_different_missing_and_extra():
    said = config_sync.differences({"a": "1", "b": "2", "d": "4"}, {"a": "1", "b": "3", "c": "5"})
    assert said == (
        "b is 2 (process 0: 3), c is not set (process 0: 5), d is 4 (process 0: not set)"
    )


def test_any_change_of_a_source_changes_its_hash(tmp_path, monkeypatch):
    package = tmp_path / "models"
    package.mkdir()
    monkeypatch.setattr(
        config_sync, "__file__", str(tmp_path / "t5x_like" / "distributed" / "config_sync.py")
    )
    (package / "a.py").write_text("x = 1\n")
    first = config_sync.source_hash("models")
    (package / "a.py").write_text("x = 2\n")
    second = config_sync.source_hash("models")
    (package / "a.py").rename(package / "b.py")
    assert len({first, second, config_sync.source_hash("models")}) == 3


# -- Training, dying, going on ----------------------------------------------------------------

LAYOUTS = """
import json, sys
import jax, numpy as np
from models.t5 import T5_1_1
from t5x_like import optimizers, schedules
from t5x_like.checkpoints import Checkpointer
from t5x_like.partitioning import Partitioner
from t5x_like.training import state as train_state

model = T5_1_1(vocab_size=384, embed_dim=96, mlp_dim=192, num_heads=4, head_dim=24,
               num_encoder_layers=2, num_decoder_layers=2)
optimizer = optimizers.adafactor(schedules.Constant(0.01))
source, folder, step = sys.argv[1], sys.argv[2], 6

def restore(path, devices):
    chosen = tuple(jax.devices()[:devices])
    placed = Partitioner(data=1, fsdp=-1, replicate_below=0, devices=chosen)
    reader = Checkpointer(path)
    target = train_state.abstract_state(model, optimizer, placed)
    state, data, metadata = reader.restore(step, target)
    reader.close()
    widths = {len(leaf.sharding.device_set) for leaf in jax.tree.leaves(state)}
    assert widths == {devices}, widths
    return state, data, metadata

def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(a), jax.device_get(b))

wanted = restore(source, 8)[0]
for devices in (1, 2, 4):
    state, data, metadata = restore(source, devices)
    same(state, wanted)
    path = f"{folder}/{devices}"
    writer = Checkpointer(path)
    metadata.pop("step")
    writer.save(state, step, data, metadata)
    writer.close()
    same(restore(path, 8)[0], wanted)
print("all equal")
"""


# The parts by themselves are in CI: test_process_counts, test_heartbeat, test_mesh.
@pytest.mark.slow
@pytest.mark.release
def test_two_processes_train_as_one_and_go_on_after_a_kill(flags, tmp_path, program):
    alone, together = tmp_path / "alone", tmp_path / "together"
    one = start(
        [*flags, "--gin.TRAIN_STEPS=6", f"--gin.MODEL_DIR={alone}"],
        devices=8,
        log=tmp_path / "alone.log",
    )
    assert one.wait(timeout=200) == 0, (tmp_path / "alone.log").read_text()
    endless = [*flags, "--gin.TRAIN_STEPS=100000", f"--gin.MODEL_DIR={together}"]

    # Killed: the other ends by itself and says why.
    with two_processes(endless, tmp_path) as (running, logs):
        wait_for(lambda: 7 in losses(together), "step 7")
        running[1].send_signal(signal.SIGKILL)
        killed = time.monotonic()
        code = running[0].wait(timeout=120)
        assert code == 1, logs[0].read_text()
        assert time.monotonic() - killed < 120
        last = logs[0].read_text().splitlines()[-1]
        assert last == "t5x-like: error: process 0 ends, because process 1 is gone."
    uninterrupted = {step: loss for step, loss in losses(together).items() if step <= 6}
    wanted = losses(alone)
    assert list(wanted) == [1, 2, 3, 4, 5, 6]
    for step, loss in wanted.items():
        assert uninterrupted[step] == pytest.approx(loss, rel=1e-6)

    # Resumed from step 3 on the same layout: the same numbers again. Told to stop through one
    # process, both stop after the same step.
    for path in (together / "checkpoints").iterdir():
        if path.name != "3":
            shutil.rmtree(path)
    with two_processes(endless, tmp_path) as (running, logs):
        wait_for(lambda: (together / "checkpoints" / "6").is_dir(), "step 6")
        running[1].send_signal(signal.SIGTERM)
        assert [process.wait(timeout=100) for process in running] == [143, 143]
    resumed = losses(together)
    assert {step: resumed[step] for step in (4, 5, 6)} == {
        step: uninterrupted[step] for step in (4, 5, 6)
    }
    lines = [log.read_text().splitlines()[-1] for log in logs]
    saved = [re.findall(r"saved step (\d+);", line)[0] for line in lines]
    assert saved[0] == saved[1] and (together / "checkpoints" / saved[0]).is_dir()

    # Each read half of the rows, and one wrote the logs.
    assert losses(together, "validation")[6] == pytest.approx(
        losses(alone, "validation")[6], rel=1e-6
    )
    assert "loss" in logs[0].read_text() and "loss" not in logs[1].read_text()
    records = metrics_log.read_records(str(together))
    steps = [record["step"] for record in records if record["split"] == "train"]
    assert steps == sorted(set(steps))

    # The state of eight devices lies on 1, 2 and 4 as well, and goes back.
    done = program(
        "-c",
        f"import os\nos.environ['XLA_FLAGS'] = '{DEVICES}8'\n{LAYOUTS}",
        str(together),
        str(tmp_path / "layouts"),
    )
    assert done.stdout == "all equal\n", done.stderr


@pytest.mark.slow
def test_who_waits_in_vain_for_the_others_says_so():
    code = """
import sys
from t5x_like.distributed import startup
startup.JOIN_SECONDS = 2
startup.initialize(sys.argv[1], 2, 0)
"""
    address = free_address()
    done = subprocess.run(
        [sys.executable, "-c", code, address],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
        timeout=60,
    )  # fmt: skip
    assert done.returncode == heartbeat.EXIT_INTERNAL_ERROR
    last = done.stderr.splitlines()[-1]
    assert last == f"t5x-like: error: process 0 of 2 did not find the others at {address}."
