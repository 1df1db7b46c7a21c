"""Texts as rows for an encoder, by hand (Devlin et al. 2019, figure 4)."""

import numpy as np
import pytest

from tasks.errors import TaskError
from tasks.objectives import LabelledSegments, RankedSegments

SPEC = {"vocab_size": 100, "extra_ids": 0, "eos_id": 1, "cls_id": 2, "sep_id": 3}
RNG = np.random.default_rng(0)


def row(length, *texts, label=None, **options):
    objective = LabelledSegments(pair=len(texts) == 2, **options).bind({"inputs": SPEC})
    if length is not None:
        objective = objective.of_length({"inputs": length})
    example = dict(zip(("inputs", "inputs_pair"), map(np.array, texts), strict=False))
    if label is not None:
        example["label"] = np.array([label])
    return objective(example, RNG)


def test_a_text_stands_between_cls_and_sep():
    made = row(8, [10, 11, 12], label=1)
    assert made["inputs"].tolist() == [2, 10, 11, 12, 3]
    assert made["token_types"].tolist() == [0] * 5
    assert made["label"] == 1 and made["label"].dtype == np.int32 and made["label"].ndim == 0


def test_a_pair_has_types_0_up_to_and_with_the_first_sep_then_1():
    made = row(None, [10, 11], [20])
    assert made["inputs"].tolist() == [2, 10, 11, 3, 20, 3]
    assert made["token_types"].tolist() == [0, 0, 0, 0, 1, 1]


def test_robertas_pair_has_two_separators():
    made = row(None, [10, 11], [20], separators=2)
    assert made["inputs"].tolist() == [2, 10, 11, 3, 3, 20, 3]
    assert made["token_types"].tolist() == [0, 0, 0, 0, 0, 1, 1]


def test_xlnets_row_ends_with_cls_of_a_type_of_its_own():
    made = row(None, [10, 11], [20], cls_at_end=True)
    assert made["inputs"].tolist() == [10, 11, 3, 20, 3, 2]
    assert made["token_types"].tolist() == [0, 0, 0, 1, 1, 2]
    made = row(4, [10, 11, 12], cls_at_end=True)
    assert made["inputs"].tolist() == [10, 11, 3, 2]
    assert made["token_types"].tolist() == [0, 0, 0, 2]


@pytest.mark.parametrize(
    ("length", "expected"),
    [  # the longer one loses its last token, the second of equals
        (9, [2, 10, 11, 12, 13, 3, 20, 21, 3]),
        (8, [2, 10, 11, 12, 3, 20, 21, 3]),
        (7, [2, 10, 11, 3, 20, 21, 3]),
        (6, [2, 10, 11, 3, 20, 3]),
        (5, [2, 10, 3, 20, 3]),
    ],
)
def test_a_pair_that_is_too_long_loses_ends_of_the_longer_text(length, expected):
    made = row(length, [10, 11, 12, 13], [20, 21])
    assert made["inputs"].tolist() == expected
    assert made["token_types"].size == made["inputs"].size


def test_a_text_that_is_too_long_loses_its_end_and_keeps_its_separator():
    assert row(4, [10, 11, 12])["inputs"].tolist() == [2, 10, 11, 3]


def test_no_label_is_minus_one_or_nan():
    assert row(None, [10])["label"] == -1
    made = row(None, [10], numbers=True)["label"]
    assert np.isnan(made) and made.dtype == np.float32
    assert row(None, [10], numbers=True, label=4.25)["label"] == np.float32(4.25)


def test_a_length_without_room_is_refused():
    with pytest.raises(TaskError, match=r"'inputs'\] is 4: 5 or more is needed"):
        row(4, [10], [20])
    with pytest.raises(TaskError, match="separators is 3"):
        LabelledSegments(separators=3)


def test_separators_are_the_vocabularys_unless_they_are_given():
    def pair(spec, **options):
        bound = LabelledSegments(pair=True, **options).bind({"inputs": SPEC | spec})
        return bound({"inputs": np.array([10]), "inputs_pair": np.array([20])}, RNG)["inputs"]

    assert pair({}).tolist() == pair({"pair_separators": None}).tolist() == [2, 10, 3, 20, 3]
    assert pair({"pair_separators": 2}).tolist() == [2, 10, 3, 3, 20, 3]
    assert pair({"pair_separators": 2}, separators=1).tolist() == [2, 10, 3, 20, 3]


def test_cls_stands_where_the_vocabularys_tokenizer_has_it_unless_it_is_said():
    def single(spec, **options):
        bound = LabelledSegments(**options).bind({"inputs": SPEC | spec})
        return bound({"inputs": np.array([10])}, RNG)["inputs"].tolist()

    assert single({}) == single({"cls_at_end": False}) == [2, 10, 3]
    assert single({"cls_at_end": True}) == single({}, cls_at_end=True) == [10, 3, 2]
    assert single({"cls_at_end": True}, cls_at_end=False) == [2, 10, 3]


# -- Candidates ------------------------------------------------------------------------------------


def test_each_candidate_is_a_pair_with_the_query():
    objective = RankedSegments(2).bind({"inputs": SPEC}).of_length({"inputs": 7})
    example = {"inputs": np.array([10, 11]), "label": np.array([1])}
    example |= {"inputs_1": np.array([20]), "inputs_2": np.array([30, 31, 32])}
    made = objective(example, RNG)
    assert objective.reads == ("inputs", "inputs_1", "inputs_2", "label")
    assert made.keys() == set(objective.writes)
    assert made["inputs"].tolist() == [2, 10, 11, 3, 20, 3]
    # The second loses its last token, as the longer text of a pair does.
    assert made["further_inputs"].tolist() == [2, 10, 11, 3, 30, 31, 3]
    assert made["further_token_types"].tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert made["further_sizes"].tolist() == [7]
    assert made["label"] == 1 and made["label"].shape == ()


# -- For decoders (Radford et al. 2018, figure 1) -----------------------------------------------

SENTINELS = {**SPEC, "extra_ids": 4}


def decoder_row(*texts, length=None, spec=SENTINELS, **options):
    objective = LabelledSegments(pair=len(texts) == 2, extract=True, **options)
    objective = objective.bind({"inputs": spec})
    if length is not None:
        objective = objective.of_length({"inputs": length})
    return objective(dict(zip(objective.texts, map(np.array, texts), strict=True)), RNG)


def test_gpt_1s_text_ends_with_the_extract_token_the_fourth_sentinel():
    assert decoder_row([10, 11])["inputs"].tolist() == [2, 10, 11, 96]


def test_gpt_1s_pair_has_a_delimiter_that_is_not_the_extract_token():
    assert decoder_row([10, 11], [20])["inputs"].tolist() == [2, 10, 11, 3, 20, 96]


def test_a_similar_pair_is_a_row_in_either_order():
    made = decoder_row([10, 11], [20], both_orders=True)
    assert made["inputs"].tolist() == [2, 10, 11, 3, 20, 96]
    assert made["inputs_reversed"].tolist() == [2, 20, 3, 10, 11, 96]


def test_both_orders_of_a_pair_that_is_too_long_are_as_long():
    made = decoder_row([10, 11, 12], [20, 21, 22], both_orders=True, length=8)
    assert made["inputs"].tolist() == [2, 10, 11, 12, 3, 20, 21, 96]
    assert made["inputs_reversed"].tolist() == [2, 20, 21, 22, 3, 10, 11, 96]


def test_rows_for_decoders_that_cannot_be_are_refused():
    with pytest.raises(TaskError, match=r"needs a token from which a label is said.*extra_ids=0"):
        decoder_row([10], spec=SPEC)
    with pytest.raises(TaskError, match=r"both_orders.*a pair of texts has two orders"):
        LabelledSegments(both_orders=True)
    with pytest.raises(TaskError, match=r"extract and cls_at_end.*choose which"):
        LabelledSegments(extract=True, cls_at_end=True)
