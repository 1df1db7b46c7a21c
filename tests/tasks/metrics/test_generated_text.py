"""Metrics of generated text, by hand and against the libraries that the field uses."""

import math

import pytest

from tasks import metrics
from tasks.errors import TaskError


def test_bleu_is_100_for_the_reference_and_sacrebleus_otherwise():
    import sacrebleu

    targets = ["the cat sat on the mat .", "it is a small house ."]
    assert metrics.bleu(targets, targets)["bleu"] == pytest.approx(100)
    predictions = ["the cat is on the mat .", "it is a house ."]
    expected = sacrebleu.corpus_bleu(predictions, [targets], tokenize="intl").score
    assert metrics.bleu(targets, predictions)["bleu"] == pytest.approx(expected)


def test_rouge_by_hand():
    # "the cat sat" and "the cat ran": two of three words, one of two pairs, and a longest
    # common subsequence of two.
    values = metrics.rouge(["the cat sat"], ["the cat ran"])
    assert values["rouge1"] == pytest.approx(200 / 3)
    assert values["rouge2"] == pytest.approx(50)
    assert values["rougeLsum"] == pytest.approx(200 / 3)


def test_bleu_and_rouge_take_several_references():
    import sacrebleu

    # The second row has one alone.
    targets = [["the dog sat on the mat", "the cat sat on a mat"], "it is a small house"]
    predictions = ["the cat sat on the mat", "it is a house"]
    streams = [[targets[0][0], targets[1]], [targets[0][1], None]]
    expected = sacrebleu.corpus_bleu(predictions, streams, tokenize="intl").score
    assert metrics.bleu(targets, predictions)["bleu"] == pytest.approx(expected)
    several = metrics.bleu([["no word of it", "a b c d"]], ["a b c d"])
    assert several["bleu"] == pytest.approx(100)
    # Two of three words of the one, all of the other's two and one too many: 2/3 and 4/5.
    found = metrics.rouge([["the cat ran", "the cat"]], ["the cat sat"])
    assert found["rouge1"] == pytest.approx(80)
    assert metrics.rouge([["the cat ran"]], ["the cat sat"]) == metrics.rouge(
        ["the cat ran"], ["the cat sat"]
    )


def test_a_row_without_a_reference_is_refused():
    for name in ("bleu", "chrf", "nist", "rouge"):
        with pytest.raises(TaskError, match=rf"metrics.{name} got \[\]: each row needs a ref"):
            getattr(metrics, name)([[], ["d"]], ["a b", "d"])


def test_chrf_is_sacrebleus_with_one_or_several_references():
    import sacrebleu

    targets, predictions = ["das Haus ist klein", "ja"], ["das Häuschen ist klein", "nein"]
    expected = sacrebleu.corpus_chrf(predictions, [targets]).score
    assert metrics.chrf(targets, predictions) == {"chrf": pytest.approx(expected)}
    plus = sacrebleu.corpus_chrf(predictions, [targets], word_order=2).score
    assert (
        metrics.chrf(targets, predictions, word_order=2)["chrf"] == pytest.approx(plus) != expected
    )
    several = [targets[0], ["ja", "nein"]]  # one of them has two
    assert expected < metrics.chrf(several, predictions)["chrf"] < 100
    assert metrics.chrf([["ja", "nein"]], ["nein"])["chrf"] == pytest.approx(100)


def test_chrf_by_hand():
    # Characters a, b against a, c, without n-grams of three and more: precision and recall 1/2 of
    # single ones, 0 of pairs. Each is averaged over the two orders, 1/4, and so is F2.
    assert metrics.chrf(["ac"], ["ab"])["chrf"] == pytest.approx(25)


def test_nist_by_hand():
    # One reference, a a b c: a has log2(4/2) = 1 bit, b and c log2(4/1) = 2. Of the prediction a b
    # a c are found a, b, a, c: 6 bits of 4 words; of its pairs ab, ba, ac the first, which has
    # log2(2/1) = 1 bit. 6/4 + 1/3, and no penalty at equal length.
    assert metrics.nist(["a a b c"], ["a b a c"], n=2) == {"nist": pytest.approx(6 / 4 + 1 / 3)}
    # Two thirds as long as the reference halves the score: of a b c are found a b, 2 log2(3).
    assert metrics.nist(["a b c"], ["A b"], n=1)["nist"] == pytest.approx(math.log2(3) / 2)


def test_nist_is_nltks_of_several_references():
    # The documentation of nltk.translate.nist_score has 3.3709 for these words.
    hypothesis = (
        "It is a guide to action which ensures that the military always obeys the commands of the "
        "party"
    )
    references = [
        "It is a guide to action that ensures that the military will forever heed Party commands",
        "It is the guiding principle which guarantees the military forces always being under the "
        "command of the Party",
        "It is the practical guide for the army always to heed the directions of the party",
    ]
    from nltk.translate.nist_score import corpus_nist

    lower = [text.lower().split() for text in references]
    expected = corpus_nist([lower], [hypothesis.lower().split()])
    assert metrics.nist([references], [hypothesis])["nist"] == pytest.approx(expected)
    assert expected == pytest.approx(3.37, abs=0.3)


def test_texts_shorter_than_the_longest_n_gram_have_a_nist():
    assert metrics.nist(["yes"], ["yes"]) == {"nist": 0}  # the one word has no information
    assert metrics.nist(["yes no"], [""]) == {"nist": 0}
    assert metrics.nist([""], ["yes"]) == {"nist": 0}


def test_meteor_by_hand():
    # All six words in one chunk: 1 - 0.5 (1/6)^3.
    text = "The cat sat on the mat"
    assert metrics.meteor([text], [text.lower()], synonyms=False) == {
        "meteor": pytest.approx(100 * (1 - 0.5 / 216))
    }
    # The, cat and quietly match, in two chunks: precision 3/4, recall 3/5; their mean with nine
    # times the weight on recall is 0.45 / 0.735, the penalty 0.5 (2/3)^3.
    found = metrics.meteor(
        [["nothing", "the cat was sitting quietly"]], ["the cat sat quietly"], synonyms=False
    )
    assert found["meteor"] == pytest.approx(100 * 0.45 / 0.735 * (1 - 0.5 * 8 / 27))
    # Stems match too: "walks" and "walking".
    assert metrics.meteor(["he walks"], ["he walking"], synonyms=False)["meteor"] > 90


def test_meteor_without_wordnets_data_says_what_gets_it(monkeypatch):
    import nltk

    monkeypatch.setattr(nltk.data, "path", [])
    with pytest.raises(
        TaskError, match=r"nltk.downloader wordnet` gets it, and .*synonyms = False"
    ):
        metrics.meteor(["a"], ["b"])
