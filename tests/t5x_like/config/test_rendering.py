"""The configuration written as a gin file, with the place of each binding."""

import re

import pytest

from t5x_like import cli, config
from t5x_like.config import gin_internals

FILES = (
    "optimizers/adamw.gin",
    "models/llama/6.7b.gin",
    "tasks/stdlib_lm.gin",
    "hardware/h100.gin",
    "runs/pretrain.gin",
)
BINDINGS = {
    "TRAIN_STEPS": "5000",
    "MODEL_DIR": "runs/a",
    "BATCH_SIZE": "8",
    "language_model.LanguageModel.remat_policy": "none",
}


@pytest.fixture(autouse=True)
def nothing_left_over():
    with config.isolated():
        yield


@pytest.fixture(scope="module")
def printed():
    """What `train --dry_run` prints."""
    import contextlib
    import io

    output = io.StringIO()
    arguments = [f"--gin_file={name}" for name in FILES]
    arguments += [f"--gin.{name}={value}" for name, value in BINDINGS.items()]
    with contextlib.redirect_stdout(output):
        assert cli.main(["train", "--dry_run", *arguments]) == 0
    return output.getvalue()


def line_of(name, start):
    """The line of a packaged file that starts so, as a place."""
    from t5x_like.config.gin_files import packaged_gin_configs

    lines = (packaged_gin_configs() / name).read_text().splitlines()
    (found,) = (i for i, line in enumerate(lines, 1) if line.strip().startswith(start))
    return f"{name}:{found}"


def test_a_dry_run_says_where_each_value_is_from_and_what_it_replaces(printed):
    model, defaults = "models/llama/6.7b.gin", "runs/defaults.gin"
    lines = printed.splitlines()
    assert "MODEL_DIR = 'runs/a'  # --gin.MODEL_DIR" in lines
    assert f"SEED = 0  # {line_of(defaults, 'SEED')}" in lines
    assert (
        f"BATCH_SIZE = 8  # --gin.BATCH_SIZE, over {line_of(model, 'BATCH_SIZE')}, "
        f"{line_of(defaults, 'BATCH_SIZE')}"
    ) in lines


def test_a_dry_run_says_of_which_base_class_a_value_is(printed):
    hardware = line_of("hardware/h100.gin", "dtype")
    own = line_of("models/llama/6.7b.gin", "dtype")
    assert f"llama.LLaMA.dtype = 'bfloat16'  # {hardware} (Model.dtype), over {own}" in (
        printed.splitlines()
    )


def test_every_value_of_a_dry_run_has_a_place(printed):
    """A value of several lines has it at its end."""
    code = [line for line in printed.splitlines() if line and line[0] not in "# "]
    bindings = [line for line in code if " = " in line and not line.endswith("\\")]
    assert len(bindings) > 60
    assert all(re.search(r"  # (--gin\.|\w+/[\w./]+\.gin:\d+)", line) for line in bindings)


def test_the_output_of_a_dry_run_configures_the_same(printed, tmp_path):
    config.parse(FILES, list(BINDINGS.items()))
    wanted = {key: dict(values) for key, values in gin_internals.CONFIG.items()}
    text = config.full_text()
    (tmp_path / "all.gin").write_text(printed)
    config.parse([str(tmp_path / "all.gin")])
    assert config.full_text() == text
    # gin takes references in different scopes for equal, so their texts are compared too.
    assert {key: dict(values) for key, values in gin_internals.CONFIG.items()} == wanted
    from t5x_like import train

    config.check(train.train)


def test_a_long_value_keeps_its_place_and_can_be_read_again(tmp_path):
    path = tmp_path / "a.gin"
    path.write_text(f"FLAGS = {[f'--flag_{i}=true' for i in range(12)]}\n")
    config.parse([str(path)])
    text = config.full_text(sources=True)
    assert text.rstrip().endswith(f"'--flag_11=true']  # {path}:1")
    (tmp_path / "b.gin").write_text(text)
    config.parse([str(tmp_path / "b.gin")])
    assert len(config.macro("FLAGS")) == 12
