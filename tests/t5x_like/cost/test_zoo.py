"""Published models on their own topologies: needs libtpu and no TPU, and minutes for each."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest

from benchmarks import zoo

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("libtpu") is None, reason="needs the extra [tpu-compile]"
    ),
]

MARGIN = 0.05  # of HBM, for what a run needs besides its step


@pytest.mark.parametrize("entry", zoo.ZOO, ids=lambda entry: entry.name)
def test_every_model_fits(entry, tmp_path):
    path = tmp_path / "step.json"
    assert zoo.compiled(entry, path)
    result = json.loads(path.read_text())
    assert result["fits"]
    assert result["used_bytes"] <= (1 - MARGIN) * result["hbm_bytes"]
    best, worst = result["step_seconds"]
    assert 0 < best <= worst
    # The published figure is not better than everything at the same time.
    if entry.published.endswith("%"):
        assert float(entry.published.rstrip("%")) / 100 < result["mfu"][0] < 1
    if entry.name == "palm_540b":
        assert result["devices"] == 6144
        assert result["compile_seconds"] < 120


def test_the_command_of_the_training_page_fits(tmp_path):
    """docs/training.md and hardware/v5p_64.gin say 26.0 of 95.7 GiB."""
    flags = ["models/llama/6.7b.gin", "optimizers/llama_adamw.gin", "hardware/v5p_64.gin"]
    path = tmp_path / "step.json"
    command = [sys.executable, "-m", "t5x_like", "compile", f"--save={path}"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "JAX_PLATFORMS": "cpu"}
    subprocess.run([*command, *(f"--gin_file={f}" for f in flags)], env=environment, check=True)
    result = json.loads(path.read_text())
    assert result["fits"] and result["used_bytes"] == pytest.approx(26.0 * 2**30, rel=0.01)
    (line,) = result["attention"]
    assert line.endswith("bfloat16: splash attention, on tpu")
