"""Windows of a long text by hand (Devlin et al. 2019, section 4.2; the released run_squad.py)."""

import numpy as np
import pytest

from tasks.errors import TaskError
from tasks.objectives import SpanWindows
from tasks.objectives.labelled.windows import best_window

SPEC = {"vocab_size": 100, "extra_ids": 0, "eos_id": 1, "cls_id": 2, "sep_id": 3}
RNG = np.random.default_rng(0)


def bound(length=None, **options):
    objective = SpanWindows(**options).bind({"inputs": SPEC})
    return objective if length is None else objective.of_length({"inputs": length})


def example(question, text, answers=None, row=0, width=2):
    """A text of tokens that stand for `width` characters each."""
    places = width * np.arange(len(text))
    made = {
        "inputs": np.array(question),
        "inputs_pair": np.array(text),
        "inputs_pair_begins": places,
        "inputs_pair_ends": places + width,
        "row": np.array(row),
    }
    if answers is not None:
        made["answer_begins"] = np.array([begin for begin, _ in answers], np.int32)
        made["answer_ends"] = np.array([end for _, end in answers], np.int32)
    return made


def test_a_row_is_question_and_text_with_the_characters_of_each_token():
    made = bound()(example([10, 11], [20, 21, 22], [(2, 6)]), RNG)
    assert made["inputs"].tolist() == [2, 10, 11, 3, 20, 21, 22, 3]
    assert made["token_types"].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert made["char_begins"].tolist() == [-1, -1, -1, -1, 0, 2, 4, -1]
    assert made["char_ends"].tolist() == [-1, -1, -1, -1, 2, 4, 6, -1]
    assert made["may_begin"].tolist() == [0, 0, 0, 0, 1, 1, 1, 0]
    assert (made["span_start"], made["span_end"]) == (5, 6)
    assert made["span_start"].dtype == np.int32 and made["span_start"].ndim == 0


def test_xlnets_row_ends_with_the_class():
    """Yang et al. 2019, section 2.5: types 0, 1, and 2 of the class, which is the place of none."""
    objective = SpanWindows().bind({"inputs": SPEC | {"cls_at_end": True}})
    made = objective(example([10, 11], [20, 21, 22], [(2, 6)]), RNG)
    assert made["inputs"].tolist() == [10, 11, 3, 20, 21, 22, 3, 2]
    assert made["token_types"].tolist() == [0, 0, 0, 1, 1, 1, 1, 2]
    assert made["char_begins"].tolist() == [-1, -1, -1, 0, 2, 4, -1, -1]
    assert (made["span_start"], made["span_end"], made["no_answer_place"]) == (4, 5, 7)
    none = objective(example([10, 11], [20, 21, 22], []), RNG)
    assert (none["span_start"], none["span_end"]) == (7, 7)
    first = SpanWindows(cls_at_end=False).bind({"inputs": SPEC | {"cls_at_end": True}})
    assert first(example([10, 11], [20], []), RNG)["no_answer_place"] == 0


def test_robertas_row_has_two_separators():
    made = bound(separators=2)(example([10], [20, 21], [(0, 2)]), RNG)
    assert made["inputs"].tolist() == [2, 10, 3, 3, 20, 21, 3]
    assert made["token_types"].tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert (made["span_start"], made["span_end"]) == (4, 4)


def test_what_a_tokenizer_puts_between_two_texts_is_taken():
    roberta = SPEC | {"pair_separators": 2}
    for objective, count in ((SpanWindows(), 2), (SpanWindows(separators=1), 1)):
        made = objective.bind({"inputs": roberta})(example([10], [20]), RNG)
        assert made["inputs"].tolist() == [2, 10, *[3] * count, 20, 3]


def test_windows_begin_as_the_specification_says():
    """10 tokens, width 4, stride 2: windows at 0, 2, 4, 6."""
    objective = bound(length=8, stride=2, question_length=1)
    text = list(range(20, 30))
    sizes = {"inputs": np.array([1, 1, 1]), "inputs_pair": np.array([10, 4, 5])}
    assert objective.row_counts(sizes).tolist() == [4, 1, 2]
    rows = [objective(example([10], text, row=row), RNG)["inputs"] for row in range(4)]
    assert [row.tolist() for row in rows] == [[2, 10, 3, *text[i : i + 4], 3] for i in (0, 2, 4, 6)]


def test_a_longer_question_makes_narrower_windows_and_loses_its_end():
    objective = bound(length=9, stride=128, question_length=3)
    made = objective(example([10, 11, 12, 13], [20, 21, 22, 23], row=1), RNG)
    # Never more than a window's width from one to the next, so that no token is left out.
    assert made["inputs"].tolist() == [2, 10, 11, 12, 3, 23, 3]
    sizes = {"inputs": np.array([4]), "inputs_pair": np.array([4])}
    assert objective.row_counts(sizes).tolist() == [2]


def test_a_token_belongs_to_the_window_in_which_it_has_most_context():
    """The specification: token 3 has min(3, 0) + .04 in window 0, min(1, 2) + .04 in window 1."""
    starts = np.array([0, 2, 4, 6])
    assert [best_window(starts, 4, 10, i).tolist() for i in range(4)] == [
        [1, 1, 1, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 1, 1, 1],
    ]  # fmt: skip


def test_every_token_belongs_to_one_window():
    rng = np.random.default_rng(3)
    for _ in range(50):
        width, size = rng.integers(1, 12), rng.integers(1, 60)
        step = rng.integers(1, width + 1)
        starts = np.arange(1 + max(0, -(-(size - width) // step))) * step
        counts = np.zeros(size, int)
        for i, start in enumerate(starts):
            own = best_window(starts, width, size, i)
            counts[start : start + own.size] += own
        assert (counts == 1).all()


def test_a_window_without_the_whole_answer_has_none():
    objective = bound(length=8, stride=2, question_length=1)
    text = list(range(20, 30))
    spans = [
        objective(example([10], text, [(6, 10)], row=row), RNG) for row in range(4)
    ]  # tokens 3 and 4
    assert [(int(s["span_start"]), int(s["span_end"])) for s in spans] == [
        (0, 0), (4, 5), (0, 0), (0, 0),
    ]  # fmt: skip


def test_no_answer_is_at_the_first_token_and_an_unknown_one_nowhere():
    objective = bound()
    none = objective(example([10], [20], []), RNG)
    unknown = objective(example([10], [20]), RNG)
    misplaced = objective(example([10], [20], [(-1, -1)]), RNG)
    second = objective(example([10], [20], [(-1, -1), (0, 2)]), RNG)
    found = [int(made["span_start"]) for made in (none, unknown, misplaced, second)]
    assert found == [0, -1, -1, 3]


def test_an_answer_within_tokens_is_widened_to_them():
    """Characters 1 to 4 of tokens of two; an answer of the last character is the last token's."""
    made = bound()(example([10], [20, 21, 22], [(1, 4)]), RNG)
    assert (made["span_start"], made["span_end"]) == (3, 4)
    made = bound()(example([10], [20, 21, 22], [(5, 6)]), RNG)
    assert (made["span_start"], made["span_end"]) == (5, 5)


def test_parts_of_one_character_are_all_of_the_answer():
    """Three bytes of one character, of which an answer has all."""
    made = {
        "inputs": np.array([10]),
        "inputs_pair": np.array([20, 21, 22, 23, 24]),
        "inputs_pair_begins": np.array([0, 1, 1, 1, 2]),
        "inputs_pair_ends": np.array([1, 2, 2, 2, 3]),
        "answer_begins": np.array([1]),
        "answer_ends": np.array([2]),
    }
    found = bound()(made, RNG)
    assert (found["span_start"], found["span_end"]) == (4, 6)


def test_an_empty_text_is_a_row_without_a_window():
    objective = bound(length=80)
    sizes = {"inputs": np.array([1]), "inputs_pair": np.array([0])}
    assert objective.row_counts(sizes).tolist() == [1]
    assert objective(example([10], []), RNG)["inputs"].tolist() == [2, 10, 3, 3]


def test_what_leaves_no_room_is_refused():
    with pytest.raises(TaskError, match=r"is 67: 68 or more is needed, as questions may have 64"):
        bound(length=67)
    assert bound(length=68).length == 68
    for options in ({"separators": 3}, {"stride": 0}, {"question_length": 0}):
        with pytest.raises(TaskError, match=next(iter(options))):
            SpanWindows(**options)
