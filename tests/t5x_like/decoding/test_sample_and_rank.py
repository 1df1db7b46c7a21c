"""Of several texts the best by what the model itself says of them (Thoppilan et al. 2022, 6.1)."""

import dataclasses

import numpy as np
import pytest

from t5x_like.decoding import GenerationConfig, SampleAndRank, Sampling, TextCodec, generate_text
from t5x_like.errors import UserError

# Shared worked example: what is said of three candidates.
A = {"SENSIBLE": 0.9, "SPECIFIC": 0.5, "INTERESTING": 0.2, "UNSAFE": 0.95}
B = {"SENSIBLE": 1.0, "SPECIFIC": 1.0, "INTERESTING": 1.0, "UNSAFE": 0.70}
C = {"SENSIBLE": 0.8, "SPECIFIC": 0.9, "INTERESTING": 0.7, "UNSAFE": 0.85}


def test_the_best_of_those_that_are_safe_enough_answers():
    rank = SampleAndRank()
    assert rank.score(A) == pytest.approx(3.4) and rank.score(C) == pytest.approx(4.0)
    assert rank.score(B) == 5  # the best, were it safe
    assert rank.best([A, B, C]) == 2
    assert rank.best([A, B]) == 0
    assert rank.best([C, A, C]) == 0  # of equals the first
    assert rank.best([B, B]) is None
    assert SampleAndRank(thresholds={}).best([A, B, C]) == 1


class Characters:
    """Ids from 2 on, each with the space before it, if there is one; 1 ends a text."""

    vocab_size, eos_id, letters = 9, 1, "abcSU10"

    def encode(self, text):
        return [self.letters.index(letter) + 2 for letter in text.replace(" ", "")]

    def decode(self, ids):
        return "".join(self.letters[i - 2] for i in ids if i >= 2)


@dataclasses.dataclass
class Feature:
    vocabulary: Characters = dataclasses.field(default_factory=Characters)
    add_eos: bool = False


def test_probabilities_are_the_models_own_after_prompt_text_and_attribute(bigram, log_probability):
    model, table = bigram(3, 9, scale=1.2)
    encode = Characters().encode
    rank = SampleAndRank({"S": 3.0, "U": 1.0}, {"U": 0.4}, {"U": "0"}, fallback="b")
    config = GenerationConfig(4, Sampling(), samples=5, choice=rank, seed=2)

    def probability(context, attribute, rating):
        weights = {
            each: np.exp(
                log_probability(table, encode(f"{context} {attribute}"), encode(f" {each}"))
            )
            for each in "10"
        }
        return weights[rating] / sum(weights.values())

    texts = ["a", "ab"]
    codec = TextCodec(None, Feature(), False)
    found = generate_text(model, table, codec, texts, config=config)
    kept = 0
    for prompt, one in zip(texts, found, strict=True):
        assert len(one.samples) == 5
        for sample in one.samples:
            context = prompt + sample.text
            expected = {"S": probability(context, "S", "1"), "U": probability(context, "U", "0")}
            assert sample.ratings == pytest.approx(expected, abs=1e-5)
        best = rank.best([sample.ratings for sample in one.samples])
        kept += sum(sample.ratings["U"] >= 0.4 for sample in one.samples)
        assert one.text == one.samples[best].text and one.ratings == one.samples[best].ratings
    assert 0 < kept < 10  # or nothing was dropped
    # Where nothing is safe enough the fallback is said, of a single text too.
    for samples in (1, 5):
        strict = dataclasses.replace(rank, thresholds={"U": 1.0})
        none = dataclasses.replace(config, choice=strict, samples=samples)
        answers = generate_text(model, table, codec, texts, config=none)
        assert [(one.text, len(one.samples)) for one in answers] == [("b", samples)] * 2


def test_a_text_follows_its_prompt_without_an_end_token_between():
    codec = TextCodec(Feature(add_eos=True), Feature(add_eos=True), False)
    prompt = codec.encode("ab")
    assert prompt == [2, 3, 1]
    assert codec.continued(prompt, " b ") == Characters().encode("ab b")
    assert codec.continued(prompt, "") == Characters().encode("ab")
    assert codec.end_of_inputs == [1]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"ratings": ["1"]}, "ratings is \\['1'\\]: give two or more"),
        ({"thresholds": {"UNSAFE": 80}}, "thresholds has 80 for 'UNSAFE': give a probability"),
        ({"desired": {"UNSAFE": "no"}}, "desired has 'no' for 'UNSAFE': give one of '1', '0'"),
        ({"weights": {"SENSIBLE": float("nan")}}, "weights has nan for 'SENSIBLE'"),
        ({"weights": {}, "thresholds": {}}, "neither weights nor thresholds"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, said):
    with pytest.raises(UserError, match=said):
        SampleAndRank(**settings)


def test_how_a_text_was_chosen_is_said_of_one_sample_too():
    rank = SampleAndRank({"S": 1.0}, {})
    assert "choice=SampleAndRank(weights={'S': 1.0}" in str(GenerationConfig(8, choice=rank))
