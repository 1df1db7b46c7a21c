"""Low-rank factors through the command line: read for a run, written, and merged."""

import json
from pathlib import Path

import numpy as np
import pytest

from models.hf import load_hf
from models.hf.tensor_files import TensorFiles
from t5x_like import checkpoints, load_run
from t5x_like.cli import main

HF = Path(__file__).parents[3] / "models" / "hf"
LLAMA, FACTORS = HF / "fixtures" / "llama", HF / "peft_fixtures" / "llama"


@pytest.mark.slow
def test_factors_become_a_run_on_its_base_and_go_back_as_they_were(tmp_path, capsys):
    base, run = str(tmp_path / "base"), str(tmp_path / "run")
    assert main(["import-hf", str(LLAMA), f"--out={base}"]) == 0
    assert main(["import-hf", str(FACTORS), f"--base={base}", f"--out={run}"]) == 0
    opened = load_run(run)
    assert opened.model.tuning.rank == 2
    expected = np.load(FACTORS / "expected.npz")
    batch = {"decoder_input_tokens": expected["tokens"]}
    logits = opened.model.logits(opened.params, batch)
    np.testing.assert_allclose(logits, expected["logits"], atol=1e-4)
    held = checkpoints.stored_arrays(checkpoints.find_checkpoint(run) / "params")
    assert {name.rpartition("/")[2] for name in held} == {"lora_a", "lora_b"}

    out = tmp_path / "factors"
    assert main(["export-hf", run, f"--out={out}", "--adapters"]) == 0
    ours, theirs = (TensorFiles(d / "adapter_model.safetensors") for d in (out, FACTORS))
    assert set(ours) == set(theirs)
    for name in theirs:
        np.testing.assert_array_equal(ours[name], theirs[name])
    config = json.loads((out / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (2, 3.0)

    merged = tmp_path / "merged"
    assert main(["export-hf", run, f"--out={merged}"]) == 0
    model, params = load_hf(merged)
    np.testing.assert_allclose(model.logits(params, batch), expected["logits"], atol=1e-4)

    capsys.readouterr()
    assert main(["export-hf", base, f"--out={tmp_path / 'none'}", "--adapters"]) == 2
    assert "LLaMA has no LoRA: there are no factors to write" in capsys.readouterr().err
