"""Checkpoints cut at any byte, flipped bits, interrupted writing: never used, always named."""

import json
import os
import random
import shutil
import threading

import jax
import numpy as np
import pytest

from t5x_like import checkpoints, cli, optimizers, schedules
from t5x_like.checkpoints import Checkpointer, CheckpointPolicy, Damaged, contents, host_params
from t5x_like.checkpoints.checksums import checksums, damaged
from t5x_like.training import state as train_state

ADAMW = optimizers.adamw(schedules.Constant(1e-3))


@pytest.fixture(scope="module")
def saved(model, partitioner, tmp_path_factory):
    """A MODEL_DIR with a checkpoint of random arrays, and its state."""
    model_dir = tmp_path_factory.mktemp("saved") / "run"
    state = train_state.create_state(model, ADAMW, partitioner, seed=1)
    rng = np.random.default_rng(0)

    def noise(x):
        if not np.issubdtype(x.dtype, np.floating):
            return x
        return jax.device_put(rng.standard_normal(x.shape, np.float32), x.sharding)

    state = jax.tree.map(noise, state)
    checkpointer = Checkpointer(str(model_dir))
    checkpointer.save(state, 10, {"step": 10}, {"seed": 0, "tokens": 1, "seconds": 0.0})
    checkpointer.close()
    return model_dir, state


@pytest.fixture
def restored(saved, model, partitioner, tmp_path):
    """Restores a copy after `harm(directory of the checkpoint)`."""
    target = train_state.abstract_state(model, ADAMW, partitioner)

    def restore(harm):
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(saved[0], copy)
        harm(copy / "checkpoints" / "10")
        checkpointer = Checkpointer(str(copy), read_only=True)
        try:
            return checkpointer.restore(10, target)
        finally:
            checkpointer.close()

    return restore


def files_of(model_dir):
    root = model_dir / "checkpoints" / "10"
    return sorted(path.relative_to(root) for path in root.rglob("*") if path.is_file())


def harms(model_dir, rng, times):
    """Cuts and flips at random places of every file, and files taken away."""
    for file in files_of(model_dir):
        size = (model_dir / "checkpoints" / "10" / file).stat().st_size
        yield f"{file} gone", file, None, None
        for _ in range(times):
            yield f"{file} cut", file, rng.randrange(size), None
            yield f"{file} flipped", file, rng.randrange(size), rng.randrange(8)


def do_harm(directory, file, place, bit):
    path = directory / file
    if place is None:
        path.unlink()
    elif bit is None:
        os.truncate(path, place)
    else:
        content = bytearray(path.read_bytes())
        content[place] ^= 1 << bit
        path.write_bytes(content)


def assert_survives(saved, restored, rng, times):
    """Either it is named damaged, or every bit is as it was saved. Returns the counts."""
    answered = unharmed = 0
    for what, file, place, bit in harms(saved[0], rng, times):
        try:
            state, data, metadata = restored(lambda d, a=(file, place, bit): do_harm(d, *a))
        except Damaged as error:
            assert "is damaged" in str(error) and "\n" not in str(error), what
            answered += 1
            continue
        jax.tree.map(np.testing.assert_array_equal, state.params, saved[1].params)
        jax.tree.map(np.testing.assert_array_equal, state.opt_state, saved[1].opt_state)
        assert data == {"step": 10} and metadata["seed"] == 0, what
        unharmed += 1
    return answered, unharmed


@pytest.mark.slow
def test_whatever_is_lost_is_noticed_or_harmless(saved, restored, tally):
    """Orbax keeps each array twice in its index, and some files for people: those may go."""
    answered, unharmed = assert_survives(saved, restored, random.Random(0), times=2)
    assert answered > unharmed / 2 and answered > 30
    tally("faults", times=answered + unharmed, what="checkpoint files cut, flipped or gone")


def array_file(directory):
    """The largest file: arrays."""
    return max((p for p in directory.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def test_a_file_cut_short_is_named_with_its_array(restored, tally):
    def harm(directory):
        path = array_file(directory / "params")
        os.truncate(path, path.stat().st_size // 2)

    with pytest.raises(Damaged, match=r"params array '[\w/]+' cannot be read"):
        restored(harm)
    tally("faults")


def test_a_flipped_bit_is_noticed_with_the_arrays_name(model, partitioner, saved, tmp_path, tally):
    """The bit is flipped before compression, as bad memory would: no codec can notice it."""
    _, state = saved
    words = np.array(state.params["token_embedder"]["embedding"])
    words.view(np.uint32)[3, 5] ^= 1 << 7
    flipped = jax.tree.map(lambda x: x, state.params)
    flipped["token_embedder"]["embedding"] = jax.numpy.asarray(words)
    assert damaged(flipped, checksums(state.params)) == ["token_embedder/embedding"]
    # And through a checkpoint whose record is of the arrays as they were.
    copy = tmp_path / "run"
    checkpointer = Checkpointer(str(copy))
    good = checksums(state.params)
    import t5x_like.checkpoints.checkpointer as module

    original = module.checksums
    try:
        module.checksums = lambda tree: good if "token_embedder" in tree else original(tree)
        other = train_state.TrainState(state.step, flipped, state.opt_state)
        checkpointer.save(other, 10, {"step": 10}, {"seed": 0})
    finally:
        module.checksums = original
        checkpointer.close()
    with pytest.raises(Damaged, match="params array 'token_embedder/embedding' is not what was"):
        checkpoints.load_params(str(copy), model, partitioner)
    tally("faults")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32", "bool", "uint8"])
def test_any_change_of_one_word_changes_the_checksum(dtype):
    rng = np.random.default_rng(0)
    array = jax.numpy.asarray(rng.integers(0, 2, (3, 5, 7))).astype(dtype)
    before = checksums({"x": array})["x"]
    host = np.array(array)
    words = host.reshape(-1).view(f"uint{host.itemsize * 8}")
    for place in range(words.size):
        changed = words.copy()
        changed[place] ^= 1
        other = jax.numpy.asarray(changed.view(host.dtype).reshape(host.shape))
        assert checksums({"x": other})["x"] != before
        if place > 20:
            break


def test_the_checksum_does_not_depend_on_the_mesh():
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    devices = np.array(jax.devices())
    x = jax.random.normal(jax.random.key(0), (len(devices) * 4, 6))
    spread = jax.device_put(x, NamedSharding(Mesh(devices, ("a",)), PartitionSpec("a")))
    assert checksums({"x": x}) == checksums({"x": spread})


def test_an_imported_model_has_checksums_too(saved, model, tmp_path, tally):
    """The files of other arrays of the same shapes, as a copy that went wrong might leave."""
    _, state = saved
    host = jax.tree.map(np.asarray, state.params)
    host_params.write_params(str(tmp_path / "a"), host, 0, {})
    host_params.write_params(str(tmp_path / "b"), jax.tree.map(lambda x: x + 1, host), 0, {})
    read, _ = host_params.read_params(str(tmp_path / "a"), model)
    jax.tree.map(np.testing.assert_array_equal, read, host)
    shutil.rmtree(tmp_path / "a/checkpoints/0/params")
    shutil.copytree(tmp_path / "b/checkpoints/0/params", tmp_path / "a/checkpoints/0/params")
    with pytest.raises(Damaged, match=r"params array '[\w/]+' is not what was saved"):
        host_params.read_params(str(tmp_path / "a"), model)
    tally("faults")


# -- In a run --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(train_flags, tmp_path_factory):
    """A run of eight steps with checkpoints at 4 and 8."""
    model_dir = tmp_path_factory.mktemp("trained") / "run"
    assert cli.main([*train_flags, f"--gin.MODEL_DIR={model_dir}"]) == 0
    return model_dir


@pytest.fixture
def copy_of_trained(train_flags, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    return [*train_flags, f"--gin.MODEL_DIR={tmp_path}/run"], tmp_path / "run"


@pytest.mark.slow
def test_training_goes_on_from_the_newest_whole_one(copy_of_trained, capsys, tally):
    flags, model_dir = copy_of_trained
    newest = model_dir / "checkpoints" / "8"
    path = array_file(newest / "optimizer")
    os.truncate(path, path.stat().st_size // 3)
    assert cli.main([*flags, "--gin.TRAIN_STEPS=9"]) == 0
    said = capsys.readouterr().out
    warnings = [line for line in said.splitlines() if line.startswith("warning:")]
    assert len(warnings) == 1
    assert "checkpoints/8' is damaged" in warnings[0] and "'8.damaged'" in warnings[0]
    assert "4 of 9 done" in said
    assert checkpoints.checkpoint_steps(str(model_dir)) == [4, 8, 9]
    assert (model_dir / "checkpoints" / "8.damaged").is_dir()
    tally("faults")


@pytest.mark.parametrize("lost", [("",), ("params",), ("metadata",), ("optimizer", "data")])
def test_an_empty_or_partial_newest_one_is_damaged_and_the_older_is_taken(
    copy_of_trained, capsys, tally, lost
):
    """As an interrupted copy leaves it, or `mkdir`."""
    flags, model_dir = copy_of_trained
    newest = model_dir / "checkpoints" / "8"
    for item in lost:
        shutil.rmtree(newest / item)
    newest.mkdir(exist_ok=True)
    older = 4 if lost in [("",), ("params",)] else 8
    assert checkpoints.checkpoint_steps(str(model_dir))[-1] == older
    assert cli.main([*flags, "--gin.TRAIN_STEPS=4"]) == 0
    captured = capsys.readouterr()
    assert "checkpoints/8' is damaged" in captured.out and "'8.damaged'" in captured.out
    assert "4 of 4 done" in captured.out
    assert checkpoints.checkpoint_steps(str(model_dir)) == [4]
    tally("faults")


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: os.symlink("/dev/zero", path)])
@pytest.mark.parametrize("place", ["metadata/metadata", "params/manifest.ocdbt", "data/metadata"])
def test_what_is_no_file_is_damage_and_nobody_waits_for_it(restored, tally, make, place):
    def harm(directory):
        (directory / place).unlink()
        make(directory / place)

    with pytest.raises(Damaged, match=f"{place}' is not a file"):
        restored(harm)
    tally("bad inputs")


RESEALED = {
    "step": "10",
    "tokens": [1],
    "seconds": None,
    "checksums": {"params": [1]},
    "guard": {"losses": "abc", "in_a_row": 0},
    "unrecorded": {"totals": {"loss": 3}, "skipped": 0},
}


@pytest.mark.parametrize("name", RESEALED)
def test_metadata_of_other_types_are_damage_though_their_checksum_is_right(restored, tally, name):
    def harm(directory):
        path = directory / "metadata" / "metadata"
        content = {**json.loads(path.read_text()), name: RESEALED[name]}
        content.pop("checksum")
        path.write_text(json.dumps({**content, "checksum": contents.json_checksum(content)}))

    with pytest.raises(Damaged, match=f"is damaged: '{name}' of its metadata is "):
        restored(harm)
    tally("bad inputs")


@pytest.mark.parametrize("item", ["metadata", "data"])
@pytest.mark.parametrize("text", ["[" * 100_000, "{" + '"a":{' * 100_000, "[]", "3"])
def test_nested_or_other_json_is_damage(restored, tally, item, text):
    with pytest.raises(Damaged, match=f"its item '{item}' .*cannot be read"):
        restored(lambda directory: (directory / item / "metadata").write_text(text))
    tally("bad inputs")


def test_a_checkpoint_that_is_a_link_is_never_deleted(model, partitioner, saved, tmp_path):
    """What it leads to is another run's; only the link may go, where a run makes it again."""
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "1").symlink_to(saved[0] / "checkpoints" / "10")
    checkpointer = Checkpointer(str(tmp_path), CheckpointPolicy(keep=1))
    for step in (2, 3):
        checkpointer.save(saved[1], step, {}, {})
        checkpointer.wait()
    assert checkpointer.steps() == [1, 3]
    checkpointer.drop_after(0)
    checkpointer.close()
    assert list((tmp_path / "checkpoints").iterdir()) == []
    assert (saved[0] / "checkpoints" / "10" / "params").is_dir()


@pytest.mark.slow
def test_an_unfinished_one_is_skipped_and_named(copy_of_trained, capsys, tally):
    flags, model_dir = copy_of_trained
    root = model_dir / "checkpoints"
    shutil.copytree(root / "8", root / "9.orbax-checkpoint-tmp-1")
    shutil.rmtree(root / "9.orbax-checkpoint-tmp-1" / "data")
    assert cli.main([*flags, "--gin.TRAIN_STEPS=9"]) == 0
    said = capsys.readouterr().out
    assert "warning: checkpoint '9.orbax-checkpoint-tmp-1' was not finished, and is skipped" in said
    assert "8 of 9 done" in said and checkpoints.checkpoint_steps(str(model_dir)) == [4, 8, 9]
    tally("faults")


def test_where_none_is_whole_nothing_is_touched(copy_of_trained, capsys, tally):
    flags, model_dir = copy_of_trained
    for step in (4, 8):
        path = array_file(model_dir / "checkpoints" / str(step) / "params")
        os.truncate(path, 10)
    assert cli.main([*flags, "--gin.TRAIN_STEPS=9"]) == 2
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1 and "is damaged" in error
    assert checkpoints.checkpoint_steps(str(model_dir)) == [4, 8]
    tally("faults")


# -- Which stay ------------------------------------------------------------------------------------


def test_the_best_by_a_metric_stay(model, partitioner, tmp_path):
    policy = CheckpointPolicy(keep=1, best_metric="validation/loss", keep_best=2)
    checkpointer = Checkpointer(str(tmp_path), policy)
    state = train_state.create_state(model, ADAMW, partitioner, seed=0)
    for step, loss in enumerate([3.0, 1.0, None, 2.0, 5.0, 4.0], 1):
        measured = {} if loss is None else {"validation/loss": loss, "validation/accuracy": 0.0}
        checkpointer.save(state, step, {"step": step}, {}, measured)
        checkpointer.wait()
    checkpointer.close()
    assert checkpoints.checkpoint_steps(str(tmp_path)) == [2, 4, 6]


def test_the_old_one_is_deleted_when_the_new_one_is_whole(model, partitioner, tmp_path, tally):
    """Watched all along: from the first checkpoint on there is one that restores."""
    seen, done = [], threading.Event()

    def watch():
        while not done.is_set():
            seen.append(checkpoints.checkpoint_steps(str(tmp_path)))

    checkpointer = Checkpointer(str(tmp_path), CheckpointPolicy(keep=1))
    state = train_state.create_state(model, ADAMW, partitioner, seed=0)
    checkpointer.save(state, 1, {"step": 1}, {})
    checkpointer.wait()
    watcher = threading.Thread(target=watch)
    watcher.start()
    for step in range(2, 6):
        checkpointer.save(state, step, {"step": step}, {})
        checkpointer.wait()
    checkpointer.close()
    done.set()
    watcher.join()
    assert all(seen) and [1] in seen and checkpoints.checkpoint_steps(str(tmp_path)) == [5]
    tally("faults", what="a look at any moment of saving finds a whole checkpoint")


@pytest.mark.slow
def test_an_unknown_metric_is_named_with_those_there_are(train_flags, tmp_path, capsys, tally):
    flags = [*train_flags, f"--gin.MODEL_DIR={tmp_path}/run"]
    flags += ["--gin.checkpoints.CheckpointPolicy.best_metric=validation/los"]
    assert cli.main(flags) == 2
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1
    assert "best_metric is 'validation/los'" in error and "validation/loss" in error
    # What cannot be measured costs no step that was made.
    assert checkpoints.checkpoint_steps(f"{tmp_path}/run")
    tally("bad inputs")
