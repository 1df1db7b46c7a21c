"""The command line as a user meets it: exit codes, one-line errors, JSON."""

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from t5x_like import cli
from t5x_like.host import command

ROOT = Path(__file__).parents[3]

SMALL_MODEL = """
from __gin__ import dynamic_registration
from models import t5
MODEL = @t5.T5()
t5.T5:
  vocab_size = 96
  embed_dim = 16
  mlp_dim = 32
  num_heads = 2
  head_dim = 8
  num_encoder_layers = 1
  num_decoder_layers = 1
"""


@pytest.fixture
def small_model(tmp_path):
    path = tmp_path / "small.gin"
    path.write_text(SMALL_MODEL)
    return f"--gin_file={path}"


def test_inspect_prints_one_json_object_and_nothing_else(small_model, capsys):
    lengths = "--gin.TASK_FEATURE_LENGTHS={'inputs': 6, 'targets': 4}"
    assert cli.main(["inspect", small_model, lengths, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    # By hand: d 16, ff 32, heads 2 x 8. Encoder: norms 2 d, attention 4 d d, MLP 2 d ff; decoder:
    # norms 3 d, two attentions, MLP; two final norms; two tables of 32 buckets x 2 heads.
    d, ff = 16, 32
    inner = (2 * d + 4 * d * d + 2 * d * ff) + (3 * d + 8 * d * d + 2 * d * ff) + 2 * d + 2 * 64
    assert report["parameters"] == 96 * d + inner
    assert report["parameters_without_embeddings"] == inner
    assert report["active_parameters"] == report["parameters"]
    assert report["parameter_bytes"] == 4 * report["parameters"]
    # Forward multiplications of one row: projections, attention of 6, 4 and 4 x 6 positions
    # (query-key and attention-value products, d each), output. Twice two FLOPs backward.
    encoder = 6 * (4 * d * d + 2 * d * ff) + 2 * 6 * 6 * d
    self_attention = 4 * 4 * d * d + 2 * 4 * 4 * d
    cross = (2 * 4 + 2 * 6) * d * d + 2 * 4 * 6 * d
    decoder = self_attention + cross + 4 * 2 * d * ff + 4 * d * 96
    assert report["flops_per_token"] == pytest.approx(3 * 2 * (encoder + decoder) / 10)
    # Adafactor keeps whole second moments of matrices with a side below 128, and a counter.
    assert report["optimizer_bytes"] >= report["parameter_bytes"]
    assert report["activation_bytes"] > 0
    assert report["tree"]["token_embedder/embedding"] == {
        "shape": [96, 16],
        "dtype": "float32",
        "logical_axes": ["vocab", "embed"],
        "mesh_axes": [None, None],
    }


def test_inspect_looks_at_the_mesh_that_a_hardware_file_gives(small_model, capsys):
    flags = ["--gin_file=hardware/fsdp.gin", "--gin.partitioning.Partitioner.fsdp=3"]
    assert cli.main(["inspect", small_model, *flags]) == 2
    assert "mesh fsdp=3 does not fit 1 devices of a slice" in capsys.readouterr().err


@pytest.mark.slow
def test_inspect_divides_memory_over_the_devices_of_a_topology(small_model, program):
    """No variable of the environment is set: the devices are simulated."""
    flags = ["--topology=v5p-64", "--gin_file=hardware/fsdp.gin", "--gin.BATCH_SIZE=64", "--json"]
    flags += ["--gin.partitioning.Partitioner.replicate_below=0", "--gin.t5.T5.embed_dim=32"]
    flags += ["--gin_file=optimizers/adamw.gin", "--gin.t5.T5.vocab_size=96"]
    done = program("-m", "t5x_like", "inspect", small_model, *flags)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    memory = report["device_memory"]
    assert (memory["devices"], memory["mesh"]["fsdp"]) == (32, 32)
    # Width 32 divides by 32 in every parameter but the tables of relative positions, 2 x 64 each.
    rest = 4 * 2 * 64
    assert memory["parameter_bytes"] == (report["parameter_bytes"] - rest) / 32 + rest
    assert memory["gradient_bytes"] == memory["parameter_bytes"]
    # Adam's two moments, and a counter or two.
    assert 0 <= memory["optimizer_bytes"] - 2 * memory["parameter_bytes"] <= 16
    assert memory["activation_bytes"] == report["activation_bytes"] * 2 // 64
    parts = ("parameter_bytes", "optimizer_bytes", "gradient_bytes", "activation_bytes")
    assert memory["total_bytes"] == sum(memory[part] for part in parts)
    assert memory["hbm_bytes"] == pytest.approx(95.74 * 2**30)


def test_an_optimizer_whose_rate_follows_from_the_run_needs_no_lengths(small_model, capsys):
    assert cli.main(["inspect", small_model, "--gin_file=optimizers/adamw.gin", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["optimizer_bytes"] >= 2 * report["parameter_bytes"]


def test_inspect_without_json_is_for_people(small_model, capsys):
    assert cli.main(["inspect", small_model]) == 0
    out = capsys.readouterr().out
    title = "T5, 1 encoder layers, 1 decoder layers, 16 wide, 2 heads, 8 units a head, 32 units in"
    assert out.startswith(title)
    assert "memory of a device\n  parameters  " in out and "  in all, at least  " in out
    assert "token_embedder/embedding" in out
    assert "without embeddings" in out


def test_dry_run_shows_the_configuration_and_writes_nothing(train_flags, tmp_path, capsys):
    flags = [*train_flags, f"--gin.MODEL_DIR={tmp_path}/run", "--dry_run"]
    assert cli.main(flags) == 0
    assert "train.train.train_steps = %TRAIN_STEPS" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("MODEL=@t5.T5_1_1()", "feature"),
        ("TASK_FEATURE_LENGTHS={'targets': 0}", "is 0; it must be a whole number above 0"),
        ("TASK_FEATURE_LENGTHS={'inputs': 8, 'targets': 8}", "give a length for each of them"),
        (
            "TASK_FEATURE_LENGTHS={'targets': 33}",
            "makes rows of 33 tokens, but the model's max_len",
        ),
        ("gpt.GPT2.vocab_size=200", "the model's vocab_size is 200: raise it"),
        ("INITIAL_CHECKPOINT_PATH=nowhere", "nowhere"),
        ("gpt.GPT2.num_heads=3", "3"),
        ("objectives.SpanCorruption.mean_span_length=3", "is not used"),
    ],
)
def test_a_dry_run_finds_what_a_start_would_refuse(flag, message, train_flags, tmp_path, capsys):
    (tmp_path / "more.gin").write_text(
        "from __gin__ import dynamic_registration\nfrom models import t5\n"
        "from tasks import objectives\nt5.T5_1_1.vocab_size = 384\nt5.T5_1_1.embed_dim = 8\n"
    )
    more = [f"--gin_file={tmp_path}/more.gin"]
    if flag.startswith("INITIAL"):
        more.append("--gin_file=runs/finetune.gin")
    flags = [*train_flags, *more, f"--gin.{flag}", f"--gin.MODEL_DIR={tmp_path}/run", "--dry_run"]
    assert cli.main(flags) == 2
    captured = capsys.readouterr()
    assert message in captured.err.splitlines()[-1]
    assert captured.out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["more.gin"]


def test_a_dry_run_leaves_the_devices_alone(train_flags, tmp_path, capsys, monkeypatch):
    """It may be of another machine's run, and that machine's devices may be at work."""

    def devices(*_):
        raise AssertionError("asked for devices")

    monkeypatch.setattr("jax.devices", devices)
    mesh = ["--gin.partitioning.Partitioner.fsdp=64", "--gin.partitioning.Partitioner.data=1"]
    flags = [*train_flags, "--gin_file=hardware/fsdp.gin", *mesh]
    assert cli.main([*flags, f"--gin.MODEL_DIR={tmp_path}/run", "--dry_run"]) == 0
    assert "partitioning.Partitioner.fsdp = 64" in capsys.readouterr().out


def test_a_vocabulary_far_smaller_than_the_models_is_warned_of(train_flags, tmp_path, capsys):
    flags = [*train_flags, f"--gin.MODEL_DIR={tmp_path}/run", "--dry_run"]
    # 256 bytes, 3 special ids, 125 sentinels: 384 ids.
    for size in (4 * 384, 4 * 384 + 1):
        assert cli.main([*flags, f"--gin.gpt.GPT2.vocab_size={size}"]) == 0
        said = capsys.readouterr().err
        if size == 4 * 384:
            assert said == ""
    (line,) = said.splitlines()
    assert line.startswith("t5x-like: warning: the vocabulary of task 'proverbs' has 384 ids")
    assert "--gin_file=tasks/vocabularies/sentencepiece.gin" in line


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["trian"], "invalid choice: 'trian'"),
        ([], "required: command"),
        (["train", "--gin_fiel=x"], "unrecognized arguments: --gin_fiel=x"),
        (["train"], "no gin file configures t5x_like.train.train: add a file that"),
        (["train", "--gin_file=runs/pretrain.gin"], "MODEL (the model, bound by a file"),
        (["train", "--gin.SEED"], "--gin.SEED needs a value"),
        (["fit", "runs.csv", "--gin.SEED=1"], "fit reads no configuration: leave out --gin_file"),
        (["report", "runs/x", "--gin_file=a.gin"], "report reads no configuration: leave out"),
        (["inspect"], "MODEL (the model, bound by a file under models/) is not set"),
        (["cache", "no_such_task"], "no task or mixture is called 'no_such_task'"),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_2(flags, message, capsys):
    assert cli.main(flags) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith("t5x-like: error: ")
    assert message in line
    assert captured.out == ""


def test_debug_shows_the_traceback_of_a_users_mistake(capsys):
    assert cli.main(["inspect", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_help_is_no_mistake(capsys):
    assert cli.main(["train", "--help"]) == 0
    assert "--gin_file" in capsys.readouterr().out


def test_a_value_may_follow_its_flag(small_model, capsys):
    assert cli.main(["inspect", small_model, "--gin.t5.T5.vocab_size", "48", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["tree"]["token_embedder/embedding"]["shape"] == [48, 16]


def test_another_package_called_models_that_is_loaded_is_noticed(tmp_path, program):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "__init__.py").write_text("")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import models; from t5x_like import cli; "
        "sys.exit(cli.main(['inspect']))"
    )
    done = program("-c", code, str(tmp_path))
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert f"the package 'models' that is loaded is {tmp_path}/models" in line
    assert "import t5x_like before the other" in line


# As setuptools lets an editable install be found: after all that the path holds.
EDITABLE = """
import sys
from importlib.machinery import PathFinder
class Editable:
    @staticmethod
    def find_spec(name, path=None, target=None):
        ours = name in ("t5x_like", "models", "tasks")
        return PathFinder.find_spec(name, [root]) if ours else None
root = sys.argv.pop(1)
sys.path[:] = [path for path in sys.path if path not in ("", root)]
# The environment of the tests may have one already, of another checkout.
sys.meta_path[:] = [entry for entry in sys.meta_path if "__editable__" not in entry.__module__]
sys.meta_path.append(Editable)
"""
CONSOLE = "from t5x_like.__main__ import main; sys.exit(main())"
NOTEBOOK = (
    "sys.path.insert(0, ''); from t5x_like import cli; from models.gpt import GPT2; "
    "import tasks.sources; sys.exit(cli.main(sys.argv[1:]))"
)


@pytest.fixture
def shadowed(tmp_path):
    """A working directory with folders of the user's, one of them a package, and a gin file."""
    for name in ("models", "tasks", "jax"):
        (tmp_path / name).mkdir()
    (tmp_path / "tasks" / "__init__.py").write_text("raise RuntimeError('shadowed')")
    (tmp_path / "jax" / "__init__.py").write_text("raise RuntimeError('shadowed')")
    (tmp_path / "mine.py").write_text("print('imported mine')")
    (tmp_path / "ours.gin").write_text(
        "from __gin__ import dynamic_registration\nfrom models import gpt\n"
        "gpt.GPT2.num_layers = 2\n"
    )
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("start", ["module", "console script", "notebook"])
def test_the_users_directory_shadows_nothing(start, shadowed, program):
    command = ["cache", "--module_import=mine", "--gin_file=ours.gin"]
    begin = {
        "module": ["-m", "t5x_like"],
        "console script": ["-c", EDITABLE + CONSOLE, str(ROOT)],
        "notebook": ["-c", EDITABLE + NOTEBOOK, str(ROOT)],
    }
    if start == "notebook":  # where the working directory comes first, as Python has it
        shutil.rmtree(shadowed / "jax")
    done = program(*begin[start], *command, cwd=shadowed)
    assert done.returncode == 2, done.stderr
    assert "imported mine" in done.stdout
    assert "MIXTURE_OR_TASK_NAME (name of the task" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_locale_that_is_not_utf8_changes_nothing(tmp_path):
    (tmp_path / "né.gin").write_text("CACHE_DIR = 'café €'\n", encoding="utf-8")
    command = ["cache", "stdlib_lm", "--gin_file=né.gin", "--dry_run"]
    done = subprocess.run(
        [sys.executable, "-m", "t5x_like", *command],
        env={**os.environ, "PYTHONPATH": str(ROOT), "LC_ALL": "C", "PYTHONUTF8": "0"},
        cwd=tmp_path, capture_output=True, timeout=100, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == "stdlib_lm would be cached in café €\n".encode()


def test_a_module_of_the_users_in_a_folder_of_our_name_is_answered_with_the_collision(
    tmp_path, monkeypatch, capsys
):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mine.py").write_text("")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["inspect", "--module_import=models.mine"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "No module named 'models.mine'. 'models' is t5x-like's own package: give" in line
    assert f"'{tmp_path}/models' another name" in line


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("train", "train"),
        ("evaluate", "eval"),
        ("infer", "infer"),
        ("aot", "compile"),
        ("inspection", "inspect"),
        ("scaling.sweeps.runner", "sweep"),
        ("scaling.planning.plan", "plan"),
    ],
)
def test_a_module_that_is_a_program_runs_its_command(module, name, monkeypatch, capsys):
    """`python -m t5x_like.train`, as T5X has it."""
    ran = []
    monkeypatch.setattr(command.runpy, "run_module", lambda *args, **kwargs: ran.append(args))
    monkeypatch.setattr("sys.argv", ["program", "--help"])
    source = ROOT / "t5x_like" / (module.replace(".", "/") + ".py")
    tree = ast.parse(source.read_text())
    last = ast.Module([tree.body[-1]], [])
    exec(compile(last, str(source), "exec"), {"__name__": "__main__", "command": command})
    assert ran == [("t5x_like",)]
    assert cli.main(sys.argv[1:]) == 0
    assert f"usage: t5x-like {name}" in capsys.readouterr().out


@pytest.mark.slow
def test_training_by_its_module_ends_as_the_command_does(program):
    done = program("-m", "t5x_like.train", "--gin_file=runs/pretrain.gin")
    assert done.returncode == 2
    assert done.stderr.startswith("t5x-like: error: MODEL (the model, bound by a file")
