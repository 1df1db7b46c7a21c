"""How the tests' programs are compiled; small real things: a model, a batch, a tokenized corpus
and its gin files, a process."""

import gc
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# Most run once: what the compiler would gain by optimizing, it would lose twice over. One shard of
# the numerical tests is run with `TEST_XLA=default`, as users' programs are compiled.
if os.environ.get("TEST_XLA") != "default":
    os.environ["XLA_FLAGS"] = " ".join(
        [
            "--xla_backend_optimization_level=0",
            "--xla_llvm_disable_expensive_passes=true",
            # The older way to write a fusion's code, which takes half as long.
            "--xla_cpu_use_fusion_emitters=false",
            # One module a program instead of up to 32: small programs gain nothing by threads.
            "--xla_cpu_parallel_codegen_split_count=1",
            os.environ.get("XLA_FLAGS", ""),
        ]
    ).strip()

# What one test has compiled, no other compiles again, in whichever process of the run.
PROGRAMS = None
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    PROGRAMS = tempfile.mkdtemp(prefix="compiled-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = PROGRAMS
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.05")

import jax
import numpy as np
import pytest

import tasks
from models import gpt
from t5x_like.data.cache import layout
from t5x_like.data.cache.example_proto import encode_example
from t5x_like.data.cache.tfrecord import write_records
from t5x_like.partitioning import Partitioner
from tasks import objectives, sources

ROOT = Path(__file__).parent.parent


def pytest_configure():
    """A script that starts the suite in the background has it ignore SIGINT: tests send it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish():
    """Looks for garbage in cycles less often: JAX keeps millions of objects of the programs that
    it has traced, and going through them all was a quarter of the suite's time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


# A machine with a limit on time decides even when it is slow: after TEST_SECONDS no other test
# begins. What was left out is skipped, and counted in the summary, never called passed.
NO_TEST_AFTER = time.monotonic() + float(os.environ.get("TEST_SECONDS", "inf"))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    """Leaves a test out that would begin after the time that this run was given."""
    if time.monotonic() > NO_TEST_AFTER:
        pytest.skip(f"not begun within TEST_SECONDS={os.environ['TEST_SECONDS']}")


def pytest_unconfigure():
    """Removes the programs, in the process that has made their folder."""
    if PROGRAMS is not None:
        shutil.rmtree(PROGRAMS, ignore_errors=True)


MAPPINGS = Path("/proc/self/maps")
MOST_MAPPINGS = 30_000  # Linux allows a process 65,530 by default, and XLA crashes beyond


@pytest.fixture(scope="module", autouse=True)
def programs_do_not_pile_up():
    """Drops what was compiled, once there is a lot of it: each program has mappings of its own."""
    yield
    if MAPPINGS.exists() and MAPPINGS.read_bytes().count(b"\n") > MOST_MAPPINGS:
        jax.clear_caches()


MODEL_GIN = """
from __gin__ import dynamic_registration
from models import gpt

MODEL = @gpt.GPT2()
gpt.GPT2:
  vocab_size = 384
  embed_dim = 16
  num_heads = 2
  num_layers = 2
  max_length = 32
  dropout_rate = %DROPOUT_RATE
"""

TASK_GIN = """
from __gin__ import dynamic_registration
import tasks
from tasks import objectives
from tasks import sources

TASK = @tasks.unsupervised()
tasks.unsupervised:
  name = 'proverbs'
  source = @sources.TextFiles()
  objective = @objectives.CausalLM()
sources.TextFiles:
  files = {files}
  separator = '\\n'
TASK_FEATURE_LENGTHS = {{'targets': 24}}
BATCH_SIZE = 4
CACHE_DIR = '{cache_dir}'
"""

RUN_GIN = """
from __gin__ import dynamic_registration
from t5x_like import checkpoints
from t5x_like import train

TRAIN_STEPS = 8
WARMUP_STEPS = 1
train.train.log_period = 2
checkpoints.CheckpointPolicy.period = 4
"""

PROVERBS = (
    "Many hands make light work.",
    "Still waters run deep, and deep waters run still.",
    "A stitch in time saves nine; nine stitches save a sail.",
    "Measure twice, cut once.",
)


@pytest.fixture(scope="session")
def model():
    return gpt.GPT2(vocab_size=64, embed_dim=16, num_heads=2, num_layers=2, max_length=16)


@pytest.fixture(scope="session")
def partitioner():
    return Partitioner(devices=tuple(jax.devices()[:1]))


@pytest.fixture(scope="session")
def batch():
    """Eight rows of which some are shorter, so that their weights differ."""
    rng = np.random.default_rng(0)
    targets = rng.integers(3, 64, (8, 12)).astype(np.int32)
    weights = (np.arange(12) < rng.integers(3, 13, (8, 1))).astype(np.int32)
    targets *= weights
    inputs = np.pad(targets, ((0, 0), (1, 0)))[:, :-1]
    return {
        "decoder_input_tokens": inputs,
        "decoder_target_tokens": targets,
        "decoder_loss_weights": weights,
    }


@pytest.fixture(scope="session")
def corpus(proverbs):
    """Flags of a model and the task of proverbs."""
    task, cache_dir = proverbs
    folder, files = cache_dir.parent, dict(task.source.files)
    (folder / "model.gin").write_text(MODEL_GIN)
    (folder / "task.gin").write_text(TASK_GIN.format(files=files, cache_dir=cache_dir))
    (folder / "run.gin").write_text(RUN_GIN)
    return [f"--gin_file={folder}/model.gin", f"--gin_file={folder}/task.gin"]


@pytest.fixture(scope="session")
def proverbs(tmp_path_factory):
    """A task of proverbs, and its cache directory, written without TensorFlow."""
    folder = tmp_path_factory.mktemp("corpus")
    texts = {"train": PROVERBS * 8, "validation": PROVERBS}
    files = {}
    for split, documents in texts.items():
        path = folder / f"{split}.txt"
        path.write_text("\n".join(documents) + "\n")
        files[split] = str(path)
    task = tasks.unsupervised(
        "proverbs",
        sources.TextFiles(files=files, separator="\n"),
        objective=objectives.CausalLM(),
    )
    _write_cache(task, folder / "cache", texts)
    return task, folder / "cache"


@pytest.fixture(scope="session")
def train_flags(corpus, proverbs):
    """The command line of a run of eight steps, to which MODEL_DIR is added.

    In files alone, so that a test may bind anything again: two flags must not contradict.
    """
    run = proverbs[1].parent / "run.gin"
    return ["train", *corpus, "--gin_file=runs/pretrain.gin", f"--gin_file={run}"]


@pytest.fixture(scope="session")
def program():
    """Runs Python with this checkout on the path, and returns the finished process."""

    def run(*arguments, **kwargs):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
        return subprocess.run(
            [sys.executable, *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            **kwargs,
        )

    return run


@pytest.fixture(scope="session")
def write_cache():
    """Writes a cache of texts, `write_cache(task, cache_dir, {split: texts})`."""
    return _write_cache


def _write_cache(task, cache_dir, texts, shards=1):
    """What `t5x-like cache` makes of one document a line, or of `{feature: text}` each."""
    folder = layout.cache_path(cache_dir, task.cache_name)
    folder.mkdir(parents=True)
    own = task.output_features
    for split, documents in texts.items():
        rows = [{"targets": one} if isinstance(one, str) else one for one in documents]
        examples = [
            {name: np.array(own[name].vocabulary.encode(t), np.int32) for name, t in row.items()}
            for row in rows
        ]
        for shard in range(shards):
            path = layout.shard_path(folder, split, shard, shards)
            write_records(path, [encode_example(example) for example in examples[shard::shards]])
        features = {name: {"shape": [None], "dtype": "int32"} for name in own}
        info = {"num_shards": shards, "features": features}
        layout.write_json(layout.info_path(folder, split), info)
        counts = {"examples": len(documents)}
        layout.write_json(layout.stats_path(folder, split), counts)
    description = {
        "features": {
            name: {
                "dtype": "int32",
                "rank": 1,
                "add_eos": feature.add_eos,
                "vocabulary": feature.vocabulary.spec(),
            }
            for name, feature in own.items()
        },
        "fingerprint": task.fingerprint(),
    }
    layout.write_json(layout.task_path(folder), description)
    (folder / layout.COMPLETED).touch()
