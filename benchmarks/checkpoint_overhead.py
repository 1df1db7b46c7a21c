"""What saving costs the training loop: windows of steps with a checkpoint beside windows without.

    python -m benchmarks.checkpoint_overhead [--period 20] [--rounds 5] [--profile] [--json]

The run is `models/t5_1_1/tiny.gin` on the standard library's source (BATCH_SIZE 16, 256 inputs
and 64 targets), with the training loop's own step, data and records. Windows of `period` steps
take turns: before the first step of one a checkpoint is saved, and its files are written and old
ones deleted while the steps go on; in the other nothing is saved. Which of the two comes first
changes from round to round. Printed are medians over the rounds: the ratio of a window with a
checkpoint to its neighbour in wall time, and in CPU time of the process (which other programs on
the machine disturb less); and what the loop itself waits for until it may go on. `--profile`
says where that goes.
"""

import argparse
import contextlib
import cProfile
import io
import json
import os
import pstats
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

from t5x_like import checkpoints, config, train
from t5x_like.training.plan import TrainingPlan
from t5x_like.training.run import TrainingRun
from t5x_like.training.step import make_train_step
from t5x_like.training.summary import device_peak

GIN_FILES = ["models/t5_1_1/tiny.gin", "tasks/stdlib_span_corruption_byt5.gin", "runs/pretrain.gin"]
WARM_UP = 5  # steps before the first checkpoint, and after it


class Windows:
    """Executes a plan in windows of steps; `rounds` has the measures of each pair."""

    def __init__(self, period: int, rounds: int, profile: cProfile.Profile | None = None) -> None:
        self._period, self._rounds = period, rounds
        self._profile = profile
        self.rounds: list[dict[str, float]] = []

    def train(self, plan: TrainingPlan) -> None:
        """Trains as `train.train_plan` does, but saves in every second window."""
        run = TrainingRun(plan, guarded=True)
        with contextlib.closing(run):
            self._run, self._plan = run, plan
            self._state = run.resume_newest()
            run.begin(device_peak(plan.partitioner))
            self._train_step = make_train_step(
                plan.model, plan.optimizer, plan.partitioner, anomaly_policy=plan.anomaly_policy
            )
            self._steps = iter(run.steps())
            self._advance(WARM_UP)
            run.save(self._step, self._state)
            self._advance(WARM_UP)
            for number in range(self._rounds):
                first = self._window(saves=number % 2 == 0)
                second = self._window(saves=number % 2 == 1)
                on, off = (first, second) if number % 2 == 0 else (second, first)
                self.rounds.append(
                    {
                        "wall_ratio": on["wall"] / off["wall"],
                        "cpu_ratio": on["cpu"] / off["cpu"],
                        "window_seconds": off["wall"],
                        "loop_waits_seconds": on["waits"],
                        "loop_waits_ratio": on["waits"] / off["wall"],
                    }
                )
                print(json.dumps(self.rounds[-1]), file=sys.stderr)

    def _advance(self, steps: int) -> None:
        for _ in range(steps):
            self._step = next(self._steps)
            batch = self._plan.partitioner.shard_batch(self._run.next_batch(self._step))
            self._state, metrics = self._train_step(self._state, batch)
            self._run.add(self._step, metrics)

    def _window(self, saves: bool) -> dict[str, float]:
        """Seconds of wall and CPU time, and those that the loop waits for the save."""
        with self._run.pause():  # which waits for the last step
            wall, cpu = time.perf_counter(), time.process_time()
        waits, saved = 0.0, self._step
        if saves:
            with self._profile or contextlib.nullcontext():
                self._run.save(saved, self._state)
            waits = time.perf_counter() - wall
        self._advance(self._period)
        with self._run.pause():
            measured = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        if saves and saved not in checkpoints.checkpoint_steps(self._plan.model_dir):
            raise SystemExit(
                f"the checkpoint of step {saved} was not written within {self._period} steps, and "
                "weighs on the next window: give a longer --period."
            )
        return measured | {"waits": waits}


def measure(period: int, rounds: int, profile: cProfile.Profile | None = None) -> dict[str, Any]:
    """All rounds, in a directory of their own."""
    cache = ["t5x_like", "cache", "stdlib_text"]
    subprocess.run([sys.executable, "-m", *cache], check=True, stdout=subprocess.DEVNULL)
    windows = Windows(period, rounds, profile)
    with tempfile.TemporaryDirectory() as folder:
        bindings = {
            "BATCH_SIZE": "16",
            "TASK_FEATURE_LENGTHS": "{'inputs': 256, 'targets': 64}",
            "MODEL_DIR": f"{folder}/run",
            "TRAIN_STEPS": str(2 * WARM_UP + 2 * rounds * period),
            "train.train.log_period": str(period),
        }
        config.parse(GIN_FILES, list(bindings.items()))
        with contextlib.redirect_stdout(io.StringIO()):
            config.check(train.train)
            windows.train(config.built(train.train, TrainingPlan))
    names = windows.rounds[0]
    return {
        "period": period,
        "rounds": windows.rounds,
        "medians": {name: statistics.median(r[name] for r in windows.rounds) for name in names},
        "load": os.getloadavg()[0],
        "cores": len(os.sched_getaffinity(0)),
    }


def main() -> None:
    """Prints the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--period", type=int, default=20, help="steps between two checkpoints")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--profile", action="store_true", help="where the loop's waiting goes")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    options = parser.parse_args()
    profile = cProfile.Profile() if options.profile else None
    result = measure(options.period, options.rounds, profile)
    if options.json:
        print(json.dumps(result))
        return
    medians = result["medians"]
    print(f"{GIN_FILES[0]}, a checkpoint every {options.period} steps, {options.rounds} rounds")
    print(f"window without   {medians['window_seconds']:8.2f} s")
    print(f"with: wall time  {100 * (medians['wall_ratio'] - 1):+8.1f} %")
    print(f"with: CPU time   {100 * (medians['cpu_ratio'] - 1):+8.1f} %")
    waits = 1000 * medians["loop_waits_seconds"]
    print(f"the loop waits   {100 * medians['loop_waits_ratio']:8.1f} %  ({waits:.0f} ms a save)")
    print(f"load of the machine {result['load']:.1f} on {result['cores']} cores")
    if profile is not None:
        pstats.Stats(profile).sort_stats("cumulative").print_stats(25)


if __name__ == "__main__":
    main()
