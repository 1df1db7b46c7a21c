"""Grouped matrix products: each row with one matrix out of several, for experts.

`batched_dot` is for rows in as many equal parts as there are matrices, `grouped_dot` for rows in
parts of any size. Neither makes anything that is larger than the rows, the matrices or the
result.

| letter | axis |
|---|---|
| `x` | matrices, one an expert |
| `n` | rows |
| `e`, `f` | units before and after the product |
"""

import functools

import jax
import jax.numpy as jnp


@jax.custom_vjp
def batched_dot(x_xne: jax.Array, kernel_xef: jax.Array) -> jax.Array:
    """`[x, n, e]` and `[x, e, f]` to `[x, n, f]`, in the dtype of the rows.

    The same products as autodiff's, in the orders that `linear.dense` explains.
    """
    return jax.lax.dot_general(x_xne, kernel_xef, (((2,), (1,)), ((0,), (0,))))


def _batched_forward(x_xne, kernel_xef):
    return batched_dot(x_xne, kernel_xef), (x_xne, kernel_xef)


def _batched_backward(residuals, dy_xnf):
    x_xne, kernel_xef = residuals
    dx_xne = jax.lax.dot_general(dy_xnf, kernel_xef, (((2,), (2,)), ((0,), (0,))))
    return dx_xne, jax.lax.dot_general(x_xne, dy_xnf, (((1,), (1,)), ((0,), (0,))))


batched_dot.defvjp(_batched_forward, _batched_backward)


@jax.custom_vjp
def grouped_dot(x_ne: jax.Array, kernel_xef: jax.Array, sizes_x: jax.Array) -> jax.Array:
    """The first `sizes[0]` rows by the first matrix, the next `sizes[1]` by the second, and so on.

    `jax.lax.ragged_dot` where the compiler has it. On CPUs it would multiply every row by every
    matrix and hold a copy of the rows for each; there, blocks of rows take turns.

    Args:
      x_ne: rows, sorted by their matrix.
      kernel_xef: matrices.
      sizes_x: int32 `[x]`, which sum to `n`.

    Returns:
      `[n, f]`, in the dtype of the rows.
    """
    return jax.lax.platform_dependent(
        x_ne, kernel_xef, sizes_x, cpu=_blocked_dot, default=jax.lax.ragged_dot
    )


def _grouped_forward(x_ne, kernel_xef, sizes_x):
    return grouped_dot(x_ne, kernel_xef, sizes_x), (x_ne, kernel_xef, sizes_x)


def _grouped_backward(residuals, dy_nf):
    gradients = jax.lax.platform_dependent(
        *residuals, dy_nf, cpu=_blocked_gradients, default=_ragged_gradients
    )
    return *gradients, None


grouped_dot.defvjp(_grouped_forward, _grouped_backward)


def _ragged_gradients(x_ne, kernel_xef, sizes_x, dy_nf):
    product = functools.partial(jax.lax.ragged_dot, group_sizes=sizes_x)
    return jax.vjp(product, x_ne, kernel_xef)[1](dy_nf)


def _blocked_dot(x_ne, kernel_xef, sizes_x, contracted=1):
    """`grouped_dot`, or with `contracted=2` the product with the transposed matrices."""
    n = x_ne.shape[0]
    block, total, locate = _blocks(n, sizes_x)
    # Outside of jit the parameters may be NumPy's, which no traced number can index.
    kernel_xef = jnp.asarray(kernel_xef)
    x_ne = jnp.pad(x_ne, ((0, block), (0, 0)))

    def multiply(i: jax.Array, y_nf: jax.Array) -> jax.Array:
        which, first, _ = locate(i)
        rows = jax.lax.dynamic_slice_in_dim(x_ne, first, block)
        y = jax.lax.dot_general(rows, kernel_xef[which], (((1,), (contracted - 1,)), ((), ())))
        # Rows beyond the part's end are wrong until the next block, which begins there.
        return jax.lax.dynamic_update_slice_in_dim(y_nf, y, first, 0)

    empty = jnp.zeros((n + block, kernel_xef.shape[3 - contracted]), x_ne.dtype)
    return jax.lax.fori_loop(0, total, multiply, empty)[:n]


def _blocked_gradients(x_ne, kernel_xef, sizes_x, dy_nf):
    block, total, locate = _blocks(x_ne.shape[0], sizes_x)
    x_padded, dy_padded = (jnp.pad(rows, ((0, block), (0, 0))) for rows in (x_ne, dy_nf))

    def add(i: jax.Array, total_xef: jax.Array) -> jax.Array:
        which, first, end = locate(i)
        x, dy = (jax.lax.dynamic_slice_in_dim(rows, first, block) for rows in (x_padded, dy_padded))
        x = jnp.where((first + jnp.arange(block) < end)[:, None], x, 0)
        product = jnp.matmul(x.T, dy, preferred_element_type=jnp.float32)
        return total_xef.at[which].add(product)

    dkernel_xef = jax.lax.fori_loop(0, total, add, jnp.zeros(kernel_xef.shape, jnp.float32))
    dx_ne = _blocked_dot(dy_nf, kernel_xef, sizes_x, contracted=2)
    return dx_ne, dkernel_xef.astype(kernel_xef.dtype)


def _blocks(n, sizes_x):
    """How parts are cut into blocks: rows of a block, how many blocks, and where each lies.

    The last is a function from a block's number to its matrix, its first row and the end of
    its part.
    """
    mean = -(-n // sizes_x.shape[0])
    # Reading a matrix costs as much as multiplying it by some hundred rows.
    block = min(512, 1 << (mean - 1).bit_length())
    ends_x = jnp.cumsum(sizes_x)
    counts_x = -(-sizes_x // block)
    block_ends_x = jnp.cumsum(counts_x)

    def locate(i: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        which = jnp.searchsorted(block_ends_x, i, side="right")
        before = i - (block_ends_x[which] - counts_x[which])
        return which, ends_x[which] - sizes_x[which] + before * block, ends_x[which]

    return block, block_ends_x[-1], locate
