"""A student that is distilled beside the same student alone: held-out loss over seeds.

    python -m benchmarks.distillation --files tinyshakespeare/input.txt --dir /tmp/distillation

trains a teacher on the files, byte by byte, and for each seed a smaller student twice, on the same
rows in the same order, and prints the student's own held-out loss of both and the mean difference
with its 95% interval.
"""

import argparse
import json
import math
from pathlib import Path

import numpy as np

from t5x_like.cli import main

# Of Student's t for a 95% interval, by the number of pairs less one.
_T95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
TEACHER, STUDENT = {"EMBED": 96, "LAYERS": 3}, {"EMBED": 32, "LAYERS": 1}


def trained(args: argparse.Namespace, name: str, steps: int, seed: int, size: dict[str, int],
            more: list[str]) -> Path:  # fmt: skip
    """The MODEL_DIR of a run."""
    out = Path(args.dir) / name
    code = main(
        [
            "train",
            f"--gin_file=models/{args.model}.gin",
            "--gin_file=tasks/text_files.gin",
            f"--gin_file=tasks/{args.objective}.gin",
            "--gin_file=optimizers/adamw.gin",
            *(more or ["--gin_file=runs/pretrain.gin"]),
            f"--gin.TRAIN_FILES={args.files}",
            f"--gin.CACHE_DIR={Path(args.dir) / 'cache'}",
            f"--gin.TASK_FEATURE_LENGTHS={{'targets': {args.length}}}",
            "--gin.BATCH_SIZE=16",
            "--gin.LEARNING_RATE=0.003",
            f"--gin.SEED={seed}",
            f"--gin.{args.cls}.embed_dim={size['EMBED']}",
            f"--gin.{args.cls}.num_layers={size['LAYERS']}",
            f"--gin.TRAIN_STEPS={steps}",
            f"--gin.MODEL_DIR={out}",
        ]
    )
    if code:
        raise SystemExit(code)
    return out


def held_out(run: Path, name: str) -> float:
    """The last value of a held-out metric in `metrics.jsonl`."""
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return float([r for r in records if r["split"] == "validation"][-1][name])


def interval(differences: np.ndarray) -> tuple[float, float]:
    """The mean of paired differences, and half of its 95% interval."""
    spread = float(differences.std(ddof=1)) / math.sqrt(len(differences))
    return float(differences.mean()), _T95[len(differences) - 1] * spread


def run() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", required=True)
    parser.add_argument("--dir", required=True)
    parser.add_argument("--model", default="gpt2/tiny")
    parser.add_argument("--cls", default="gpt.GPT2")
    parser.add_argument("--objective", default="causal_lm")
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--teacher_steps", type=int, default=600)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    teacher = trained(args, "teacher", args.teacher_steps, 0, TEACHER, [])
    print("teacher", held_out(teacher, "loss"))
    rows = []
    for seed in range(1, args.seeds + 1):
        alone = trained(args, f"alone{seed}", args.steps, seed, STUDENT, [])
        more = ["--gin_file=runs/distill.gin", f"--gin.TEACHER={teacher}"]
        taught = trained(args, f"taught{seed}", args.steps, seed, STUDENT, more)
        rows.append((held_out(alone, "loss"), held_out(taught, "targets")))
        print(f"seed {seed}: alone {rows[-1][0]:.4f}, distilled {rows[-1][1]:.4f}", flush=True)
    alone_losses, taught_losses = np.array(rows).T
    mean, half = interval(alone_losses - taught_losses)
    print(
        f"distilled is better by {mean:.4f} nats a byte, 95% {mean - half:.4f} to {mean + half:.4f}"
    )


if __name__ == "__main__":
    run()
