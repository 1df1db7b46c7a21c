"""Published scaling laws by name, each with its source and its caveats."""

import csv
import dataclasses
import functools
import importlib.resources
import re
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from t5x_like.config.gin_files import nearest
from t5x_like.errors import UserError
from t5x_like.scaling.laws import (
    WITHOUT_EMBEDDINGS,
    AllocationLaw,
    Floats,
    Law,
    ParametricLaw,
)

DEFAULT = "besiroglu2024"
PF_DAY = 1e15 * 24 * 3600  # FLOPs

Rows = tuple[tuple[float, float, float], ...]

# Hoffmann et al. 2022: parameters, FLOPs, tokens.
APPROACH1_TABLE: Rows = (
    (400e6, 1.92e19, 8.0e9),
    (1e9, 1.21e20, 20.2e9),
    (10e9, 1.23e22, 205.1e9),
    (67e9, 5.76e23, 1.5e12),
    (175e9, 3.85e24, 3.7e12),
    (280e9, 9.90e24, 5.9e12),
    (520e9, 3.43e25, 11.0e12),
    (1e12, 1.27e26, 21.2e12),
    (10e12, 1.30e28, 216.2e12),
)
"""Table 3."""

APPROACH2_TABLE: Rows = (
    (400e6, 1.84e19, 7.7e9),
    (1e9, 1.20e20, 20.0e9),
    (10e9, 1.32e22, 219.5e9),
    (67e9, 6.88e23, 1.7e12),
    (175e9, 4.54e24, 4.3e12),
    (280e9, 1.18e25, 7.1e12),
    (520e9, 4.19e25, 13.4e12),
    (1e12, 1.59e26, 26.5e12),
    (10e12, 1.75e28, 292.0e12),
)
"""Table A3, left half."""

# Budgets, in FLOPs, of the runs behind a law. Kaplan: 1.5B parameters on 23B tokens at most.
# Hoffmann: the IsoFLOP profiles of approach 2; the runs of figure 4 for approaches 1 and 3.
_KAPLAN_BUDGETS = (1e15, 2.1e20)
_ISOFLOP_BUDGETS = (6e18, 3e21)
_FIGURE4_BUDGETS = (1.4e18, 1.3e22)

_ALLOCATION_NOTE = (
    "the paper prints the exponent as {printed} only; coefficient and exponent are those of the "
    "power law D = k N^p with the smallest largest error over its {table}."
)
_LOSS_NOTE = (
    "this approach predicts no loss: the loss is that of hoffmann2022_approach3 at N and D."
)
_NO_INTERVAL = "the paper gives no uncertainty of the loss, so there is no interval."


@dataclass(frozen=True)
class KnownLaw:
    """A law with its bootstrap samples and the notes that a plan prints.

    Attributes:
      law: the point estimate.
      samples: the same law with an array for each coefficient, a bootstrap; None without.
      budgets: least and most FLOPs of the runs behind it; None if unknown.
      notes: sentences that a user should know.
    """

    law: Law
    samples: Law | None = None
    budgets: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class KaplanStepsLaw:
    """L = (N_c/N)^alpha_N + (S_c/S_min)^alpha_S (Kaplan et al. 2020, equation 1.6).

    Training stops short of convergence, at the critical batch B* / L^(1/alpha_B) (equation 1.4),
    so that D tokens are S_min = D L^(1/alpha_B) / 2B* steps. L is on both sides; there is one
    solution. N counts no embeddings; tokens and loss are those of WebText2.
    """

    kind: ClassVar[str] = "kaplan_steps"
    N_c: float = 6.5e13
    S_c: float = 2.1e3
    alpha_N: float = 0.077
    alpha_S: float = 0.76
    B_star: float = 2.1e8
    alpha_B: float = 0.21
    name: str = "equation 1.6"
    source: str = "Kaplan et al. 2020, equations 1.4 and 1.6, tables 3 and 5"
    parameters_kind: str = WITHOUT_EMBEDDINGS

    def loss(self, parameters: ArrayLike, tokens: ArrayLike) -> Floats:
        """The loss in nats at N and D."""
        n, d = (np.asarray(values, dtype=np.float64) for values in (parameters, tokens))
        of_n = (self.N_c / n) ** self.alpha_N
        of_d = (2 * self.B_star * self.S_c / d) ** self.alpha_S
        power = self.alpha_S / self.alpha_B
        # Newton's method on L - of_n - of_d L^-power, which is increasing and concave: from a start
        # below 0 it converges monotonically.
        loss = np.maximum(of_n, of_d ** (1 / (1 + power)))
        for _ in range(20):
            rest = of_d * loss**-power
            loss = loss - (loss - of_n - rest) / (1 + power * rest / loss)
        return loss

    def optimum(self, flops: ArrayLike) -> tuple[Floats, Floats]:
        """The N and D of table 6, whose loss this law predicts."""
        return _kaplan().optimum(flops)

    def to_json(self) -> dict[str, Any]:
        """The law's kind and fields."""
        return {"kind": self.kind, **dataclasses.asdict(self)}


def minimax_power_law(x: ArrayLike, y: ArrayLike) -> tuple[float, float]:
    """Fits k and p of y = k x^p with the smallest maximum error of log y.

    The best line has three points of equal error with alternating signs (Chebyshev); of all lines
    with that property it is the one with the largest error.
    """
    order = np.argsort(x)
    u, v = (np.log(np.asarray(values, dtype=np.float64))[order] for values in (x, y))
    best = (0.0, 0.0, -1.0)
    for i in range(len(u)):
        for k in range(i + 2, len(u)):
            slope = (v[k] - v[i]) / (u[k] - u[i])
            for j in range(i + 1, k):
                error = v[j] - v[i] - slope * (u[j] - u[i])
                if abs(error) / 2 > best[2]:
                    best = v[i] + error / 2 - slope * u[i], slope, abs(error) / 2
    return float(np.exp(best[0])), float(best[1])


def _allocation(rows: Rows, **fields: Any) -> AllocationLaw:
    """Converts a table's D = k N^p to N = coefficient C^exponent, with C = 6ND."""
    parameters, _, tokens = zip(*rows, strict=True)
    k, p = minimax_power_law(parameters, tokens)
    exponent = 1 / (1 + p)
    return AllocationLaw((6 * k) ** -exponent, exponent, loss_law=_approach3(), **fields)


@functools.cache
def _approach3() -> ParametricLaw:
    source = "Hoffmann et al. 2022, equation 10"
    return ParametricLaw(1.69, 406.4, 410.7, 0.34, 0.28, "hoffmann2022_approach3", source)


@functools.cache
def _kaplan() -> AllocationLaw:
    """N = 1.3e9 C_min^0.73 with C_min in PF-days, and C = 2 C_min at the critical batch."""
    return AllocationLaw(
        coefficient=1.3e9 / (2 * PF_DAY) ** 0.73,
        exponent=0.73,
        name="kaplan2020",
        source="Kaplan et al. 2020, appendix A, table 6; loss by equation 1.6",
        parameters_kind=WITHOUT_EMBEDDINGS,
        loss_law=KaplanStepsLaw(),
    )


def _known_kaplan() -> KnownLaw:
    notes = (
        "N counts no embeddings. Table 6 is in C_min, the least compute; training at the critical "
        "batch takes C = 2 C_min (section 5.1), and D = C / 6N.",
        "the loss is in nats a token of WebText2, at the critical batch (equation 1.6).",
        _NO_INTERVAL,
    )
    return KnownLaw(_kaplan(), budgets=_KAPLAN_BUDGETS, notes=notes)


def _known_approach1() -> KnownLaw:
    law = _allocation(
        APPROACH1_TABLE,
        name="hoffmann2022_approach1",
        source="Hoffmann et al. 2022, section 3.1, table 3",
    )
    note = _ALLOCATION_NOTE.format(printed="0.50", table="table 3")
    return KnownLaw(law, None, _FIGURE4_BUDGETS, (note, _LOSS_NOTE, _NO_INTERVAL))


def _known_approach2() -> KnownLaw:
    law = _allocation(
        APPROACH2_TABLE,
        name="hoffmann2022_approach2",
        source="Hoffmann et al. 2022, section 3.2, table A3",
    )
    note = _ALLOCATION_NOTE.format(printed="0.49", table="table A3")
    return KnownLaw(law, None, _ISOFLOP_BUDGETS, (note, _LOSS_NOTE, _NO_INTERVAL))


def _known_approach3() -> KnownLaw:
    note = (
        "the exponents are as printed, to two digits; the paper's own table A3 comes from more "
        "digits, see hoffmann2022_approach3_unrounded."
    )
    return KnownLaw(_approach3(), None, _FIGURE4_BUDGETS, (note, _NO_INTERVAL))


def _known_approach3_unrounded() -> KnownLaw:
    law = ParametricLaw(
        *(1.6934, 406.4, 410.7, 0.3392, 0.2849),
        name="hoffmann2022_approach3_unrounded",
        source="Hoffmann et al. 2022, equation 10, with the digits of its TeX source as read by "
        "Besiroglu et al. 2024",
    )
    return KnownLaw(law, None, _FIGURE4_BUDGETS, (_NO_INTERVAL,))


def _known_besiroglu() -> KnownLaw:
    law = ParametricLaw(
        *(1.8172, 482.01, 2085.43, 0.3478, 0.3658),
        name="besiroglu2024",
        source="Besiroglu et al. 2024, table 1: approach 3 again, on 240 points of Hoffmann's "
        "figure 4",
    )
    columns = _besiroglu_samples()
    note = (
        f"intervals: 95% percentiles of {len(columns['E'])} bootstrap samples of the points of "
        "figure 4."
    )
    return KnownLaw(law, dataclasses.replace(law, **columns), _FIGURE4_BUDGETS, (note,))


def _besiroglu_samples() -> dict[str, Any]:
    """Columns of the packaged samples: E, A, B, alpha, beta."""
    file = importlib.resources.files(__package__) / "besiroglu2024_samples.csv"
    with file.open() as text:
        rows = list(csv.DictReader(line for line in text if not line.startswith("#")))
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}


_LAWS = {
    "kaplan2020": _known_kaplan,
    "hoffmann2022_approach1": _known_approach1,
    "hoffmann2022_approach2": _known_approach2,
    "hoffmann2022_approach3": _known_approach3,
    "hoffmann2022_approach3_unrounded": _known_approach3_unrounded,
    "besiroglu2024": _known_besiroglu,
}
NAMES = tuple(_LAWS)


@functools.cache
def known(name: str) -> KnownLaw:
    """Looks up the published law called `name`, ignoring case and punctuation.

    Raises:
      UserError: there is none; the message lists all, and the nearest.
    """
    plain = {_plain(each): each for each in NAMES}
    found = plain.get(_plain(name))
    if found is None:
        near = nearest(_plain(name), plain).strip()
        for each, spelled in sorted(plain.items(), key=lambda item: -len(item[0])):
            near = near.replace(each, spelled)
        raise UserError(
            f"no law '{name}': there are {', '.join(NAMES)}, or the file of a fit, fit.json."
            f"{f' {near}' if near else ''}"
        )
    return _LAWS[found]()


def named(name: str) -> Law:
    """Looks up the law of `known`."""
    return known(name).law


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold())
