"""Runs in an object store: against an emulator on loopback, each in a process of its own."""

import importlib.util
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from t5x_like.errors import UserError
from t5x_like.host import files
from t5x_like.training.metrics_log import read_records

HERE = Path(__file__).parent
ROOT = HERE.parents[2]

OPENED = """
import json, sys
from etils import epath
from t5x_like import checkpoints, load_run
model_dir = sys.argv[1]
run = load_run(model_dir)
(text,) = run.generate(["Many hands"], temperature=0.0)
records = run.metrics[["step", "split", "loss"]].to_dict("records")
# As a kill leaves it: there, under its final name, without its last file.
(epath.Path(model_dir) / "checkpoints" / sys.argv[2] / "params" / "_METADATA").write_text("{}")
result = {
    "steps": run.steps,
    "whole": checkpoints.checkpoint_steps(model_dir),
    "records": records,
    "text": text,
    "tensorflow": "tensorflow" in sys.modules,
}
print(json.dumps(result))
"""


def test_a_local_path_is_made_absolute_and_a_remote_one_is_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert str(files.location("runs/demo")) == f"{tmp_path}/runs/demo"
    if importlib.util.find_spec("gcsfs"):
        assert str(files.location("gs://bucket/runs/demo")) == "gs://bucket/runs/demo"
    else:
        with pytest.raises(UserError, match=r"needs `pip install t5x-like\[gcs\]`"):
            files.location("gs://bucket/runs/demo")


# -- Whole or not at all -----------------------------------------------------------------------


def interrupted(file):
    file.write(b"half")
    raise KeyboardInterrupt


def test_a_file_is_replaced_when_its_content_is_there(tmp_path):
    path = tmp_path / "run.json"
    path.write_text("old")
    with files.replacing(path) as file:
        file.write(b"ne")
        assert path.read_text() == "old"
        file.write(b"w")
    assert path.read_text() == "new" and os.listdir(tmp_path) == ["run.json"]
    files.write_whole(path, "Größe")
    assert path.read_bytes() == "Größe".encode()


@pytest.mark.parametrize("name", ["run.json.tmp", "config.gin.tmp", ".writable-0", "run.json"])
def test_nothing_is_written_through_a_link_that_stands_where_a_file_will_be(tmp_path, name):
    (tmp_path / "run").mkdir()
    (tmp_path / "theirs").write_text("theirs")
    (tmp_path / "run" / name).symlink_to(tmp_path / "theirs")
    files.make_writable(files.location(tmp_path / "run"), "MODEL_DIR")
    for file in ("run.json", "config.gin"):
        files.write_whole(tmp_path / "run" / file, "ours")
    assert (tmp_path / "theirs").read_text() == "theirs"
    assert (tmp_path / "run" / "run.json").read_text() == "ours"


def test_a_directory_in_place_of_a_file_is_named(tmp_path):
    (tmp_path / "run.json").mkdir()
    with pytest.raises(UserError, match=r"run\.json' is a directory, where a file is to be"):
        files.write_whole(tmp_path / "run.json", "text")


def test_an_interrupted_replacement_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "run.json"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), files.replacing(path) as file:
        interrupted(file)
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["run.json"]


def test_the_first_error_is_the_one_that_is_raised(tmp_path):
    """Closing after a full disk fails too: what was buffered is refused once more."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
        with pytest.raises(ValueError, match="first"), files.replacing(tmp_path / "a") as file:
            file.write(b"more than ten bytes, still in the buffer")
            raise ValueError("first")
        with pytest.raises(OSError, match="too large"):
            files.write_whole(tmp_path / "a", "more than ten bytes")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert os.listdir(tmp_path) == []


def test_two_that_replace_one_file_at_once_do_not_mix(tmp_path):
    path = tmp_path / "run.json"
    with files.replacing(path) as one, files.replacing(path) as other:
        one.write(b"one")
        other.write(b"other")
    assert path.read_bytes() == b"one" and os.listdir(tmp_path) == ["run.json"]


def test_a_planted_link_is_not_written_through(tmp_path, monkeypatch):
    """Neither under the temporary name, were it guessed, nor under the file's own."""
    outside = tmp_path / "outside"
    outside.write_text("theirs")
    place = tmp_path / "place"
    place.mkdir()
    (place / "run.json").symlink_to(outside)
    files.write_whole(place / "run.json", "ours")
    assert (place / "run.json").read_text() == "ours" and outside.read_text() == "theirs"

    monkeypatch.setattr(files.secrets, "token_hex", lambda _: "guessed")
    (place / ".run.json.guessed.tmp").symlink_to(outside)
    with pytest.raises(FileExistsError):
        files.write_whole(place / "run.json", "again")
    assert (place / "run.json").read_text() == "ours" and outside.read_text() == "theirs"


def test_a_file_has_the_permissions_of_any_other(tmp_path):
    (tmp_path / "usual").write_text("")
    files.write_whole(tmp_path / "whole", "")
    assert (tmp_path / "whole").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_an_object_of_a_store_is_written_once_and_only_when_it_is_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "location", lambda _: tmp_path / "object")
    with pytest.raises(KeyboardInterrupt), files.replacing("gs://bucket/object") as file:
        interrupted(file)
    assert os.listdir(tmp_path) == []
    files.write_whole("gs://bucket/object", "whole")
    assert (tmp_path / "object").read_text() == "whole"


def test_a_directory_takes_its_name_when_it_is_filled(tmp_path):
    path = tmp_path / "deep" / "model"
    with pytest.raises(KeyboardInterrupt), files.new_directory(path) as place:
        interrupted((place / "weights").open("wb"))
    assert os.listdir(tmp_path / "deep") == []
    with files.new_directory(path) as place:
        (place / "weights").write_text("all")
        assert not path.exists()
    assert (path / "weights").read_text() == "all" and os.listdir(tmp_path / "deep") == ["model"]
    with pytest.raises(OSError), files.new_directory(path):
        pass
    assert (path / "weights").read_text() == "all" and os.listdir(tmp_path / "deep") == ["model"]


# -- In an object store ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def environment():
    """Variables that lead gcsfs, google-cloud-storage and TensorStore to an emulator."""
    pytest.importorskip("gcsfs")
    pytest.importorskip("gcp_storage_emulator")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(HERE / "gcs_emulator.py"), str(port)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as emulator:
        address = emulator.stdout.readline().strip()
        yield {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "JAX_PLATFORMS": "cpu",
            "STORAGE_EMULATOR_HOST": address,
            "TENSORSTORE_GCS_HTTP_URL": address,
            "GOOGLE_AUTH_TOKEN_FOR_TESTING": "any",
            "GOOGLE_CLOUD_PROJECT": "any",
            # Zonal buckets are asked for over gRPC, which the emulator does not speak.
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
        }
        emulator.terminate()


@pytest.fixture
def run(environment):
    def run(*arguments):
        done = subprocess.run(
            [sys.executable, *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        return done.stdout

    return run


LOCKED = """
import time
from t5x_like.errors import UserError
from t5x_like.host import directory_lock
directory_lock.BEAT_SECONDS = 0.3
held = directory_lock.lock("gs://bucket/locked", "MODEL_DIR", "run")
try:
    directory_lock.lock("gs://bucket/locked", "MODEL_DIR", "run")
except UserError as error:
    print(error)
time.sleep(1)
held.require()
held.release()
directory_lock.lock("gs://bucket/locked", "MODEL_DIR", "run").release()
print("free")
"""


@pytest.mark.slow
def test_a_directory_in_a_bucket_has_one_writer(run):
    refusal, free = run("-c", LOCKED).splitlines()
    assert refusal.startswith("MODEL_DIR 'gs://bucket/locked' is in use by another run (process ")
    assert free == "free"


COPIED = """
import sys
from pathlib import Path
from etils import epath
for path in Path(sys.argv[1]).rglob("*"):
    if path.is_file() and not path.name.startswith("."):
        target = epath.Path(sys.argv[2]) / path.relative_to(sys.argv[1]).as_posix()
        target.write_bytes(path.read_bytes())
"""


ANSWERED = """
import sys
from t5x_like.decoding.prompt_files import AnswerFile, PromptFile
from t5x_like.host import files
path = sys.argv[1]
answers = AnswerFile(path)
assert answers.written() == 0
answers.open()
answers.append([{"inputs": "a"}, {"inputs": "é"}])
answers.close()
files.write_whole(path, files.location(path).read_bytes() + b'{"inp')  # a line that was cut
answers = AnswerFile(path)
assert answers.written() == 2
answers.open()
answers.append([{"inputs": "c"}])
answers.close()
assert list(AnswerFile(path).records()) == [{"inputs": text} for text in "aéc"]
assert [prompt.text for prompt in PromptFile(path, "jsonl", "inputs")] == list("aéc")
"""


@pytest.mark.slow
def test_answers_to_prompts_are_continued_in_a_bucket(run):
    run("-c", ANSWERED, "gs://bucket/deep/answers.jsonl")


@pytest.mark.release  # the store of shards, below, reads a bucket as well
def test_a_cache_in_a_bucket_is_copied_once_and_read_from_the_copy(
    environment, run, train_flags, tmp_path
):
    local = Path(train_flags[2].partition("=")[2]).parent / "cache"
    remote = "gs://bucket/caches"
    run("-c", COPIED, str(local), remote)
    said = {}
    for name, cache_dir in {"local": local, "first": remote, "second": remote}.items():
        command = [sys.executable, "-m", "t5x_like", *train_flags, "--gin.TRAIN_STEPS=2"]
        command += [f"--gin.CACHE_DIR={cache_dir}", f"--gin.MODEL_DIR={tmp_path}/{name}"]
        done = subprocess.run(
            command,
            env={**environment, "XDG_CACHE_HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        said[name] = done.stderr.count("copying the cache gs://bucket/caches/proverbs")
    assert said == {"local": 0, "first": 1, "second": 0}
    (copy,) = (tmp_path / "t5x_like" / "remote").iterdir()
    assert (copy / "proverbs" / "COMPLETED").exists()
    losses = [[r["loss"] for r in read_records(str(tmp_path / name))] for name in said]
    assert losses[0] == losses[1] == losses[2] != []


@pytest.mark.slow
def test_a_cache_that_does_not_fit_is_read_through_a_store_and_a_killed_run_resumes_exactly(
    environment, run, train_flags, proverbs, write_cache, tmp_path
):
    task, _ = proverbs
    texts = {
        split: Path(task.source.files[split]).read_text().splitlines()
        for split in ("train", "validation")
    }
    folder = tmp_path / "cache"
    write_cache(task, folder, texts, shards=8)
    sizes = [path.stat().st_size for path in (folder / "proverbs").glob("train.tfrecord-*")]
    room = 2 * 2 * max(sizes)  # of two streams, each the shard that is read and the next
    assert room < 0.7 * sum(sizes)
    remote = "gs://bucket/sharded"
    run("-c", COPIED, str(folder), remote)
    home = tmp_path / "home"
    flags = [
        *train_flags, f"--gin.CACHE_DIR={remote}", "--gin.SHARD_STORE=@data.ShardStore()",
        "--gin.data.ShardStore.shards_together=1", f"--gin.data.ShardStore.store_bytes={room}",
        "--gin.data.DatasetConfig.virtual_streams=2",
    ]  # fmt: skip

    def started(name, steps, at_step=lambda step: None):
        command = [sys.executable, "-m", "t5x_like", *flags, f"--gin.MODEL_DIR={tmp_path / name}"]
        with subprocess.Popen(
            [*command, f"--gin.TRAIN_STEPS={steps}"],
            env={**environment, "XDG_CACHE_HOME": str(home)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as training:
            said = []
            for line in training.stdout:
                said.append(line)
                step = re.match(r"step (\d+)/", line)
                if step and at_step(int(step[1])):
                    training.send_signal(signal.SIGKILL)
        return training.returncode, "".join(said)

    code, said = started("whole", 24)
    assert code == 0, said[-4000:]
    assert not list((home / "t5x_like" / "shards").iterdir())
    code, said = started("killed", 100_000, lambda step: step >= 10)
    assert code == -signal.SIGKILL, said[-4000:]
    assert len(list((home / "t5x_like" / "shards").iterdir())) == 1
    code, said = started("killed", 24)
    assert code == 0, said[-4000:]
    assert re.search(r"\b(4|8|12|16|20) of 24 done", said), said[-4000:]
    losses = [[(r["step"], r["loss"]) for r in read_records(str(tmp_path / name))]
              for name in ("whole", "killed")]  # fmt: skip
    assert losses[0] == losses[1] != []
    assert not list((home / "t5x_like" / "shards").iterdir())
    # What is measured is copied, and of the training split nothing.
    copies = [path.name for path in (home / "t5x_like" / "remote").rglob("*.tfrecord-*")]
    assert sorted(copies) == [f"validation.tfrecord-0000{i}-of-00008" for i in range(8)]


@pytest.mark.slow
def test_a_run_in_a_bucket_is_killed_resumed_evaluated_and_opened(
    environment, run, train_flags, corpus
):
    model_dir = "gs://bucket/runs/demo"
    command = ["-m", "t5x_like", *train_flags, f"--gin.MODEL_DIR={model_dir}"]
    command += ["--gin.checkpoints.CheckpointPolicy.period=20"]

    with subprocess.Popen(
        [sys.executable, *command, "--gin.TRAIN_STEPS=100000"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as training:
        for line in training.stdout:
            step = re.match(r"step (\d+)/", line)
            if step and int(step[1]) >= 60:
                break
        training.send_signal(signal.SIGKILL)
        assert training.wait() == -signal.SIGKILL

    again = run("-c", OPENED, model_dir, "999999")
    (step,) = json.loads(again.splitlines()[-1])["whole"][-1:]
    assert step >= 20 and step % 20 == 0

    out = run(*command, f"--gin.TRAIN_STEPS={step + 4}")
    assert f"{step} of {step + 4} done" in out
    run("-m", "t5x_like", "eval", *corpus, "--gin_file=runs/eval.gin",
        f"--gin.MODEL_DIR={model_dir}", "--gin.SPLIT='validation'")  # fmt: skip

    found = json.loads(run("-c", OPENED, model_dir, "999998").splitlines()[-1])
    assert found["steps"][-1] == step + 4
    assert found["whole"][-1] == step + 4
    assert not found["tensorflow"]
    trained = [r["step"] for r in found["records"] if r["split"] == "train"]
    # Nothing twice, nothing lost between the resumed start and the end.
    assert trained == sorted(set(trained))
    assert trained[-2:] == [step + 2, step + 4]
    measured = [r["loss"] for r in found["records"] if r["split"] == "validation"]
    assert measured[-1] == pytest.approx(measured[-2], rel=1e-6)  # the run's own, and eval's
