"""Metrics against hand calculations and the libraries that T5 computed them with."""

import numpy as np
import pytest

from tasks import metrics
from tasks.errors import TaskError


def test_exact_match_and_accuracy_are_shares():
    assert metrics.exact_match(["a", "b", "c"], ["a", "B", "c"])["exact_match"] == pytest.approx(
        200 / 3
    )
    # -1 is what an output that is no label becomes: never right.
    assert metrics.accuracy([0, 1, 1, 0], [0, -1, 1, -1]) == {"accuracy": 50}


def test_f1_counts_invalid_predictions_as_the_wrong_class():
    # True 1: predictions 1, -1 (becomes 0); true 0: predictions -1 (becomes 1), 0.
    # One hit, two positives on either side: 2 x 1 / 4.
    assert metrics.f1([1, 1, 0, 0], [1, -1, -1, 0]) == {"f1": 50}
    assert metrics.f1([0, 0], [0, 0]) == {"f1": 0}


def test_matthews_by_hand_and_undefined():
    # TP 2, TN 1, FP 1, FN 1: (2 x 1 - 1 x 1) / sqrt(3 x 3 x 2 x 2) = 1/6.
    value = metrics.matthews_corrcoef([1, 1, 1, 0, 0], [1, 1, 0, 0, 1])
    assert value["matthews_corrcoef"] == pytest.approx(100 / 6)
    assert metrics.matthews_corrcoef([1, 0], [1, 1]) == {"matthews_corrcoef": 0}


@pytest.mark.parametrize("seed", range(5))
def test_correlations_and_f1_are_those_of_scikit_learn_and_scipy(seed):
    from scipy import stats
    from sklearn import metrics as sklearn_metrics

    rng = np.random.default_rng(seed)
    true, guess = rng.integers(0, 2, 50), rng.integers(0, 2, 50)
    three = rng.integers(-1, 2, 50)
    assert metrics.f1(true, guess)["f1"] == pytest.approx(
        100 * sklearn_metrics.f1_score(true, guess)
    )
    for other in (guess, three):
        expected = 100 * sklearn_metrics.matthews_corrcoef(true, other)
        assert metrics.matthews_corrcoef(true, other)["matthews_corrcoef"] == pytest.approx(
            expected
        )
    x, y = rng.integers(0, 26, 40) / 5, rng.integers(0, 26, 40) / 5
    pearson, spearman = stats.pearsonr(x, y)[0], stats.spearmanr(x, y)[0]
    assert metrics.pearson_corrcoef(x, y)["pearson_corrcoef"] == pytest.approx(100 * pearson)
    assert metrics.spearman_corrcoef(x, y)["spearman_corrcoef"] == pytest.approx(100 * spearman)


def test_a_constant_prediction_has_no_correlation():
    assert metrics.pearson_corrcoef([1, 2, 3], [2, 2, 2]) == {"pearson_corrcoef": 0}
    assert metrics.spearman_corrcoef([1, 2, 3], [2, 2, 2]) == {"spearman_corrcoef": 0}


def test_squad_takes_the_best_answer_without_articles_and_punctuation():
    values = metrics.squad(
        [["The Eiffel Tower!", "Paris"], ["ten tall men"]], ["eiffel tower", "men"]
    )
    # The first is exact. The second shares one word of one (precision 1) and of three
    # (recall 1/3): F1 is 2 x (1/3) / (4/3) = 1/2.
    assert values == {"em": 50, "f1": pytest.approx(75)}


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


@pytest.mark.parametrize(("targets", "predictions"), [([], []), ([1], [1, 2])])
def test_lists_that_do_not_match_are_refused(targets, predictions):
    with pytest.raises(TaskError, match="the same number of both"):
        metrics.accuracy(targets, predictions)
