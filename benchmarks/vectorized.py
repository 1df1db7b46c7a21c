"""Small runs that differ in seed and learning rate: one program for all beside one for each.

    python -m benchmarks.vectorized [--runs 8] [--steps 200] [--embed_dim 32] [--json]

The same runs of a GPT-2 on the standard library's text (bytes, rows of 64, four in a batch) are
trained from beginning to end, files and checkpoints included: by `t5x-like train` in processes
that follow one another, each with all cores, and by `t5x_like.scaling.sweeps.vectorized` in one.
Both start with an empty cache of compiled programs, which the separate runs share. Printed are
the seconds, their ratio, and the largest difference of a final loss.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

CELL = """
from __gin__ import dynamic_registration
from models import gpt
from t5x_like import checkpoints
from t5x_like import optimizers
from t5x_like import schedules
from t5x_like import train

include 'models/gpt2/tiny.gin'
include 'tasks/stdlib_lm.gin'
include 'runs/pretrain.gin'

OPTIMIZER = @optimizers.adamw()
SCHEDULE = @schedules.Cosine()
TASK_FEATURE_LENGTHS = {{'targets': 64}}
BATCH_SIZE = 4
TRAIN_STEPS = {steps}
WARMUP_STEPS = 10
SEED = {seed}
LEARNING_RATE = {rate}
MODEL_DIR = '{model_dir}'
gpt.GPT2.embed_dim = {embed_dim}
train.train.validation_batches = 4
train.train.tensorboard = False
"""


def write_cells(directory: Path, options: argparse.Namespace) -> list[Path]:
    """A gin file for each run."""
    files = []
    for i in range(options.runs):
        model_dir = directory / f"run{i}"
        model_dir.mkdir(parents=True)
        text = CELL.format(
            steps=options.steps,
            seed=i // 2,
            rate=(0.003, 0.01)[i % 2],
            model_dir=model_dir,
            embed_dim=options.embed_dim,
        )
        files.append(model_dir / "cell.gin")
        files[-1].write_text(text)
    return files


def seconds(*commands: list[str], cache: Path) -> float:
    """Of the commands, one after the other, with a cache of compiled programs of their own."""
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(cache)}
    start = time.perf_counter()
    for command in commands:
        subprocess.run(
            [sys.executable, "-m", *command],
            check=True,
            env=environment,
            stdout=subprocess.DEVNULL,
        )
    return time.perf_counter() - start


def final_losses(files: list[Path]) -> list[float]:
    """The held-out loss of each run."""
    losses = []
    for file in files:
        lines = (file.parent / "metrics.jsonl").read_text().splitlines()
        records = [json.loads(line) for line in lines]
        losses.append([r["loss"] for r in records if r["split"] == "validation"][-1])
    return losses


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Trains all runs twice."""
    cache = ["t5x_like", "cache", "--gin_file=tasks/stdlib_lm.gin"]
    subprocess.run([sys.executable, "-m", *cache], check=True, stdout=subprocess.DEVNULL)
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        apart = write_cells(base / "apart", options)
        commands = [["t5x_like", "train", f"--gin_file={file}"] for file in apart]
        one_by_one = seconds(*commands, cache=base / "cache_apart")
        together = write_cells(base / "together", options)
        command = ["t5x_like.scaling.sweeps.vectorized", *map(str, together)]
        at_once = seconds(command, cache=base / "cache_together")
        losses = zip(final_losses(apart), final_losses(together), strict=True)
        return {
            "runs": options.runs,
            "steps": options.steps,
            "embed_dim": options.embed_dim,
            "one_by_one_seconds": one_by_one,
            "together_seconds": at_once,
            "ratio": one_by_one / at_once,
            "largest_loss_difference": max(abs(a - b) for a, b in losses),
        }


def main() -> None:
    """Prints the two times and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=8)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--embed_dim", type=int, default=32)
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    options = parser.parse_args()
    result = measure(options)
    if options.json:
        print(json.dumps(result))
        return
    print(f"{result['runs']} runs of {result['steps']} steps, d {result['embed_dim']}")
    print(f"one by one  {result['one_by_one_seconds']:8.1f} s")
    print(f"together    {result['together_seconds']:8.1f} s  {result['ratio']:.2f} times as fast")
    print(f"largest difference of a final loss  {result['largest_loss_difference']:.1e}")


if __name__ == "__main__":
    main()
