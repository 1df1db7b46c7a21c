"""Noise on inputs, but for the token that they begin with."""

import numpy as np
import pytest

from tasks.errors import TaskError
from tasks.objectives import LocalShuffling, NoisedInputs, TokenMasking

SPEC = {"vocab_size": 40, "extra_ids": 4, "eos_id": 1, "unk_id": 2, "mask_id": None}
TEXT = np.arange(3, 33, dtype=np.int32)


def test_no_token_moves_further_than_the_distance_and_some_move_as_far():
    shuffle = LocalShuffling(3).bind(SPEC)
    moved = set()
    for seed in range(200):
        found = shuffle(np.arange(30), np.random.default_rng(seed))
        assert sorted(found) == list(range(30))
        moved |= set((np.argsort(found) - np.arange(30)).tolist())
    assert moved == set(range(-3, 4))


def test_the_first_token_and_the_targets_stay():
    noise = NoisedInputs((TokenMasking(0.5, mask_id=39), LocalShuffling(2)), kept=1)
    bound = noise.bind({"inputs": SPEC, "targets": SPEC})
    example = {"inputs": np.append(np.int32(38), TEXT), "targets": TEXT}
    found = bound(example, np.random.default_rng(0))
    assert found["inputs"][0] == 38 and found["inputs"].dtype == np.int32
    np.testing.assert_array_equal(found["targets"], TEXT)
    rest = found["inputs"][1:]
    assert rest.size == TEXT.size and 5 < (rest == 39).sum() < 25
    assert set(rest.tolist()) <= {39, *TEXT.tolist()}
    again = bound(example, np.random.default_rng(0))
    np.testing.assert_array_equal(found["inputs"], again["inputs"])


def test_what_cannot_be_is_refused():
    with pytest.raises(TaskError, match="corruptions is empty"):
        NoisedInputs(())
    with pytest.raises(TaskError, match="kept is -1"):
        NoisedInputs(kept=-1)
    with pytest.raises(TaskError, match="distance is 0"):
        LocalShuffling(0)
