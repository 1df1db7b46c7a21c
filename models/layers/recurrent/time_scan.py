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
    kernels: tuple[jax.Array, ...],
    bias_qf: jax.Array | None,
    state: State,
    steps: Steps | None,
) -> tuple[jax.Array, State]:
    """Runs a cell over the tokens of all rows.

    The gradients are autodiff's. But autodiff would add up the matrices' gradients in the loop,
    one pass over as much memory as they have for each token; here the loop keeps both factors, and
    one product after it does the rest.

    Args:
      cell: what happens at a token.
      unroll: tokens for each turn of the loop.
      x_tbqf: what the cell reads of the input; all products with it are already done.
      kernels: matrices `[f, q, h]` of the products that the cell asks for, in the dtype of the
        computation: the recurrent ones, and of a cell with a projection that, with one gate.
      bias_qf: recurrent biases, or None; the other products have none.
      state: before the first token.
      steps: with the time first; None where every token follows the one before.

    Returns:
      The hidden states, float32 `[t, b, f]`, and the state after the last token.
    """
    state, (hidden_tbf, _) = _scan(cell, unroll, x_tbqf, kernels, bias_qf, state, steps, keep=False)
    return hidden_tbf, state


def _scan(cell, unroll, x_tbqf, kernels, bias_qf, state, steps, keep):
    biases = (bias_qf, *(None for _ in kernels[1:]))

    def turn(state, inputs):
        x_bqf, steps = inputs
        made = [[] for _ in kernels]

        def product_by(kernel_fqh, bias_qh, found):
            def product(left_bf, gates):
                y_bqh = jnp.einsum(
                    "bf,fqh->bqh", left_bf.astype(kernel_fqh.dtype), kernel_fqh[:, gates]
                )
                if bias_qh is not None:
                    y_bqh += bias_qh[gates].astype(y_bqh.dtype)
                found.append(y_bqh)
                return y_bqh

            return product

        products = [product_by(*one) for one in zip(kernels, biases, made, strict=True)]
        new = _step(cell, state, x_bqf, steps, products)
        kept = (state, tuple(jnp.concatenate(found, axis=1) for found in made)) if keep else None
        return new, (new["hidden"], kept)

    return jax.lax.scan(turn, state, (x_tbqf, steps), unroll=unroll)


def _step(cell, state, x_bqf, steps, products):
    if steps is None:
        return cell(state, x_bqf, *products)
    zeroed = _where(steps.reset, jax.tree.map(jnp.zeros_like, state), state)
    return _where(steps.valid, cell(zeroed, x_bqf, *products), state)


def _where(condition_b, state, other):
    return jax.tree.map(lambda a, b: jnp.where(condition_b[:, None], a, b), state, other)


def _forward(cell, unroll, x_tbqf, kernels, bias_qf, state, steps):
    final, (hidden_tbf, kept) = _scan(
        cell, unroll, x_tbqf, kernels, bias_qf, state, steps, keep=True
    )
    # The states too: to compute them again would be to run the loop again.
    kept = jax.tree.map(lambda a: checkpoint_name(a, STORED_PRODUCT), kept)
    return (hidden_tbf, final), (x_tbqf, kernels, bias_qf, steps, kept)


def _backward(cell, unroll, residuals, cotangents):
    x_tbqf, kernels, bias_qf, steps, (states, made_tbqh) = residuals
    dhidden_tbf, dstate = cotangents
    asked = [[] for _ in kernels]

    def turn(dstate, inputs):
        dhidden_bf, state, x_bqf, steps, made_bqh = inputs

        def step(state, x_bqf, made_bqh):
            lefts = [[] for _ in kernels]

            def product_by(kernel_fqh, known_bqh, lefts, asked):
                asked.clear()

                def product(left_bf, gates):
                    lefts.append(left_bf)
                    asked.append(gates)
                    return _known_product(left_bf, kernel_fqh[:, gates], known_bqh[:, gates])

                return product

            products = [
                product_by(*one) for one in zip(kernels, made_bqh, lefts, asked, strict=True)
            ]
            new = _step(cell, state, x_bqf, steps, products)
            return (new, new["hidden"]), lefts

        _, pull_back, lefts = jax.vjp(step, state, x_bqf, made_bqh, has_aux=True)
        dstate, dx_bqf, dmade_bqh = pull_back((dstate, dhidden_bf))
        return dstate, (dx_bqf, dmade_bqh, lefts)

    dstate, (dx_tbqf, dmade_tbqh, lefts) = jax.lax.scan(
        turn,
        dstate,
        (dhidden_tbf, states, x_tbqf, steps, made_tbqh),
        reverse=True,
        unroll=unroll,
    )
    dkernels = tuple(
        _kernel_gradient(*one) for one in zip(kernels, dmade_tbqh, lefts, asked, strict=True)
    )
    dbias_qf = None
    if bias_qf is not None:
        dbias_qf = dmade_tbqh[0].astype(jnp.float32).sum((0, 1)).astype(bias_qf.dtype)
    return dx_tbqf, dkernels, dbias_qf, dstate, None


def _kernel_gradient(kernel_fqh, dmade_tbqh, lefts, asked):
    parts = [
        jnp.einsum("tbf,tbqh->fqh", left_tbf.astype(kernel_fqh.dtype), dmade_tbqh[:, :, gates])
        for left_tbf, gates in zip(lefts, asked, strict=True)
    ]
    return jnp.concatenate(parts, axis=1)


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
