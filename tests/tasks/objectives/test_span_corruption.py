"""Span corruption with given spans, and what holds for random ones."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks import objectives
from tasks.errors import TaskError
from tasks.objectives import span_corruption
from tasks.vocabularies import ByteVocabulary

# Raffel et al. 2020, figure 2 and table 3.
SENTENCE = ["Thank", "you", "for", "inviting", "me", "to", "your", "party", "last", "week", "."]


SENTINELS = {100: "<X>", 99: "<Y>", 98: "<Z>"}


SPECS = {"targets": ByteVocabulary(extra_ids=2000).spec()}


def words(ids):
    return " ".join(SENTINELS.get(i) or SENTENCE[i] for i in ids)


def bound(**options):
    return objectives.SpanCorruption(**options).bind(SPECS)


def draw(objective, length, seed=0):
    tokens = np.arange(1000, 1000 + length, dtype=np.int32)
    return objective({"targets": tokens}, np.random.default_rng(seed))


def test_span_corruption_of_the_papers_sentence():
    in_span = np.isin(SENTENCE, ["for", "inviting", "last"])
    example = span_corruption.corrupt(np.arange(11, dtype=np.int32), in_span, first_sentinel=100)
    assert words(example["inputs"]) == "Thank you <X> me to your party <Y> week ."
    assert words(example["targets"]) == "<X> for inviting <Y> last <Z>"


@pytest.mark.parametrize(
    ("inputs", "span", "raw", "targets"),
    [
        (512, 3, 568, 114),  # T5 (Raffel et al. 2020), 512 inputs and 114 targets
        (1024, 3, 1137, 229),  # mT5's pre-training configuration
        # ByT5's, spans of 20 bytes: round(.15 x 1193) = 179 dropped, round(179 / 20) = 9 spans,
        # 1193 - 179 + 9 + EOS = 1024 and 179 + 9 + EOS = 189.
        (1024, 20, 1193, 189),
    ],
)
def test_raw_text_fills_the_inputs_exactly(inputs, span, raw, targets):
    objective = bound(mean_span_length=span)
    assert objective.chunk_length({"inputs": inputs, "targets": targets}) == raw
    example = draw(objective, raw)
    assert len(example["inputs"]) + 1 == inputs
    assert len(example["targets"]) + 1 == targets


def test_targets_that_are_too_short_say_what_is_needed():
    with pytest.raises(TaskError, match="is 113: span corruption of 512 inputs makes 114"):
        bound().chunk_length({"inputs": 512, "targets": 113})
    with pytest.raises(TaskError, match="a length of 'targets' is needed"):
        bound().chunk_length({"inputs": 512})
    with pytest.raises(TaskError, match=r"TASK_FEATURE_LENGTHS\['inputs'\] is 2: .* 3 or more"):
        bound().chunk_length({"inputs": 2, "targets": 10})


def test_a_vocabulary_without_enough_sentinels_is_refused():
    with pytest.raises(TaskError, match="extra_ids=0"):
        objectives.SpanCorruption().bind({"targets": ByteVocabulary(extra_ids=0).spec()})
    few = objectives.SpanCorruption().bind({"targets": ByteVocabulary(extra_ids=20).spec()})
    with pytest.raises(TaskError, match="28 spans, the vocabulary has 20 sentinels"):
        few.chunk_length({"inputs": 512, "targets": 114})


@settings(max_examples=150, deadline=None)
@given(
    length=st.integers(0, 600),
    density=st.floats(0.02, 0.95),
    span=st.floats(1, 20),
    seed=st.integers(0, 2**32),
)
def test_inputs_and_targets_hold_every_token_once_and_in_order(length, density, span, seed):
    objective = bound(noise_density=density, mean_span_length=span)
    example = draw(objective, length, seed)
    sentinel_range = range(objective.first_sentinel - 2000 + 1, objective.first_sentinel + 1)
    # The tokens are 1000 and up; the sentinels of this vocabulary lie between 259 and 2258.
    tokens = np.arange(10_000, 10_000 + length, dtype=np.int32)
    example = objective({"targets": tokens}, np.random.default_rng(seed))
    dropped = {}
    for token in example["targets"].tolist():
        if token in sentinel_range:
            dropped[token] = current = []
        else:
            current.append(token)
    restored = []
    for token in example["inputs"].tolist():
        restored.extend(dropped.pop(token) if token in sentinel_range else [token])
    assert restored == tokens.tolist()
    assert length == 1 or not dropped


@settings(max_examples=100, deadline=None)
@given(length=st.integers(2, 600), seed=st.integers(0, 2**32))
def test_the_fast_way_is_what_corrupt_gives_for_the_same_spans(length, seed):
    objective = bound()
    example = draw(objective, length, seed)
    tokens = np.arange(1000, 1000 + length, dtype=np.int32)
    tokens_10k = tokens + 9000
    example = objective({"targets": tokens_10k}, np.random.default_rng(seed))
    in_span = ~np.isin(tokens_10k, example["inputs"])
    slow = span_corruption.corrupt(tokens_10k, in_span, objective.first_sentinel)
    assert example["inputs"].tolist() == slow["inputs"].tolist()
    assert example["targets"].tolist() == slow["targets"].tolist()
    assert example["inputs"].dtype == example["targets"].dtype == np.int32


def test_rate_and_span_length_are_as_asked_over_10000_examples():
    objective = bound(noise_density=0.15, mean_span_length=3.0)
    rng = np.random.default_rng(1)
    dropped = spans = total = 0
    first, lengths = np.zeros(568), []
    tokens = np.arange(10_000, 10_568, dtype=np.int32)
    for _ in range(10_000):
        targets = objective({"targets": tokens}, rng)["targets"]
        is_token = targets >= 10_000
        dropped += is_token.sum()
        spans += (~is_token).sum()
        total += 568
        first[targets[is_token] - 10_000] += 1
        lengths.extend(np.diff(np.flatnonzero(np.append(~is_token, True))) - 1)
    assert dropped / total == pytest.approx(0.15, rel=0.02)
    assert dropped / spans == pytest.approx(3.0, rel=0.02)
    # Cutting 85 tokens into 28 segments uniformly makes a segment of one token with
    # probability 27 / 84: the chance that a given place after a token is a cut.
    assert np.mean(np.array(lengths) == 1) == pytest.approx(27 / 84, rel=0.02)
    # No place in the middle is favoured: 15% each, within five standard errors of 0.0036.
    middle = first[100:468] / 10_000
    assert np.abs(middle - middle.mean()).max() < 5 * 0.0036


@pytest.mark.parametrize("objective", [objectives.SpanCorruption(), objectives.PrefixLM()])
def test_the_generator_alone_decides(objective):
    objective = objective.bind(SPECS)
    tokens = np.arange(10_000, 10_568, dtype=np.int32)
    before = tokens.copy()
    drawn = [
        objective({"targets": tokens}, np.random.default_rng(seed))["inputs"].tolist()
        for seed in (7, 7, 8)
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    assert (tokens == before).all()


@pytest.mark.parametrize("bad", [{"noise_density": 0}, {"noise_density": 1.0}])
def test_settings_out_of_range_are_refused(bad):
    with pytest.raises(TaskError, match="noise_density"):
        objectives.SpanCorruption(**bad)
