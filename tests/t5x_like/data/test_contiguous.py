"""Rows that continue those of the batch before, and formats of one's own."""

import dataclasses

import numpy as np
import pytest

from t5x_like import data
from t5x_like.data import formats
from t5x_like.data.cache.token_stream import TokenStream
from t5x_like.data.rows.contiguous import drawn_lengths
from t5x_like.errors import UserError
from tasks.objectives.permutation_lm import BoundPermutationLM, PermutationLM

LENGTH, ROWS = 16, 4
CONTIGUOUS = "contiguous_language_model"


def config(task, cache_dir, **kwargs):
    defaults = {"task_feature_lengths": {"targets": LENGTH}, "batch_size": ROWS, "prefetch": 0}
    return data.DatasetConfig(task=task, cache_dir=cache_dir, **{**defaults, **kwargs})


@pytest.fixture
def text(kit, tmp_path, documents):
    """A task on text, and all its tokens in order, each document ended."""
    task = kit.task("text", ("targets",), kit.causal())
    folder = kit.write(task, tmp_path, documents)
    stream = TokenStream(folder, "train", "targets", 1)
    return task, stream.read(0, len(stream))


@pytest.mark.slow
def test_every_row_is_the_next_piece_of_its_track(text, tmp_path):
    task, tokens = text
    track = tokens.size // ROWS
    batches = data.open_dataset(config(task, tmp_path, shuffle=False), batch_format=CONTIGUOUS)
    for step in range(track // LENGTH):
        batch = next(batches)
        starts = [row * track + step * LENGTH for row in range(ROWS)]
        expected = np.stack([tokens[start : start + LENGTH] for start in starts])
        np.testing.assert_array_equal(batch["decoder_target_tokens"], expected)
        before = np.array([tokens[start - 1] if step else 0 for start in starts])
        np.testing.assert_array_equal(
            batch["decoder_input_tokens"], np.c_[before, expected[:, :-1]]
        )
        assert batch["row_continues"].tolist() == [int(step > 0)] * ROWS
        assert batch["decoder_loss_weights"].all()
    # The tracks begin anew, and nothing is continued.
    assert next(batches)["row_continues"].tolist() == [0] * ROWS


@pytest.mark.slow
def test_every_epoch_begins_elsewhere(text, tmp_path):
    task, tokens = text
    steps = tokens.size // ROWS // LENGTH
    batches = data.open_dataset(config(task, tmp_path), batch_format=CONTIGUOUS)
    epochs = [[next(batches)["decoder_target_tokens"] for _ in range(steps)] for _ in range(2)]
    assert not np.array_equal(epochs[0][0], epochs[1][0])
    counts = [np.bincount(np.concatenate(epoch).ravel(), minlength=400) for epoch in epochs]
    whole = np.bincount(tokens, minlength=400)
    for count in counts:
        assert (count <= whole).all() and whole.sum() - count.sum() < ROWS * LENGTH


@pytest.mark.parametrize("count", [1, 2, 4])
def test_any_number_of_processes_reads_the_same_rows_and_resumes(text, tmp_path, count):
    task, _ = text
    settings = config(task, tmp_path)
    whole = data.open_dataset(settings, batch_format=CONTIGUOUS)
    expected = [next(whole) for _ in range(6)]
    state = None
    for step in range(6):
        parts = [
            data.open_dataset(settings, batch_format=CONTIGUOUS, shard_index=i, shard_count=count)
            for i in range(count)
        ]
        for part in parts:
            if state is not None:
                part.set_state(state)
        found = [next(part) for part in parts]
        state = data.merge_states([part.get_state() for part in parts])
        for name, value in expected[step].items():
            np.testing.assert_array_equal(np.concatenate([f[name] for f in found]), value)


def test_an_evaluation_reads_every_piece_once_in_rows_that_continue(text, tmp_path):
    task, tokens = text
    split = data.open_evaluation(config(task, tmp_path), batch_format=CONTIGUOUS)
    pieces = {}
    last = [None] * ROWS
    for number, each in enumerate(split):
        for row, index in enumerate(each.indices):
            piece = tokens[index * LENGTH : (index + 1) * LENGTH]
            pieces[index] = piece.size
            targets = each.batch["decoder_target_tokens"][row]
            np.testing.assert_array_equal(targets[: piece.size], piece)
            if number:
                assert index == last[row] + 1
                assert each.batch["row_continues"][row] == 1
                assert each.batch["decoder_input_tokens"][row, 0] == tokens[index * LENGTH - 1]
            last[row] = index
        filling = each.batch["decoder_loss_weights"][len(each.indices) :]
        assert not filling.any()
    assert sorted(pieces) == list(range(-(-tokens.size // LENGTH)))
    assert sum(pieces.values()) == tokens.size


def test_what_is_no_text_is_refused(kit, tmp_path, documents, pairs):
    task = kit.task("pairs")
    kit.write(task, tmp_path, pairs)
    lengths = {"inputs": 8, "targets": 8}
    with pytest.raises(UserError, match="have 'inputs', which it does not read"):
        data.open_dataset(
            config(task, tmp_path, task_feature_lengths=lengths), batch_format=CONTIGUOUS
        )
    apart = kit.task("apart", ("targets",))
    kit.write(apart, tmp_path, documents)
    with pytest.raises(UserError, match="consecutive pieces of one text: choose one task"):
        data.open_dataset(config(apart, tmp_path), batch_format=CONTIGUOUS)
    short = kit.task("short", ("targets",), kit.causal())
    kit.write(short, tmp_path, [{"targets": np.arange(3, 40, dtype=np.int32)}], shards=1)
    with pytest.raises(UserError, match="38 tokens, of which 4 rows of 16"):
        data.open_dataset(config(short, tmp_path), batch_format=CONTIGUOUS)
    with pytest.raises(UserError, match="pack is True, but rows of the batch format"):
        data.open_dataset(config(short, tmp_path, pack=True), batch_format=CONTIGUOUS)


def test_rows_between_separators_continue_nothing(kit, tmp_path, documents):
    """XLNet's two segments; its rows of plain text may be pieces of one."""
    for two, settings in ((True, {}), (False, {"two_segments": False})):
        objective = BoundPermutationLM(PermutationLM(random_share=0.0, **settings), 1, 2)
        task = kit.task(f"permuted_{two}", ("targets",), objective)
        kit.write(task, tmp_path, documents)
        opened = config(task, tmp_path), "contiguous_permutation_language_model"
        if two:
            for open_split in (data.open_dataset, data.open_evaluation):
                with pytest.raises(UserError, match=r"stand alone: PermutationLM.two_segments is"):
                    open_split(opened[0], batch_format=opened[1])
        else:
            with data.open_dataset(opened[0], batch_format=opened[1]) as batches:
                assert "row_continues" in next(batches)


def test_each_task_of_a_mixture_must_have_what_the_format_reads(kit, tmp_path):
    class Masked:
        writes = ("inputs", "targets", "loss_weights")

    whole = kit.task("whole", ("targets",), Masked())
    lacking = kit.task("lacking", ("targets",), kit.causal())
    both = kit.mixture("both", [(whole, 1.0), (lacking, 1.0)])
    with pytest.raises(UserError, match="examples lack 'inputs': they have targets"):
        data.open_dataset(config(both, tmp_path), batch_format="masked_language_model")


# -- A format of one's own -----------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Rated:
    """A text, a rating of rank 0 and two float scores of rank 1."""

    task_features: tuple = ("targets",)
    reads: tuple = ("targets",)
    may_read: tuple = ()
    packs: bool = False
    contiguous: bool = False
    prompts: None = None

    def bind(self, facts):
        return self

    def capacities(self, lengths):
        return (lengths["targets"],)

    def item(self, example):
        ids = example["targets"]
        labels = {"rating": ids.size % 5, "scores": np.array([ids.size, ids[0]], np.float32)}
        return formats.Item((ids,), labels=labels)

    def batch(self, rows, lengths, pack):
        laid_out = formats.rows.layout(rows, 0, lengths["targets"])
        batch = {
            "encoder_input_tokens": laid_out.tokens,
            "rating": np.zeros(len(rows), np.int32),
            "scores": np.zeros((len(rows), 2), np.float32),
        }
        for i, row in enumerate(rows):
            for item in row:
                batch["rating"][i] = item.labels["rating"]
                batch["scores"][i] = item.labels["scores"]
        return batch


def test_a_format_of_ones_own_has_labels_of_any_type_and_rank(kit, tmp_path, pairs):
    formats.register("rated", Rated())
    task = kit.task("pairs", ("targets",))
    kit.write(task, tmp_path, [{"targets": pair["targets"]} for pair in pairs])
    settings = config(task, tmp_path, shuffle=False)
    batch = next(data.open_dataset(settings, batch_format="rated"))
    assert batch["rating"].dtype == np.int32 and batch["rating"].shape == (ROWS,)
    assert batch["scores"].dtype == np.float32 and batch["scores"].shape == (ROWS, 2)
    # The cache ends each text with EOS, so a text is one token longer.
    first = [pairs[0], pairs[2], pairs[4], pairs[6]]
    assert batch["rating"].tolist() == [(pair["targets"].size + 1) % 5 for pair in first]
    example = data.example_batch(settings, "rated", rows=3)
    assert {name: (v.dtype.name, v.shape) for name, v in example.items()} == {
        "encoder_input_tokens": ("int32", (3, LENGTH)),
        "rating": ("int32", (3,)),
        "scores": ("float32", (3, 2)),
    }


def test_a_name_is_registered_once():
    with pytest.raises(UserError, match="batch format 'encoder_decoder' is registered already"):
        formats.register("encoder_decoder", Rated())


# -- Lengths that are drawn ------------------------------------------------------------------------

DRAWN = "contiguous_language_model_of_drawn_lengths"


def drawn(task, folder, length=25, **kwargs):
    lengths = {"targets": length}
    return data.open_dataset(
        config(task, folder, task_feature_lengths=lengths, **kwargs), batch_format=DRAWN
    )


@pytest.mark.slow
def test_pieces_of_drawn_lengths_follow_one_another(text, tmp_path):
    task, tokens = text
    track, batches, place = tokens.size // ROWS, drawn(task, tmp_path, shuffle=False), 0
    lengths = []
    while place < track:
        batch = next(batches)
        sizes = batch["decoder_segment_ids"].sum(axis=1)
        length = int(sizes[0])
        assert sizes.tolist() == [length] * ROWS  # one for all rows of a batch
        starts = [row * track + place for row in range(ROWS)]
        expected = np.stack([tokens[start : start + length] for start in starts])
        np.testing.assert_array_equal(batch["decoder_target_tokens"][:, :length], expected)
        np.testing.assert_array_equal(batch["decoder_loss_weights"], batch["decoder_segment_ids"])
        before = [tokens[start - 1] if place else 0 for start in starts]
        assert batch["decoder_input_tokens"][:, 0].tolist() == before
        assert batch["row_continues"].tolist() == [int(place > 0)] * ROWS
        place += length
        lengths.append(length)
    # To the end of the tracks, and then anew.
    assert place == track and len(set(lengths)) > 3
    assert next(batches)["row_continues"].tolist() == [0] * ROWS


@pytest.mark.slow
def test_drawn_lengths_are_resumed_in_any_epoch(text, tmp_path):
    task, _ = text
    # Tracks of some twenty pieces.
    whole, again, part = (drawn(task, tmp_path, batch_size=400) for _ in range(3))
    read = [next(whole) for _ in range(60)]
    assert sum(int(batch["row_continues"][0] == 0) for batch in read) > 2  # epochs
    states = []
    for _ in range(60):
        states.append(again.get_state())
        next(again)
    for step in (30, 59, 1, 0):  # forwards and back
        part.set_state(states[step])
        found = next(part)
        for name, expected in read[step].items():
            np.testing.assert_array_equal(found[name], expected)


def test_lengths_are_those_of_the_paper():
    """Around 70 of 85, one in 20 around 35, with a standard deviation of 5."""
    lengths = drawn_lengths(np.random.default_rng(0), 40_000, 85)
    short = lengths < 52
    assert short.mean() == pytest.approx(0.05, abs=0.005)
    # Rounded down.
    assert lengths[~short].mean() == pytest.approx(69.5, abs=0.1)
    assert lengths[~short].std() == pytest.approx(5, abs=0.1)
    assert lengths[short].mean() == pytest.approx(34.5, abs=0.5)
    assert lengths.max() <= 85
    assert drawn_lengths(np.random.default_rng(0), 1000, 25).min() == 5


def test_rows_too_short_for_drawn_lengths_are_refused(text, tmp_path):
    with pytest.raises(UserError, match=r"is 16, but lengths are drawn .* give 25 or more"):
        drawn(text[0], tmp_path, length=16)
