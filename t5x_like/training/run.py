"""One run in progress: its data, files and metrics. How its steps are computed is not here."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from t5x_like import anomalies
from t5x_like.anomalies import Anomaly, Restore
from t5x_like.checkpoints import Checkpointer, Damaged
from t5x_like.cost.peak import Peak
from t5x_like.data import merge_states
from t5x_like.distributed.startup import gather_json
from t5x_like.errors import UserError
from t5x_like.host.progress import duration
from t5x_like.protocols import BESIDE_POLICY, LABELS, Metrics, beside_policy, label_names
from t5x_like.training import summary as run_summary
from t5x_like.training.batches import FedBatch, FedBatches, check_batch
from t5x_like.training.beginning import beginning, with_surroundings
from t5x_like.training.held_out import HeldOut, Part
from t5x_like.training.metrics_log import MetricsLog
from t5x_like.training.model_dir import ModelDir
from t5x_like.training.plan import TrainingPlan
from t5x_like.training.progress import Progress
from t5x_like.training.state import TrainState
from t5x_like.training.step_metrics import Diverged, StepMetrics
from t5x_like.training.watching.watch import Watch


class TrainingRun:
    """The data, files and metrics of a run. The caller computes the steps and holds the state.

    First `resume_newest` (or `resume`), `begin`, `catch_up`; for each step `next_batch`, `add`, and
    where due `validate`, `save`, `evaluate`; after an `Anomaly`, `react`; in the end `close`.

    Args:
      plan: what was asked for.
      label: put before every line that it prints, where several runs share an output.
      guarded: whether the metrics of the steps tell of anomalies, see `anomalies.settle`.

    Attributes:
      plan: as given.
      start: the step from which training resumes; known after `resume`.
      progress: where a person sees it; there after `begin`.
      watch: where its time goes, and why.

    Raises:
      UserError: MODEL_DIR is in use, holds another run, or cannot be written; or the data cannot
        be read.
    """

    def __init__(self, plan: TrainingPlan, label: str = "", *, guarded: bool = False) -> None:
        self.plan = plan
        self.watch = Watch(plan)
        self.start = 0
        self.progress: Progress
        self._label = label
        self._policy = plan.anomaly_policy if guarded else None
        self._notes: list[str] = []
        self._fed = FedBatches()
        self._measured: dict[int, dict[str, float]] = {}
        self._saved = 0  # the step of the newest of its own checkpoints
        self._returns = 0
        self._open_data()  # first: where that fails, MODEL_DIR is left as it is
        self._model_dir = ModelDir(plan)  # before files of another run are read or cleaned up
        try:
            self._open()
        except BaseException:
            self._model_dir.close()
            raise

    def _open_data(self) -> None:
        plan = self.plan
        self._iterator = plan.open_data(*plan.partitioner.data_shard())
        self._held_out = HeldOut(plan)
        self._notes += self._held_out.notes

    def _open(self) -> None:
        self._notes += self._model_dir.notes
        self._checkpointer = Checkpointer(self.plan.model_dir, self.plan.checkpoint_policy)
        for name in self._checkpointer.unfinished:
            self._notes.append(f"warning: checkpoint '{name}' was not finished, and is skipped")
        self._origin = ""
        self._restored: dict[str, Any] = {}  # metadata of the checkpoint
        self._sums: StepMetrics
        self._log: MetricsLog | None = None

    # -- Where it starts -------------------------------------------------------------------------

    def saved_steps(self) -> list[int]:
        """Steps of its checkpoints, ascending."""
        return self._checkpointer.steps()

    def resume_newest(self) -> TrainState:
        """`resume` from the newest checkpoint that is whole; damaged ones are set aside.

        Raises:
          Damaged: there are checkpoints, and none is whole.
        """
        damaged: dict[int, Damaged] = {}
        for step in sorted(self.saved_steps(), reverse=True):
            try:
                state = self.resume(step)
            except Damaged as error:
                damaged[step] = error
                continue
            for bad, reason in damaged.items():
                kept = self._checkpointer.set_aside(bad)
                self._note(f"warning: {reason} It is set aside as '{kept.name}'.")
            return state
        if damaged:
            raise damaged[min(damaged)]
        return self.resume(None)

    def resume(
        self, step: int | None, create: Callable[[int], TrainState] | None = None
    ) -> TrainState:
        """Returns the state to resume from, and moves the data to the same position.

        Args:
          step: of one of the run's checkpoints; None for the beginning.
          create: makes a fresh state from a seed; `train_state.create_state` when None.

        Raises:
          UserError: the checkpoint does not fit.
          Damaged: the checkpoint cannot be read, or is not what was saved.
        """
        with self.watch.time.spent("restoring"):
            found = beginning(self.plan, self._checkpointer, step, create)
            self._saved, self.start = step or 0, found.step
            self._origin, self._restored = found.origin, found.metadata
            if found.position is not None:
                may_begin_again = self._model_dir.became_another or self.plan.allow_config_change
                self._set_position(found.position, may_begin_again)
            state = with_surroundings(found.state, self.plan)
            if self._policy is None:
                return state
            guard = self._policy.guard(self._restored.get("guard"))
            return state.replace(guard=jax.device_put(guard, self.plan.partitioner.replicated))

    def _set_position(self, position: Mapping[str, Any], may_begin_again: bool) -> None:
        try:
            self._iterator.set_state(position)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            if may_begin_again:
                self._note("warning: the data are other data, and are read from their beginning")
            elif isinstance(error, UserError):
                raise
            else:
                raise Damaged(
                    f"the {self._origin} is damaged: its position in the data is none."
                ) from error

    def _note(self, line: str) -> None:
        """Prints a line once: in `begin`, or at once if that was called already."""
        if line in self._notes:
            return
        self._notes.append(line)
        if hasattr(self, "progress"):
            self.progress.say(line)

    def begin(self, peak: Peak) -> None:
        """Prints and writes a description of the run, and opens the log."""
        plan, primary = self.plan, jax.process_index() == 0
        self.progress = Progress(plan.train_steps, self.start, shown=primary, label=self._label)
        summary = run_summary.text(plan, self._origin, self.start, peak)
        for line in (summary, *self._notes):
            self.progress.say(line)
        self._model_dir.describe(summary)
        if not self.steps():
            self.progress.say(run_summary.complete(self.start))
        self.watch.begin(self._restored, self._iterator, self._model_dir.path, self.progress.say)
        self._open_log(peak)

    def _open_log(self, peak: Peak) -> None:
        if self._log:
            self._log.close()
        self._log = self._model_dir.open_log(self.start)
        self._peak = peak
        # Not `self`: what refers to itself keeps the files of its cache open when it has ended.
        fed, iterator = self._fed, self._iterator
        self._sums = StepMetrics(
            train_steps=self.plan.train_steps,
            log_period=self.plan.log_period,
            progress=self.progress,
            log=self._log,
            peak=peak,
            policy=self._policy,
            tokens=self._restored.get("tokens", 0),
            seconds=self._restored.get("seconds", 0.0),
            unrecorded=self._restored.get("unrecorded"),
            also=self.watch.time.values,
            epochs=lambda step: iterator.epochs(fed.of(step).position),
        )

    # -- The steps -------------------------------------------------------------------------------

    def steps(self) -> range:
        """The updates to make, counted from the beginning of the run."""
        return range(self.start + 1, self.plan.train_steps + 1)

    def next_batch(self, step: int) -> Mapping[str, np.ndarray]:
        """This process's rows of the next batch; the first of a size is checked.

        Raises:
          UserError: the model does not know one of its tokens.
        """
        batch = self.watch.next_batch(self._sums.all_done)
        self._sums.look()
        self._fed.add(FedBatch(step, batch, self._iterator.get_state()))
        rows = len(next(iter(batch.values())))
        if rows != self._sums.rows:  # another program
            shapes = check_batch(batch, self.plan.model, self.plan.partitioner)
            self._sums.set_work(*self.plan.work(shapes), rows)
            self.watch.time.enter("compiling")
        self.watch.before(step, self._sums.drain)
        return batch

    def add(self, step: int, metrics: Metrics) -> None:
        """`step` has been dispatched; waits for the one before it.

        Raises:
          Anomaly: a step before it went wrong, and the policy does not just pass over it.
          Diverged: the loss is no longer a number, and there is no policy.
        """
        with self._advised():
            self._sums.add(step, metrics)
            self.watch.after(step, self._sums.drain)
            if self._sums.is_new_program:
                self._sums.forget_compilation()
                self.watch.compiled()
            if step == self.start + 1 and not self._returns:
                first = duration(self._sums.seconds - self._restored.get("seconds", 0.0))
                self.progress.say(f"first step after {first}")

    def save_is_due(self, step: int) -> bool:
        """Whether there is a checkpoint after this step."""
        return self.plan.checkpoint_policy.due(step) or step == self.plan.train_steps

    def save(self, step: int, state: TrainState) -> None:
        """Writes a checkpoint; returns when the state may change."""
        measured = self._measured.pop(step, {})
        self._model_dir.require()
        with self._advised(), self._sums.pause(), self.watch.time.spent("saving"):
            position = merge_states(gather_json(self._iterator.get_state()))
            self.watch.compare_hosts()
            self._checkpointer.save(state, step, position, self._metadata(state), measured)
        self._saved = step

    def _metadata(self, state: TrainState) -> dict[str, Any]:
        return {
            "seed": self.plan.seed,
            "tokens": self._sums.tokens,
            "seconds": self._sums.seconds,
            "time": self.watch.time.seconds(),
            "parameters": self.plan.model.parameter_count(),
            "jax": jax.__version__,
            "unrecorded": self._sums.unrecorded(),
            "guard": state.guard.known() if state.guard is not None else None,
            "base": self._restored.get("base"),
            BESIDE_POLICY: beside_policy(self.plan.model),
            LABELS: dict(label_names(self.plan.model)),
        }

    def pause(self) -> contextlib.AbstractContextManager[None]:
        """Keeps the time of a body out of the rates."""
        return self._sums.pause()

    def validation_is_due(self, step: int) -> bool:
        """Whether something is measured after this step, before it may be saved."""
        return bool(self._held_out.before_save(step))

    def validate(self, step: int, state: TrainState) -> TrainState:
        """Measures the held-out losses, and what decides which checkpoints are kept.

        Returns:
          The state whose optimizer knows the loss.
        """
        measured = self._measure(step, state, self._held_out.before_save(step))
        if self._held_out.decides(step):
            try:
                self.plan.checkpoint_policy.competing(measured)  # a wrong name is noticed at once
            except UserError:
                self._save_unless_there(step, state)
                raise
            self._measured = {step: measured}
        return self._held_out.seen(step, state, measured)

    def evaluate(self, step: int, state: TrainState) -> None:
        """Measures the evaluations that are due, once the step is saved where that is due."""
        self._measure(step, state, self._held_out.after_save(step))

    def catch_up(self, state: TrainState) -> TrainState:
        """As `validate`, of what was due where the run resumes: it was stopped before."""
        if not self._saved:
            return state
        measured = self._measure(self._saved, state, self._held_out.missing(self._saved))
        return self._held_out.seen(self._saved, state, measured)

    def _measure(self, step: int, state: TrainState, parts: Sequence[Part]) -> dict[str, float]:
        """The values by their tags; what cannot be measured costs no step that was made."""
        found: dict[str, float] = {}
        if not parts:
            return found
        try:
            with self._advised(), self._sums.pause(), self.watch.time.spent("evaluating"):
                for each in (each for part in parts for each in part.measure(state)):
                    self.progress.say(f"step {step}/{self.plan.train_steps}  {each.summary}")
                    if self._log:
                        each.write(self._log, step, self._sums.tokens)
                    found |= each.tagged
        except UserError:
            self._save_unless_there(step, state)
            raise
        return found

    def _save_unless_there(self, step: int, state: TrainState) -> None:
        if self._saved != step:
            self.save(step, state)

    # -- When a step goes wrong ------------------------------------------------------------------

    def react(self, anomaly: Anomaly, state: TrainState) -> TrainState:
        """Returns the state to continue from, as the policy decides, and changes `start`.

        Args:
          anomaly: as raised by `add`, `validate` or `save`.
          state: of the last step; what the anomalous one began with, for updates halt there.

        Raises:
          Diverged: the run stops; where the state and the batch are.
        """
        assert self._policy is not None
        reaction = self._policy.reaction
        fed = self._fed.of(anomaly.step)
        if isinstance(reaction, Restore) and self._returns < reaction.most:
            return self._go_back(anomaly, reaction, fed, state)
        dump = anomalies.keep_batch(
            self._model_dir.path,
            anomaly.step,
            fed.batch,
            fed.position,
            state,
            self._metadata(state),
        )
        raise Diverged(
            f"{anomaly} at step {anomaly.step}: load_run('{dump}') opens the state before it and "
            "its batch; lower the learning rate, clip the gradient, or choose another "
            "anomalies.AnomalyPolicy.reaction, see docs/reliability.md."
        )

    def _go_back(
        self, anomaly: Anomaly, reaction: Restore, fed: FedBatch, state: TrainState
    ) -> TrainState:
        self._returns += 1
        for leaf in jax.tree.leaves(state):
            leaf.delete()  # or there would be two for a while
        self._checkpointer.wait()
        earlier = self.resume_newest()
        self.watch.time.go_back(self._restored.get("time", {}))
        self._iterator.set_state(fed.position)
        for _ in range(reaction.pass_over):
            next(self._iterator)
        passed = anomaly.step - self.start + reaction.pass_over
        back = f"{anomaly}: back to step {self.start}, past {passed} batches"
        self.progress.say(f"step {anomaly.step}: {back}")
        self.progress.advance(self.start)
        self._open_log(self._peak)
        return earlier

    # -- The end ---------------------------------------------------------------------------------

    def close(self) -> None:
        """Waits for what is being written, ends the background threads, and unlocks MODEL_DIR."""
        with contextlib.ExitStack() as left:  # the last first, whichever of them fails
            left.callback(self._model_dir.close)
            if hasattr(self, "progress"):
                left.callback(self.progress.close)
            if self._log:
                left.callback(self._log.close)
                left.callback(self.watch.close)
            left.callback(self._checkpointer.close)
            left.callback(self._iterator.close)
            self.watch.time.enter("saving")  # what is written in the background is waited for

    def forget_after(self, step: int) -> None:
        """Deletes checkpoints of later steps, which the run will make again."""
        self._checkpointer.drop_after(step)

    @contextlib.contextmanager
    def _advised(self) -> Iterator[None]:
        try:
            yield
        except Diverged as error:
            kept = self._checkpointer.latest_step()
            advice = f"go back to the checkpoint of step {kept}" if kept else "start again"
            raise Diverged(f"{error}: lower the learning rate, or {advice}.") from error
