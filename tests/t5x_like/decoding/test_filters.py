"""Filters against distributions worked out by hand."""

import jax
import numpy as np
import pytest

from t5x_like.decoding import Sampling, Temperature, TopK, TopP
from t5x_like.errors import UserError

# Probabilities of six tokens, in no order.
PROBABILITIES = np.array([[0.05, 0.4, 0.1, 0.25, 0.15, 0.05]], np.float32)
LOGITS = np.log(PROBABILITIES) + 3.0  # logits are known up to a constant only


def distribution(*filters) -> np.ndarray:
    return np.asarray(jax.nn.softmax(Sampling(filters).filtered(LOGITS)))[0]


def test_temperature_raises_probabilities_to_its_inverse():
    squared = PROBABILITIES[0] ** 2
    np.testing.assert_allclose(distribution(Temperature(0.5)), squared / squared.sum(), rtol=1e-5)


def test_top_k_keeps_the_k_likeliest_in_proportion():
    np.testing.assert_allclose(
        distribution(TopK(3)), [0, 0.4 / 0.8, 0, 0.25 / 0.8, 0.15 / 0.8, 0], rtol=1e-5
    )


def test_top_k_beyond_the_vocabulary_changes_nothing():
    np.testing.assert_allclose(distribution(TopK(100)), PROBABILITIES[0], rtol=1e-5)


@pytest.mark.parametrize(
    ("p", "kept"),
    [
        (0.3, [1]),  # 0.4 alone reaches 0.3
        (0.5, [1, 3]),  # 0.4 does not reach 0.5, 0.4 + 0.25 does
        (0.7, [1, 3, 4]),
        (0.85, [1, 3, 4, 2]),
        (1.0, [0, 1, 2, 3, 4, 5]),
        (1e-9, [1]),  # the likeliest token always stays
    ],
)
def test_top_p_keeps_the_smallest_set_that_reaches_p(p, kept):
    expected = np.zeros(6)
    expected[kept] = PROBABILITIES[0][kept]
    np.testing.assert_allclose(distribution(TopP(p)), expected / expected.sum(), rtol=1e-5)


def test_top_p_cuts_through_equals():
    quarters = np.zeros((1, 4), np.float32)
    kept = np.isfinite(np.asarray(TopP(0.45)(quarters)))
    assert kept.sum() == 2  # two of four equal tokens reach 0.45


def test_filters_apply_in_order():
    # The temperature first: squares .16 .0625 .0225 .01 .0025 .0025 of sum .26; the first
    # two reach .8558 of it. The nucleus first: .4 .25 .15 .1 are needed to reach .85.
    assert np.count_nonzero(distribution(Temperature(0.5), TopP(0.85))) == 2
    assert np.count_nonzero(distribution(TopP(0.85), Temperature(0.5))) == 4


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Temperature(0.0), "Temperature.temperature is 0.0"),
        (lambda: TopK(0), "TopK.k is 0"),
        (lambda: TopP(0.0), "TopP.p is 0.0"),
        (lambda: TopP(1.5), "TopP.p is 1.5"),
    ],
)
def test_a_value_that_means_nothing_is_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()
