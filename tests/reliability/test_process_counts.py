"""How many processes, devices and microbatches share the work decides nothing about the work."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import tasks
from t5x_like import checkpoints, cli, data
from t5x_like.training import metrics_log
from tasks import objectives, sources

ROOT = Path(__file__).parents[2]
TOLERANCE = 1e-5

# -- The data alone --------------------------------------------------------------------------


def texts(seed, count):
    """Lines of words of different lengths."""
    rng = np.random.default_rng(seed)
    words = ["".join(map(chr, rng.integers(97, 123, rng.integers(2, 9)))) for _ in range(60)]
    return [" ".join(rng.choice(words, rng.integers(2, 9))) for _ in range(count)]


@pytest.fixture(scope="module")
def caches(tmp_path_factory, write_cache):
    """Two texts: `caches(name, objective)` is a task on one; and their directory."""
    folder = tmp_path_factory.mktemp("counts")
    for seed, name in enumerate(("first", "second")):
        lines = {"train": texts(seed, 120 // (seed + 1)), "validation": texts(seed + 2, 8)}
        for split, found in lines.items():
            (folder / f"{name}-{split}.txt").write_text("\n".join(found) + "\n")

    def task(name, objective):
        files = {s: f"{folder}/{name}-{s}.txt" for s in ("train", "validation")}
        source = sources.TextFiles(files=files, separator="\n")
        made = tasks.unsupervised(name, source, objective=objective)
        if not (folder / "cache" / name).exists():
            lines = {s: Path(path).read_text().splitlines() for s, path in files.items()}
            write_cache(made, folder / "cache", lines)
        return made

    return task, folder / "cache"


def packed_mixture(task):
    objective = objectives.CausalLM(concatenate=False)
    return tasks.Mixture(
        "both", ((task("first", objective), 2.0), (task("second", objective), 1.0))
    )


@pytest.mark.parametrize(
    ("make", "batch_format", "lengths"),
    [
        pytest.param(
            lambda task: task("first", objectives.SpanCorruption()),
            "encoder_decoder", {"inputs": 40, "targets": 24}, id="span corruption",
        ),
        pytest.param(
            lambda task: task("first", objectives.CausalLM()),
            "prefix_language_model", {"targets": 32}, id="concatenated and split",
        ),
        pytest.param(
            packed_mixture, "prefix_language_model", {"targets": 64}, id="packed mixture of two"
        ),
    ],
)  # fmt: skip
def test_two_processes_then_one_then_two_read_the_same_batches(
    caches, tally, make, batch_format, lengths
):
    task, cache_dir = caches
    config = data.DatasetConfig(
        task=make(task), task_feature_lengths=lengths, cache_dir=cache_dir, batch_size=8, prefetch=2
    )

    def read(count, steps, state=None):
        """The batches of `count` processes, put together, and their state as it is saved."""
        with contextlib.ExitStack() as stack:
            iterators = [
                stack.enter_context(
                    data.open_dataset(
                        config, batch_format=batch_format, shard_index=i, shard_count=count
                    )
                )
                for i in range(count)
            ]
            for iterator in iterators if state else []:
                iterator.set_state(json.loads(state))
            batches = []
            for _ in range(steps):
                parts = [next(iterator) for iterator in iterators]
                assert all(len(rows) == 8 // count for part in parts for rows in part.values())
                batches.append({k: np.concatenate([p[k] for p in parts]) for k in parts[0]})
            states = [iterator.get_state() for iterator in iterators]
            return batches, json.dumps(data.merge_states(states))

    wanted, last = read(1, 40)  # more than an epoch
    first, state = read(2, 13)
    second, state = read(1, 13, state)
    third, state = read(2, 14, state)
    for expected, found in zip(wanted, [*first, *second, *third], strict=True):
        assert expected.keys() == found.keys()
        for name, rows in expected.items():
            np.testing.assert_array_equal(found[name], rows)
    assert state == last
    tally("faults")


# -- Real processes --------------------------------------------------------------------------

# `t5x-like train`, which notes a digest of every row that it is given.
NOTING = """
import hashlib, json, sys
import jax
from t5x_like import cli
from t5x_like.training.run import TrainingRun

folder = sys.argv.pop(1)
given = TrainingRun.next_batch

def noted(run, step):
    batch = given(run, step)
    rows = zip(*(batch[name] for name in sorted(batch)))
    digests = [hashlib.sha256(b"".join(part.tobytes() for part in row)).hexdigest() for row in rows]
    with open(f"{folder}/{step}-{jax.process_index()}.json", "w") as file:
        json.dump(digests, file)
    return batch

TrainingRun.next_batch = noted
sys.exit(cli.main(sys.argv[1:]))
"""


@contextlib.contextmanager
def running(count, flags, folder, own=None):
    """`count` processes with four simulated devices in all, and what they have noted.

    `own` has, for each, the flags that only it has.
    """
    folder.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    started = []
    for i in range(count):
        place = [f"--coordinator_address={address}", f"--process_count={count}"]
        place.append(f"--process_index={i}")
        devices = f"--xla_force_host_platform_device_count={4 // count}"
        with open(folder / f"{i}.log", "w") as log:
            started.append(
                subprocess.Popen(
                    [
                        sys.executable,
                        "-c",
                        NOTING,
                        str(folder),
                        *flags,
                        *(own[i] if own else []),
                        *place * (count > 1),
                    ],
                    cwd=ROOT,
                    env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": devices},
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
            )
    try:
        yield started
    finally:
        for process in started:
            process.kill()
            process.wait()


def noted(folder, count):
    """For each step that all processes have begun, the digests of the rows in their order."""
    steps = {int(path.name.split("-")[0]) for path in folder.glob("*-*.json")}
    found = {}
    for step in sorted(steps):
        parts = [folder / f"{step}-{i}.json" for i in range(count)]
        if all(part.exists() and part.stat().st_size for part in parts):
            found[step] = [digest for part in parts for digest in json.loads(part.read_text())]
    return found


def losses(model_dir):
    records = metrics_log.read_records(str(model_dir))
    return {record["step"]: record["loss"] for record in records if record["split"] == "train"}


@pytest.mark.slow
def test_a_run_killed_and_continued_by_other_numbers_of_processes(corpus, tmp_path, tally):
    steps = 60
    flags = [
        "train",
        *corpus,
        "--gin_file=runs/pretrain.gin",
        f"--gin.TRAIN_STEPS={steps}",
        "--gin.WARMUP_STEPS=2",
        "--gin.DROPOUT_RATE=0.1",
        "--gin.train.train.log_period=1",
        "--gin.checkpoints.CheckpointPolicy.period=5",
        "--gin.checkpoints.CheckpointPolicy.keep=None",
    ]
    alone, changed = tmp_path / "alone", tmp_path / "changed"
    with running(1, [*flags, f"--gin.MODEL_DIR={alone}"], tmp_path / "whole") as (process,):
        assert process.wait(timeout=300) == 0, (tmp_path / "whole" / "0.log").read_text()
    wanted = noted(tmp_path / "whole", 1)
    assert list(wanted) == list(range(1, steps + 1))

    begin, kills = 1, 0
    for part, (count, until) in enumerate([(2, 15), (1, 30), (2, steps)]):
        folder = tmp_path / f"part{part}"
        with running(count, [*flags, f"--gin.MODEL_DIR={changed}"], folder) as processes:
            deadline = time.monotonic() + 300
            while until not in checkpoints.checkpoint_steps(str(changed)):
                logs = [path.read_text() for path in folder.glob("*.log")]
                assert time.monotonic() < deadline, logs
                assert all(process.poll() in (None, 0) for process in processes), logs
                time.sleep(0.02)
            if until < steps:
                for process in processes:
                    process.send_signal(signal.SIGKILL)
                kills += count
            else:
                assert [process.wait(timeout=300) for process in processes] == [0] * count
        found = noted(folder, count)
        assert min(found) == begin and set(range(begin, until + 1)) <= found.keys()
        for step, rows in found.items():
            assert rows == wanted[step], f"step {step} of {count} processes"
        begin = checkpoints.checkpoint_steps(str(changed))[-1] + 1
    expected, loss = losses(alone), losses(changed)
    assert list(loss) == list(expected)
    for step, value in expected.items():
        assert loss[step] == pytest.approx(value, rel=TOLERANCE), step
    tally("kills", times=kills)


@pytest.mark.slow
def test_processes_that_disagree_all_end_with_the_names_of_process_and_bindings(
    train_flags, tmp_path, tally
):
    shared = [*train_flags, f"--gin.MODEL_DIR={tmp_path}/run"]
    own = [["--gin.TRAIN_STEPS=6"], ["--gin.TRAIN_STEPS=7", "--gin.SEED=1"]]
    with running(2, shared, tmp_path / "logs", own) as processes:
        assert [process.wait(timeout=300) for process in processes] == [2, 2]
    for log in (tmp_path / "logs").glob("*.log"):
        (line,) = [line for line in log.read_text().splitlines() if "error" in line]
        assert "in process 1" in line
        assert "TRAIN_STEPS is 7 (process 0: 6)" in line
        assert "SEED is 1 (process 0: 0)" in line
    assert not (tmp_path / "run").exists()
    tally("bad inputs")


@pytest.mark.slow
@pytest.mark.release
def test_what_one_process_cannot_read_no_process_goes_on_from(corpus, tmp_path, tally):
    model_dir = tmp_path / "run"
    flags = [
        "train",
        *corpus,
        "--gin_file=runs/pretrain.gin",
        "--gin_file=hardware/fsdp.gin",
        "--gin.partitioning.Partitioner.replicate_below=0",
        f"--gin.MODEL_DIR={model_dir}",
        "--gin.WARMUP_STEPS=2",
        "--gin.train.train.log_period=1",
        "--gin.checkpoints.CheckpointPolicy.period=2",
    ]

    def train(steps):
        folder = tmp_path / str(steps)
        with running(2, [*flags, f"--gin.TRAIN_STEPS={steps}"], folder) as processes:
            codes = [process.wait(timeout=300) for process in processes]
        said = [(folder / f"{i}.log").read_text() for i in range(2)]
        assert codes == [0, 0], said
        return said

    def goes_on(damaged, begun, steps):
        path = max(damaged, key=lambda file: file.stat().st_size)
        os.truncate(path, path.stat().st_size // 2)
        first, second = train(steps)
        newest = model_dir / "checkpoints" / str(steps - 1)
        assert first.count(f"warning: checkpoint '{newest}' is damaged: ") == 1
        assert f"It is set aside as '{steps - 1}.damaged'." in first
        assert f"{begun} of {steps} done" in first and "Traceback" not in first + second
        tally("faults")

    train(4)
    root = model_dir / "checkpoints"
    goes_on((root / "4" / "params" / "ocdbt.process_1" / "d").iterdir(), begun=2, steps=5)
    # What every process reads, and so finds out alone.
    goes_on([root / "5" / "data" / "metadata"], begun=4, steps=6)
    assert checkpoints.checkpoint_steps(str(model_dir)) == [2, 4, 6]


# -- Devices and microbatches ----------------------------------------------------------------


@pytest.mark.slow
def test_a_mesh_changes_no_draw_of_dropout(tally):
    cases = [["t5", "data_parallel", [8, 1]], ["t5", "fsdp", [2, 4]], ["t5", "standard", [2, 4]]]
    code = (
        "from tests.t5x_like.distributed import mesh_worker as worker\n"
        "from models.t5 import T5_1_1\n"
        "options = dict(worker.ENCODER_DECODER, dropout_rate=0.3)\n"
        "worker.MODELS['t5'] = lambda: T5_1_1(**options)\n"
        "worker.main()\n"
    )
    command = [sys.executable, "-c", code, json.dumps(cases)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    reports = [json.loads(line) for line in done.stdout.splitlines()]
    assert [report["case"] for report in reports] == cases
    for report in reports:
        for what in ("losses", "gradient_norms", "params"):
            assert report[what] <= TOLERANCE, report
    tally("faults", times=len(cases))


@pytest.mark.slow
def test_microbatches_change_nothing_but_rounding(train_flags, tmp_path, tally):
    def values(pieces):
        model_dir = tmp_path / str(pieces)
        flags = [*train_flags, f"--gin.MODEL_DIR={model_dir}", f"--gin.NUM_MICROBATCHES={pieces}"]
        assert cli.main([*flags, "--gin.DROPOUT_RATE=0.0"]) == 0
        names = ("loss", "gradient_norm", "parameter_norm")
        records = metrics_log.read_records(str(model_dir))
        return [record[name] for record in records for name in names if name in record]

    whole = values(1)
    for pieces in (2, 4):
        np.testing.assert_allclose(values(pieces), whole, rtol=TOLERANCE)
        tally("faults")
