"""Causal and prefix language modelling."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks import objectives
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


def test_causal_lm_fills_its_rows_with_a_stream_that_eos_divides():
    objective = objectives.CausalLM().bind(SPECS)
    assert objective.chunk_length({"targets": 256}) == 256 and objective.document_eos
    whole = objectives.CausalLM(concatenate=False).bind(SPECS)
    assert whole.chunk_length({"targets": 256}) is None and not whole.document_eos
    assert draw(objective, 5)["targets"].tolist() == [1000, 1001, 1002, 1003, 1004]
