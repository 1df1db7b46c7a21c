"""Cells against numbers worked by hand, and layers of them against Flax's and PyTorch's."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from models.errors import ModelError
from models.layers.linear import uniform
from models.layers.recurrent.cells import GRU, LSTM, RNN, ProjectedLSTM, SigmoidRNN
from models.layers.recurrent.stack import RecurrentLayer

B, T, E, F = 3, 7, 5, 4


def one_unit(cell, /, x=1.0, recurrent_bias=0.0, **state):
    """A cell of one unit whose recurrent matrices are 1, at a token."""
    state = {name: jnp.full((1, 1), value) for name, value in state.items()}
    x_bqf = jnp.full((1, cell.gates, 1), x) if np.isscalar(x) else jnp.array(x).reshape(1, -1, 1)

    def product(left_bf, gates):
        count = len(range(cell.gates)[gates])
        biases = jnp.zeros(cell.gates).at[2:].set(recurrent_bias)[gates]
        return jnp.broadcast_to(left_bf[:, None], (1, count, 1)) + biases[None, :, None]

    products = (product, product) if cell.projection else (product,)
    return {name: float(a[0, 0]) for name, a in cell(state, x_bqf, *products).items()}


def test_an_lstm_by_hand():
    """All weights, the input 1; h and c 0.5: every gate reads 1.5."""
    new = one_unit(LSTM(), hidden=0.5, cell=0.5)
    assert new["cell"] == pytest.approx(1.148813, abs=1e-6)
    assert new["hidden"] == pytest.approx(0.668253, abs=1e-6)


def test_a_projected_lstm_cuts_its_cell_and_its_hidden_state():
    """The same LSTM: 1.148813 is cut to 1, and 0.817574 tanh(1) = 0.622660 to 0.5."""
    uncut = ProjectedLSTM(1, cell_clip=None, projection_clip=None)
    assert one_unit(uncut, hidden=0.5, cell=0.5) == one_unit(LSTM(), hidden=0.5, cell=0.5)
    new = one_unit(ProjectedLSTM(1, cell_clip=1.0), hidden=0.5, cell=0.5)
    assert new == {"cell": 1.0, "hidden": pytest.approx(0.622660, abs=1e-6)}
    both = ProjectedLSTM(1, cell_clip=1.0, projection_clip=0.5)
    assert one_unit(both, hidden=0.5, cell=0.5) == {"cell": 1.0, "hidden": 0.5}
    # With open gates -9 + 1 is cut from below.
    assert one_unit(both, x=9.0, hidden=0.5, cell=-9.0)["cell"] == -1.0


@pytest.mark.parametrize("reset_after", [True, False])
def test_a_gru_by_hand(reset_after):
    new = one_unit(GRU(reset_after), hidden=0.5)
    assert new["hidden"] == pytest.approx(0.570642, abs=1e-6)
    assert candidate(new) == pytest.approx(0.887236, abs=2e-6)


def candidate(new):
    """n of h' = (1 - z) n + z h, where h is 0.5 and z reads 1.5."""
    z = 1 / (1 + np.exp(-1.5))
    return (new["hidden"] - z * 0.5) / (1 - z)


def test_the_candidates_bias_tells_the_two_grus_apart():
    """With a bias of 1, inside the reset gate's reach or outside of it."""
    after = one_unit(GRU(), hidden=0.5, recurrent_bias=1.0)
    assert candidate(after) == pytest.approx(0.976975, abs=2e-6)
    before = one_unit(GRU(reset_after=False), x=[1.0, 1.0, 2.0], hidden=0.5)
    assert candidate(before) == pytest.approx(0.983957, abs=2e-6)


def test_an_rnn_by_hand():
    """tanh(1.5) and sigmoid(1.5)."""
    assert one_unit(RNN(), hidden=0.5)["hidden"] == pytest.approx(0.905148, abs=1e-6)
    new = one_unit(SigmoidRNN(), hidden=0.5)
    assert new["hidden"] == pytest.approx(0.817574, abs=1e-6)


# -- Layers ----------------------------------------------------------------------------------------


def layer_of(cell, **options):
    return RecurrentLayer(cell, F, uniform(0.8), **options)


def drawn(cell, seed=0):
    """A layer's parameters, an input, and a state to begin with."""
    rng = np.random.default_rng(seed)
    normal = lambda *shape: jnp.asarray(rng.standard_normal(shape), jnp.float32)  # noqa: E731
    state = jax.tree.map(lambda a: normal(*a.shape), cell.initial_state(B, F))
    variables = nn.unbox(layer_of(cell).init(jax.random.key(seed), normal(B, T, E), state))
    return variables["params"], normal(B, T, E), state


@functools.partial(jax.jit, static_argnums=0)
def run(layer, params, x, state):
    return layer.apply({"params": params}, x, state)


def gates_of(params, name):
    return [np.asarray(params[name][..., gate, :]) for gate in range(params[name].shape[-2])]


def flax_rnn(params):
    w, u, b = (gates_of(params, name)[0] for name in ("kernel", "recurrent_kernel", "bias"))
    return nn.SimpleCell(F), {"i": {"kernel": w, "bias": b}, "h": {"kernel": u}}


def flax_lstm(params):
    w, u, b = (gates_of(params, name) for name in ("kernel", "recurrent_kernel", "bias"))
    theirs = {f"i{gate}": {"kernel": w[i]} for i, gate in enumerate("ifgo")}
    theirs |= {f"h{gate}": {"kernel": u[i], "bias": b[i]} for i, gate in enumerate("ifgo")}
    return nn.OptimizedLSTMCell(F), theirs


def flax_gru(params):
    w, u, b = (gates_of(params, name) for name in ("kernel", "recurrent_kernel", "bias"))
    theirs = {f"i{gate}": {"kernel": w[i], "bias": b[i]} for i, gate in enumerate("rzn")}
    theirs |= {f"h{gate}": {"kernel": u[i]} for i, gate in enumerate("rzn")}
    theirs["hn"]["bias"] = gates_of(params, "recurrent_bias")[0]
    return nn.GRUCell(F), theirs


@pytest.mark.parametrize(
    ("cell", "translated"),
    [(RNN(), flax_rnn), (LSTM(), flax_lstm), (GRU(), flax_gru)],
    ids=["rnn", "lstm", "gru"],
)
def test_equals_flaxs_cell(cell, translated):
    params, x, state = drawn(cell)
    flax_cell, theirs = translated(params)
    carry = (state["cell"], state["hidden"]) if "cell" in state else state["hidden"]
    final, expected = nn.RNN(flax_cell, return_carry=True).apply(
        {"params": {"cell": theirs}}, x, initial_carry=carry
    )
    hidden, last = run(layer_of(cell), params, x, state)
    np.testing.assert_allclose(hidden, expected, atol=1e-6)
    last = (last["cell"], last["hidden"]) if "cell" in last else last["hidden"]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), last, final)


def test_a_gru_with_the_reset_before_the_product_follows_the_papers_equations():
    """Cho et al. 2014, equations 5, 6 and 8, with the new state of equation 7."""
    cell = GRU(reset_after=False)
    params, x, state = drawn(cell)
    (wr, wz, wn), (ur, uz, un), (br, bz, bn) = (
        gates_of(params, name) for name in ("kernel", "recurrent_kernel", "bias")
    )
    assert "recurrent_bias" not in params
    sigmoid = lambda a: 1 / (1 + np.exp(-a))  # noqa: E731
    h, expected = np.asarray(state["hidden"], np.float64), []
    for x_t in np.moveaxis(np.asarray(x), 1, 0):
        r = sigmoid(x_t @ wr + h @ ur + br)
        z = sigmoid(x_t @ wz + h @ uz + bz)
        h = z * h + (1 - z) * np.tanh(x_t @ wn + (r * h) @ un + bn)
        expected.append(h)
    hidden, _ = run(layer_of(cell), params, x, state)
    np.testing.assert_allclose(hidden, np.stack(expected, 1), atol=1e-6)


@pytest.mark.interop
@pytest.mark.parametrize("cell", [LSTM(), GRU()], ids=["lstm", "gru"])
def test_equals_pytorchs_layer_and_its_gradients(cell):
    torch = pytest.importorskip("torch")
    params, x, state = drawn(cell)
    theirs = {4: torch.nn.LSTM, 3: torch.nn.GRU}[cell.gates](E, F, batch_first=True)
    stacked = lambda a: torch.tensor(np.asarray(a).reshape(a.shape[0], -1).T)  # noqa: E731
    flat = lambda a: torch.tensor(np.asarray(a).reshape(-1))  # noqa: E731
    second = jnp.zeros((cell.gates, F))
    if "recurrent_bias" in params:
        second = second.at[-1].set(params["recurrent_bias"][0])
    with torch.no_grad():
        theirs.weight_ih_l0.copy_(stacked(params["kernel"]))
        theirs.weight_hh_l0.copy_(stacked(params["recurrent_kernel"]))
        theirs.bias_ih_l0.copy_(flat(params["bias"]))
        theirs.bias_hh_l0.copy_(flat(second))
    first = tuple(torch.tensor(np.asarray(a))[None] for a in (state["hidden"],))
    if "cell" in state:
        first += (torch.tensor(np.asarray(state["cell"]))[None],)
    given = torch.tensor(np.asarray(x), requires_grad=True)
    expected, last = theirs(given, first if len(first) > 1 else first[0])
    last = last if isinstance(last, tuple) else (last,)

    def loss(params, x):
        hidden, final = run(layer_of(cell), params, x, state)
        return (hidden**3).sum() + sum((a**2).sum() for a in final.values()), (hidden, final)

    (gradients, dx), (hidden, final) = jax.grad(loss, (0, 1), has_aux=True)(params, x)
    np.testing.assert_allclose(hidden, expected.detach(), atol=1e-5)
    for name, theirs_last in zip(("hidden", "cell"), last, strict=False):
        np.testing.assert_allclose(final[name], theirs_last[0].detach(), atol=1e-5)
    ((expected**3).sum() + sum((a**2).sum() for a in last)).backward()
    np.testing.assert_allclose(dx, given.grad, atol=1e-5)
    close = functools.partial(np.testing.assert_allclose, atol=1e-5)
    close(stacked(gradients["kernel"]), theirs.weight_ih_l0.grad)
    close(stacked(gradients["recurrent_kernel"]), theirs.weight_hh_l0.grad)
    close(flat(gradients["bias"]), theirs.bias_ih_l0.grad)
    if "recurrent_bias" in params:
        close(flat(gradients["recurrent_bias"]), theirs.bias_hh_l0.grad[-F:])


@pytest.mark.parametrize(
    ("name", "value"), [("projection_dim", 0), ("cell_clip", 0.0), ("projection_clip", -3.0)]
)
def test_a_projection_that_cannot_be_is_refused(name, value):
    with pytest.raises(ModelError, match=f"ProjectedLSTM.{name} is {value}"):
        ProjectedLSTM(**{name: value})
