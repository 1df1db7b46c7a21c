"""GPT-3's classifier of documents and its draw (Brown et al. 2020, appendix A)."""

from collections import Counter

import numpy as np
import pytest

from tasks import filters
from tasks.errors import TaskError
from tasks.filters import quality

GOOD = [f"the study of {x} shows that {y} is known" for x in "abcdef" for y in "ghi"]
RAW = [f"buy {x} now click {y} cheap" for x in "abcdef" for y in "ghi"]


@pytest.mark.parametrize(
    ("score", "probability"),
    [(1.0, 1.0), (0.9, 0.424098), (0.75, 0.134218), (0.5, 0.026012), (0.0, 0.001953)],
)
def test_the_draw_is_that_of_numpys_pareto(score, probability):
    assert quality.keep_probability(score) == pytest.approx(probability, abs=5e-7)
    drawn = np.random.default_rng(0).pareto(9, 100_000) > 1 - score
    assert drawn.mean() == pytest.approx(probability, abs=4 * (probability / 100_000) ** 0.5 + 1e-9)


def written(path, classifier):
    path.write_bytes(classifier.content())
    return str(path)


def test_documents_are_kept_as_often_as_their_score_says(tmp_path):
    """With no weights the bias decides: log 3 is a score of 0.75."""
    classifier = quality.Classifier(np.zeros(8, np.float32), float(np.log(3)))
    keep = filters.ParetoKept(written(tmp_path / "c.npz", classifier))
    reasons = Counter()
    texts = [f"document {i}" for i in range(4_000)]
    kept = [text for text in texts if keep(text, reasons) is not None]
    assert len(kept) / 4_000 == pytest.approx(0.134218, abs=3 * (0.134 * 0.866 / 4_000) ** 0.5)
    assert reasons == {"document: quality": 4_000 - len(kept)}
    assert [text for text in kept if keep(text, reasons) is None] == []  # the same again
    other = filters.ParetoKept(keep.classifier, seed=1)
    assert {text for text in texts if other(text, reasons)} != set(kept)


def test_the_classifier_is_scikit_learns_of_the_same_features():
    from scipy import sparse
    from sklearn.linear_model import LogisticRegression

    found = quality.fitted(GOOD, RAW, buckets=64)
    rows = sparse.lil_array((len(GOOD + RAW), 64))
    for row, text in enumerate(GOOD + RAW):
        places, values = quality.word_counts(text, 64)
        assert np.linalg.norm(values) == pytest.approx(1)
        rows[row, places] = values[None]
    labels = [1] * len(GOOD) + [0] * len(RAW)
    theirs = LogisticRegression(tol=1e-8).fit(rows.tocsr(), labels)
    scores = [found.score(text) for text in GOOD + RAW]
    np.testing.assert_allclose(scores, theirs.predict_proba(rows.tocsr())[:, 1], atol=1e-3)
    assert quality.accuracy(found, GOOD, RAW) == 1.0


def test_a_score_can_be_a_threshold(tmp_path):
    path = written(tmp_path / "c.npz", quality.fitted(GOOD, RAW, buckets=1024))
    keep, reasons = filters.MinScore(path), Counter()
    assert keep(GOOD[0], reasons) == GOOD[0]
    assert keep(RAW[0], reasons) is None
    assert repr(keep).startswith("MinScore(sha256=")
    assert repr(keep).endswith("min_score=0.5)")
    other = written(tmp_path / "d.npz", quality.fitted(RAW, GOOD, buckets=1024))
    assert repr(filters.MinScore(other)) != repr(keep)


def test_what_is_no_classifier_is_one_line(tmp_path):
    (tmp_path / "c.npz").write_bytes(b"no zip")
    with pytest.raises(TaskError, match=r"c\.npz' is no classifier of documents"):
        filters.MinScore(str(tmp_path / "c.npz"))("text", Counter())
    with pytest.raises(TaskError, match=r"none\.npz' not found"):
        filters.MinScore(str(tmp_path / "none.npz"))("text", Counter())
    with pytest.raises(TaskError, match="3 positive and 0 negative documents"):
        quality.fitted(["a", "b", "c"], [])
    with pytest.raises(TaskError, match=r"alpha is 0: it must be above 0"):
        filters.ParetoKept("c.npz", alpha=0)
