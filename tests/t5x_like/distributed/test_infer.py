"""Inference by two processes that share neither a file system nor standard input."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from t5x_like import cli

ROOT = Path(__file__).parents[3]
PROMPTS = ["Many", "Still", "A stitch", "Measure", "hands"]


def infer(folder, run, index=None, address=""):
    """`t5x-like infer` in a folder of its own, where the first alone has the prompts."""
    place = [f"--coordinator_address={address}", "--process_count=2", f"--process_index={index}"]
    return subprocess.Popen(
        [
            sys.executable, "-m", "t5x_like", "infer", f"--gin_file={run}/config.gin",
            "--gin_file=runs/infer.gin", "--gin.INPUT_PATH=in.txt", "--gin.OUTPUT_PATH=out.jsonl",
            "--gin.MAX_NEW_TOKENS=5", "--gin.TEMPERATURE=1.0", "--gin.infer.infer.batch_size=2",
            *(place if index is not None else ()),
        ],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": "--xla_force_host_platform_device_count=1",
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip


def finished(*processes):
    for process in processes:
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said[-3000:]


@pytest.mark.slow
def test_two_processes_answer_as_one_and_resume(train_flags, tmp_path):
    run = tmp_path / "run"
    assert cli.main([*train_flags, f"--gin.MODEL_DIR={run}"]) == 0
    folders = [tmp_path / name for name in ("alone", "first", "second")]
    for folder in folders:
        folder.mkdir()
    alone, first, second = folders
    for folder in (alone, first):
        (folder / "in.txt").write_text("\n".join(PROMPTS))
    finished(infer(alone, run))
    expected = (alone / "out.jsonl").read_text()
    lines = expected.splitlines(keepends=True)
    assert [json.loads(line)["inputs"] for line in lines] == PROMPTS
    for begun in ("", "".join(lines[:2]) + lines[2][:9]):
        (first / "out.jsonl").write_text(begun)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{probe.getsockname()[1]}"
        finished(*(infer(folder, run, i, address) for i, folder in enumerate((first, second))))
        found = (first / "out.jsonl").read_text().splitlines()
        texts = [[json.loads(line)["predictions"] for line in each] for each in (lines, found)]
        assert texts[0] == texts[1]
        assert list(second.iterdir()) == []
