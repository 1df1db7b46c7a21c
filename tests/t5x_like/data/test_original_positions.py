"""Objectives whose targets keep their places in a longer text, and vocabularies that use id 0."""

import dataclasses

import numpy as np
import pytest

from t5x_like import data
from t5x_like.data.examples import Finish

LENGTHS = {"inputs": 21, "targets": 12}


@dataclasses.dataclass
class Middle:
    """The middle of the text is predicted in its place; stands for MASS."""

    length: int | None = 20
    document_eos = False
    reads = ("targets",)
    writes = ("inputs", "targets")
    positioned = ("targets",)

    def chunk_length(self, lengths):
        return self.length

    def __call__(self, example, rng):
        ids = example["targets"]
        places = np.arange(ids.size // 4, ids.size // 4 + ids.size // 2, dtype=np.int32)
        return {"inputs": ids, "targets": ids[places], "targets_positions": places}


def task_of(kit, name, bound, positioned=True):
    task = kit.task(name, bound=bound)
    if positioned:
        task.positioned = ("targets",)
    return task


def config(task, tmp_path, **options):
    return data.DatasetConfig(task, LENGTHS, tmp_path, batch_size=8, prefetch=0, **options)


@pytest.fixture
def cached(kit, documents, tmp_path):
    def make(name, bound, positioned=True):
        task = task_of(kit, name, bound, positioned)
        kit.write(dataclasses.replace(task, features=("targets",)), tmp_path, documents)
        return task

    return make


@pytest.mark.parametrize("pack", [False, True])
def test_every_target_stands_where_the_encoder_has_it(cached, tmp_path, pack):
    settings = config(cached("middle", Middle()), tmp_path, pack=pack)
    with data.open_dataset(settings, batch_format="encoder_decoder") as batches:
        batch = next(batches)
    shapes = {k: v.shape for k, v in data.example_batch(settings, "encoder_decoder").items()}
    assert shapes == {name: array.shape for name, array in batch.items()}
    assert ("decoder_segment_ids" in batch) == pack
    # Ten of twenty tokens, from the fifth on, and EOS after them.
    positions = batch["decoder_positions"]
    assert positions.tolist() == [[*range(5, 16), 0]] * 8
    read = np.take_along_axis(batch["encoder_input_tokens"], positions[:, :10], axis=1)
    np.testing.assert_array_equal(read, batch["decoder_target_tokens"][:, :10])


def test_whole_documents_are_packed_with_their_positions(cached, tmp_path):
    settings = config(cached("documents", Middle(length=None)), tmp_path)
    settings = dataclasses.replace(settings, task_feature_lengths={"inputs": 3100, "targets": 1600})
    with data.open_dataset(settings, batch_format="encoder_decoder") as batches:
        batch = next(batches)
        state = batches.get_state()
        following = next(batches)
        batches.set_state(state)
        np.testing.assert_array_equal(
            next(batches)["decoder_positions"], following["decoder_positions"]
        )
    several = 0
    for row in range(8):
        for segment in range(1, batch["decoder_segment_ids"][row].max() + 1):
            there = batch["encoder_segment_ids"][row] == segment
            here = batch["decoder_segment_ids"][row] == segment
            text = batch["encoder_input_tokens"][row][there]
            positions = batch["decoder_positions"][row][here][:-1]
            np.testing.assert_array_equal(
                text[positions], batch["decoder_target_tokens"][row][here][:-1]
            )
            several += segment > 1
    assert several


def test_in_a_mixture_others_are_counted_from_0(kit, cached, tmp_path):
    members = [(cached("middle", Middle()), 1.0), (cached("chunks", kit.chunks(), False), 1.0)]
    settings = config(kit.mixture("both", members), tmp_path, pack=False)
    with data.open_dataset(settings, batch_format="encoder_decoder") as batches:
        firsts = {first for _ in range(4) for first in next(batches)["decoder_positions"][:, 0]}
    assert firsts == {0, 5}
    # A decoder-only model has its targets after its inputs, as ever.
    with data.open_dataset(settings, batch_format="prefix_language_model") as batches:
        assert "decoder_positions" not in next(batches)


def test_evaluation_has_them_too(cached, tmp_path):
    settings = config(cached("middle", Middle()), tmp_path)
    evaluation = data.open_evaluation(settings, batch_format="encoder_decoder")
    first = next(iter(evaluation))
    assert first.batch["decoder_positions"].tolist() == [[*range(5, 16), 0]] * 8
    assert first.examples[0]["targets_positions"].tolist() == list(range(5, 16))
    *_, last = evaluation
    missing = 8 - len(last.examples)
    assert missing and not last.batch["decoder_positions"][-missing:].any()


class Unchanged:
    """An objective that gives what it reads."""

    writes = ("targets", "targets_positions")

    def __call__(self, example, rng):
        return example


@pytest.mark.parametrize(
    ("length", "eos", "targets", "positions"),
    [
        (9, 1, [7, 8, 9, 1], [4, 5, 6, 7]),
        (3, 1, [7, 8, 1], [4, 5, 6]),  # EOS where 9 would have been
        (3, None, [7, 8, 9], [4, 5, 6]),
        (2, None, [7, 8], [4, 5]),
    ],
)
def test_positions_are_trimmed_and_prolonged_with_the_targets(length, eos, targets, positions):
    finish = Finish(
        Unchanged(), {"targets": length}, {} if eos is None else {"targets": eos}, ("targets",)
    )
    example = {
        "targets": np.array([7, 8, 9], np.int32),
        "targets_positions": np.array([4, 5, 6], np.int32),
    }
    finished = finish(example, np.random.default_rng(0))
    assert finished["targets"].tolist() == targets
    assert finished["targets_positions"].tolist() == positions
    assert finished["targets_positions"].dtype == np.int32


def test_no_targets_but_eos_stand_at_0():
    finish = Finish(Unchanged(), {"targets": 4}, {"targets": 1}, ("targets",))
    nothing = np.zeros(0, np.int32)
    finished = finish({"targets": nothing, "targets_positions": nothing}, None)
    assert finished["targets_positions"].tolist() == [0]


class Exclaiming:
    """Tokens 0 to 9, of which 0 is one like any other; stands for GPT-2's, whose 0 is "!"."""

    vocab_size, extra_ids, eos_id, unk_id = 10, 0, 9, 9
    zero_is_token = True

    def spec(self):
        return {"kind": "digits", "vocab_size": 10, "extra_ids": 0, "eos_id": 9, "unk_id": 9}


@pytest.mark.parametrize("pack", [False, True])
@pytest.mark.parametrize("batch_format", ["encoder_decoder", "prefix_language_model"])
def test_a_token_0_is_read_learned_and_not_taken_for_padding(kit, tmp_path, pack, batch_format):
    pairs = [
        {"inputs": np.array([0, 3, 0], np.int32), "targets": np.array([4, 0, 0, 5, 0], np.int32)}
    ] * 8
    task = kit.task("exclaiming")
    kit.write(task, tmp_path, pairs)
    for feature in task.output_features.values():
        feature.vocabulary = Exclaiming()
    path = tmp_path / "exclaiming" / "task.json"
    path.write_text(path.read_text().replace('"eos_id": 1', '"eos_id": 9'))
    settings = config(task, tmp_path, pack=pack, virtual_streams=1)
    with data.open_dataset(settings, batch_format=batch_format) as batches:
        batch = next(batches)
    targets, weights = batch["decoder_target_tokens"][0], batch["decoder_loss_weights"][0]
    copies = 2 if pack and batch_format == "encoder_decoder" else 3 if pack else 1
    assert targets[weights == 1].tolist() == [4, 0, 0, 5, 0, 9] * copies
    if batch_format == "encoder_decoder":
        tokens, segments = batch["encoder_input_tokens"][0], batch["encoder_segment_ids"][0]
        assert tokens[segments != 0].tolist() == [0, 3, 0, 9] * copies
        assert (np.bincount(segments)[1:] == 4).all()
