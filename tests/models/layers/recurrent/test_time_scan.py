"""The loop over time: where the state is set back, and its gradients against autodiff's."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.layers.recurrent.cells import GRU, LSTM, RNN, ProjectedLSTM
from models.layers.recurrent.time_scan import steps_of_segments, time_scan

T, B, F, P = 6, 3, 4, 2
close = functools.partial(np.testing.assert_allclose, atol=1e-6)
CELLS = {
    "rnn": RNN(),
    "lstm": LSTM(),
    "gru": GRU(),
    "gru_reset_before": GRU(reset_after=False),
    # Ranges that some of the states reach.
    "projected_lstm": ProjectedLSTM(P, cell_clip=0.9, projection_clip=0.5),
}
# Three rows: two texts and padding, padding on the left, one text.
SEGMENTS = jnp.array([[1, 1, 2, 2, 2, 0], [0, 0, 0, 1, 1, 1], [1, 1, 1, 1, 1, 1]])


@pytest.fixture(params=CELLS)
def case(request):
    """A cell, and what it is given: input, kernels, bias, state."""
    cell = CELLS[request.param]
    rng = np.random.default_rng(3)
    normal = lambda *shape: jnp.asarray(0.7 * rng.standard_normal(shape), jnp.float32)  # noqa: E731
    state = jax.tree.map(lambda a: normal(*a.shape), cell.initial_state(B, F))
    q = cell.gates
    kernels = (normal(F, q, F),)
    if cell.projection:
        kernels = normal(P, q, F), normal(F, 1, P)
    return cell, (normal(T, B, q, F), kernels, normal(q, F), state)


def steps_of(segments):
    return jax.tree.map(lambda a: a.T, steps_of_segments(segments))


def plain_loop(cell, x, kernels, bias, state, segments):
    """The same with autodiff's gradients."""

    def product(left, gates):
        return jnp.einsum("bf,fqh->bqh", left, kernels[0][:, gates]) + bias[gates]

    def project(left, gates):
        return jnp.einsum("bf,fqh->bqh", left, kernels[1][:, gates])

    products = (product, project)[: len(kernels)]

    def turn(state, inputs):
        x, steps = inputs
        pick = lambda condition, yes, no: jax.tree.map(  # noqa: E731
            lambda a, b: jnp.where(condition[:, None], a, b), yes, no
        )
        zeroed = pick(steps.reset, cell.initial_state(B, F), state)
        state = pick(steps.valid, cell(zeroed, x, *products), state)
        return state, state["hidden"]

    state, hidden = jax.lax.scan(turn, state, (x, steps_of(segments)))
    return hidden, state


def test_the_state_is_set_back_at_a_text_that_follows_another():
    segments = jnp.array([[1, 1, 2, 2, 0, 0], [0, 0, 1, 1, 0, 2], [3, 0, 3, 1, 1, 1]])
    reset = [[0, 0, 1, 0, 0, 0], [0, 0, 0, 0, 0, 1], [0, 0, 0, 1, 0, 0]]
    steps = steps_of_segments(segments)
    np.testing.assert_array_equal(steps.reset, reset)
    np.testing.assert_array_equal(steps.valid, segments != 0)


def check_against_plain_loop(case, unroll):
    cell, arguments = case

    def loss(function, *arguments):
        hidden, state = function(*arguments)
        weights = jnp.arange(1.0, 1 + hidden.size).reshape(hidden.shape) / hidden.size
        return (hidden * weights).sum() + sum((a**2).sum() for a in state.values()), (hidden, state)

    def results(function):
        gradients = jax.grad(functools.partial(loss, function), (0, 1, 2, 3), has_aux=True)
        return jax.jit(gradients)(*arguments)

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
        results(lambda *a: time_scan(cell, unroll, *a, steps_of(SEGMENTS))),
        results(functools.partial(plain_loop, cell, segments=SEGMENTS)),
    )


def test_results_and_gradients_are_those_of_the_plain_loop(case):
    check_against_plain_loop(case, unroll=1)


@pytest.mark.parametrize("case", ["lstm"], indirect=True)
def test_unrolling_changes_nothing(case):
    check_against_plain_loop(case, unroll=4)


def test_packed_texts_give_what_each_gives_alone(case):
    cell, (x, kernels, bias, _) = case
    zeros = cell.initial_state(B, F)
    alone = functools.partial(time_scan, cell, 1, kernels=kernels, bias_qf=bias, state=zeros)
    packed, state = time_scan(cell, 1, x, kernels, bias, zeros, steps_of(SEGMENTS))
    first, _ = alone(x_tbqf=x[:2], steps=None)
    second, last = alone(x_tbqf=x[2:5], steps=None)
    close(packed[:2, 0], first[:, 0])
    close(packed[2:5, 0], second[:, 0])
    # Padding on the right leaves the state of the last token.
    close(state["hidden"][0], last["hidden"][0])
    # Padding on the left leaves the first state.
    close(packed[3:, 1], alone(x_tbqf=x[3:], steps=None)[0][:, 1])


def test_the_first_text_of_a_row_goes_on_from_the_state_given(case):
    cell, (x, kernels, bias, state) = case
    whole, final = time_scan(cell, 1, x, kernels, bias, state, None)
    half, between = time_scan(cell, 1, x[:2], kernels, bias, state, None)
    one_text = steps_of(jnp.full((B, T - 2), 7))
    rest, last = time_scan(cell, 1, x[2:], kernels, bias, between, one_text)
    close(half, whole[:2])
    close(rest, whole[2:])
    jax.tree.map(close, last, final)


def test_the_backward_loop_adds_up_no_matrix(case):
    """What it hands from token to token is the state's gradient, rows by units."""
    cell, (x, kernels, bias, state) = case

    def loss(kernels):
        return time_scan(cell, 1, x, kernels, bias, state, None)[0].sum()

    scans = [e for e in jax.make_jaxpr(jax.grad(loss))(kernels).eqns if e.primitive.name == "scan"]
    assert len(scans) == 2
    for scan in scans:
        carried = scan.outvars[: scan.params["num_carry"]]
        assert {v.aval.shape for v in carried} == {(B, F), (B, cell.projection or F)}
