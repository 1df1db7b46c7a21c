"""Training from the command line: what it writes, how it goes on, how it stops."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from t5x_like import checkpoints, cli, load_run
from t5x_like.errors import UserError
from t5x_like.training import metrics_log
from tests.untimed import untimed

# What a training host need not have.
ELSEWHERE = ("tensorflow", "tensorflow_datasets", "tensorflow_text", "seqio", "sentencepiece")

BLOCKED = f"""
import sys

asked = set()

class Without:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] not in {ELSEWHERE}:
            return self.finder.find_spec(name, path, target)
        asked.add(name)

sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
for name in {ELSEWHERE}:
    try:
        __import__(name)
        sys.exit(name + " should not be here")
    except ModuleNotFoundError:
        pass
from jax._src import xla_bridge
from t5x_like import cli
from t5x_like.host import memory

settle = memory.keep_freed_memory

def settled():
    print("started:", xla_bridge.backends_are_initialized())
    settle()

memory.keep_freed_memory = settled
asked.clear()
code = cli.main(sys.argv[1:])
print("asked for:", sorted(asked))
sys.exit(code)
"""


@pytest.fixture(scope="module")
def run_dir(train_flags, tmp_path_factory):
    """A finished run of eight steps."""
    model_dir = str(tmp_path_factory.mktemp("runs") / "whole")
    assert cli.main([*train_flags, f"--gin.MODEL_DIR={model_dir}"]) == 0
    return model_dir


def records(model_dir, split="train"):
    return [r for r in metrics_log.read_records(model_dir) if r["split"] == split]


def params(model_dir, step):
    return load_run(model_dir, step).params


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.slow
def test_metrics_have_what_the_design_promises(run_dir):
    found = records(run_dir)
    assert [record["step"] for record in found] == [2, 4, 6, 8]
    promised = {"loss", "tokens", "seconds", "tokens_per_second", "model_tflops", "mfu"}
    assert all(promised <= record.keys() for record in found[1:])
    # Four rows of 24 positions a step.
    assert [record["tokens"] for record in found] == [192, 384, 576, 768]
    assert found[-1]["loss"] < found[0]["loss"]
    seconds = [record["seconds"] for record in found]
    assert seconds == sorted(seconds)


def test_the_validation_split_is_measured_at_the_end(run_dir):
    (record,) = records(run_dir, "validation")
    assert record["step"] == 8
    assert 0 < record["loss"] < np.log(384)


def test_the_directory_holds_what_the_design_promises(run_dir, tmp_path):
    names = {path.name for path in Path(run_dir).iterdir()}
    files = {"config.gin", "model-info.txt", "metrics.jsonl", "run.json"}
    assert names == files | {"tensorboard", "checkpoints"}
    items = {path.name for path in Path(run_dir, "checkpoints", "8").iterdir() if path.is_dir()}
    assert items == {"params", "optimizer", "data", "metadata"}
    assert "token_embedder/embedding" in Path(run_dir, "model-info.txt").read_text()
    metadata = checkpoints.load_metadata(run_dir)
    assert (metadata["step"], metadata["seed"], metadata["tokens"]) == (8, 0, 768)


def test_a_run_that_was_cut_goes_on_as_if_it_had_not_been(run_dir, train_flags, tmp_path):
    flags = [*train_flags, f"--gin.MODEL_DIR={tmp_path}"]
    assert cli.main([*flags, "--gin.TRAIN_STEPS=4"]) == 0
    assert cli.main(flags) == 0
    assert_equal(params(str(tmp_path), 8), params(run_dir, 8))
    whole = {record["step"]: record["loss"] for record in records(run_dir)}
    assert {record["step"]: record["loss"] for record in records(str(tmp_path))} == whole
    assert [record["tokens"] for record in records(str(tmp_path))] == [192, 384, 576, 768]


@pytest.mark.slow
def test_the_saved_configuration_reruns_as_it_is(run_dir, tmp_path):
    flags = [f"--gin_file={run_dir}/config.gin", f"--gin.MODEL_DIR={tmp_path}"]
    assert cli.main(["train", *flags]) == 0
    assert_equal(params(str(tmp_path), 8), params(run_dir, 8))
    with open(f"{run_dir}/config.gin") as first, open(tmp_path / "config.gin") as second:
        # gin breaks a line when the path on it is long.
        texts = [file.read().replace("\\\n    ", "") for file in (first, second)]
    assert texts[0].replace(run_dir, str(tmp_path)) == texts[1]


def test_a_finished_run_has_nothing_left_to_do(run_dir, train_flags, capsys):
    before = records(run_dir)
    assert cli.main([*train_flags, f"--gin.MODEL_DIR={run_dir}"]) == 0
    assert records(run_dir) == before
    assert capsys.readouterr().out.splitlines()[-2] == (
        "the run is complete: a TRAIN_STEPS above 8 trains it further (with --allow_config_change "
        "where that is refused as another run), and another MODEL_DIR begins a new one"
    )


@pytest.mark.slow
def test_fine_tuning_starts_from_the_parameters_of_a_run(run_dir, corpus, tmp_path, capsys):
    flags = [
        "train",
        *corpus,
        "--gin_file=runs/finetune.gin",
        f"--gin.INITIAL_CHECKPOINT_PATH={run_dir}",
        f"--gin.MODEL_DIR={tmp_path}",
        "--gin.TRAIN_STEPS=2",
        "--gin.LEARNING_RATE=1e-9",
        "--gin.train.train.log_period=1",
    ]
    assert cli.main(flags) == 0
    assert f"from {run_dir}" in capsys.readouterr().out
    assert_close = lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6)  # noqa: E731
    jax.tree.map(assert_close, params(str(tmp_path), 2), params(run_dir, 8))


@pytest.fixture(scope="module")
def elsewhere(train_flags, program, tmp_path_factory):
    """The same command on a host that has less: its MODEL_DIR and what it printed."""
    model_dir = str(tmp_path_factory.mktemp("elsewhere") / "run")
    done = program("-c", BLOCKED, *train_flags, f"--gin.MODEL_DIR={model_dir}")
    assert done.returncode == 0, done.stderr
    return model_dir, done.stdout


@pytest.mark.slow
def test_a_host_without_tensorflow_seqio_and_sentencepiece_trains(elsewhere):
    """Nor are they loaded where they are there: training does not even ask for them."""
    assert "asked for: []" in elsewhere[1]


def test_the_same_command_twice_gives_the_same_numbers(run_dir, elsewhere):
    assert untimed(Path(elsewhere[0])) == untimed(Path(run_dir))
    assert_equal(params(elsewhere[0], 8), params(run_dir, 8))


def test_the_heap_is_settled_before_there_are_threads(elsewhere):
    """Each thread of XLA's would take a heap of its own, and steps on a CPU are slower."""
    assert elsewhere[1].startswith("started: False\n")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_exits_with_its_code_and_the_next_start_goes_on(
    train_flags, tmp_path, number
):
    flags = [*train_flags, f"--gin.MODEL_DIR={tmp_path}", "--gin.TRAIN_STEPS=1000000"]
    flags += ["--gin.checkpoints.CheckpointPolicy.period=1000000"]
    command = [sys.executable, "-m", "t5x_like", *flags]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.time() + 120
        while not records(str(tmp_path)) and time.time() < deadline:
            time.sleep(0.1)
        process.send_signal(number)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 128 + number, stderr
    (step,) = checkpoints.checkpoint_steps(str(tmp_path))
    assert f"{number.name} received: saved step {step}" in stderr
    steps = f"--gin.TRAIN_STEPS={step + 2}"
    assert cli.main([*train_flags, f"--gin.MODEL_DIR={tmp_path}", steps]) == 0
    assert records(str(tmp_path))[-1]["step"] == step + 2


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--gin.TRAIN_STEPS=0"], "TRAIN_STEPS is 0: it must be a whole number of 1 or more"),
        (["--gin.TRAIN_STEPS=ten"], "TRAIN_STEPS is 'ten'"),
        (["--gin.NUM_MICROBATCHES=3"], "NUM_MICROBATCHES 3 does not divide BATCH_SIZE 4"),
        (["--gin.train.train.noise_scale=True"], "NUM_MICROBATCHES must be 2 or more"),
        (["--gin.LEARNING_RATE=0"], "learning rate 0: it must be above 0"),
        (["--gin.gpt.GPT2.dtype=float16"], "GPT2.dtype is 'float16': nothing scales the loss"),
        (["--gin.gpt.GPT2.vocab_size=100"], "vocab_size is 100"),
        (["--gin.partitioning.Partitioner.tensor=3"], "mesh"),
        (
            ["--gin.SCHEDULE=@schedules.Linear()", "--gin.schedules.Linear.total_steps=5"],
            "the learning rate schedule ends at step 5, before TRAIN_STEPS 8",
        ),
        (["--gin.train/data.DatasetConfig.split=dev"], "'dev'"),
    ],
)
def test_a_plan_that_must_fail_fails_in_one_line(train_flags, tmp_path, capsys, flags, message):
    assert cli.main([*train_flags, f"--gin.MODEL_DIR={tmp_path}/run", *flags]) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert message in line


def test_another_architecture_in_the_same_directory_is_refused(run_dir, train_flags, capsys):
    flags = [*train_flags, f"--gin.MODEL_DIR={run_dir}", "--allow_config_change"]
    assert cli.main([*flags, "--gin.gpt.GPT2.embed_dim=32"]) == 2
    assert "is of another model: parameter 'decoder/" in capsys.readouterr().err


@pytest.mark.slow
def test_load_run_opens_a_run_that_is_still_being_written(run_dir, tmp_path):
    import shutil

    copied = tmp_path / "running"
    shutil.copytree(run_dir, copied)
    with open(copied / "metrics.jsonl", "a") as file:
        file.write('{"step": 10, "split": "tr')
    run = load_run(str(copied))
    assert list(run.metrics["step"].unique()) == [2, 4, 6, 8]
    assert run.step == 8
    assert run.model.embed_dim == 16
    (text,) = run.generate(["Many hands"], temperature=0.0, max_new_tokens=4)
    assert isinstance(text, str)
    likely, unlikely = run.score(targets=["eeeee", "\x00\x01\x02\x03\x04"])
    assert unlikely < likely < 0
    (maps,) = run.attention(["Many"])
    assert maps.decoder_tokens[1:] == list("Many")
    assert maps.decoder.shape == (2, 2, 5, 5)
    with pytest.raises(UserError, match="GPT2 has no experts"):
        run.routing(["Many"])


def test_load_run_of_nothing_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"no run in .* no config.gin"):
        load_run(str(tmp_path))


def test_metrics_lines_are_json(run_dir):
    with open(f"{run_dir}/metrics.jsonl") as file:
        for line in file:
            assert isinstance(json.loads(line)["loss"], float)


SEQIO_MODULE = """
import functools
import seqio

features = {
    name: seqio.Feature(seqio.ByteVocabulary(extra_ids=125)) for name in ("inputs", "targets")
}
seqio.TaskRegistry.add(
    "spelled_backwards",
    source=seqio.FileDataSource(
        lambda path: __import__("tensorflow").data.TextLineDataset(path).map(
            lambda line: {"inputs": line, "targets": line}
        ),
        {"train": FILE, "validation": FILE},
    ),
    preprocessors=[
        seqio.preprocessors.tokenize,
        seqio.CacheDatasetPlaceholder(),
        seqio.preprocessors.append_eos_after_trim,
    ],
    output_features=features,
)
"""


@pytest.mark.slow
def test_a_seqio_task_of_a_users_module_is_trained_without_tensorflow(tmp_path, program, corpus):
    (tmp_path / "lines.txt").write_text("one\ntwo\nthree\nfour\nfive\nsix\n")
    text = SEQIO_MODULE.replace("FILE", repr(str(tmp_path / "lines.txt")))
    (tmp_path / "mine.py").write_text(text)
    flags = [
        corpus[0],
        "--gin_file=runs/pretrain.gin",
        "--gin.MIXTURE_OR_TASK_NAME=spelled_backwards",
        "--gin.TASK_FEATURE_LENGTHS={'inputs': 8, 'targets': 8}",
        "--gin.BATCH_SIZE=2",
        "--gin.TRAIN_STEPS=2",
        f"--gin.CACHE_DIR={tmp_path}/cache",
        f"--gin.MODEL_DIR={tmp_path}/run",
    ]
    module = "--module_import=mine"
    done = program("-m", "t5x_like", "cache", *flags, module, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    code = (
        "import sys; from t5x_like import cli; code = cli.main(sys.argv[1:]); "
        f"print('imported:', sorted(set(sys.modules) & set({ELSEWHERE}))); sys.exit(code)"
    )
    done = program("-c", code, "train", *flags, module, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "imported: []" in done.stdout
    assert checkpoints.checkpoint_steps(f"{tmp_path}/run") == [2]
    # The saved configuration reruns as it is, where neither the module nor seqio can be imported.
    again = [f"--gin_file={tmp_path}/run/config.gin", f"--gin.MODEL_DIR={tmp_path}/again"]
    done = program("-c", BLOCKED, "train", *again)
    assert done.returncode == 0, done.stderr
    assert_equal(params(f"{tmp_path}/again", 2), params(f"{tmp_path}/run", 2))


@pytest.mark.slow
def test_a_missing_cache_of_a_local_source_is_built_first(train_flags, tmp_path, program):
    flags = [*train_flags, f"--gin.CACHE_DIR={tmp_path}/cache", f"--gin.MODEL_DIR={tmp_path}/run"]
    done = program("-m", "t5x_like", *flags)
    assert done.returncode == 0, done.stderr
    assert "building it" in done.stdout
    assert (tmp_path / "cache" / "proverbs" / "COMPLETED").is_file()
    assert checkpoints.checkpoint_steps(f"{tmp_path}/run") == [4, 8]
