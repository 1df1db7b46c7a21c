"""Which tokens of a conversation are learned."""

import numpy as np
import pytest

from tasks.errors import TaskError
from tasks.objectives import AssistantTurns

EOS = 1


def learned(pieces):
    bound = AssistantTurns().bind({"targets": {"eos_id": EOS}})
    example = {
        "targets": np.array([i for piece in pieces for i in piece], np.int32),
        "targets_sizes": np.array([len(piece) for piece in pieces], np.int32),
    }
    found = bound(example, np.random.default_rng(0))
    assert all(array.dtype == np.int32 for array in found.values())
    return [found[name].tolist() for name in AssistantTurns.writes]


def test_replies_are_learned_and_their_ends_also_where_the_text_goes_on():
    read, predicted, weights = learned([[5, 6], [7, 8], [9, 10], [11]])
    assert read == [5, 6, 7, 8, 9, 10, 11, EOS]
    # After 7 8 comes 9 in what is read, as in a prompt; EOS is what should be written there.
    assert predicted == [5, 6, 7, 8, EOS, 10, 11, EOS]
    assert weights == [0, 0, 1, 1, 1, 0, 1, 1]


def test_an_end_mark_that_is_the_end_token_is_learned_once():
    read, predicted, weights = learned([[5], [7, EOS], [9], [11, EOS]])
    assert read == predicted == [5, 7, EOS, 9, 11, EOS]
    assert weights == [0, 1, 1, 0, 1, 1]


def test_part_of_a_conversation_is_refused():
    bound = AssistantTurns().bind({"targets": {"eos_id": EOS}})
    example = {"targets": np.arange(3), "targets_sizes": np.array([2, 2])}
    with pytest.raises(TaskError, match="cannot be split"):
        bound(example, np.random.default_rng(0))
