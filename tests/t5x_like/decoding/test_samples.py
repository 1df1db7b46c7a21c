"""One of several texts: the likeliest, or one with the answer that most of them have."""

import dataclasses

import numpy as np
import pytest

from t5x_like.decoding import (
    BeamSearch,
    GenerationConfig,
    Greedy,
    Sampling,
    Temperature,
    TextCodec,
    answer_prompts,
    generate,
    generate_text,
)
from t5x_like.decoding.choice import likeliest, majority
from t5x_like.decoding.generate import Generation
from t5x_like.errors import UserError
from tasks.postprocessors import FinalAnswer


def test_the_answer_that_most_chains_of_thought_end_with():
    # Shared worked example: two chains that end with 9, a plain answer of 50.
    texts = [
        "5 + 45 = 50. The answer is 50.",
        "There are 3 and then 6 more. 3 + 6 = 9. The answer is 9.",
        "6 and 3 are 9. The answer is 9.",
    ]
    answers = [FinalAnswer()(text, {}, False) for text in texts]
    assert answers == ["50", "9", "9"]
    assert majority(answers) == (1, 2)


@pytest.mark.parametrize(
    ("answers", "found"),
    [
        (["a", "b", "b", "a"], (0, 2)),  # of as many, the first
        (["", "", None, "7"], (3, 1)),  # what has no answer does not vote
        (["", None], (0, 0)),
        ([[1, 2], [2], [1, 2]], (0, 2)),  # lists cannot be hashed, and are answers
        ([np.array([3]), np.array([4]), np.array([4])], (1, 2)),
        ([1, "1", "1"], (1, 2)),  # a number is no text
    ],
)
def test_a_vote(answers, found):
    assert majority(answers) == found


def test_the_likeliest_is_so_for_each_token():
    def text(score, length):
        return Generation([5] * length, score, False, length)

    # -6 of three tokens is -2 each; -5 of two is -2.5; one that ended at once is -3.
    assert likeliest([text(-5.0, 2), text(-6.0, 3), text(-3.0, 1)]) == 1
    assert likeliest([text(-2.0, 2), text(-1.0, 1)]) == 0


class Letters:
    vocab_size, extra_ids, eos_id, unk_id = 9, 0, 1, 0

    def encode(self, text):
        return [ord(letter) - ord("a") + 2 for letter in text]

    def decode(self, ids):
        return "".join(chr(i + ord("a") - 2) if i >= 2 else "?" for i in ids)


@dataclasses.dataclass
class Feature:
    vocabulary: Letters = dataclasses.field(default_factory=Letters)
    add_eos: bool = False


def test_texts_are_drawn_cut_and_chosen_by_their_answers(bigram):
    model, table = bigram(1, 9, scale=0.7)
    codec = TextCodec(None, Feature(), False)
    config = GenerationConfig(
        6, Sampling(), stop_strings=["b"], eos_ids=[4], samples=7, choice="vote", seed=5
    )

    def answer_of(number, text):  # another for each prompt
        return len(text) % (number + 2)

    texts = ["c", "de"]
    found = generate_text(model, table, codec, texts, config=config, answer_of=answer_of)
    raw = generate(
        model, table, [codec.encode(text) for text in texts], max_new_tokens=6,
        strategy=Sampling(), eos_id=(1, 4), seed=5, samples=7,
    )  # fmt: skip
    for number, one in enumerate(found):
        own = raw[7 * number : 7 * number + 7]
        expected = [Letters().decode(sample.tokens).partition("b")[0] for sample in own]
        assert [sample.text for sample in one.samples] == expected
        chosen, votes = majority([answer_of(number, text) for text in expected])
        assert (one.text, one.votes) == (expected[chosen], votes)
        assert votes > 1
    assert any(one.votes < 7 for one in found)  # or nothing was shown
    best = dataclasses.replace(config, choice="likelihood", stop_strings=())
    prompts = [codec.encode(text) for text in texts]
    for number, one in enumerate(answer_prompts(model, table, codec, prompts, config=best)):
        own = raw[7 * number : 7 * number + 7]
        assert one.text == Letters().decode(own[likeliest(own)].tokens)
        assert one.votes is None
    with pytest.raises(UserError, match="eos_ids has 9, but the ids of the model end with 8"):
        answer_prompts(model, table, codec, prompts, config=GenerationConfig(6, eos_ids=[9]))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens is 0"),
        ({"max_new_tokens": 2.5}, "max_new_tokens is 2.5"),
        ({"min_new_tokens": -1}, "min_new_tokens is -1"),
        ({"min_new_tokens": 9}, "min_new_tokens is 9, but max_new_tokens 8"),
        ({"repetition_penalty": 0}, "repetition_penalty is 0"),
        ({"repetition_penalty": float("nan")}, "repetition_penalty is nan"),
        ({"stop_strings": "\n"}, "stop_strings is one text"),
        ({"eos_ids": 3}, "eos_ids is 3: give a list"),
        ({"eos_ids": [-1]}, "a token of eos_ids is -1"),
        ({"samples": 0}, "samples is 0"),
        ({"samples": 4}, r"samples is 4, but Greedy\(\) draws nothing"),
        ({"samples": 4, "strategy": BeamSearch()}, "draws nothing"),
        ({"choice": "best"}, "choice is 'best': give 'likelihood', 'vote' or a SampleAndRank"),
    ],
)
def test_settings_that_mean_nothing_are_refused_in_one_line(arguments, said):
    with pytest.raises(UserError, match=said) as raised:
        GenerationConfig(**{"max_new_tokens": 8, **arguments})
    assert "\n" not in str(raised.value)


def test_what_is_said_of_a_generation_is_what_is_not_usual():
    assert str(GenerationConfig(64)) == "Greedy(), max_new_tokens=64"
    config = GenerationConfig(
        64, Sampling((Temperature(0.7),)), 2, 1.2, ["\n"], [5], samples=40, choice="vote", seed=3
    )
    assert str(config) == (
        "Sampling(filters=(Temperature(temperature=0.7),)), max_new_tokens=64, min_new_tokens=2, "
        "repetition_penalty=1.2, stop_strings=['\\n'], eos_ids=[5], samples=40, choice=vote, seed=3"
    )
    assert str(GenerationConfig(8, Greedy(), seed=3)) == "Greedy(), max_new_tokens=8"
