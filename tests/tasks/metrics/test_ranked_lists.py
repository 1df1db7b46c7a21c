"""NDCG by hand and against scikit-learn."""

import numpy as np
import pytest

from tasks import metrics
from tasks.errors import TaskError


def test_ndcg_by_hand():
    # Gains 3, 0, 2 at places 1, 2, 3: 3 + 0 + 2/2 = 4; in the best order 3 + 2/log2(3).
    found = metrics.ndcg([[3, 0, 2]], [[0.9, 0.8, 0.1]], k=None)
    assert found == {"ndcg": pytest.approx(100 * 4 / (3 + 2 / np.log2(3)))}
    # Of the first place alone, 2 of 3; with 2^relevance - 1, 3 of 7.
    assert metrics.ndcg([[3, 0, 2]], [[0.1, 0.2, 0.3]], k=1)["ndcg@1"] == pytest.approx(200 / 3)
    exponential = metrics.ndcg([[3, 0, 2]], [[0.1, 0.2, 0.3]], k=1, exponential=True)
    assert exponential["ndcg@1"] == pytest.approx(300 / 7)
    # Nothing relevant counts 0.
    assert metrics.ndcg([[1, 0], [0, 0]], [[2, 1], [2, 1]]) == {"ndcg@10": 50}


@pytest.mark.parametrize("seed", range(4))
def test_ndcg_is_scikit_learns_with_equal_scores_too(seed):
    from sklearn.metrics import ndcg_score

    rng = np.random.default_rng(seed)
    relevance, scores = rng.integers(0, 4, (5, 12)), rng.integers(0, 5, (5, 12))
    for k in (1, 5, 12, 20):
        found = metrics.ndcg(relevance, scores, k)[f"ndcg@{k}"]
        assert found == pytest.approx(100 * ndcg_score(relevance, scores, k=k))


def test_what_cannot_be_ranked_is_one_line():
    with pytest.raises(TaskError, match=r"ndcg got 2 targets and 1 predictions in row 0: as many"):
        metrics.ndcg([[1, 0]], [[1]])
    with pytest.raises(TaskError, match=r"ndcg got -1.0: relevances of 0 or more"):
        metrics.ndcg([[1, -1]], [[1, 2]])
    with pytest.raises(TaskError, match="got k 0: 1 or more"):
        metrics.ndcg([[1]], [[1]], k=0)


def test_pairs_in_the_right_order_over_all_pairs_and_over_prompts():
    # Of the first prompt two of three pairs, of the second none and a tie of two; a third has none.
    found = metrics.pairwise_accuracy(
        [[0, 1, 2], [1, 0], [0, 0]], [[3.0, 1.0, 2.0], [5.0, 5.0], [1.0, 2.0]]
    )
    assert found == pytest.approx(
        {"pairwise_accuracy": 100 * 2.5 / 4, "prompt_accuracy": 100 * (2 / 3 + 0.5) / 2}
    )
    assert metrics.pairwise_accuracy([[1, 1]], [[1.0, 2.0]]) == {}


def test_scores_that_are_no_numbers_have_no_order():
    nan = float("nan")
    assert np.isnan(metrics.ndcg([[1, 0], [1, 0]], [[nan, nan], [2, 1]])["ndcg@10"])
    found = metrics.pairwise_accuracy([[0, 1], [0, 1]], [[nan, 1.0], [2.0, 1.0]])
    assert np.isnan([found["pairwise_accuracy"], found["prompt_accuracy"]]).all()
    # The least there is, and so the last.
    assert metrics.ndcg([[1, 0]], [[1.0, -float("inf")]]) == {"ndcg@10": 100}
