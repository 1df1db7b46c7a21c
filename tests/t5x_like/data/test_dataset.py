"""Batches from a cache: what is in them, in what order, and how exactly they go on."""

import json
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest

from t5x_like import data
from t5x_like.data.cache import layout
from t5x_like.data.cache.token_stream import TokenStream
from t5x_like.errors import UserError

LENGTHS = {"inputs": 32, "targets": 16}
PREFETCH_THREAD = "data"


def config(task, cache_dir, **kwargs):
    defaults = {"task_feature_lengths": LENGTHS, "batch_size": 8, "prefetch": 0}
    return data.DatasetConfig(task=task, cache_dir=cache_dir, **{**defaults, **kwargs})


def open_packed(kit, tmp_path, pairs, **kwargs):
    task = kit.task("pairs")
    if not (tmp_path / "pairs").exists():
        kit.write(task, tmp_path, pairs)
    return data.open_dataset(config(task, tmp_path, **kwargs), batch_format="encoder_decoder")


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


def targets_of(batch):
    """The separate targets in a packed batch, as tuples."""
    found = []
    for tokens, segments in zip(
        batch["decoder_target_tokens"], batch["decoder_segment_ids"], strict=True
    ):
        found += [tuple(tokens[segments == s].tolist()) for s in range(1, segments.max() + 1)]
    return found


def test_the_stream_is_the_documents_one_after_the_other(kit, tmp_path, documents):
    folder = kit.write(kit.task("text", ("targets",)), tmp_path, documents, shards=3)
    order = [d for shard in range(3) for d in documents[shard::3]]
    plain = np.concatenate([d["targets"] for d in order])
    ended = np.concatenate([np.append(d["targets"], 1) for d in order])
    twice = np.concatenate([np.append(d["targets"], (1, 1)) for d in order])
    for end, ends, whole in ((None, 1, plain), (1, 1, ended), (1, 2, twice)):
        stream = TokenStream(folder, "train", "targets", end, ends=ends)
        assert len(stream) == whole.size
        np.testing.assert_array_equal(stream.read(0, len(stream)), whole)
        rng = np.random.default_rng(0)
        for start in rng.integers(0, whole.size - 1, 200).tolist():
            stop = min(start + int(rng.integers(0, rng.choice([3, 5000]))), whole.size)
            np.testing.assert_array_equal(stream.read(start, stop), whole[start:stop])


@pytest.mark.parametrize("count", [1023, 1024, 1025, 2048])
def test_documents_at_the_edge_of_a_mark(kit, tmp_path, count):
    ids = (np.arange(count) % 300 + 3).astype(np.int32)
    folder = kit.write(kit.task("text", ("targets",)), tmp_path, [{"targets": ids}], shards=1)
    stream = TokenStream(folder, "train", "targets")
    np.testing.assert_array_equal(stream.read(count - 2, count), ids[-2:])
    np.testing.assert_array_equal(stream.read(0, count), ids)


@pytest.mark.slow
def test_every_epoch_of_pieces_holds_the_corpus_once(kit, tmp_path, documents):
    task = kit.task("text", ("targets",), kit.causal())
    kit.write(task, tmp_path, documents)
    total = sum(d["targets"].size + 1 for d in documents)  # each with EOS
    rows = total // 16
    batches = data.open_dataset(
        config(task, tmp_path, task_feature_lengths={"targets": 16}, batch_size=1),
        batch_format="prefix_language_model",
    )
    whole = np.sort(np.concatenate([np.append(d["targets"], 1) for d in documents]))
    epochs = []
    for _ in range(2):
        epochs.append([next(batches)["decoder_target_tokens"][0] for _ in range(rows)])
        seen = np.sort(np.concatenate(epochs[-1]))
        # All but the remainder of fewer than 16 tokens, which another cut leaves out each time.
        missing = np.bincount(whole, minlength=400) - np.bincount(seen, minlength=400)
        assert missing.min() >= 0
        assert missing.sum() == total % 16
    first, second = ({tuple(row) for row in epoch} for epoch in epochs)
    assert len(first & second) < 0.2 * rows  # cut elsewhere


def test_an_epoch_holds_every_example_once_and_the_next_another_order(kit, tmp_path, pairs):
    task = kit.task("pairs")
    kit.write(task, tmp_path, pairs)
    batches = data.open_dataset(
        config(task, tmp_path, pack=False, batch_size=24), batch_format="encoder_decoder"
    )
    epochs = [
        [tuple(row) for _ in range(10) for row in next(batches)["decoder_target_tokens"].tolist()]
        for _ in range(2)
    ]
    padded = [np.append(e["targets"], 1).tolist() for e in pairs]
    wanted = sorted(tuple(ids + [0] * (16 - len(ids))) for ids in padded)
    assert sorted(epochs[0]) == sorted(epochs[1]) == wanted
    assert epochs[0] != epochs[1]


def test_without_shuffling_the_order_is_the_caches(kit, tmp_path, pairs):
    task = kit.task("pairs")
    kit.write(task, tmp_path, pairs, shards=1)
    batches = data.open_dataset(
        config(task, tmp_path, pack=False, shuffle=False), batch_format="encoder_decoder"
    )
    rows = next(batches)["encoder_input_tokens"]
    for row, example in zip(rows, pairs, strict=False):
        np.testing.assert_array_equal(row[row != 0], np.append(example["inputs"], 1))


def test_eos_takes_the_last_place_when_there_is_no_room(kit, tmp_path):
    task = kit.task("pairs")
    ids = np.arange(3, 53, dtype=np.int32)
    kit.write(task, tmp_path, [{"inputs": ids, "targets": ids}])
    batch = next(
        data.open_dataset(config(task, tmp_path, batch_size=1), batch_format="encoder_decoder")
    )
    assert batch["encoder_input_tokens"][0].tolist() == [*range(3, 34), 1]
    assert batch["decoder_target_tokens"][0].tolist() == [*range(3, 18), 1]


def test_inputs_that_keep_their_end_lose_their_beginning(kit, tmp_path):
    task = kit.task("pairs")
    task.output_features["inputs"].keeps = "end"
    ids = np.arange(3, 53, dtype=np.int32)
    kit.write(
        task, tmp_path, [{"inputs": ids, "targets": ids}, {"inputs": ids[:9], "targets": ids}]
    )
    opened = config(task, tmp_path, batch_size=2, shuffle=False)
    batch = next(data.open_dataset(opened, batch_format="encoder_decoder"))
    long, short = batch["encoder_input_tokens"].tolist()
    assert long == [*range(22, 53), 1]
    assert short == [*range(3, 12), 1, *[0] * 22]
    assert batch["decoder_target_tokens"][0].tolist() == [*range(3, 18), 1]

    task.output_features["inputs"].add_eos = False
    batch = next(data.open_dataset(opened, batch_format="encoder_decoder"))
    assert batch["encoder_input_tokens"][0].tolist() == [*range(21, 53)]


def test_packing_loses_and_repeats_nothing(kit, tmp_path, pairs):
    batches = open_packed(kit, tmp_path, pairs, batch_size=4, virtual_streams=2)
    seen = {}
    for _ in range(60):
        for target in targets_of(next(batches)):
            seen[target] = seen.get(target, 0) + 1
    wanted = {tuple(np.append(e["targets"], 1).tolist()) for e in pairs}
    assert set(seen) == wanted
    # Nothing comes a second time before nearly all have come once.
    assert max(seen.values()) - min(seen.values()) <= 3


def mixture(kit, tmp_path, pairs, documents):
    one = kit.task("pairs")
    two = kit.task("pieces", bound=kit.chunks(20))
    if not (tmp_path / "pairs").exists():
        kit.write(one, tmp_path, pairs)
        kit.write(two, tmp_path, documents)
    return kit.mixture("both", [(one, 1.0), (two, 3.0)])


@pytest.mark.parametrize("kind", ["packed", "padded", "pieces", "mixture"])
@pytest.mark.parametrize("restart_at", [0, 1, 7])
def test_a_restored_iterator_is_bit_identical(kit, tmp_path, pairs, documents, kind, restart_at):
    def open_one():
        if kind in ("packed", "padded"):
            return open_packed(kit, tmp_path, pairs, pack=kind == "packed", prefetch=2)
        both = mixture(kit, tmp_path, pairs, documents)
        task = both if kind == "mixture" else both.tasks[1][0]
        return data.open_dataset(config(task, tmp_path, prefetch=2), batch_format="encoder_decoder")

    with open_one() as first:
        for _ in range(restart_at):
            next(first)
        state = json.loads(json.dumps(first.get_state()))
        wanted = [next(first) for _ in range(12)]
        with open_one() as second:
            second.set_state(state)
            assert second.get_state() == state
            assert all(same(a, next(second)) for a in wanted)
        # Going back in the very iterator that is ahead.
        first.set_state(state)
        assert all(same(a, next(first)) for a in wanted)


@pytest.mark.parametrize("kind", ["packed", "padded", "pieces", "mixture"])
def test_the_global_batch_is_the_same_for_1_2_and_4_processes(
    kit, tmp_path, pairs, documents, kind
):
    both = mixture(kit, tmp_path, pairs, documents)
    task = {"pieces": both.tasks[1][0], "mixture": both}.get(kind, both.tasks[0][0])
    settings = config(task, tmp_path, pack=kind != "padded")

    def processes(count):
        return [
            data.open_dataset(
                settings, batch_format="encoder_decoder", shard_index=i, shard_count=count
            )
            for i in range(count)
        ]

    def step(iterators):
        parts = [next(it) for it in iterators]
        return {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}

    alone, two = processes(1), processes(2)
    wanted = [step(alone) for _ in range(10)]
    assert all(same(wanted[i], step(two)) for i in range(5))
    # Two processes stop here; four go on from their merged state, then one.
    merged = data.merge_states([json.loads(json.dumps(it.get_state())) for it in two])
    four = processes(4)
    for it in four:
        it.set_state(merged)
    assert all(same(wanted[i], step(four)) for i in range(5, 8))
    merged = data.merge_states([it.get_state() for it in four])
    (last,) = processes(1)
    last.set_state(merged)
    assert all(same(wanted[i], step([last])) for i in range(8, 10))


def test_the_objective_is_drawn_anew_in_each_epoch_and_alike_in_each_run(kit, tmp_path, documents):
    task = kit.task("pieces", bound=kit.chunks(20))
    kit.write(task, tmp_path, [{"targets": documents[1]["targets"][:20]}])

    def widths(seed):
        batches = data.open_dataset(
            config(task, tmp_path, batch_size=1, seed=seed), batch_format="encoder_decoder"
        )
        return [int((next(batches)["encoder_input_tokens"] != 0).sum()) for _ in range(30)]

    assert widths(0) == widths(0)
    assert widths(0) != widths(1)
    assert len(set(widths(0))) > 5


def test_mixing_keeps_the_shares(kit, tmp_path, pairs, documents):
    both = mixture(kit, tmp_path, pairs, documents)
    marked = [{"inputs": e["inputs"] * 0 + 3, "targets": e["targets"]} for e in pairs]
    kit.write(both.tasks[0][0], tmp_path, marked)
    batches = data.open_dataset(
        config(both, tmp_path, pack=False, batch_size=400), batch_format="encoder_decoder"
    )
    first_tokens = next(batches)["encoder_input_tokens"][:, 0]
    # Rates 1 and 3: a quarter of the rows, plus the few pieces that begin with token 3.
    assert 0.25 <= (first_tokens == 3).mean() <= 0.27


def test_evaluation_is_whole_ordered_and_carries_the_raw_examples(kit, tmp_path, pairs):
    task = kit.task("pairs")
    kit.write(task, tmp_path, pairs, split="validation", shards=1)
    settings = config(task, tmp_path, split="validation", batch_size=32)
    split = data.open_evaluation(settings, batch_format="encoder_decoder")
    assert (len(split), split.num_examples) == (8, 240)  # 240 = 7 * 32 + 16
    batches = list(split)
    assert [len(b.examples) for b in batches] == [32] * 7 + [16]
    assert [i for b in batches for i in b.indices] == list(range(240))
    assert batches[1].examples[0]["targets_pretokenized"] == b"target 32"
    assert batches[1].examples[0]["targets"].tolist() == [*pairs[32]["targets"], 1]
    assert not batches[-1].batch["decoder_loss_weights"][16:].any()
    assert batches[-1].batch["encoder_input_tokens"].shape == (32, 32)
    weights = sum(int(b.batch["decoder_loss_weights"].sum()) for b in batches)
    assert weights == sum(e["targets"].size + 1 for e in pairs)

    halves = [
        list(
            data.open_evaluation(
                settings, batch_format="encoder_decoder", shard_index=i, shard_count=2
            )
        )
        for i in range(2)
    ]
    assert [len(h) for h in halves] == [8, 8]
    for whole, left, right in zip(batches, *halves, strict=True):
        joined = {k: np.concatenate([left.batch[k], right.batch[k]]) for k in whole.batch}
        assert same(whole.batch, joined)


def test_evaluation_of_pieces_keeps_the_last_short_one(kit, tmp_path, documents):
    task = kit.task("text", ("targets",), kit.causal())
    kit.write(task, tmp_path, documents, shards=1)
    settings = config(task, tmp_path, task_feature_lengths={"targets": 64})
    split = data.open_evaluation(settings, batch_format="prefix_language_model")
    rows = [e["targets"] for b in split for e in b.examples]
    wanted = np.concatenate([np.append(d["targets"], 1) for d in documents])
    np.testing.assert_array_equal(np.concatenate(rows), wanted)
    assert {r.size for r in rows[:-1]} == {64}


def test_shapes_are_known_without_data(kit, tmp_path):
    settings = config(kit.task("nowhere"), tmp_path)
    batch = data.example_batch(settings, "encoder_decoder")
    shapes = {name: array.shape for name, array in batch.items()}
    assert shapes["encoder_positions"] == (8, 32)
    assert shapes["decoder_target_tokens"] == (8, 16)


def test_closing_stops_the_thread(kit, tmp_path, pairs):
    before = threading.active_count()
    with open_packed(kit, tmp_path, pairs, prefetch=3) as batches:
        next(batches)
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
    with pytest.raises(ValueError, match="closed"):
        next(batches)


def test_a_fault_in_the_thread_reaches_the_training_loop(kit, tmp_path, documents):
    class Broken(kit.chunks):
        def __call__(self, example, rng):
            raise RuntimeError("no objective today")

    task = kit.task("pieces", bound=Broken(20))
    kit.write(task, tmp_path, documents)
    batches = data.open_dataset(config(task, tmp_path, prefetch=2), batch_format="encoder_decoder")
    with pytest.raises(RuntimeError, match="no objective today"):
        next(batches)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": "nosplit"}, "no split 'nosplit'; it has empty, train"),
        ({"split": "empty"}, "split 'empty' of task 'pairs' is empty"),
        ({"task_feature_lengths": {"inputs": 0, "targets": 4}}, r"\['inputs'\] is 0; it must"),
        ({"task_feature_lengths": {"targets": 4}}, "give a length for each of them"),
        ({"batch_size": 9}, "batch_size 9 cannot be divided among 2 data shards; .* 8 and 10"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"virtual_streams": 3}, "virtual_streams is 3; it must divide batch_size 8"),
    ],
)
def test_bad_settings_are_one_clear_line(kit, tmp_path, pairs, change, message):
    task = kit.task("pairs")
    kit.write(task, tmp_path, pairs)
    kit.write(task, tmp_path, [], split="empty")
    settings = config(task, **{"cache_dir": tmp_path, **change})
    with pytest.raises(UserError, match=message) as caught:
        data.open_dataset(settings, batch_format="encoder_decoder", shard_index=0, shard_count=2)
    assert "\n" not in str(caught.value)


def test_a_state_of_other_data_is_refused(kit, tmp_path, pairs):
    state = open_packed(kit, tmp_path, pairs).get_state()
    for change in ({"seed": 1}, {"batch_size": 16}, {"pack": False}, {"shuffle": False}):
        with pytest.raises(UserError, match="belongs to other data"):
            open_packed(kit, tmp_path, pairs, **change).set_state(state)


def test_the_state_of_one_of_two_processes_is_not_enough(kit, tmp_path, pairs):
    task = kit.task("pairs")
    kit.write(task, tmp_path, pairs)
    half = data.open_dataset(
        config(task, tmp_path), batch_format="encoder_decoder", shard_index=0, shard_count=2
    )
    with pytest.raises(UserError, match="must be merged"):
        open_packed(kit, tmp_path, pairs).set_state(half.get_state())


@pytest.mark.slow
def test_reading_needs_no_tensorflow_seqio_or_sentencepiece(kit, tmp_path, pairs):
    task = kit.task("pairs")
    kit.write(task, tmp_path, pairs)
    script = f"""
        import sys

        class Blocked:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] in {{
                    "tensorflow", "seqio", "sentencepiece", "tensorflow_datasets", "clu", "t5"
                }}:
                    raise ImportError(name + " is blocked")

        sys.meta_path.insert(0, Blocked())
        from t5x_like import data

        class Feature:
            add_eos, vocabulary = True, None

        class Task:
            name = cache_name = "pairs"
            output_features = {{"inputs": Feature, "targets": Feature}}
            tasks = property(lambda self: ((self, 1.0),))
            example_features = ("inputs", "targets")
            def objective(self, specs): return None
            def fingerprint(self): return "0" * 64

        config = data.DatasetConfig(Task(), {LENGTHS!r}, {str(tmp_path)!r}, batch_size=8)
        with data.open_dataset(config, batch_format="encoder_decoder") as batches:
            print(next(batches)["encoder_input_tokens"].shape)
        assert "tensorflow" not in sys.modules
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False
    )
    assert done.stdout == "(8, 32)\n", done.stderr


def test_records_and_counts_must_agree(kit, tmp_path, pairs):
    task = kit.task("pairs")
    folder = kit.write(task, tmp_path, pairs)
    layout.write_json(layout.stats_path(folder, "train"), {"examples": 241})
    with pytest.raises(UserError, match=r"240 examples, but .* says 241"):
        data.open_dataset(config(task, tmp_path), batch_format="encoder_decoder")
