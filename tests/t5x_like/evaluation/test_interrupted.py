"""An evaluation that is killed goes on where it was, to the same bits."""

import dataclasses
import importlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from etils import epath

from t5x_like.decoding import Sampling, generate
from t5x_like.evaluation.interrupted import Journals, identity_of
from t5x_like.host import journal
from t5x_like.host.journal import FileJournal
from tests.t5x_like.decoding.conftest import BigramModel
from tests.t5x_like.training.small_models import Counting

SCRIPT = Path(__file__).with_name("killed_evaluation.py")
ROOT = Path(__file__).parents[3]


class Interrupted(Exception):
    pass


def run(directory, *, kill_after):
    """Evaluates in a process of its own, which kills itself after so many batches; 0: never."""
    command = [sys.executable, str(SCRIPT), str(directory), str(kill_after)]
    # pytest has the root on the path of imports, the new process has not.
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=env)


def contents(directory):
    """What an evaluation leaves, but for TensorBoard's times."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and "tensorboard" not in path.parts
    }


@pytest.mark.slow
def test_a_killed_evaluation_goes_on_to_the_same_bits(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    done = run(whole, kill_after=0)
    assert done.returncode == 0, done.stderr
    batches = int(re.search(r"computed (\d+) batches", done.stdout)[1])
    assert batches >= 30  # of loss, generation by votes, and ranking

    left = 0
    for kill_after in (3, 10):  # in the loss, in the generation
        assert run(killed, kill_after=kill_after).returncode == -signal.SIGKILL
        (partial,) = killed.rglob("*.partial.jsonl")
        left += kill_after
        assert len(partial.read_bytes().splitlines()) == left
        assert set(contents(killed)) == {str(partial.relative_to(killed))}  # nothing half-written
    done = run(killed, kill_after=0)
    assert f"resumes after {left} batches" in done.stderr
    assert f"computed {batches - left} batches" in done.stdout
    assert contents(killed) == contents(whole)
    assert len(contents(whole)) == 3  # metrics, generated text, ranked options


def table_of(seed=0, vocabulary=7):
    rng = np.random.default_rng(seed)
    return (1.5 * rng.standard_normal((vocabulary,) * 3)).astype(np.float32)


def test_generation_takes_up_only_what_is_missing(tmp_path, monkeypatch):
    path = epath.Path(tmp_path / "5.partial.jsonl")
    prompts = [[2], [3, 4], [5, 5], [6], [2, 2], [4]]
    decoded = []
    generate_module = importlib.import_module(generate.__module__)
    compute = generate_module.generate_batch

    def counted(*arguments, **named):
        decoded.append(arguments)
        return compute(*arguments, **named)

    monkeypatch.setattr(generate_module, "generate_batch", counted)

    def generated(kept, interrupt_after=9, seed=3):
        def progress(_):
            if len(decoded) == interrupt_after:
                raise Interrupted

        decoded.clear()
        return generate(
            BigramModel(7), table_of(), prompts, max_new_tokens=5, strategy=Sampling(),
            batch_size=2, seed=seed, journal=kept, progress=progress,
        )  # fmt: skip

    whole = generated(journal.NO_JOURNAL)
    assert len(decoded) == 3
    with pytest.raises(Interrupted):
        generated(FileJournal(path, {}), interrupt_after=2)
    assert generated(FileJournal(path, journal.read(path))) == whole
    assert len(decoded) == 1
    assert generated(FileJournal(path, journal.read(path)), seed=4) != whole
    assert len(decoded) == 3  # another seed, another draw


@pytest.mark.parametrize("stop_after", [3, 5])
def test_the_loss_of_a_model_that_carries_goes_on_with_its_state(tmp_path, monkeypatch, stop_after):
    from t5x_like.evaluation import interrupted, loss
    from t5x_like.partitioning import Partitioner

    monkeypatch.setattr(interrupted, "STRETCH", 2)
    model = Counting(vocab_size=11)
    params = model.init(jax.random.key(0))["params"]
    rng = np.random.default_rng(0)
    batches = [
        {
            "decoder_input_tokens": rng.integers(1, 11, (2, 4)).astype(np.int32),
            "decoder_target_tokens": rng.integers(1, 11, (2, 4)).astype(np.int32),
            "decoder_loss_weights": np.ones((2, 4), np.float32),
            "row_continues": np.full((2,), n > 0, np.float32),
        }
        for n in range(7)
    ]
    path = epath.Path(tmp_path / "5.partial.jsonl")
    compute, computed = loss.batch_metrics, []

    def counted(*arguments):
        if len(computed) == limit:
            raise Interrupted
        computed.append(arguments)
        return compute(*arguments)

    def measured(kept, batches=batches):
        computed.clear()
        return loss.mean_metrics(model, params, batches, Partitioner(), None, kept)

    limit = None
    monkeypatch.setattr(loss, "batch_metrics", counted)
    whole = measured(journal.NO_JOURNAL)
    limit = stop_after
    with pytest.raises(Interrupted):
        measured(FileJournal(path, {}))
    limit = None
    assert measured(FileJournal(path, journal.read(path))) == whole
    assert len(computed) == 7 - stop_after // 2 * 2  # whole stretches are known
    assert measured(FileJournal(path, journal.read(path))) == whole and not computed
    # What follows another text is not what is known, though its batches are the same.
    other = [batches[1], *batches[1:]]
    assert measured(FileJournal(path, journal.read(path)), other) != whole
    assert len(computed) == 7


def test_other_parameters_or_models_have_another_identity(tmp_path, monkeypatch):
    from t5x_like.evaluation import interrupted
    from t5x_like.partitioning import Partitioner

    recorded = {"checksums": {"params": {"table": 5}}}
    monkeypatch.setattr(interrupted, "load_metadata", lambda path, step: recorded)

    @dataclasses.dataclass
    class Model:
        width: int = 3
        activation: object = len
        made: object = dataclasses.field(default_factory=object)  # its address changes

    def identity(model, params=None):
        return identity_of(model, params, str(tmp_path), 5, Partitioner(), {})

    first = identity(Model())
    assert identity(Model()) == first
    assert identity(Model(4)) != first
    assert identity(Model(activation=max)) != first
    recorded["checksums"]["params"]["table"] = 6
    assert identity(Model()) != first
    # Checkpoints of earlier versions have no sums: those of the parameters are taken.
    recorded.clear()
    sums = [identity(Model(), {"table": np.full(3, n, np.float32)}) for n in (1, 2, 1)]
    assert sums[0] == sums[2] != sums[1]
    monkeypatch.setitem(os.environ, "XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
    assert identity(Model(), {"table": np.full(3, 1, np.float32)}) != sums[0]


def test_processes_that_have_parts_of_a_batch_know_it_by_one_name(tmp_path, monkeypatch):
    from t5x_like.evaluation import interrupted

    known = FileJournal(epath.Path(tmp_path / "kept"), {})
    parts = [{"tokens": np.array([n])} for n in (3, 4)]
    alone = [known.key("loss", part) for part in parts]
    assert interrupted.key_of_parts(known, "loss", parts[0]) == alone[0]
    monkeypatch.setattr(interrupted.jax, "process_count", lambda: 2)
    monkeypatch.setattr(interrupted, "gather_json", lambda own: alone)
    first, second = (interrupted.key_of_parts(known, "loss", part) for part in parts)
    assert first == second and first not in alone
    # Another batch size, or other data, are other parts.
    monkeypatch.setattr(interrupted, "gather_json", lambda own: [alone[0], "other"])
    assert interrupted.key_of_parts(known, "loss", parts[0]) != first

    def gathered(own):
        raise AssertionError("nothing is kept, and nobody is waited for")

    monkeypatch.setattr(interrupted, "gather_json", gathered)
    assert interrupted.key_of_parts(journal.NO_JOURNAL, "loss", parts[0]) == ""


def test_a_finished_evaluation_leaves_nothing_of_its_checkpoints_behind(tmp_path):
    directory = epath.Path(tmp_path)
    for step, identity in [(5, "aaa"), (5, "bbb"), (50, "aaa")]:
        Journals(directory).open("copying", "test", step, identity).put("k", {"a": np.zeros(1)})
    journals = Journals(directory)
    assert len(journals.open("copying", "test", 5, "aaa")) == 1
    journals.remove()
    assert [path.name for path in tmp_path.rglob("*.jsonl")] == ["50.aaa.partial.jsonl"]
    journals = Journals(directory)
    journals.open("copying", "test", 50, "aaa")
    journals.remove()
    assert not list(tmp_path.iterdir())
