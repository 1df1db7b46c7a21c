"""Words and choices as rows for an encoder, by hand (Devlin et al. 2019, figure 4)."""

import numpy as np
import pytest

from tasks.errors import TaskError
from tasks.objectives import Choices, TaggedWords

SPEC = {"vocab_size": 100, "extra_ids": 0, "eos_id": 1, "cls_id": 2, "sep_id": 3}
RNG = np.random.default_rng(0)


def listed(*texts):
    return np.array([i for ids in texts for i in ids], np.int32), np.array([len(t) for t in texts])


def words(length, *texts, tags=None):
    objective = TaggedWords().bind({"inputs": SPEC})
    if length is not None:
        objective = objective.of_length({"inputs": length})
    ids, sizes = listed(*texts)
    example = {"inputs": ids, "inputs_sizes": sizes}
    excess = objective.excess(example)
    return objective(example if tags is None else example | {"tags": np.array(tags)}, RNG), excess


def test_a_word_has_its_place_where_its_first_token_stands():
    made, excess = words(None, [10], [11, 12, 13], [14], tags=[0, 1, 2])
    assert made["inputs"].tolist() == [2, 10, 11, 12, 13, 14, 3] and excess == 0
    assert made["word_places"].tolist() == [1, 2, 5] and made["tags"].tolist() == [0, 1, 2]
    assert made["token_types"].tolist() == [0] * 7
    assert {x.dtype for x in made.values()} == {np.dtype(np.int32)}


def test_xlnets_row_ends_with_cls():
    objective = TaggedWords().bind({"inputs": {**SPEC, "cls_at_end": True}})
    ids, sizes = listed([10], [11, 12])
    made = objective({"inputs": ids, "inputs_sizes": sizes}, RNG)
    assert made["inputs"].tolist() == [10, 11, 12, 3, 2]
    assert made["word_places"].tolist() == [0, 1]


def test_words_without_room_and_words_without_tokens_have_no_place():
    made, excess = words(5, [10], [11, 12, 13], [14], tags=[0, 1, 2])
    assert made["inputs"].tolist() == [2, 10, 11, 12, 3] and excess == 2
    # The second is cut, and its first token is there.
    assert made["word_places"].tolist() == [1, 2, -1] and made["tags"].tolist() == [0, 1, 2]
    assert words(None, [10], [], [11])[0]["word_places"].tolist() == [1, -1, 2]
    assert words(None)[0]["inputs"].tolist() == [2, 3]


def test_words_to_be_tagged_have_none_yet():
    assert words(None, [10], [11])[0]["tags"].tolist() == [-1, -1]
    with pytest.raises(TaskError, match=r"'inputs'\] is 2: 3 or more"):
        words(2, [10])


def choices(lengths, context, *texts, label=None, **options):
    objective = Choices(**options).bind({"inputs": SPEC, "choices": SPEC})
    if lengths is not None:
        objective = objective.of_length(dict(zip(("inputs", "choices"), lengths, strict=True)))
    ids, sizes = listed(*texts)
    example = {"inputs": np.array(context), "choices": ids, "choices_sizes": sizes}
    excess = objective.excess(example)
    return objective(example if label is None else example | {"label": [label]}, RNG), excess


def test_the_text_stands_before_each_choice():
    made, excess = choices(None, [10, 11], [20], [30, 31, 32], label=1)
    assert made["inputs"].tolist() == [
        [2, 10, 11, 3, 20, 3, 0, 0],
        [2, 10, 11, 3, 30, 31, 32, 3],
    ]
    assert made["token_types"].tolist() == [[0, 0, 0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 1, 1, 1, 1]]
    assert made["choices"].tolist() == [6, 8] and excess == 0
    assert made["label"] == 1 and made["label"].dtype == np.int32 and made["label"].ndim == 0


def test_each_row_is_cut_as_a_pair_is():
    made, excess = choices((7, 2), [10, 11, 12], [20], [30, 31, 32])
    assert made["inputs"].tolist() == [[2, 10, 11, 12, 3, 20, 3], [2, 10, 11, 3, 30, 31, 3]]
    assert excess == 2 and made["label"] == -1


def test_robertas_choice_has_two_separators_before_it():
    made, _ = choices(None, [10], [20], separators=2)
    assert made["inputs"].tolist() == [[2, 10, 3, 3, 20, 3]]
    with pytest.raises(TaskError, match=r"Choices\.separators is 3"):
        Choices(separators=3)


def test_more_choices_than_the_length_says_are_refused():
    with pytest.raises(TaskError, match=r"3 choices: TASK_FEATURE_LENGTHS\['choices'\] is 2"):
        choices((9, 2), [10], [20], [21], [22])
