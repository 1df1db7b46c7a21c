"""The loop of a recurrent layer over the tokens of its rows, with a backward pass of its own."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from models.layers.linear import STORED_PRODUCT
from models.layers.recurrent.cells import Cell, State


class Steps(NamedTuple):
    """Where the state does something else than follow the cell; first axis time in `time_scan`.

    Attributes:
      reset: bool `[b, t]`, at the first token of a text that follows another one in its row: the
        state is set to zero first.
      valid: bool `[b, t]`, false on padding, which leaves the state as it was.
    """

    reset: jax.Array
    valid: jax.Array


def steps_of_segments(segments_bt: jax.Array) -> Steps:
    """What packed rows ask of the state.

    The first text of a row continues the state that the row is given; so does a text after
    padding on the left.

    Args:
      segments_bt: int `[b, t]`, the number of each token's text in its row; 0 is padding.
    """
    last_bt = jax.lax.associative_scan(
        lambda left, right: jnp.where(right == 0, left, right), segments_bt, axis=1
    )
    before_bt = jnp.pad(last_bt[:, :-1], ((0, 0), (1, 0)))
    valid_bt = segments_bt != 0
    return Steps(valid_bt & (before_bt != 0) & (before_bt != segments_bt), valid_bt)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def time_scan(
    cell: Cell,
    unroll: int,
    x_tbqf: jax.Array,
    kernel_fqf: jax.Array,
    bias_qf: jax.Array | None,
    state: State,
    steps: Steps | None,
) -> tuple[jax.Array, State]:
    """Runs a cell over the tokens of all rows.

    The gradients are autodiff's. But autodiff would add up the recurrent matrices' gradient in
    the loop, one pass over as much memory as they have for each token; here the loop keeps both
    factors, and one product after it does the rest.

    Args:
      cell: what happens at a token.
      unroll: tokens for each turn of the loop.
      x_tbqf: what the cell reads of the input; all products with it are already done.
      kernel_fqf: recurrent matrices, in the dtype of the computation.
      bias_qf: recurrent biases, or None.
      state: before the first token.
      steps: with the time first; None where every token follows the one before.

    Returns:
      The hidden states, float32 `[t, b, f]`, and the state after the last token.
    """
    state, (hidden_tbf, _) = _scan(
        cell, unroll, x_tbqf, kernel_fqf, bias_qf, state, steps, keep=False
    )
    return hidden_tbf, state


def _scan(cell, unroll, x_tbqf, kernel_fqf, bias_qf, state, steps, keep):
    def turn(state, inputs):
        x_bqf, steps = inputs
        products = []

        def product(left_bf, gates):
            y_bqf = jnp.einsum(
                "bf,fqh->bqh", left_bf.astype(kernel_fqf.dtype), kernel_fqf[:, gates]
            )
            if bias_qf is not None:
                y_bqf += bias_qf[gates].astype(y_bqf.dtype)
            products.append(y_bqf)
            return y_bqf

        new = _step(cell, state, x_bqf, steps, product)
        kept = (state, jnp.concatenate(products, axis=1)) if keep else None
        return new, (new["hidden"], kept)

    return jax.lax.scan(turn, state, (x_tbqf, steps), unroll=unroll)


def _step(cell, state, x_bqf, steps, product):
    if steps is None:
        return cell(state, x_bqf, product)
    zeroed = _where(steps.reset, jax.tree.map(jnp.zeros_like, state), state)
    return _where(steps.valid, cell(zeroed, x_bqf, product), state)


def _where(condition_b, state, other):
    return jax.tree.map(lambda a, b: jnp.where(condition_b[:, None], a, b), state, other)


def _forward(cell, unroll, x_tbqf, kernel_fqf, bias_qf, state, steps):
    final, (hidden_tbf, kept) = _scan(
        cell, unroll, x_tbqf, kernel_fqf, bias_qf, state, steps, keep=True
    )
    # The states too: to compute them again would be to run the loop again.
    kept = jax.tree.map(lambda a: checkpoint_name(a, STORED_PRODUCT), kept)
    return (hidden_tbf, final), (x_tbqf, kernel_fqf, bias_qf, steps, kept)


def _backward(cell, unroll, residuals, cotangents):
    x_tbqf, kernel_fqf, bias_qf, steps, (states, products_tbqf) = residuals
    dhidden_tbf, dstate = cotangents
    all_gates: list[slice] = []

    def turn(dstate, inputs):
        dhidden_bf, state, x_bqf, steps, products_bqf = inputs

        def step(state, x_bqf, products_bqf):
            lefts = []
            all_gates.clear()

            def product(left_bf, gates):
                lefts.append(left_bf)
                all_gates.append(gates)
                return _known_product(left_bf, kernel_fqf[:, gates], products_bqf[:, gates])

            new = _step(cell, state, x_bqf, steps, product)
            return (new, new["hidden"]), lefts

        _, pull_back, lefts = jax.vjp(step, state, x_bqf, products_bqf, has_aux=True)
        dstate, dx_bqf, dproducts_bqf = pull_back((dstate, dhidden_bf))
        return dstate, (dx_bqf, dproducts_bqf, lefts)

    dstate, (dx_tbqf, dproducts_tbqf, lefts) = jax.lax.scan(
        turn,
        dstate,
        (dhidden_tbf, states, x_tbqf, steps, products_tbqf),
        reverse=True,
        unroll=unroll,
    )
    dkernels = [
        jnp.einsum("tbf,tbqh->fqh", left_tbf.astype(kernel_fqf.dtype), dproducts_tbqf[:, :, gates])
        for left_tbf, gates in zip(lefts, all_gates, strict=True)
    ]
    dbias_qf = None
    if bias_qf is not None:
        dbias_qf = dproducts_tbqf.astype(jnp.float32).sum((0, 1)).astype(bias_qf.dtype)
    return dx_tbqf, jnp.concatenate(dkernels, axis=1), dbias_qf, dstate, None


time_scan.defvjp(_forward, _backward)


@jax.custom_vjp
def _known_product(left_bf: jax.Array, kernel_fqf: jax.Array, product_bqf: Any) -> jax.Array:
    """A product that the forward pass has computed; gradients for its left side and itself."""
    return product_bqf


def _known_product_forward(left_bf, kernel_fqf, product_bqf):
    return product_bqf, kernel_fqf


def _known_product_backward(kernel_fqf, dproduct_bqf):
    dleft_bf = jnp.einsum("bqh,fqh->bf", dproduct_bqf, kernel_fqf).astype(jnp.float32)
    return dleft_bf, None, dproduct_bqf


_known_product.defvjp(_known_product_forward, _known_product_backward)
