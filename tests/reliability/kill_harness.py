"""One run killed again and again, `kill -9` at moments that seeded chance chooses, until it ends.

    python -m tests.reliability.kill_harness PLAN

PLAN is a JSON object with the fields of `Plan`. Every kill is a line of JSON on standard output;
the last line is a summary. The exit code is 1 when the run ended before every kill was made.

Starts that are killed while they start up or build the cache are `python -m t5x_like train`. The
others are forks of this process, which has imported what a run imports and has not touched JAX's
devices: they save the two seconds that the imports take.
"""

import collections
import dataclasses
import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from t5x_like import cli
from t5x_like.cli import program
from t5x_like.data.cache import layout

PHASES = ("start-up", "cache", "step", "save", "validation")
ANY = "any"
POLL_SECONDS = 0.002
LONGEST_START = 300.0
TEMPORARY = re.compile(r"\d+\..*tmp")  # a checkpoint that is being written
STEP = re.compile(r"^step (\d+)/\d+  (validation )?loss", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Plan:
    """A run, and when it is killed.

    Attributes:
      arguments: of `t5x-like`, from `train` on.
      model_dir: MODEL_DIR.
      caches: of each task, CACHE_DIR and the name of its cache.
      steps: TRAIN_STEPS.
      validation_period: steps between two validations.
      wanted: how many kills there must be in each of `PHASES`, or at `ANY` time.
      seed: of the moments.
    """

    arguments: Sequence[str]
    model_dir: str
    caches: Sequence[str]
    steps: int
    validation_period: int
    wanted: Mapping[str, int]
    seed: int = 0

    def cache_folders(self) -> list[list[Path]]:
        """Of each task, the folders of its caches that there are."""
        plain = map(Path, self.caches)
        return [layout.folders(path.parent, path.name) for path in plain]

    def remove_whole_caches(self) -> None:
        """So that they are built again, where the last of their parts outran a kill."""
        for folder in itertools.chain(*self.cache_folders()):
            if (folder / layout.COMPLETED).exists():
                shutil.rmtree(folder)


class Start:
    """One process of the run, leader of a session, so that its children are known by it."""

    def __init__(self, plan: Plan, log: Path, forked: bool) -> None:
        self._plan = plan
        self._log = log
        self._began = time.monotonic()
        self._checkpoints = Path(plan.model_dir, "checkpoints")
        self._saved_before = self._saves()
        self._parts_before = self._parts()
        log.write_text("")
        self.pid = _fork(plan.arguments, log) if forked else _spawn(plan.arguments, log)

    @property
    def seconds(self) -> float:
        """Since it was started."""
        return time.monotonic() - self._began

    def exit_code(self) -> int | None:
        """None while it runs."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if pid else None

    def says(self, text: str) -> bool:
        """Whether its output has this."""
        return text in self._log.read_text()

    def last_step(self, validation: bool = False) -> int:
        """The last step that it has reported; 0 before the first."""
        steps = [
            int(n) for n, kind in STEP.findall(self._log.read_text()) if bool(kind) is validation
        ]
        return max(steps, default=0)

    def is_validating(self) -> bool:
        """Whether a step has been made whose validation has not been reported."""
        step = self.last_step()
        due = step > 0 and step % self._plan.validation_period == 0
        return due and self.last_step(validation=True) < step

    def saving(self) -> int:
        """The step whose checkpoint it is writing; 0 when there is none."""
        begun = self._saves() - self._saved_before
        return max((int(name.partition(".")[0]) for name in begun), default=0)

    def cache_is_whole(self) -> bool:
        """Whether every task's cache is finished."""
        return all(
            any((folder / layout.COMPLETED).exists() for folder in folders)
            for folders in self._plan.cache_folders()
        )

    def cache_has_grown(self) -> bool:
        """Whether it has finished a shard of some cache, or the last cache."""
        return self._parts() > self._parts_before or self.cache_is_whole()

    def phase(self) -> str:
        """What it is doing, or was when it was killed."""
        if not self.cache_is_whole():
            return "cache" if self.says("building it") else "start-up"
        if self.saving():
            return "save"
        if self.is_validating():
            return "validation"
        return "step" if self.last_step() else "start-up"

    def kill(self) -> list[int]:
        """SIGKILL; the processes that it leaves behind for more than a few seconds."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        return left_behind(self.pid)

    def _saves(self) -> set[str]:
        if not self._checkpoints.is_dir():
            return set()
        return {name for name in os.listdir(self._checkpoints) if TEMPORARY.match(name)}

    def _parts(self) -> set[Path]:
        folders = itertools.chain(*self._plan.cache_folders())
        return {path for folder in folders for path in folder.glob(".*.part-*")}


def left_behind(session: int, seconds: float = 10.0) -> list[int]:
    """The processes of a session that are still there after `seconds`; they are killed."""
    deadline = time.monotonic() + seconds
    while (found := members(session)) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in found:
        os.kill(pid, signal.SIGKILL)
    return found


def members(session: int) -> list[int]:
    """The living processes of a session."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, sid = status.read_text().rpartition(")")[2].split()[:4]
        except OSError:  # it has just ended
            continue
        if int(sid) == session and state != "Z":
            found.append(int(status.parent.name))
    return found


def _spawn(arguments: Sequence[str], log: Path) -> int:
    with log.open("a") as out:
        command = [sys.executable, "-m", "t5x_like", *arguments]
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
    process.returncode = 0  # waited for by its number
    return process.pid


def _fork(arguments: Sequence[str], log: Path) -> int:
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    code = program.EXIT_INTERNAL_ERROR
    try:
        os.setsid()
        out = os.open(log, os.O_WRONLY | os.O_APPEND)
        os.dup2(out, 1)
        os.dup2(out, 2)
        code = cli.main(list(arguments))
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def trigger(
    phase: str, goal: int, start: Start, chance: random.Random
) -> tuple[Callable[[], bool], float]:
    """When a start is to be killed, and for how many seconds more it is let live.

    Args:
      phase: one of `PHASES`, or `ANY`.
      goal: a step; kills in later phases wait for it, so that they spread over the run.
      start: the process.
      chance: decides the seconds.
    """
    if phase == "start-up":
        moment = chance.uniform(0.0, 3.0)
        return lambda: start.seconds >= moment, 0.0
    if phase == ANY:
        moment = chance.uniform(0.0, 6.0)
        # A fast machine may be done by then.
        return lambda: start.seconds >= moment or start.last_step() >= goal, 0.0
    if phase == "cache":
        if chance.random() < 0.5:
            return start.cache_has_grown, 0.0
        moment = chance.uniform(0.0, 5.0)
        begun: list[float] = []

        def is_in_the_middle() -> bool:
            if not begun and start.says("building it"):
                begun.append(start.seconds)
            # A cache of which an earlier start has made most is soon whole.
            return start.cache_has_grown() or (bool(begun) and start.seconds - begun[0] >= moment)

        return is_in_the_middle, 0.0
    if phase == "save":
        return lambda: start.saving() >= goal, chance.uniform(0.0, 0.02)
    if phase == "validation":
        return lambda: start.is_validating() and start.last_step() >= goal, 0.0
    return lambda: start.last_step() >= goal and not start.saving(), chance.uniform(0.0, 0.01)


def survive(plan: Plan, log: Path) -> bool:
    """Kills the run as planned, and lets it end; whether all kills were made."""
    chance = random.Random(plan.seed)
    moments = [phase for phase, count in plan.wanted.items() for _ in range(count)]
    chance.shuffle(moments)
    moments.sort(key=lambda phase: phase != "cache")  # which is built but once
    planned, kills, strays = len(moments), [], []
    while moments:
        wanted = moments.pop(0)
        # Later kills come later in the run, and the last of them before its end.
        goal = 1 + (plan.steps - 12) * min(len(kills), planned) // planned
        if wanted == "cache":
            plan.remove_whole_caches()
        start = Start(plan, log, forked=wanted not in ("start-up", "cache"))
        reached, delay = trigger(wanted, goal, start, chance)
        while (code := start.exit_code()) is None and not reached():
            if start.seconds > LONGEST_START:
                raise TimeoutError(f"no {wanted} in {LONGEST_START} s: {log.read_text()[-2000:]}")
            time.sleep(POLL_SECONDS)
        time.sleep(delay)
        if code is None:
            code = start.exit_code()
        if code is not None:
            print(log.read_text()[-2000:], file=sys.stderr)
            print(f"exit code {code} before a kill in {wanted}", file=sys.stderr)
            return False
        strays += start.kill()
        phase = start.phase()
        if wanted not in (phase, ANY):
            moments.append(wanted)
        kill = {"phase": phase, "step": start.last_step(), "seconds": round(start.seconds, 2)}
        kills.append(phase)
        print(json.dumps(kill), flush=True)
    last = Start(plan, log, forked=True)
    _, status = os.waitpid(last.pid, 0)
    if code := os.waitstatus_to_exitcode(status):
        print(f"exit code {code}: {log.read_text()[-2000:]}", file=sys.stderr)
        return False
    print(json.dumps({"kills": collections.Counter(kills), "left_behind": strays}))
    return True


def main() -> int:
    """Runs the plan on the command line."""
    # What a run imports: JAX, the engine, the models and tasks.
    from models import gpt, t5  # noqa: F401
    from t5x_like import (
        config,  # noqa: F401
    )

    plan = Plan(**json.loads(sys.argv[1]))
    return 0 if survive(plan, Path(f"{plan.model_dir}.log")) else 1


if __name__ == "__main__":
    sys.exit(main())
