"""Scores of a recurrent decoder's attention, by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from models.errors import ModelError
from models.layers.recurrent.alignment import Additive, Dot, General, attend

# One unit: the state 0.5 of the decoder, the states 0, 1 and -0.5 of the source.
STATE = jnp.array([[0.5]])
SOURCE = jnp.array([[[0.0], [1.0], [-0.5]]])
ONE = {"query": jnp.ones((1, 1)), "key": jnp.ones((1, 1)), "vector": jnp.ones(1)}


def attended(score, weights, mask=(True, True, True)):
    keys = score.keys(weights, SOURCE)
    context, alignment = attend(score, weights, STATE, keys, SOURCE, jnp.array([mask]))
    return float(context[0, 0]), alignment[0]


def test_additive_attention_of_bahdanau_et_al():
    """`v · tanh(W s + U h)`: scores 0.462117, 0.905148, 0."""
    context, alignment = attended(Additive(), ONE)
    np.testing.assert_allclose(alignment, [0.313738, 0.488623, 0.197639], atol=1e-6)
    assert context == pytest.approx(0.389803, abs=1e-6)


def test_dot_scores_of_luong_et_al():
    context, alignment = attended(Dot(), {})
    np.testing.assert_allclose(alignment, [0.291756, 0.481024, 0.227220], atol=1e-6)
    assert context == pytest.approx(0.367414, abs=1e-6)


def test_general_scores_put_a_matrix_between_the_two():
    """`s · W h`, W = 3: scores 0, 1.5, -0.75."""
    _, alignment = attended(General(), {"key": jnp.full((1, 1), 3.0)})
    weights = np.exp([0, 1.5, -0.75])
    np.testing.assert_allclose(alignment, weights / weights.sum(), atol=1e-6)


def test_what_a_row_may_not_see_has_no_weight():
    """Of the scores of Bahdanau et al. the first and the last: e^0.462117 = 1.587430 to 1."""
    _, alignment = attended(Additive(), ONE, (True, False, True))
    np.testing.assert_allclose(alignment, [0.613516, 0, 0.386484], atol=1e-6)


@pytest.mark.parametrize("units", [0, -1, 1.5])
def test_a_hidden_layer_has_units(units):
    with pytest.raises(ModelError, match=f"Additive.units is {units}: a whole number of 1"):
        Additive(units)


def test_dot_scores_need_states_of_one_width():
    with pytest.raises(ModelError, match=r"have 6 units .* decoder's 4: .*General"):
        Dot().shapes(4, 6)
