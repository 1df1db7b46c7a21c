"""Solves a law for the budget, the tokens or the model size that reach a target.

All results are NaN where the law has no answer within `FEW` and `MANY`.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from t5x_like.scaling.laws import Floats, Law

FEW, MANY = 1.0, 1e40  # FLOPs, parameters or tokens


def flops_for_parameters(law: Law, parameters: ArrayLike) -> Floats:
    """The budget whose optimal N is `parameters`."""
    wanted = np.asarray(parameters, dtype=np.float64)
    return solve(lambda flops: law.optimum(flops)[0] - wanted)


def flops_for_tokens(law: Law, tokens: ArrayLike) -> Floats:
    """The budget whose optimal D is `tokens`."""
    wanted = np.asarray(tokens, dtype=np.float64)
    return solve(lambda flops: law.optimum(flops)[1] - wanted)


def flops_for_loss(law: Law, loss: ArrayLike) -> Floats:
    """The smallest budget that reaches `loss` nats."""
    wanted = np.asarray(loss, dtype=np.float64)
    return solve(lambda flops: wanted - loss_of(law, *law.optimum(flops)))


def tokens_for_loss(law: Law, parameters: ArrayLike, loss: ArrayLike) -> Floats:
    """The tokens on which a model of `parameters` reaches `loss` nats."""
    n, wanted = (np.asarray(value, dtype=np.float64) for value in (parameters, loss))
    return solve(lambda tokens: wanted - loss_of(law, n, tokens))


def parameters_for_loss(law: Law, tokens: ArrayLike, loss: ArrayLike) -> Floats:
    """The size of the model that reaches `loss` nats on `tokens`."""
    d, wanted = (np.asarray(value, dtype=np.float64) for value in (tokens, loss))
    return solve(lambda parameters: wanted - loss_of(law, parameters, d))


def cheapest_in_use(law: Law, loss: float, inference_tokens: float) -> tuple[float, float]:
    """The N and D that minimise 6ND + 2N·`inference_tokens` at a fixed loss.

    Sardana and Frankle 2023, "Beyond Chinchilla-Optimal", equation 3: a smaller model that is
    trained for longer costs more to train and less to use. NaN if no model reaches the loss.
    """
    best = float(law.optimum(flops_for_loss(law, loss))[0])

    def cost(log_n: Floats) -> Floats:
        tokens = tokens_for_loss(law, np.exp(log_n), loss)
        flops = np.exp(log_n) * (6 * tokens + 2 * inference_tokens)
        return np.where(np.isnan(flops), np.inf, flops)

    log_n = least(cost, np.log(best) + np.array([-25.0, 3.0]))
    parameters = float(np.exp(log_n))
    return parameters, float(tokens_for_loss(law, parameters, loss))


def loss_of(law: Law, parameters: ArrayLike, tokens: ArrayLike) -> Floats:
    """The loss by a law that predicts one.

    Raises:
      ValueError: the law predicts no loss.
    """
    loss = law.loss(parameters, tokens)
    if loss is None:
        raise ValueError(f"{law.name} predicts no loss")
    return loss


def solve(rising: Callable[[Floats], Floats]) -> Floats:
    """Finds the root of an increasing function between `FEW` and `MANY`, elementwise.

    Bisects the logarithm, to the last digits of a double.
    """
    below, above = rising(np.asarray(FEW)), rising(np.asarray(MANY))
    low = np.full(np.shape(below), np.log(FEW))
    high = np.full(np.shape(below), np.log(MANY))
    for _ in range(64):
        middle = (low + high) / 2
        short = rising(np.exp(middle)) < 0
        low, high = np.where(short, middle, low), np.where(short, high, middle)
    crosses = (below <= 0) & (above >= 0)
    return np.where(crosses, np.exp((low + high) / 2), np.nan)


def least(function: Callable[[Floats], Floats], bounds: Floats) -> Floats:
    """Finds the minimum of a unimodal function, elementwise.

    Args:
      function: takes `[..., points]`.
      bounds: `[..., 2]`, lower and upper.
    """
    low, high = bounds[..., 0], bounds[..., 1]
    steps = np.linspace(0, 1, 65)
    for _ in range(10):
        grid = low[..., None] + (high - low)[..., None] * steps
        found = np.argmin(function(grid), axis=-1)[..., None]
        low, high = (
            np.take_along_axis(grid, np.clip(found + side, 0, len(steps) - 1), -1)[..., 0]
            for side in (-1, 1)
        )
    return (low + high) / 2
