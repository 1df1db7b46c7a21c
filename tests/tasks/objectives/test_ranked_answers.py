"""A row for each answer to a prompt."""

import numpy as np
import pytest

from tasks.errors import TaskError
from tasks.objectives import RankedAnswers
from tasks.vocabularies import ByteVocabulary

SPECS = {"inputs": {"eos_id": 1, "start_id": 2}}
EXAMPLE = {
    "inputs": np.array([10, 11, 12]),
    "answers": np.array([20, 30, 31]),
    "answers_sizes": np.array([1, 2]),
    "ranks": np.array([1, 0]),
}


def made(length, segments=False, specs=SPECS, **changed):
    bound = RankedAnswers(segments).bind(specs).of_length({"inputs": length, "answers": 3})
    found = bound({**EXAMPLE, **changed}, np.random.default_rng(0))
    return {name: value.tolist() for name, value in found.items()}


def test_a_decoder_reads_the_prompt_and_an_answer_with_its_end():
    assert made(9) == {
        "inputs": [[2, 10, 11, 12, 20, 1, 0], [2, 10, 11, 12, 30, 31, 1]],
        "token_types": [[0, 0, 0, 0, 1, 1, 0], [0, 0, 0, 0, 1, 1, 1]],
        "answers": [6, 7],
        "answer_sizes": [2, 3],
        "ranks": [1, 0],
    }


def test_a_prompt_that_is_too_long_loses_its_beginning_and_an_answer_its_end():
    """The prompt is the same for all answers; one that was cut does not end."""
    found = made(5)
    assert found["inputs"] == [[2, 12, 20, 1, 0], [2, 12, 30, 31, 1]]
    long = {"answers": np.arange(20, 30), "answers_sizes": np.array([9, 1])}
    found = made(5, **long)
    assert found["inputs"] == [[2, 20, 21, 22], [2, 29, 1, 0]]
    assert (found["answers"], found["answer_sizes"]) == ([4, 3], [3, 2])
    encoder = made(9, True, {"inputs": ByteVocabulary().spec()}, **long)
    assert all(encoder["inputs"][i][encoder["answers"][i] - 1] > 30 for i in range(2))  # [SEP]


def test_answers_that_differ_behind_the_cut_alone_are_no_pair():
    alike = np.array([20, 21, 22, 23, 20, 21, 22, 24, 29])
    found = made(5, answers=alike, answers_sizes=np.array([4, 4, 1]), ranks=np.array([0, 1, 2]))
    assert found["inputs"][0] == found["inputs"][1] and found["ranks"] == [0, 0, 2]


def test_an_encoder_reads_a_pair_of_segments():
    specs = {"inputs": ByteVocabulary().spec()}
    found = made(9, segments=True, specs=specs)
    cls_id, sep_id = found["inputs"][0][0], found["inputs"][0][4]
    assert len({cls_id, sep_id, 10}) == 3
    assert found["inputs"][0] == [cls_id, 10, 11, 12, sep_id, 20, sep_id, 0]
    assert found["token_types"] == [[0, 0, 0, 0, 0, 1, 1, 0], [0, 0, 0, 0, 0, 1, 1, 1]]


def test_more_answers_than_there_is_room_for_are_refused():
    sizes = {"answers": np.arange(4), "answers_sizes": np.ones(4, int)}
    with pytest.raises(TaskError, match=r"4 answers: TASK_FEATURE_LENGTHS\['answers'\] is 3"):
        made(9, **sizes)
