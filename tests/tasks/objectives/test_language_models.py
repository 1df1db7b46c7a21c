"""Causal and prefix language modelling."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks import objectives
from tasks.errors import TaskError
from tasks.objectives import prefix_lm
from tasks.vocabularies import ByteVocabulary

# Raffel et al. 2020, figure 2 and table 3.
SENTENCE = ["Thank", "you", "for", "inviting", "me", "to", "your", "party", "last", "week", "."]


SPECS = {"targets": ByteVocabulary(extra_ids=2000).spec()}


def draw(objective, length, seed=0):
    tokens = np.arange(1000, 1000 + length, dtype=np.int32)
    return objective({"targets": tokens}, np.random.default_rng(seed))


def test_prefix_lm_of_the_papers_sentence():
    example = prefix_lm.split(np.arange(11, dtype=np.int32), prefix=4)
    assert [SENTENCE[i] for i in example["inputs"]] == ["Thank", "you", "for", "inviting"]
    assert [SENTENCE[i] for i in example["targets"]] == SENTENCE[4:]


@settings(max_examples=100, deadline=None)
@given(length=st.integers(0, 300), seed=st.integers(0, 2**32))
def test_prefix_and_rest_are_the_text(length, seed):
    example = draw(objectives.PrefixLM(), length, seed)
    joined = np.concatenate([example["inputs"], example["targets"]])
    assert joined.tolist() == list(range(1000, 1000 + length))
    if length > 1:
        assert len(example["inputs"]) and len(example["targets"])


def test_every_prefix_length_is_equally_likely():
    rng = np.random.default_rng(0)
    tokens = np.arange(11, dtype=np.int32)
    counts = np.bincount(
        [len(objectives.PrefixLM()({"targets": tokens}, rng)["inputs"]) for _ in range(10_000)]
    )
    assert counts[0] == 0 and len(counts) == 11
    # 1000 each; the standard deviation is 30.
    assert np.abs(counts[1:] - 1000).max() < 150


def test_prefix_lm_chunks_fit_either_feature_with_eos():
    objective = objectives.PrefixLM().bind(SPECS)
    length = objective.chunk_length({"inputs": 512, "targets": 256})
    longest = prefix_lm.split(np.arange(length), length - 1)["inputs"]
    assert len(longest) + 1 <= 512
    assert len(prefix_lm.split(np.arange(length), 1)["targets"]) + 1 == 256


def test_a_fixed_prefix_leaves_no_padding():
    objective = objectives.FixedPrefixLM(63).bind(SPECS)
    lengths = {"inputs": 64, "targets": 64}
    assert objective.chunk_length(lengths) == 126
    example = draw(objective, 126)
    assert example["inputs"].tolist() == list(range(1000, 1063))  # and EOS each
    assert example["targets"].tolist() == list(range(1063, 1126))
    # The rest of a corpus.
    for length, prefix in ((70, 63), (63, 62), (1, 0), (0, 0)):
        example = draw(objective, length)
        sizes = len(example["inputs"]), len(example["targets"])
        assert sizes == (prefix, length - prefix)


def test_a_fixed_prefix_that_does_not_fit_is_refused():
    with pytest.raises(TaskError, match=r"\['inputs'\] is 63: .* 63 and EOS need 64"):
        objectives.FixedPrefixLM(63).chunk_length({"inputs": 63, "targets": 64})
    with pytest.raises(TaskError, match="prefix_length is 0: 1 or more"):
        objectives.FixedPrefixLM(0)


def test_causal_lm_fills_its_rows_with_a_stream_that_eos_divides():
    objective = objectives.CausalLM().bind(SPECS)
    assert objective.chunk_length({"targets": 256}) == 256 and objective.document_eos
    whole = objectives.CausalLM(concatenate=False).bind(SPECS)
    assert whole.chunk_length({"targets": 256}) is None and not whole.document_eos
    assert draw(objective, 5)["targets"].tolist() == [1000, 1001, 1002, 1003, 1004]
