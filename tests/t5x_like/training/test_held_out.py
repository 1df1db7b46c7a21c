"""What a run measures of other tasks while it trains."""

import dataclasses
import json
import time
from unittest import mock

import jax
import numpy as np
import pytest

from models import gpt
from t5x_like import checkpoints
from t5x_like.data import DatasetConfig
from t5x_like.data.cache import status
from t5x_like.decoding.continuations import _log_likelihoods
from t5x_like.decoding.generate import decoding_program
from t5x_like.distributed.preemption import Preempted, StopRequest
from t5x_like.errors import UserError
from t5x_like.evaluation import Evaluation, Generation, Loss, Ranking
from t5x_like.host import progress
from t5x_like.optimizers import adamw
from t5x_like.schedules import Constant
from t5x_like.trackers import TensorBoard
from t5x_like.train import _step_of, train_plan
from t5x_like.training import identity
from t5x_like.training.held_out import HeldOut
from t5x_like.training.metrics_log import MetricsLog, read_records
from t5x_like.training.plan import TrainingPlan
from t5x_like.training.state import create_state
from tests.t5x_like.evaluation.test_ranking import ROWS, written
from tests.t5x_like.test_evaluate import TEXTS, Copying, cached
from tests.untimed import untimed


@pytest.fixture(scope="module")
def base(proverbs, partitioner, tmp_path_factory):
    """A plan of eight steps that measures the options every three, and copying every four."""
    task, cache_dir = proverbs
    folder = tmp_path_factory.mktemp("measured")
    train = DatasetConfig(task, {"targets": 24}, str(cache_dir), "train", 4)
    copying = cached(Copying("copying"), folder, TEXTS)
    texts = DatasetConfig(copying, {"inputs": 8, "targets": 8}, str(folder), "validation", 4)
    return TrainingPlan(
        model=gpt.GPT2(vocab_size=384, embed_dim=16, num_heads=2, num_layers=2, max_length=32),
        model_dir=str(folder / "whole"),
        dataset=train,
        train_steps=8,
        optimizer=adamw(Constant(1e-2)),
        validation=[dataclasses.replace(train, split="validation")],
        validation_period=4,
        evaluations=[
            Evaluation(written(folder, ROWS), [Ranking(batch_size=4)], period=3),
            Evaluation(texts, [Generation(max_new_tokens=2)], max_rows=2),
        ],
        partitioner=partitioner,
        checkpoint_policy=checkpoints.CheckpointPolicy(period=4),
        log_period=1,
        tensorboard=False,
    )


@pytest.fixture(scope="module")
def programs():
    """How many programs there are for ranking and for generation, after each measurement."""
    return []


@pytest.fixture(scope="module")
def whole(base, programs):
    def counted(measure):
        def measured(self, subject):
            found = measure(self, subject)
            programs.append((_log_likelihoods._cache_size(), decoding_program()._cache_size()))
            return found

        return measured

    ranking = mock.patch.object(Ranking, "measure", counted(Ranking.measure))
    generation = mock.patch.object(Generation, "measure", counted(Generation.measure))
    with ranking, generation:
        train_plan(base)
    return untimed(base.model_dir)


@pytest.mark.slow
def test_tasks_are_measured_at_their_periods_and_at_the_end(whole):
    found = [(r["step"], r["split"], r.get("task")) for r in whole if r["split"] != "train"]
    assert found == [
        (3, "validation", "options"),
        (4, "validation", None),
        (4, "validation", "copying"),
        (6, "validation", "options"),
        (8, "validation", None),
        (8, "validation", "options"),
        (8, "validation", "copying"),
    ]
    options = next(r for r in whole if r.get("task") == "options")
    assert options["ranking"] == "sum, 0 shots, contexts read as text causally"
    assert (options["batch_format"], options["rows"]) == ("prefix_language_model", 4)
    assert options["tokens"] == 3 * 4 * 24 and "ranking_accuracy_standard_error" in options
    copying = next(r for r in whole if r.get("task") == "copying")
    assert (copying["rows"], copying["split_rows"]) == (2, 7) and "sequence_accuracy" in copying


@pytest.mark.slow
def test_nothing_is_compiled_after_the_first_time(whole, programs):
    """Options after steps 3, 6 and 8, copying after 4 and 8."""
    assert len(programs) == 5
    assert programs[1] == programs[2] == programs[3] == programs[4]


@pytest.mark.slow
def test_training_does_not_change_by_a_bit(base, whole, tmp_path):
    alone = dataclasses.replace(base, model_dir=str(tmp_path / "alone"), evaluations=())
    train_plan(alone)
    assert untimed(alone.model_dir) == [r for r in whole if "task" not in r]
    a, b = (
        checkpoints.load_params(plan.model_dir, base.model, base.partitioner)[0]
        for plan in (base, alone)
    )
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.slow
@pytest.mark.parametrize("stopped", ["before it is measured", "while it is measured"])
def test_a_run_that_was_stopped_has_the_same_records(base, whole, tmp_path, stopped):
    """A signal at step 4, at which the held-out loss and a task are due; a kill in the latter."""
    plan = dataclasses.replace(base, model_dir=str(tmp_path))
    if stopped == "before it is measured":
        end, stop = Preempted, mock.patch.object(StopRequest, "after", lambda self, step: step == 4)
    else:
        end = KeyboardInterrupt
        stop = mock.patch.object(Generation, "measure", side_effect=KeyboardInterrupt)
    with stop, pytest.raises(end):
        train_plan(plan)
    assert checkpoints.checkpoint_steps(plan.model_dir) == [4]
    train_plan(plan)
    key = ("step", "split", "task")
    found, expected = (
        sorted(records, key=lambda r: [str(r.get(name)) for name in key])
        for records in (untimed(plan.model_dir), whole)
    )
    assert found == expected


def test_what_takes_long_says_how_far_it_is(base, capsys, monkeypatch):
    monkeypatch.setattr(progress, "_FIRST_INTERVAL", 0.0)
    state = create_state(base.model, base.optimizer, base.partitioner, seed=0)
    (loss,) = HeldOut(base).before_save(4)
    list(loss.measure(state))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("proverbs validation: 3 of 7 rows, ")


@pytest.mark.slow
def test_what_cannot_be_measured_costs_no_step(base, tmp_path):
    bad = Evaluation(written(tmp_path, [(["a"], ["b", "c" * 33], 0)]), [Ranking()], period=3)
    plan = dataclasses.replace(base, model_dir=str(tmp_path / "run"), evaluations=[bad])
    with pytest.raises(UserError, match="has 33 tokens, but the model's max_length is 32"):
        train_plan(plan)
    assert checkpoints.checkpoint_steps(plan.model_dir) == [3]
    train_plan(dataclasses.replace(plan, evaluations=(), train_steps=4))
    assert [r["step"] for r in untimed(plan.model_dir) if r["split"] == "train"] == [1, 2, 3, 4]


@pytest.mark.slow
def test_a_step_before_a_checkpoint_and_a_measurement_takes_as_long_as_the_others(base, tmp_path):
    """Also where it is waited for, as learning from rewards does."""

    def slow_step(plan):
        step = _step_of(plan)

        def slowly(state, batch):
            time.sleep(0.1)
            return jax.block_until_ready(step(state, batch))

        return slowly

    plan = dataclasses.replace(base, model_dir=str(tmp_path), evaluations=base.evaluations[:1])
    train_plan(plan, slow_step)
    records = [record for record in read_records(plan.model_dir) if record["split"] == "train"]
    assert [record["step"] for record in records] == list(range(1, 9))
    first, *others = records
    assert not {"step_seconds", "tokens_per_second", "mfu"} & first.keys()  # it was compiled
    assert all(record["step_seconds"] >= 0.1 for record in others)


def test_a_metric_of_a_task_can_decide_which_checkpoint_is_best(base):
    """Then the task is measured before the checkpoint is written, and others after it."""
    best = "validation/options/ranking_accuracy"
    policy = checkpoints.CheckpointPolicy(period=6, best_metric=best)
    held_out = HeldOut(dataclasses.replace(base, checkpoint_policy=policy))
    assert [[part.keys for part in held_out.before_save(step)] for step in (3, 4, 5)] == [
        [[("validation", "options")]],
        [[("validation", None)]],
        [],
    ]
    assert [held_out.decides(step) for step in (3, 4)] == [True, False]
    assert [part.keys for part in held_out.after_save(4)] == [[("validation", "copying")]]
    assert held_out.after_save(3) == []


def test_a_metric_of_a_split_that_nobody_measures_is_refused_at_the_start(base):
    policy = checkpoints.CheckpointPolicy(period=6, best_metric="test/loss")
    message = r"best_metric is 'test/loss', and this run measures validation/\.\.\., validation/"
    with pytest.raises(UserError, match=message):
        HeldOut(dataclasses.replace(base, checkpoint_policy=policy))


def test_a_run_that_is_measured_otherwise_is_the_same_run(base):
    """And says so in one line."""
    before, now = (dataclasses.replace(base, evaluations=()), base)
    changes = identity.compare(before.described(), now.described())
    assert changes.refused == []
    (line,) = changes.harmless
    assert line == (
        "evaluations: not there -> ['ranking of options validation every 3 updates', "
        "'generation of copying validation']"
    )


def test_caches_are_looked_at_once(base):
    with mock.patch.object(status, "cache_status", wraps=status.cache_status) as looked:
        HeldOut(base)
        assert looked.call_count == 3  # the held-out split, and each evaluation's
        known = {}
        with status.remembered(known):
            for _ in range(2):
                config = base.evaluations[0].dataset
                status.require_cache(config.task, config.cache_dir, config.split)
        assert looked.call_count == 4


def test_a_record_of_a_task_has_what_decided_it_and_tensorboard_its_numbers(tmp_path):
    log = MetricsLog(str(tmp_path), trackers=[TensorBoard()])
    log.write(2, "validation", {"accuracy": 50.0}, "choices", {"ranking": "sum"})
    log.close()
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line) == {
        "step": 2, "split": "validation", "task": "choices", "ranking": "sum", "accuracy": 50.0
    }  # fmt: skip
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert b"validation/choices/accuracy" in events.read_bytes()


def test_evaluations_that_make_no_sense_are_refused(base):
    dataset = base.evaluations[0].dataset
    with pytest.raises(UserError, match="measurements is empty"):
        Evaluation(dataset, [])
    with pytest.raises(UserError, match="has 2 of the name 'loss'"):
        Evaluation(dataset, [Loss(), Loss()])
    with pytest.raises(UserError, match="period is 0: give a whole number of updates"):
        Evaluation(dataset, [Loss()], period=0)
    with pytest.raises(UserError, match="an evaluation of 0 rows"):
        Evaluation(dataset, [Loss()], max_rows=0)
    with pytest.raises(UserError, match="has task 'options', split 'validation', twice"):
        dataclasses.replace(base, evaluations=[base.evaluations[0]] * 2)
    gone = dataclasses.replace(dataset, cache_dir=f"{dataset.cache_dir}/elsewhere")
    with pytest.raises(UserError, match="there is no cache of 'options'"):
        HeldOut(dataclasses.replace(base, evaluations=[Evaluation(gone, [Ranking()])]))
