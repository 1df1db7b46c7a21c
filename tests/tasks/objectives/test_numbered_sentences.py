"""Numbers of sentences beside what an objective gives."""

import pickle

import numpy as np
import pytest

from tasks import objectives
from tasks.errors import TaskError
from tasks.objectives.numbered_sentences import sentence_ids
from tasks.vocabularies import ByteVocabulary

BYTES = ByteVocabulary()
CLS, SEP = 382, 381


def encoded(text):
    return np.array(BYTES.encode(text), np.int32)


def bound(objective, feature="targets", **settings):
    return objectives.NumberedSentences(objective, **settings).bind({feature: BYTES.spec()})


def flags(text):
    return np.array([digit == "1" for digit in text], np.bool_)


@pytest.mark.parametrize(
    ("stops", "none", "expected"),
    [
        # Two sentences; a run of stops ends one, and the last needs no stop.
        ("00100011000", "00000000000", [1, 1, 1, 2, 2, 2, 2, 2, 3, 3, 3]),
        # What stands between parts them, whether the one before has a stop or not.
        ("0000100000", "1001001101", [0, 1, 1, 0, 2, 3, 0, 0, 4, 0]),
        ("111", "000", [1, 1, 1]),
        ("000", "111", [0, 0, 0]),
        ("", "", []),
    ],
)
def test_sentences_are_counted_from_one(stops, none, expected):
    found = sentence_ids(flags(stops), flags(none))
    assert found.dtype == np.int32 and found.tolist() == expected


def test_sentences_are_those_of_the_text_whatever_is_hidden():
    """Every full stop of the inputs may be a mask."""
    text = "One. Two... Three"
    # [CLS], "One.", " Two...", " Three", [SEP].
    expected = [0, *[1] * 4, *[2] * 7, *[3] * 6, 0]
    plain = objectives.MaskedLM(rate=0.6, mask_share=1.0, random_share=0.0)
    numbered = bound(plain)
    assert numbered.writes == (*plain.writes, "sentence_ids")
    hidden_stops = 0
    for seed in range(5):
        made = numbered({"targets": encoded(text)}, np.random.default_rng(seed))
        assert made.pop("sentence_ids").tolist() == expected
        again = plain.bind({"targets": BYTES.spec()})(
            {"targets": encoded(text)}, np.random.default_rng(seed)
        )
        assert all(np.array_equal(made[name], again[name]) for name in again)
        stops = made["targets"] == encoded(".")[0]
        hidden_stops += (made["inputs"] != made["targets"])[stops].sum()
    assert hidden_stops > 5


def test_of_a_question_and_a_text_the_text_alone_may_be_numbered():
    windows = objectives.SpanWindows(question_length=8)
    example = {
        "inputs": encoded("Who? I."), "inputs_pair": encoded("It was. Me."),
        "inputs_pair_begins": np.arange(11), "inputs_pair_ends": np.arange(1, 12),
        "answer_begins": [8], "answer_ends": [10],
    }  # fmt: skip
    numbered = bound(windows, "inputs", token_types=(1,)).of_length({"inputs": 64})
    made = numbered(example, np.random.default_rng(0))
    assert made["inputs"].tolist() == [CLS, *encoded("Who? I."), SEP, *encoded("It was. Me."), SEP]
    assert made["sentence_ids"].tolist() == [*[0] * 9, *[1] * 7, *[2] * 4, 0]
    everything = bound(windows, "inputs").of_length({"inputs": 64})
    ids = everything(example, np.random.default_rng(0))["sentence_ids"]
    assert ids.tolist() == [0, *[1] * 7, 0, *[2] * 7, *[3] * 4, 0]


def test_a_long_text_becomes_as_many_windows_as_without_numbers():
    windows = objectives.SpanWindows(question_length=4, stride=8)
    lengths, sizes = {"inputs": 24}, {"inputs": np.array([4]), "inputs_pair": np.array([40])}
    plain = windows.bind({"inputs": BYTES.spec()}).of_length(lengths)
    numbered = bound(windows, "inputs").of_length(lengths)
    assert numbered.row_counts(sizes) == plain.row_counts(sizes) > 1
    assert (numbered.texts, numbered.room, numbered.scalars) == (
        plain.texts, plain.room, plain.scalars
    )  # fmt: skip


def test_what_the_engine_asks_of_an_objective_is_that_of_the_wrapped_one():
    """It is sent to other processes too."""
    pairs = bound(objectives.SentencePairs())
    assert pairs.draws_other and pairs.document_eos
    assert pickle.loads(pickle.dumps(pairs)).chunk_length({"targets": 64}) == 2 * 61
    assert not hasattr(bound(objectives.MaskedLM()), "of_length")
    settings = objectives.NumberedSentences(objectives.MaskedLM())
    assert not settings.adds_eos and not hasattr(settings, "positioned")
    assert pickle.loads(pickle.dumps(settings)) == settings


def test_what_cannot_be_numbered_is_said_in_one_line():
    with pytest.raises(TaskError, match=r"NumberedSentences\.objective is CausalLM"):
        objectives.NumberedSentences(objectives.CausalLM())
    with pytest.raises(TaskError, match=r"NumberedSentences\.objective is Choices"):
        objectives.NumberedSentences(objectives.Choices())
    spec = BYTES.spec() | {"full_stop_ids": []}
    with pytest.raises(TaskError, match=r"set NumberedSentences\.full_stop_ids"):
        objectives.NumberedSentences(objectives.MaskedLM()).bind({"targets": spec})
