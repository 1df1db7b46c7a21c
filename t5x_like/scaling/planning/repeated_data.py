"""A scaling law for repeated data (Muennighoff et al. 2023)."""

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from t5x_like.scaling.laws import Floats, Law
from t5x_like.scaling.planning.invert_law import least, loss_of

R_STAR_D, R_STAR_N = 15.387756, 5.309743  # appendix A


@dataclass(frozen=True)
class RepeatedData:
    """A law for training on `unique_tokens` repeatedly.

    Muennighoff et al. 2023 ("Scaling Data-Constrained Language Models", equations 5 and 6): the
    loss is the law's at

        D' = U + U R*_D (1 - exp(-R_D / R*_D)),          R_D = D / U - 1 repetitions,
        N' = U_N + U_N R*_N (1 - exp(-R_N / R*_N)),      R_N = N / U_N - 1,

    where U is the number of different tokens seen and U_N the N that is best for U. Up to 4 epochs
    repeated tokens are worth almost as much as new ones; all repetitions together never more than
    R*_D U. The two constants were fitted to runs of up to 9B parameters on C4.

    Attributes:
      law: the law for data without repetitions; its optimal N and D are power laws of C.
      unique_tokens: the number of different tokens, U.
      r_star_d: R*_D.
      r_star_n: R*_N.
    """

    kind: ClassVar[str] = "repeated_data"
    law: Law
    unique_tokens: float
    r_star_d: float = R_STAR_D
    r_star_n: float = R_STAR_N

    @property
    def name(self) -> str:
        """The name of the law."""
        return self.law.name

    @property
    def source(self) -> str:
        """The sources of the law and of the repetitions."""
        return f"{self.law.source}; repetitions by Muennighoff et al. 2023, equations 5 and 6"

    @property
    def parameters_kind(self) -> str:
        """What N counts, as in the law."""
        return self.law.parameters_kind

    @property
    def most_effective_tokens(self) -> float:
        """D' in the limit of infinitely many repetitions."""
        return self.unique_tokens * (1 + self.r_star_d)

    def lowest_loss(self) -> Floats:
        """The loss in the limit of an infinite model and infinitely many repetitions."""
        parameters = self._best_parameters(np.asarray(self.unique_tokens)) * (1 + self.r_star_n)
        return loss_of(self.law, parameters, self.most_effective_tokens)

    def effective(self, parameters: ArrayLike, tokens: ArrayLike) -> tuple[Floats, Floats]:
        """N' and D': the equivalent N and D without repetitions."""
        n, d = (np.asarray(value, dtype=np.float64) for value in (parameters, tokens))
        unique = np.minimum(d, self.unique_tokens)
        needed = np.minimum(n, self._best_parameters(unique))
        return _decayed(n, needed, self.r_star_n), _decayed(d, unique, self.r_star_d)

    def loss(self, parameters: ArrayLike, tokens: ArrayLike) -> Floats | None:
        """The loss in nats at N and D, of which `unique_tokens` are different."""
        return self.law.loss(*self.effective(parameters, tokens))

    def optimum(self, flops: ArrayLike) -> tuple[Floats, Floats]:
        """The optimal N and D for each budget."""
        product = np.asarray(flops, dtype=np.float64) / 6
        middle = np.log(self.law.optimum(flops)[0])

        def loss(log_n: Floats) -> Floats:
            parameters = np.exp(log_n)
            return loss_of(self, parameters, product[..., None] / parameters)

        log_n = least(loss, np.stack([middle - 12, middle + 3], axis=-1))
        # Without repetitions the law's closed form is more accurate.
        log_n = np.where(product / np.exp(middle) <= self.unique_tokens, middle, log_n)
        return np.exp(log_n), product / np.exp(log_n)

    def to_json(self) -> dict[str, Any]:
        """The law's kind and fields."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {"kind": self.kind, **fields, "law": self.law.to_json()}

    def _best_parameters(self, tokens: Floats) -> Floats:
        """The N that is optimal for D; a power law of D, as both are power laws of C."""
        (n1, n2), (d1, d2) = (np.log(part) for part in _two_optima(self.law))
        slope = (n2 - n1) / (d2 - d1)
        return np.exp(n1 + slope * (np.log(tokens) - d1))


def _two_optima(law: Law) -> tuple[tuple[Floats, Floats], tuple[Floats, Floats]]:
    (n1, d1), (n2, d2) = law.optimum(1e20), law.optimum(1e24)
    return (n1, n2), (d1, d2)


def _decayed(total: Floats, unique: Floats, r_star: float) -> Floats:
    """The effective value of `total`, with `unique` of it not in excess (equations 5 and 6)."""
    return unique * (1 - r_star * np.expm1(-(total / unique - 1) / r_star))
