"""A distilled student beside the same student alone: held-out loss over seeds.

    python -m benchmarks.distillation decoder --files input.txt --dir runs/distillation

trains a teacher on the files, byte by byte, and for each seed a smaller student in two or more
ways, on the same rows in the same order, and prints the student's own held-out loss of each and the
mean difference with its 95% interval over seeds. The pairs are `decoder` (two sizes of GPT-2),
`encoder` (two of BERT, masked tokens) and `switch` (a Switch Transformer and the dense T5 of its
widths, which begins with the teacher's weights but the experts'; here a student that begins so and
has no teacher is measured too, so that the two gains are told apart).
"""

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from t5x_like.cli import main

# Of Student's t for a 95% interval, by the number of seeds less one.
_T95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
_ALONE, _DISTILLED, _COPIED = "alone", "distilled", "copied weights alone"


@dataclass(frozen=True)
class Pair:
    """A teacher and its student.

    Attributes:
      teacher: gin file under `models/`.
      student: the same.
      objective: gin file under `tasks/`; None is span corruption.
      lengths: of a row's features.
      distill: gin file under `runs/`.
      teacher_bindings: `NAME=VALUE` of the teacher's runs.
      student_bindings: of all of the student's runs.
      distill_bindings: of the runs with the teacher.
      learning_rate: of both.
      batch_size: of both.
      copies: whether the student begins with weights of the teacher.
    """

    teacher: str
    student: str
    objective: str | None
    lengths: dict[str, int]
    distill: str = "runs/distill.gin"
    teacher_bindings: tuple[str, ...] = ()
    student_bindings: tuple[str, ...] = ()
    distill_bindings: tuple[str, ...] = ()
    learning_rate: float = 0.01
    batch_size: int = 16
    copies: bool = False


def _small(cls: str) -> tuple[str, ...]:
    return (f"{cls}.embed_dim=32", f"{cls}.num_layers=1", f"{cls}.num_heads=4")


# Halves of both losses at temperature 2 were measured too: docs/distillation.md.
_SOFT = ("TARGETS_WEIGHT=0.0", "SOFT_TARGETS_WEIGHT=1.0", "DISTILLATION_TEMPERATURE=1.0")
_NO_PAIRS = "bert.BERT.use_next_sentence_head=False"

PAIRS = {
    "decoder": Pair(
        "gpt2/tiny",
        "gpt2/tiny",
        "causal_lm",
        {"targets": 64},
        student_bindings=_small("gpt.GPT2"),
        distill_bindings=_SOFT,
    ),
    "encoder": Pair(
        "bert/tiny",
        "bert/tiny",
        "objectives/masked_lm",
        {"targets": 32},
        teacher_bindings=(_NO_PAIRS,),
        student_bindings=(*_small("bert.BERT"), "bert.BERT.mlp_dim=128", _NO_PAIRS),
        distill_bindings=_SOFT,
        batch_size=64,
    ),
    "switch": Pair(
        "switch/tiny",
        "t5_1_1/tiny",
        None,
        {"inputs": 64, "targets": 24},
        distill="runs/distill_switch.gin",
        student_bindings=("t5.T5_1_1.mlp_dim=128",),
        copies=True,
    ),
}


@dataclass(frozen=True)
class Runs:
    """Trains runs of a pair into a directory.

    Attributes:
      pair: the pair.
      files: the text.
      directory: of the runs and the cache.
      teacher_steps: of the teacher.
      steps: of every student.
    """

    pair: Pair
    files: str
    directory: Path
    teacher_steps: int
    steps: int

    def teacher(self) -> Path:
        """The teacher's MODEL_DIR."""
        own = self.pair.teacher_bindings
        return self._trained("teacher", self.pair.teacher, self.teacher_steps, 0, own, ())

    def students(self, teacher: Path, seed: int) -> dict[str, float]:
        """The held-out loss of the student of each way, in nats a target."""
        own = self.pair.student_bindings
        copying = (
            "train.train.initial_checkpoint=@checkpoints.InitialCheckpoint()",
            f"checkpoints.InitialCheckpoint.path='{teacher}'",
            "checkpoints.InitialCheckpoint.without_experts=True",
        )
        ways: dict[str, tuple[tuple[str, ...], str]] = {_ALONE: (own, "")}
        if self.pair.copies:
            ways[_COPIED] = (own + copying, "")
        ways[_DISTILLED] = (
            (*own, *self.pair.distill_bindings, f"TEACHER={teacher}"),
            self.pair.distill,
        )
        found = {}
        for way, (bindings, file) in ways.items():
            name = f"{way.replace(' ', '_')}_{seed}"
            files = (file,) if file else ()
            run = self._trained(name, self.pair.student, self.steps, seed, bindings, files)
            found[way] = held_out(run, "targets" if way == _DISTILLED else "loss")
        return found

    def _trained(
        self,
        name: str,
        model: str,
        steps: int,
        seed: int,
        bindings: tuple[str, ...],
        files: tuple[str, ...],
    ) -> Path:
        """The MODEL_DIR of a run."""
        out = self.directory / name
        given = (
            f"TRAIN_FILES={self.files}",
            f"CACHE_DIR={self.directory / 'cache'}",
            f"TASK_FEATURE_LENGTHS={self.pair.lengths}",
            f"BATCH_SIZE={self.pair.batch_size}",
            f"LEARNING_RATE={self.pair.learning_rate}",
            f"SEED={seed}",
            f"TRAIN_STEPS={steps}",
            f"MODEL_DIR={out}",
            "HELD_OUT=0.05",
            *bindings,
        )
        packaged = (
            f"models/{model}.gin",
            "tasks/text_files.gin",
            *([f"tasks/{self.pair.objective}.gin"] if self.pair.objective else []),
            "optimizers/muon.gin",
            *(files or ("runs/pretrain.gin",)),
        )
        code = main(
            ["train", *(f"--gin_file={x}" for x in packaged), *(f"--gin.{x}" for x in given)]
        )
        if code:
            raise SystemExit(code)
        return out


def held_out(run: Path, name: str) -> float:
    """The last value of a held-out metric in `metrics.jsonl`."""
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return float([r for r in records if r["split"] == "validation" and name in r][-1][name])


def interval(differences: np.ndarray) -> tuple[float, float]:
    """The mean of paired differences, and half of its 95% interval."""
    spread = float(differences.std(ddof=1)) / math.sqrt(len(differences))
    return float(differences.mean()), _T95[len(differences) - 1] * spread


def run() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pair", choices=PAIRS)
    parser.add_argument("--files", required=True)
    parser.add_argument("--dir", required=True, type=Path)
    parser.add_argument("--teacher_steps", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    runs = Runs(PAIRS[args.pair], args.files, args.dir / args.pair, args.teacher_steps, args.steps)
    teacher = runs.teacher()
    print(f"teacher {held_out(teacher, 'loss'):.4f}", flush=True)
    rows = []
    for seed in range(1, args.seeds + 1):
        rows.append(runs.students(teacher, seed))
        told = ", ".join(f"{way} {loss:.4f}" for way, loss in rows[-1].items())
        print(f"seed {seed}: {told}", flush=True)
    for way in rows[0]:
        losses = np.array([row[way] for row in rows])
        print(f"{way}: mean {losses.mean():.4f}, standard deviation {losses.std(ddof=1):.4f}")
    for way in [way for way in rows[0] if way != _DISTILLED]:
        mean, half = interval(np.array([row[way] - row[_DISTILLED] for row in rows]))
        low, high = mean - half, mean + half
        print(f"distilled is better than {way} by {mean:.4f}, 95% {low:.4f} to {high:.4f}")


if __name__ == "__main__":
    run()
