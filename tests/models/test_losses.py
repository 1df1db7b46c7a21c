import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import losses
from models.errors import ModelError
from models.losses import output_cross_entropy, summed_cross_entropy

# softmax of (log 1, log 2, log 5) is (1/8, 2/8, 5/8), and Z = 8.
LOGITS = jnp.log(jnp.array([[[1.0, 2, 5], [1, 2, 5]]]))
TARGETS = jnp.array([[2, 1]])


def test_cross_entropy_by_hand():
    loss, metrics = summed_cross_entropy(LOGITS, TARGETS, jnp.array([[1, 1]]))
    assert loss == pytest.approx(np.log(8 / 5) + np.log(8 / 2), rel=1e-6)
    assert metrics["token_accuracy"][0] == 1  # the most probable token is 2
    assert metrics["loss"][1] == 2


def test_weights_leave_tokens_out():
    loss, metrics = summed_cross_entropy(LOGITS, TARGETS, jnp.array([[0.0, 0.5]]))
    assert loss == pytest.approx(0.5 * np.log(4), rel=1e-6)
    assert metrics["cross_entropy"][1] == 0.5
    assert metrics["token_accuracy"][0] == 0


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


@pytest.mark.parametrize("num_chunks", [2, 3, 12])
def test_chunks_change_neither_the_loss_nor_a_gradient(num_chunks):
    rng = np.random.default_rng(0)
    x_bte = jnp.asarray(rng.normal(size=(4, 12, 8)), jnp.float32)
    kernel_ev = jnp.asarray(rng.normal(size=(8, 30)), jnp.float32)
    targets, weights = (jnp.asarray(rng.integers(0, n, (4, 12))) for n in (30, 2))

    def loss(x, kernel, chunks):
        loss, metrics = output_cross_entropy(
            x, kernel, targets, weights, z_loss=0.01, label_smoothing=0.1, num_chunks=chunks
        )
        return 0.5 * loss, metrics

    def run(chunks):
        compute = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
        values = [jax.jit(loss, static_argnums=2), jax.jit(compute, static_argnums=2)]
        return [value(x_bte, kernel_ev, chunks) for value in values]

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5),
        run(1),
        run(num_chunks),
    )


def test_a_bias_of_the_output_is_added_to_its_logits_in_chunks_too():
    rng = np.random.default_rng(0)
    x_bte, kernel_ev, bias_v = (
        jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((4, 12, 8), (8, 30), (30,))
    )
    targets, weights = (jnp.asarray(rng.integers(0, n, (4, 12))) for n in (30, 2))

    def plain(x, kernel, bias):
        return summed_cross_entropy(x @ kernel + bias, targets, weights)[0]

    def chunked(x, kernel, bias, chunks):
        return output_cross_entropy(x, kernel, targets, weights, bias_v=bias, num_chunks=chunks)[0]

    expected = jax.jit(jax.value_and_grad(plain, argnums=(0, 1, 2)))(x_bte, kernel_ev, bias_v)
    assert np.abs(expected[1][2]).max() > 0.1
    in_chunks = jax.jit(jax.value_and_grad(chunked, argnums=(0, 1, 2)), static_argnums=3)
    for chunks in (1, 3):
        found = in_chunks(x_bte, kernel_ev, bias_v, chunks)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), found, expected
        )


def test_chunked_logits_never_exist_all_at_once():
    b, t, e, v = 2, 64, 8, 4096
    floats = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((b, t, e), (e, v))]
    shapes = floats + [jax.ShapeDtypeStruct((b, t), jnp.int32)] * 2

    def temporaries(chunks):
        loss = lambda x, k, *rest: output_cross_entropy(x, k, *rest, num_chunks=chunks)[0]  # noqa: E731
        compiled = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(*shapes).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporaries(1) > 4 * b * t * v
    assert temporaries(16) < 4 * b * t * v / 4


def test_the_number_of_chunks_follows_from_the_memory(monkeypatch):
    monkeypatch.setattr(losses, "LOGITS_AT_ONCE", 2 * 12 * 30 // 4)
    shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((2, 12, 8), (8, 30))]
    ints = [jax.ShapeDtypeStruct((2, 12), jnp.int32)] * 2
    jaxpr = jax.make_jaxpr(lambda *args: output_cross_entropy(*args)[0])(*shapes, *ints)
    assert "f32[2,3,30]" in str(jaxpr) and "f32[2,12,30]" not in str(jaxpr)
    with pytest.raises(ModelError, match="logit_chunks 5 does not divide the row's 12 tokens"):
        output_cross_entropy(
            jnp.ones((2, 12, 8)), jnp.ones((8, 30)), *[jnp.ones((2, 12), int)] * 2, num_chunks=5
        )


@pytest.mark.parametrize("most", [3, 2, None])
def test_chosen_places_change_neither_the_loss_nor_a_gradient(most):
    """Of rows with 3, 0 and 2 weights: where there is room for 2 alone, all are computed."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((3, 7, 4)), jnp.float32)
    kernel = jnp.asarray(rng.standard_normal((4, 9)), jnp.float32)
    bias = jnp.asarray(rng.standard_normal(9), jnp.float32)
    targets = jnp.asarray(rng.integers(0, 9, (3, 7)))
    weights = jnp.zeros((3, 7)).at[0, jnp.array([1, 4, 6])].set(jnp.array([1.0, 0.5, 2.0]))
    weights = weights.at[2, :2].set(1)

    def loss(function, **options):
        def of(x, kernel, bias):
            return function(x, kernel, targets, weights, bias_v=bias, **options)

        compute = jax.value_and_grad(of, argnums=(0, 1, 2), has_aux=True)
        return jax.jit(compute)(x, kernel, bias)

    expected = loss(output_cross_entropy)
    found = loss(losses.chosen_cross_entropy, most=most)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found, expected)
    assert found[0][1]["loss"][1] == 5.5


def test_only_chosen_places_have_logits():
    """Of 2 rows of 5 places with 6 tokens; where there is room for 3, and where there is not."""
    x, kernel, ones = jnp.ones((2, 5, 4)), jnp.ones((4, 6)), jnp.ones((2, 5), int)
    weights = ones.at[:, 3:].set(0)
    jaxpr = str(
        jax.make_jaxpr(lambda x: losses.chosen_cross_entropy(x, kernel, ones, weights, most=3)[0])(
            x
        )
    )
    assert "f32[2,3,6]" in jaxpr and "f32[2,5,6]" in jaxpr  # one of which is run


# -- Binary cross-entropy ------------------------------------------------------------------------


def test_binary_cross_entropy_by_hand():
    """Of scores 2, -1, 0, 1 with labels 0, 0, 1, 1; the mean is .861650."""
    scores, labels = jnp.array([[2.0, -1.0, 0.0, 1.0]]), jnp.array([[0, 0, 1, 1]])
    for i, expected in enumerate((2.126928, 0.313262, 0.693147, 0.313262)):
        weights = jnp.zeros((1, 4)).at[0, i].set(1)
        loss, _ = losses.summed_binary_cross_entropy(scores, labels, weights)
        assert loss == pytest.approx(expected, abs=1e-6)
    loss, metrics = losses.summed_binary_cross_entropy(scores, labels, jnp.ones((1, 4)))
    assert loss / 4 == pytest.approx(0.861650, abs=1e-6)
    # -1 and 1 are right; a score of 0 is none for label 1.
    assert metrics["accuracy"] == (2, 4)
