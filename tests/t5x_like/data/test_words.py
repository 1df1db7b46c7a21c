"""Batches of words and of pairs of words, laid out by hand."""

import numpy as np
import pytest

from t5x_like.data import formats
from t5x_like.data.formats import LONGEST_PATH, LONGEST_WORD, TaskFacts

LENGTHS = {"targets": 4}


def batch(name, features, *examples):
    facts = TaskFacts(("targets",), example_features=features)
    bound = formats.bound(name, facts)
    rows = [(bound.item({key: np.array(x) for key, x in e.items()}),) for e in examples]
    return bound.batch([*rows, ()], LENGTHS, pack=False)


def test_words_with_windows_and_noise():
    example = {"targets": [7, 8, 9], "segments": [1, 1, 2], "windows": [2, 1, 3]}
    made = batch(
        "words_and_noise",
        ("targets", "segments", "windows", "noise"),
        example | {"noise": [5, 6, 5, 6]},
    )
    assert {name: array.tolist() for name, array in made.items()} == {
        "encoder_input_tokens": [[7, 8, 9, 0], [0] * 4],
        "encoder_segment_ids": [[1, 1, 2, 0], [0] * 4],
        "word_windows": [[2, 1, 3, 0], [0] * 4],
        # A row's noise is as long as the row, whatever words it has.
        "noise_tokens": [[5, 6, 5, 6], [0] * 4],
    }
    assert all(array.dtype == np.int32 for array in made.values())


def test_words_with_paths_of_any_length():
    made = batch(
        "words_and_paths",
        ("targets", "segments", "windows", "path_nodes", "path_signs"),
        {
            "targets": [7, 8], "segments": [1, 1], "windows": [1, 1],
            "path_nodes": [[3, 2], [3, 0]], "path_signs": [[1, -1], [-1, 0]],
        },
    )  # fmt: skip
    assert made["path_nodes"].shape == made["path_signs"].shape == (2, 4, LONGEST_PATH)
    assert made["path_nodes"][0, :3, :3].tolist() == [[3, 2, 0], [3, 0, 0], [0, 0, 0]]
    assert made["path_signs"][0, :2, :3].tolist() == [[1, -1, 0], [-1, 0, 0]]
    assert not made["path_signs"][1].any()


def test_pairs_with_their_counts():
    made = batch(
        "cooccurrences",
        ("targets", "contexts", "cooccurrences"),
        {"targets": [7, 8], "contexts": [8, 9], "cooccurrences": [0.5, 2.0]},
    )
    assert made["encoder_input_tokens"].tolist()[0] == [7, 8, 0, 0]
    assert made["context_tokens"].tolist()[0] == [8, 9, 0, 0]
    assert made["cooccurrences"].tolist()[0] == [0.5, 2.0, 0, 0]
    assert made["cooccurrences"].dtype == np.float32


def test_words_by_their_characters_packed_and_alone():
    features = ("targets", "characters", "segments", "loss_weights")
    bound = formats.bound("spelled_words", TaskFacts(("targets",), example_features=features))

    def item(targets, segments, weights):
        characters = np.full((3, LONGEST_WORD), 1) * np.array([[7], [8], [9]])
        made = dict(zip(features, (targets, characters, segments, weights), strict=True))
        return bound.item({name: np.array(array) for name, array in made.items()})

    # The characters are of three words, of which the second item has kept two.
    first, second = item([5, 6, 5], [1, 1, 2], [0, 1, 1]), item([6, 5], [1, 1], [1, 1])
    made = bound.batch([(first, second), ()], {"targets": 6}, pack=True)
    assert made["encoder_characters"].shape == (2, 6, LONGEST_WORD)
    characters = made.pop("encoder_characters")
    assert (characters == characters[..., :1]).all() and characters.dtype == np.int32
    assert characters[..., 0].tolist() == [[7, 8, 9, 7, 8, 0], [0] * 6]
    assert {name: array.tolist() for name, array in made.items()} == {
        "encoder_input_tokens": [[5, 6, 5, 6, 5, 0], [0] * 6],
        "encoder_loss_weights": [[0, 1, 1, 1, 1, 0], [0] * 6],
        # Documents of different items have different numbers.
        "encoder_segment_ids": [[1, 1, 2, 7, 7, 0], [0] * 6],
    }
    assert all(array.dtype == np.int32 for array in made.values())


@pytest.mark.parametrize(
    ("begins", "before", "expected"),
    [  # the weight of what a piece begins with, and the token before it
        (0, None, ([5, 6, 5, 5, 7], [0, 1, 1, 1, 1], 0)),
        (0, 9, ([6, 5, 5, 7], [1, 1, 1, 1], 1)),
        # Where a document begins, after one that ended in the piece before or in this one.
        (0, 5, ([5, 6, 5, 5, 7], [1, 1, 1, 1, 1], 0)),
        (1, 9, ([5, 6, 5, 5, 7], [1, 1, 1, 1, 1], 0)),
    ],
)
def test_rows_that_go_on_have_no_ends_where_they_were_cut(begins, before, expected):
    features = ("targets", "characters", "segments", "loss_weights")
    bound = formats.bound(
        "contiguous_spelled_words", TaskFacts(("targets",), example_features=features)
    )
    example = {
        "targets": np.array([5, 6, 5, 5, 7, 5]),  # 5 stands at either end of a text
        "characters": np.full((6, LONGEST_WORD), 3),
        "segments": np.array([1, 1, 1, 2, 2, 2]),
        "loss_weights": np.array([begins, 1, 1, 1, 1, 0]),
    }
    given = example if before is None else example | {"before": np.int32(before)}
    made = bound.batch([(bound.item(given),), ()], {"targets": 6}, pack=False)
    tokens, weights, continues = expected
    kept = len(tokens)
    assert made["encoder_input_tokens"].tolist() == [[*tokens, *[0] * (6 - kept)], [0] * 6]
    assert made["encoder_loss_weights"][0].tolist() == [*weights, *[0] * (6 - kept)]
    segments = [1, 1, 1, 2, 2] if kept == 5 else [1, 1, 2, 2]
    assert made["encoder_segment_ids"][0].tolist() == [*segments, *[0] * (6 - kept)]
    assert made["row_continues"].tolist() == [continues, 0]
    assert (made["encoder_characters"][0, :kept] == 3).all()
    assert example["loss_weights"][0] == begins  # as it was


SPELLED = np.arange(3 * LONGEST_WORD).reshape(3, LONGEST_WORD) + 1


def labelled(name, features, example):
    facts = TaskFacts(("inputs",), example_features=("inputs", "characters", *features))
    bound = formats.bound(f"spelled_{name}", facts)
    example = {"inputs": [1, 5, 2], "characters": SPELLED, **example}
    item = bound.item({key: np.array(x) for key, x in example.items()})
    return bound.batch([(item,), ()], {"inputs": 4}, pack=False)


def test_tagged_words_by_their_characters():
    made = labelled(
        "token_classification", ("tags", "word_places"), {"tags": [3, -1], "word_places": [1, 2]}
    )
    characters = made.pop("encoder_characters")
    assert characters.dtype == np.int32 and characters.shape == (2, 4, LONGEST_WORD)
    np.testing.assert_array_equal(characters[0, :3], SPELLED)
    assert not characters[0, 3].any() and not characters[1].any()
    assert {name: array.tolist() for name, array in made.items()} == {
        "encoder_input_tokens": [[1, 5, 2, 0], [0] * 4],
        "encoder_segment_ids": [[1, 1, 1, 0], [0] * 4],
        # A word without a tag is one all the same.
        "word_begins": [[0, 1, 1, 0], [0] * 4],
        "word_labels": [[0, 3, 0, 0], [0] * 4],
        "word_weights": [[0, 1, 0, 0], [0] * 4],
    }


def test_labelled_texts_by_their_characters():
    made = labelled("sequence_classification", ("label",), {"label": 2})
    assert made["label"].tolist() == [2, 0] and made["label_weight"].tolist() == [1, 0]
    assert set(made) == {
        "encoder_characters", "encoder_input_tokens", "encoder_segment_ids", "label",
        "label_weight",
    }  # fmt: skip
