"""What a file of a stranger can do: be refused. And what a run gives away: nothing."""

import ast
import json
import os
import pickle
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from etils import epath

from models.errors import ModelError
from models.hf import load_hf, save_hf
from models.hf.tensor_files import write_tensors
from t5x_like import cli, data, load_run
from t5x_like.anomalies import read_batch
from t5x_like.data.cache import layout
from t5x_like.scaling.sweeps import executors
from tasks import tokenizer_json, vocabularies

ROOT = Path(__file__).parent.parent.parent
GPT2 = ROOT / "tests" / "models" / "hf" / "fixtures" / "gpt2"

# -- The source: nothing that could unpickle or run text ---------------------------------------

UNPICKLERS = {
    *("pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"),
    *("jsonpickle", "pickletools"),
}
RUNNERS = {"eval", "exec", "compile", "__import__"}


def shipped():
    """Python that users run: modules, and the cells of notebooks."""
    for wing in ("t5x_like", "models", "tasks", "benchmarks"):
        for path in sorted((ROOT / wing).rglob("*.py")):
            yield path, path.read_text()
    yield ROOT / "setup.py", (ROOT / "setup.py").read_text()
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text())["cells"]
        code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        lines = "\n".join(code).splitlines()
        yield path, "\n".join(line for line in lines if not line.lstrip().startswith(("%", "!")))


def faults(text):
    """Lines of a module in which it could load a pickle or run text."""
    for node in ast.walk(ast.parse(text)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        if {name.split(".")[0] for name in names} & UNPICKLERS:
            yield node.lineno
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        if isinstance(called, ast.Name) and called.id in RUNNERS:
            yield node.lineno
        if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name):
            full = f"{called.value.id}.{called.attr}"
            if full in ("torch.load", "ForkingPickler.loads", "yaml.load", "yaml.unsafe_load"):
                yield node.lineno
        for keyword in node.keywords:
            allowed = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
            if keyword.arg == "allow_pickle" and not allowed:
                yield node.lineno


def test_nothing_that_is_shipped_loads_a_pickle_or_runs_text(tally):
    found = [f"{path}:{line}" for path, text in shipped() for line in faults(text)]
    assert found == []
    # The test sees what it should.
    bad = ["import pickle", "from joblib import load", "eval(x)", "torch.load(x)"]
    bad += ["np.load(x, allow_pickle=True)", "np.load(x, allow_pickle=y)", "exec(x)"]
    assert all(list(faults(line)) for line in bad)
    assert not list(faults("np.load(x, allow_pickle=False); model.eval(); json.loads(x)"))
    tally("faults", what="the source searched for pickles")


# -- Trying: a pickle that makes a folder when it is loaded ------------------------------------


class Payload:
    """Makes a folder where it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def mark(tmp_path):
    """The folder that the payload makes; there must be none when the test is over."""
    path = tmp_path / "unpickled"
    yield path
    assert not path.exists()


@pytest.fixture
def payloads(mark):
    """The pickle, and the containers that a pickle may come in."""
    plain = pickle.dumps(Payload(mark))
    objects = mark.with_name("objects.npz")
    np.savez(objects, a=np.array([Payload(mark)], dtype=object))
    return {"plain": plain, "npz": objects.read_bytes()}


def test_the_payload_would_work(tmp_path):
    pickle.loads(pickle.dumps(Payload(tmp_path / "made")))
    assert (tmp_path / "made").is_dir()


def test_no_pickle_comes_in_as_weights(payloads, mark, tmp_path, refused):
    for number, payload in enumerate(payloads.values()):
        for name in ("model.safetensors", "pytorch_model.bin", "config.json", "tokenizer.json"):
            directory = tmp_path / f"hf-{number}-{name}"
            shutil.copytree(GPT2, directory)
            if name == "pytorch_model.bin":
                (directory / "model.safetensors").unlink()
            (directory / name).write_bytes(payload)
            refused(["import-hf", directory, "--out", tmp_path / "out"], str(directory))


def test_no_pickle_comes_in_as_a_vocabulary(payloads, mark, tmp_path, tally):
    for number, payload in enumerate(payloads.values()):
        path = tmp_path / f"vocabulary-{number}.model"
        path.write_bytes(payload)
        (tmp_path / "tokenizer.json").write_bytes(payload)
        for vocabulary in (
            vocabularies.SentencePieceVocabulary(str(path)),
            tokenizer_json.TokenizerVocabulary(str(tmp_path)),
        ):
            with pytest.raises(Exception) as found:
                vocabulary.encode("text")
            assert getattr(found.value, "exit_code", None) == 2, repr(found.value)
            tally("bad inputs", what="a pickle as a vocabulary")


def test_no_pickle_comes_in_as_a_cache(payloads, mark, proverbs, tmp_path, tally):
    task, whole = proverbs
    tried = 0
    for payload in payloads.values():
        for file in sorted(layout.cache_path(whole, task.cache_name).iterdir()):
            cache_dir = tmp_path / f"cache-{tried}"
            shutil.copytree(whole, cache_dir)
            folder = layout.cache_path(cache_dir, task.cache_name)
            (folder / file.name).write_bytes(payload)
            report = data.cache_status(task, cache_dir)
            # An index is made again.
            assert (report.status is data.CacheStatus.READY) == (".index-" in file.name)
            tried += 1
    tally("bad inputs", times=tried, what="a pickle as a file of a cache")


def test_no_pickle_comes_in_as_a_batch(payloads, mark, tmp_path, tally):
    for payload in payloads.values():
        (tmp_path / "batch-0.npz").write_bytes(payload)
        with pytest.raises(ValueError, match=r"allow_pickle|pickled"):
            read_batch(epath.Path(tmp_path))
        tally("bad inputs", what="a pickle as a dumped batch")


@pytest.mark.slow
def test_no_pickle_comes_in_as_a_checkpoint(payloads, mark, train_flags, tmp_path, tally):
    """Each file of a checkpoint in turn."""
    run = tmp_path / "run"
    assert cli.main([*train_flags, f"--gin.MODEL_DIR={run}", "--gin.TRAIN_STEPS=1"]) == 0
    whole = run / "checkpoints" / "1"
    files = [path.relative_to(whole) for path in whole.rglob("*") if path.is_file()]
    assert len(files) > 5
    for number, file in enumerate(files):
        copy = tmp_path / f"run-{number}"
        shutil.copytree(run, copy)
        (copy / "checkpoints" / "1" / file).write_bytes(payloads["plain"])
        try:
            np.asarray(load_run(str(copy)).params["token_embedder"]["embedding"])
        except Exception as error:
            assert getattr(error, "exit_code", None) == 2, repr(error)
            tally("bad inputs", what="a pickle as a file of a checkpoint")


# -- Names that lead elsewhere -----------------------------------------------------------------


@pytest.fixture
def sharded(tmp_path):
    """A Hugging Face directory with an index, and its weight map to write anew."""
    directory = tmp_path / "sharded"
    shutil.copytree(GPT2, directory)
    (directory / "model.safetensors").rename(directory / "model-00001-of-00001.safetensors")
    shutil.copy(GPT2 / "model.safetensors", tmp_path / "elsewhere.safetensors")

    def index(name):
        weights = {"transformer.wte.weight": name}
        text = json.dumps({"metadata": {}, "weight_map": weights})
        (directory / "model.safetensors.index.json").write_text(text)
        return directory

    return index


def test_an_index_that_names_what_lies_elsewhere_is_refused(sharded, tmp_path, refused):
    outside = tmp_path / "elsewhere.safetensors"
    for name in (
        *("../elsewhere.safetensors", str(outside), "../sharded/model-00001-of-00001.safetensors"),
        *("./model-00001-of-00001.safetensors", "a\\b", "..", "", 7, None, ["x"], {"a": 1}),
    ):
        refused(["import-hf", sharded(name), "--out", tmp_path / "out"], "index.json")


def test_a_link_that_leads_elsewhere_is_refused(sharded, tmp_path, refused):
    directory = sharded("link.safetensors")
    (directory / "link.safetensors").symlink_to(tmp_path / "elsewhere.safetensors")
    refused(["import-hf", directory, "--out", tmp_path / "out"], "outside its directory")


def test_the_links_of_a_download_folder_are_followed(tmp_path):
    """models--gpt2/snapshots/REVISION/NAME -> ../../blobs/HASH, as huggingface_hub lays it out."""
    snapshot = tmp_path / "models--gpt2" / "snapshots" / "0123abc"
    blobs = tmp_path / "models--gpt2" / "blobs"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    shutil.copy(GPT2 / "config.json", snapshot)
    shutil.copy(GPT2 / "model.safetensors", blobs / "0f1e2d")
    shard = snapshot / "model-00001-of-00001.safetensors"
    shard.symlink_to(Path("..") / ".." / "blobs" / "0f1e2d")
    weights = {"transformer.wte.weight": shard.name}
    (snapshot / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weights}))
    load_hf(snapshot)


def test_nothing_is_written_through_a_link_or_a_name(tmp_path, tally):
    model, params = load_hf(GPT2)
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "link").symlink_to(outside)
    with pytest.raises(ModelError, match="is a link"):
        save_hf(model, params, tmp_path / "link")
    for name in ("../stolen", str(outside / "stolen"), "a/b", "..", ""):
        with pytest.raises(ModelError, match="only plain file names are written"):
            save_hf(model, params, tmp_path / "out", files={name: GPT2 / "config.json"})
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "model.safetensors").symlink_to(outside / "stolen")
    with pytest.raises(ModelError, match="is a link"):
        write_tensors(folder, {"a": (1,)}, lambda _: [np.zeros(1)], "float32", 10**9)
    assert list(outside.iterdir()) == []
    assert not (tmp_path / "out").exists()
    tally("bad inputs", times=7, what="a link or a name that leads elsewhere, to write to")


# -- Secrets -----------------------------------------------------------------------------------

SECRETS = (
    *("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY"),
    *("AWS_SESSION_TOKEN", "GOOGLE_API_KEY", "OPENAI_API_KEY", "MY_PASSWORD"),
)


@pytest.mark.slow
def test_secrets_of_the_environment_reach_no_file_and_no_output(train_flags, tmp_path, tally):
    """A run to its end, and one that fails, each with every file and word that it leaves."""
    secret = "hunter2-marker"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp_path / "xdg")}
    environment |= dict.fromkeys(SECRETS, secret)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "t5x_like", *train_flags, "--gin.TRAIN_STEPS=2"),
            *(f"--gin.MODEL_DIR={tmp_path / 'run'}", "--debug"),
        ],
        env=environment,
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"config.gin", "metrics.jsonl"} <= {path.name for path in files}
    assert any("checkpoints" in path.parts for path in files)
    for content in (done.stdout, done.stderr, *(path.read_bytes() for path in files)):
        assert secret.encode() not in content
    tally("faults", times=len(SECRETS), what="a secret that stayed in the environment")


def test_secrets_reach_no_file_of_a_cluster_job(tmp_path, monkeypatch, tally):
    """submitit writes what it submits to disk, pickled; the job sees the variable all the same."""
    pytest.importorskip("submitit", reason="needs the extra [slurm]")
    monkeypatch.setenv("WANDB_API_KEY", "hunter2-marker")
    code = "import os; raise SystemExit(3 if os.environ['WANDB_API_KEY'][:7] == 'hunter2' else 4)"
    place = executors.Slurm(str(tmp_path / "submitit"), cluster="local")
    handle = place.submit(executors.Job("job", (sys.executable, "-c", code), tmp_path / "log.txt"))
    deadline = time.monotonic() + 60
    while handle.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert handle.poll() == 3
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.suffix == ".pkl" for path in files)
    assert not [path for path in files if b"hunter2-marker" in path.read_bytes()]
    tally("faults", what="a secret of a cluster job")
