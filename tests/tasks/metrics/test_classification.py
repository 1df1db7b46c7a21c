"""Metrics of labels, by hand and against scikit-learn."""

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


def test_f1_of_three_classes_is_refused():
    """By its rule class 2, which is no class, would count for class 1 where 0 is right."""
    with pytest.raises(TaskError, match=r"f1 got the target 2: .* metrics.macro_f1"):
        metrics.f1([0, 2], [2, 2])


def test_matthews_by_hand_and_undefined():
    # TP 2, TN 1, FP 1, FN 1: (2 x 1 - 1 x 1) / sqrt(3 x 3 x 2 x 2) = 1/6.
    value = metrics.matthews_corrcoef([1, 1, 1, 0, 0], [1, 1, 0, 0, 1])
    assert value["matthews_corrcoef"] == pytest.approx(100 / 6)
    assert metrics.matthews_corrcoef([1, 0], [1, 1]) == {"matthews_corrcoef": 0}


def test_macro_f1_by_hand():
    # CommitmentBank, three classes: of 0 and of 1 each one hit in three, 2/3; of 2 all, 1.
    assert metrics.macro_f1([0, 0, 1, 2], [0, 1, 1, 2]) == {"macro_f1": pytest.approx(700 / 9)}
    # A class that is nowhere counts 0 where the number of classes is given, and else not at all.
    assert metrics.macro_f1([0, 1], [0, 1]) == {"macro_f1": 100}
    assert metrics.macro_f1([0, 1], [0, 1], classes=3) == {"macro_f1": pytest.approx(200 / 3)}


def test_what_is_no_class_is_a_miss_of_the_right_one_alone():
    # Class 0 one hit of one; class 1 none.
    assert metrics.macro_f1([0, 1], [0, -1]) == {"macro_f1": 50}
    assert metrics.macro_f1([-1], [-1]) == {"macro_f1": 0}
    with pytest.raises(TaskError, match="of 3 classes got the target 3: 0 to 2"):
        metrics.macro_f1([0, 3], [0, 0], classes=3)
    with pytest.raises(TaskError, match=r"macro_f1.classes is 0: 1 or more"):
        metrics.macro_f1([0], [0], classes=0)


@pytest.mark.parametrize("seed", range(5))
def test_labels_are_measured_as_scikit_learn_does(seed):
    from sklearn import metrics as sklearn_metrics

    rng = np.random.default_rng(seed)
    true, guess = rng.integers(0, 2, 50), rng.integers(0, 2, 50)
    three = rng.integers(-1, 2, 50)
    assert metrics.f1(true, guess)["f1"] == pytest.approx(
        100 * sklearn_metrics.f1_score(true, guess)
    )
    # T5's `mean_3class_f1`.
    macro = sklearn_metrics.fbeta_score(
        true, three, beta=1, labels=range(3), average="macro", zero_division=0
    )
    assert metrics.macro_f1(true, three, 3)["macro_f1"] == pytest.approx(100 * macro)
    for other in (guess, three):
        expected = 100 * sklearn_metrics.matthews_corrcoef(true, other)
        assert metrics.matthews_corrcoef(true, other)["matthews_corrcoef"] == pytest.approx(
            expected
        )


def test_multirc_is_of_answers_and_of_whole_questions():
    # Two questions: (1, 0, 1) found, (1, 1) answered (1, 0). 3 hits of 4 and 3: 6/7.
    targets = [(7, 1), (7, 0), (7, 1), (8, 1), (8, 1)]
    assert metrics.multirc(targets, [1, 0, 1, 1, 0]) == {"f1a": pytest.approx(600 / 7), "em": 50}
    # In any order; and what is no label is wrong, of the answer and of its question.
    swapped = [targets[i] for i in (3, 0, 4, 1, 2)]
    assert metrics.multirc(swapped, [1, 1, 0, 0, 1]) == {"f1a": pytest.approx(600 / 7), "em": 50}
    assert metrics.multirc([(1, 0), (2, 1)], [-1, 1]) == {"f1a": pytest.approx(200 / 3), "em": 50}


@pytest.mark.parametrize(("targets", "predictions"), [([], []), ([1], [1, 2])])
def test_lists_that_do_not_match_are_refused(targets, predictions):
    with pytest.raises(TaskError, match="the same number of both"):
        metrics.accuracy(targets, predictions)
