import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.layers.linear import dense


@pytest.mark.parametrize("shape", [(2, 3, 4, 7), (2, 3, 7, 4), (5, 4, 4)])
def test_the_gradients_are_those_of_a_matrix_product(shape):
    *rows, inputs, outputs = shape
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (*rows, inputs))
    kernel = jax.random.normal(keys[1], (inputs, outputs))
    dy = jax.random.normal(keys[2], (*rows, outputs))
    y, pull = jax.vjp(dense, x, kernel)
    expected, expected_pull = jax.vjp(jnp.matmul, x, kernel)
    np.testing.assert_allclose(y, expected, rtol=1e-6)
    for gradient, expected in zip(pull(dy), expected_pull(dy), strict=True):
        np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-6)


def test_bfloat16_products_can_be_summed_and_kept_in_float32():
    """256 + 1 is no bfloat16; the gradients come back in the dtype of what was given."""
    x = jnp.array([[256, 1]], jnp.bfloat16)
    kernel = jnp.ones((2, 1), jnp.bfloat16)
    y, pull = jax.vjp(lambda x, kernel: dense(x, kernel, "float32"), x, kernel)
    assert y.dtype == jnp.float32 and float(y[0, 0]) == 257
    assert [gradient.dtype for gradient in pull(y)] == [jnp.bfloat16, jnp.bfloat16]


def test_gradients_of_gradients_exist():
    """d/dx of |d/dx sum((x W)^2 / 2)|^2 / 2 is (W Wᵀ)² x."""
    kernel = jnp.array([[1.0, 2.0], [0.0, 1.0], [3.0, 1.0]])
    x = jnp.array([[1.0, -1.0, 2.0]])
    slope = jax.grad(lambda x: 0.5 * jnp.sum(dense(x, kernel) ** 2))
    twice = jax.grad(lambda x: 0.5 * jnp.sum(slope(x) ** 2))(x)
    square = kernel @ kernel.T
    np.testing.assert_allclose(twice, x @ square @ square, rtol=1e-6)
