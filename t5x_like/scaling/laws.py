"""Scaling laws: loss as a function of N and D, and the optimal N and D for a budget.

N is a number of parameters, D of tokens, C of FLOPs (C = 6·N·D), L a loss in nats a token. Which
parameters N counts is a law's `parameters_kind`. Everything is float64: 6·N·D overflows int64
at 9.2e18. A law's coefficients may be arrays (the samples of a bootstrap); they broadcast against
the arguments.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from t5x_like.errors import UserError

TOTAL = "total"
WITHOUT_EMBEDDINGS = "without_embeddings"

Floats = NDArray[np.float64]


class Law(Protocol):
    """The interface of laws that plans, fits and figures use."""

    @property
    def name(self) -> str:
        """The name in figures and tables."""

    @property
    def source(self) -> str:
        """The source: a paper's equation, or the runs that it was fitted to."""

    @property
    def parameters_kind(self) -> str:
        """What N counts: "total", "without_embeddings" or "unknown"."""

    def optimum(self, flops: ArrayLike) -> tuple[Floats, Floats]:
        """The N and D that minimise the loss for each budget of `flops`."""

    def loss(self, parameters: ArrayLike, tokens: ArrayLike) -> Floats | None:
        """The loss in nats at N and D; None if the law does not predict losses."""

    def to_json(self) -> dict[str, Any]:
        """Converts the law to JSON, which `from_json` reads."""


@dataclass(frozen=True)
class _Coefficients:
    """The JSON form that all laws share."""

    kind: ClassVar[str]

    def to_json(self) -> dict[str, Any]:
        """Returns the law's kind and fields."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        written = {
            name: value.to_json() if hasattr(value, "to_json") else value
            for name, value in fields.items()
        }
        return {"kind": self.kind, **written}

    @classmethod
    def coefficients(cls) -> tuple[str, ...]:
        """The names of the numeric fields."""
        return tuple(field.name for field in dataclasses.fields(cls) if field.type is float)


@dataclass(frozen=True)
class ParametricLaw(_Coefficients):
    """L = E + A / N^alpha + B / D^beta (Hoffmann et al. 2022, equation 2)."""

    kind: ClassVar[str] = "parametric"
    E: float
    A: float
    B: float
    alpha: float
    beta: float
    name: str = "parametric"
    source: str = ""
    parameters_kind: str = TOTAL

    @property
    def a(self) -> float:
        """The exponent of C in the optimal N (Hoffmann et al. 2022, equation 4)."""
        return self.beta / (self.alpha + self.beta)

    @property
    def b(self) -> float:
        """The exponent of C in the optimal D."""
        return self.alpha / (self.alpha + self.beta)

    def optimum(self, flops: ArrayLike) -> tuple[Floats, Floats]:
        """The optimal N and D for each budget (Hoffmann et al. 2022, equation 4)."""
        product = _floats(flops) / 6
        ratio = (self.alpha * self.A / (self.beta * self.B)) ** (1 / (self.alpha + self.beta))
        parameters = ratio * product**self.a
        return parameters, product / parameters

    def loss(self, parameters: ArrayLike, tokens: ArrayLike) -> Floats:
        """The loss in nats at N and D."""
        of_n = self.A * _floats(parameters) ** -self.alpha
        return self.E + of_n + self.B * _floats(tokens) ** -self.beta


@dataclass(frozen=True)
class AllocationLaw(_Coefficients):
    """N = coefficient · C^exponent and D = C / 6N (Hoffmann et al. 2022, approaches 1 and 2).

    `loss_law` predicts the losses, if there is one.
    """

    kind: ClassVar[str] = "allocation"
    coefficient: float
    exponent: float
    name: str = "allocation"
    source: str = ""
    parameters_kind: str = TOTAL
    loss_law: Law | None = None

    @property
    def a(self) -> float:
        """The exponent of C in the optimal N."""
        return self.exponent

    @property
    def b(self) -> float:
        """The exponent of C in the optimal D."""
        return 1 - self.exponent

    def optimum(self, flops: ArrayLike) -> tuple[Floats, Floats]:
        """The optimal N and D for each budget."""
        budget = _floats(flops)
        parameters = self.coefficient * budget**self.exponent
        return parameters, budget / 6 / parameters

    def loss(self, parameters: ArrayLike, tokens: ArrayLike) -> Floats | None:
        """The loss in nats by `loss_law`; None without one."""
        return None if self.loss_law is None else self.loss_law.loss(parameters, tokens)


@dataclass(frozen=True)
class KaplanLaw(_Coefficients):
    """L = ((N_c / N)^(alpha_N / alpha_D) + D_c / D)^alpha_D (Kaplan et al. 2020, equation 1.5).

    N counts no embeddings. `optimum` minimizes this loss at C = 6·N·D. It is not Kaplan's
    allocation (N ∝ C^0.73), which comes from training that is stopped short of convergence.
    """

    kind: ClassVar[str] = "kaplan"
    N_c: float
    D_c: float
    alpha_N: float
    alpha_D: float
    name: str = "kaplan"
    source: str = ""
    parameters_kind: str = WITHOUT_EMBEDDINGS

    @property
    def a(self) -> float:
        """The exponent of C in the optimal N."""
        return self.alpha_D / (self.alpha_N + self.alpha_D)

    @property
    def b(self) -> float:
        """The exponent of C in the optimal D."""
        return self.alpha_N / (self.alpha_N + self.alpha_D)

    def optimum(self, flops: ArrayLike) -> tuple[Floats, Floats]:
        """The optimal N and D: the root of d/dN of (N_c/N)^r + 6·N·D_c/C."""
        product = _floats(flops) / 6
        r = self.alpha_N / self.alpha_D
        # In logarithms, because N_c^r · C may exceed 1e308 for an unusual fit.
        log_n = (np.log(r) + r * np.log(self.N_c) + np.log(product) - np.log(self.D_c)) / (r + 1)
        parameters = np.exp(log_n)
        return parameters, product / parameters

    def loss(self, parameters: ArrayLike, tokens: ArrayLike) -> Floats:
        """The loss in nats at N and D."""
        of_n = (self.N_c / _floats(parameters)) ** (self.alpha_N / self.alpha_D)
        return (of_n + self.D_c / _floats(tokens)) ** self.alpha_D


@dataclass(frozen=True)
class GadreLaw(_Coefficients):
    """L = E + (a · M^eta + b · M^-eta) · C^-eta, M = D / N (Gadre et al. 2024, equation 4).

    It is `ParametricLaw` with alpha = beta = 2·eta, A = a / 6^eta and B = b / 6^eta, so that loss
    falls with C along parallel lines, whatever the over-training M.
    """

    kind: ClassVar[str] = "gadre"
    E: float
    a_M: float
    b_M: float
    eta: float
    name: str = "gadre"
    source: str = ""
    parameters_kind: str = TOTAL

    @property
    def a(self) -> float:
        """The exponent of C in the optimal N."""
        return 0.5 + 0 * self.eta

    @property
    def b(self) -> float:
        """The exponent of C in the optimal D."""
        return 0.5 + 0 * self.eta

    @property
    def best_ratio(self) -> float:
        """The M that minimises the loss, at any C."""
        return (self.b_M / self.a_M) ** (1 / (2 * self.eta))

    def optimum(self, flops: ArrayLike) -> tuple[Floats, Floats]:
        """The optimal N and D for each budget."""
        product = _floats(flops) / 6
        return np.sqrt(product / self.best_ratio), np.sqrt(product * self.best_ratio)

    def loss(self, parameters: ArrayLike, tokens: ArrayLike) -> Floats:
        """The loss in nats at N and D."""
        n, d = _floats(parameters), _floats(tokens)
        of_ratio = self.a_M * (d / n) ** self.eta + self.b_M * (d / n) ** -self.eta
        return self.E + of_ratio * (6 * n * d) ** -self.eta


_KINDS: dict[str, Any] = {
    law.kind: law for law in (ParametricLaw, AllocationLaw, KaplanLaw, GadreLaw)
}


def from_json(written: dict[str, Any]) -> Law:
    """Reads a law from what `to_json` returned.

    Raises:
      UserError: the kind of law is unknown, or a coefficient is missing or unknown.
    """
    fields = dict(written)
    kind = fields.pop("kind", None)
    if kind not in _KINDS:
        raise UserError(f'a law\'s "kind" is {", ".join(_KINDS)}, not {kind!r}.')
    if fields.get("loss_law") is not None:
        fields["loss_law"] = from_json(fields["loss_law"])
    try:
        return _KINDS[kind](**fields)
    except TypeError:
        known = [field.name for field in dataclasses.fields(_KINDS[kind])]
        raise UserError(
            f"a law of kind '{kind}' has {', '.join(known)}; found {', '.join(fields)}."
        ) from None


def _floats(values: ArrayLike) -> Floats:
    return np.asarray(values, dtype=np.float64)
