import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.losses import summed_cross_entropy

# softmax of (log 1, log 2, log 5) is (1/8, 2/8, 5/8), and Z = 8.
LOGITS = jnp.log(jnp.array([[[1.0, 2, 5], [1, 2, 5]]]))
TARGETS = jnp.array([[2, 1]])


def test_cross_entropy_by_hand():
    loss, metrics = summed_cross_entropy(LOGITS, TARGETS, jnp.array([[1, 1]]))
    assert loss == pytest.approx(np.log(8 / 5) + np.log(8 / 2), rel=1e-6)
    assert metrics["accuracy"][0] == 1  # the most probable token is 2
    assert metrics["loss"][1] == 2


def test_weights_leave_tokens_out():
    loss, metrics = summed_cross_entropy(LOGITS, TARGETS, jnp.array([[0.0, 0.5]]))
    assert loss == pytest.approx(0.5 * np.log(4), rel=1e-6)
    assert metrics["cross_entropy"][1] == 0.5
    assert metrics["accuracy"][0] == 0


def test_z_loss_is_the_square_of_log_z():
    loss, metrics = summed_cross_entropy(LOGITS, TARGETS, jnp.array([[1, 0]]), z_loss=0.1)
    assert metrics["z_loss"][0] == pytest.approx(0.1 * np.log(8) ** 2, rel=1e-6)
    assert loss == pytest.approx(np.log(8 / 5) + 0.1 * np.log(8) ** 2, rel=1e-6)


def test_label_smoothing_is_a_divergence_from_the_smoothed_target():
    loss, metrics = summed_cross_entropy(LOGITS, TARGETS, jnp.array([[1, 0]]), label_smoothing=0.2)
    smoothed, model = np.array([0.1, 0.1, 0.8]), np.array([1, 2, 5]) / 8
    assert loss == pytest.approx((smoothed * np.log(smoothed / model)).sum(), rel=1e-5)
    assert metrics["cross_entropy"][0] == pytest.approx(np.log(8 / 5), rel=1e-6)
    matching = jnp.log(jnp.asarray(smoothed))[None, None]
    least, _ = summed_cross_entropy(
        matching, jnp.array([[2]]), jnp.array([[1]]), label_smoothing=0.2
    )
    assert least == pytest.approx(0, abs=1e-6)


def test_gradient_is_softmax_less_target():
    gradient = jax.grad(lambda x: summed_cross_entropy(x, TARGETS, jnp.array([[1, 0]]))[0])(LOGITS)
    np.testing.assert_allclose(gradient[0, 0], [1 / 8, 2 / 8, 5 / 8 - 1], rtol=1e-6)
    np.testing.assert_array_equal(gradient[0, 1], 0)


def test_large_logits_do_not_overflow():
    loss, _ = summed_cross_entropy(LOGITS + 1e4, TARGETS, jnp.array([[1, 1]]))
    assert loss == pytest.approx(np.log(8 / 5) + np.log(8 / 2), abs=5e-3)
