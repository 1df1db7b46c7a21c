"""Metrics of a run: of the steps in flight, sums since the last record, tokens and time."""

import collections
import contextlib
import dataclasses
import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax

from t5x_like import anomalies
from t5x_like.anomalies import Anomaly, AnomalyPolicy
from t5x_like.cost.peak import Peak
from t5x_like.evaluation.loss import add_metrics, mean
from t5x_like.protocols import Metrics
from t5x_like.training.metrics_log import MetricsLog
from t5x_like.training.progress import Progress

# How often the peak is measured again where a step exceeds it; each takes half a second.
_MEASUREMENTS = 3


class Diverged(RuntimeError):
    """The loss is no longer a number; the checkpoints are untouched."""

    exit_code = 1


@dataclasses.dataclass
class _Dispatched:
    """A step that was dispatched.

    Attributes:
      step: its number.
      metrics: what it gives.
      seconds: how long it took; None until it is seen to be done.
    """

    step: int
    metrics: Metrics
    seconds: float | None = None

    def is_done(self) -> bool:
        """Whether the devices have finished it."""
        leaves = jax.tree.leaves(self.metrics)
        arrays: list[Any] = [leaf for leaf in leaves if isinstance(leaf, jax.Array)]
        return all(array.is_ready() for array in arrays)


class StepMetrics:
    """Turns the metrics of each step into records, without making the device wait.

    The metrics of a step are fetched when the next one has been dispatched. A step takes the time
    from when the one before was done until it is done itself, whenever its metrics are fetched: of
    a step that is waited for where it is called, or before a checkpoint, that is earlier or later
    than of others.

    Args:
      train_steps: the last step.
      log_period: steps between two records.
      progress: where a person sees them.
      log: where they are kept; None in every process but the first.
      peak: of all devices, for MFU.
      policy: what is done about anomalies, of which the metrics then tell; without one, a
        non-finite loss ends the run.
      tokens: positions computed by earlier starts of the run.
      seconds: time taken by them.
      unrecorded: `unrecorded()` of the start before, when the checkpoint was written.
      also: gives further values for each record.
      epochs: those of each task, by its name, that the batches up to a step have gone through.

    Attributes:
      tokens: positions computed so far, padding included.
      rows: of the batches that `set_work` was last told of; 0 before.
      is_new_program: whether the next step's program is compiled, which is not to be timed.
    """

    def __init__(
        self,
        *,
        train_steps: int,
        log_period: int,
        progress: Progress,
        log: MetricsLog | None,
        peak: Peak,
        policy: AnomalyPolicy | None = None,
        tokens: int = 0,
        seconds: float = 0.0,
        unrecorded: Mapping[str, Any] | None = None,
        also: Callable[[], Mapping[str, float]] = dict,
        epochs: Callable[[int], Mapping[str, float]] = lambda step: {},
    ) -> None:
        self.tokens = tokens
        self._train_steps = train_steps
        self._log_period = log_period
        self._progress = progress
        self._log = log
        self._peak = peak
        self._measurements_left, self._told_of_peak = _MEASUREMENTS, False
        self._policy, self._also, self._epochs = policy, also, epochs
        before = unrecorded or {}
        self._skipped = before.get("skipped", 0)
        self._began = time.perf_counter() - seconds
        self._in_flight: collections.deque[_Dispatched] = collections.deque()
        self._totals: dict[str, tuple[float, float]] = {
            name: (value, weight) for name, (value, weight) in before.get("totals", {}).items()
        }
        self.rows, self.is_new_program = 0, False
        self._tokens_per_step = 0
        self._flops_per_step = 0.0
        self._begin_rates()
        self._since = time.perf_counter()  # when the last step that is done was

    @property
    def seconds(self) -> float:
        """Time since the run began, earlier starts included."""
        return time.perf_counter() - self._began

    def unrecorded(self) -> dict[str, Any]:
        """What has been summed up since the last record, as JSON.

        Kept in a checkpoint, so that the next record is the same as without an interruption.
        """
        return {
            "totals": {name: list(pair) for name, pair in self._totals.items()},
            "skipped": self._skipped,
        }

    def set_work(self, tokens_per_step: int, flops_per_step: float, rows: int = 0) -> None:
        """What a step computes from the next one on: positions, and model FLOPs, of how many rows.

        Waits for the steps before, whose batches were of another size.
        """
        self.drain()
        self.rows, self.is_new_program = rows, True
        self._tokens_per_step, self._flops_per_step = tokens_per_step, flops_per_step
        self._begin_rates()
        self._since = time.perf_counter()

    def add(self, step: int, metrics: Metrics) -> None:
        """`step` has been dispatched; waits for the one before it."""
        self._in_flight.append(_Dispatched(step, metrics))
        self.look()
        while len(self._in_flight) > 1:
            self._collect()

    def forget_compilation(self) -> None:
        """Waits for the first step of a program, and keeps its time out of the rates."""
        self.drain()
        self.is_new_program = False
        self._begin_rates()
        self._since = time.perf_counter()

    def _begin_rates(self) -> None:
        self._timed_steps, self._timed_seconds = 0, 0.0
        self._timed_tokens, self._timed_flops = 0, 0.0

    def look(self) -> None:
        """Notes which steps are done by now; the sooner after it, the more exact are the rates."""
        left = (one for one in self._in_flight if one.seconds is None)
        self._are_done(itertools.takewhile(_Dispatched.is_done, left))

    def _are_done(self, steps: Iterable[_Dispatched]) -> None:
        """They were done since the last ones; of several nobody knows when each was."""
        done, now = list(steps), time.perf_counter()
        for one in done:
            one.seconds = (now - self._since) / len(done)
        if done:
            self._since = now

    def all_done(self) -> bool:
        """Whether the devices have finished every step that was dispatched; a `look`."""
        self.look()
        return all(one.seconds is not None for one in self._in_flight)

    def drain(self) -> None:
        """Waits for every step that has been dispatched."""
        while self._in_flight:
            self._collect()

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """Drains, and keeps the time of the body out of the rates; may be nested."""
        self.drain()
        begun, since = time.perf_counter(), self._since
        yield
        # What an inner one has kept out is in the time of the outer one.
        self._since = since + time.perf_counter() - begun

    def _collect(self) -> None:
        first = self._in_flight.popleft()
        step, metrics = first.step, jax.device_get(first.metrics)
        if first.seconds is None:
            self._are_done([first])
        assert first.seconds is not None
        if self._policy is not None:
            metrics = self._watched(self._policy, step, metrics)
        self._totals = add_metrics(self._totals, metrics)
        self._timed_steps += 1
        self._timed_seconds += first.seconds
        self._timed_tokens += self._tokens_per_step
        self._timed_flops += self._flops_per_step
        self.tokens += self._tokens_per_step
        self._progress.advance(step)
        if not math.isfinite(self._totals["loss"][0]):
            raise Diverged(f"the loss is {self._totals['loss'][0]} at step {step}")
        if step % self._log_period == 0 or step == self._train_steps:
            skipped = {"skipped_updates": self._skipped} if self._skipped else {}
            means = mean(self._totals)
            loss = {"loss": means.pop("loss")} if "loss" in means else {}
            values = {
                **loss,
                **means,
                **skipped,
                "tokens": self.tokens,
                "seconds": self.seconds,
                **self._rates(),
                **self._also(),
                **_epochs_of(self._epochs(step)),
            }
            self._progress.record(step, values)
            if self._log:
                self._log.write(step, "train", values)
            self._totals, self._skipped = {}, 0
            self._begin_rates()

    def _watched(self, policy: AnomalyPolicy, step: int, metrics: dict[str, Any]) -> Metrics:
        """The metrics without those that tell of anomalies, which are acted on."""
        in_a_row, loss, norm = (
            float(metrics.pop(name)[0])
            for name in (anomalies.IN_A_ROW, anomalies.LOSS, anomalies.GRADIENT_NORM)
        )
        if not in_a_row:
            return metrics
        if in_a_row > policy.reaction.most_in_a_row:
            raise Anomaly(step, loss, norm)
        self._skipped += 1
        self._progress.say(
            f"step {step}: loss {loss:.4g}, gradient norm {norm:.4g}: the update is skipped"
        )
        return metrics

    def _rates(self) -> dict[str, float]:
        seconds = self._timed_seconds
        if not seconds or self.is_new_program:
            return {}
        rates = {
            "step_seconds": seconds / self._timed_steps,
            "tokens_per_second": self._timed_tokens / seconds,
            "model_tflops": self._timed_flops / seconds / 1e12,
        }
        mfu = self._mfu(self._timed_flops / seconds)
        return rates if mfu is None else {**rates, "mfu": mfu}

    def _mfu(self, flops: float) -> float | None:
        """The share of the peak that `flops` a second are; None where the peak is not known."""
        most = self._peak.flops
        if not most:
            return None
        if flops > most and self._measurements_left:
            # It was measured while the machine was busy.
            self._measurements_left -= 1
            self._peak = self._measured_alone()
            most = self._peak.flops or most
        if flops <= most:
            return flops / most
        if not self._told_of_peak:
            self._told_of_peak = True
            why = "the machine was busy" if self._peak.measured else "not that of this device"
            self._progress.say(
                f"MFU is left out: {flops / 1e12:.3g} TFLOP/s are more than the peak of "
                f"{most / 1e12:.3g} ({self._peak.source}: {why})"
            )
        return None

    def _measured_alone(self) -> Peak:
        """The peak again, while no step is computed; steps do not take the time that it takes."""
        jax.block_until_ready([one.metrics for one in self._in_flight])
        self.look()
        begun = time.perf_counter()
        found = self._peak.again()
        self._since += time.perf_counter() - begun
        return found


def _epochs_of(tasks: Mapping[str, float]) -> dict[str, float]:
    """`epochs` of one task; of a mixture `epochs/TASK` of each."""
    if len(tasks) == 1:
        return {"epochs": next(iter(tasks.values()))}
    return {f"epochs/{name}": value for name, value in tasks.items()}
