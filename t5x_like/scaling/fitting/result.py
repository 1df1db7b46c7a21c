"""A fitted law with its uncertainty, warnings and diagnostics."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from t5x_like.errors import UserError
from t5x_like.scaling.fitting.forms import LARGEST_EXPONENT
from t5x_like.scaling.laws import Law

Floats = NDArray[np.float64]

# A 95% interval by percentiles of the bootstrap (Efron and Tibshirani 1993, chapter 13).
PERCENTILES = (2.5, 97.5)
# Significant digits of a sample in JSON: enough for any interval.
SAMPLE_DIGITS = 9


@dataclass(frozen=True)
class Fit:
    """The result of `fit`.

    Attributes:
      method: how it was fitted.
      law: the law; its coefficients are in `parameters` too, with the exponents `a` and `b` of
        the best N and D.
      parameters: name → value.
      objective: the sum over runs of what was minimized, undivided: Huber's loss of log loss, or
        squared residuals.
      starts: how many starts the search had; `starts_agreeing`, how many of them ended within
        1e-6 of the best objective.
      gradient: the largest component of the objective's gradient at the optimum, in units of
        the square root of its curvature; `curvature`, the Hessian's smallest eigenvalue. NaN
        where the fit is linear.
      rows_used: how many rows the law was fitted to.
      settings: how many different settings of N and D they have; the others are repeats.
      rows_left_out: {"row", "name", "reason"} of each of the others.
      weighed: whether runs weighed by the standard errors of their losses.
      resampled: how many runs, cells of a sweep or curves each resample of the bootstrap draws.
      undetermined: the parameters that the runs do not determine: their intervals, and those of
        predictions, are infinite.
      samples: parameter → (R,) values of the bootstrap; empty without one, NaN in a resample that
        gave no law.
      warnings: {"name", "message"}.
      influence: a row for each of the largest residuals: the exponent `a` without that run, and
        without it and all runs above it.
      residuals: a row a run: `predicted` and `residual` = log loss - log predicted.
      correlation: of the parameters, coefficients in their logarithms; from the bootstrap, else
        from the curvature of the squared residuals.
      minima: approach 2: a row a budget.
      envelope: approach 1: a row a FLOP count, with the best run there.
      at_flops: budgets that `to_json` and the table predict.
    """

    method: str
    law: Law
    parameters: Mapping[str, float]
    objective: float
    rows_used: int
    settings: int
    rows_left_out: list[dict[str, Any]]
    at_flops: tuple[float, ...]
    weighed: bool = False
    starts: int = 1
    starts_agreeing: int = 1
    gradient: float = float("nan")
    curvature: float = float("nan")
    resampled: int = 0
    undetermined: tuple[str, ...] = ()
    samples: Mapping[str, Floats] = field(default_factory=dict)
    warnings: list[dict[str, str]] = field(default_factory=list)
    influence: pd.DataFrame = field(default_factory=pd.DataFrame)
    residuals: pd.DataFrame = field(default_factory=pd.DataFrame)
    correlation: pd.DataFrame = field(default_factory=pd.DataFrame)
    minima: pd.DataFrame | None = None
    envelope: pd.DataFrame | None = None

    @property
    def intervals(self) -> dict[str, list[float]]:
        """The 95% interval of each parameter; empty without a bootstrap.

        Infinite for a parameter that the runs do not determine, and above an exponent's bound in
        the search, which is no limit of the data. NaN where most resamples give no law.
        """
        return {
            name: [-np.inf, np.inf] if name in self.undetermined else _unbounded(name, values)
            for name, values in self.samples.items()
        }

    @property
    def sampled_law(self) -> Any:
        """The law with bootstrap samples (R,) as coefficients; None without a bootstrap."""
        if not self.samples:
            return None
        names = type(self.law).coefficients()  # type: ignore[attr-defined]
        sampled = {name: self.samples[name] for name in names}
        return dataclasses.replace(self.law, **sampled)  # type: ignore[type-var]

    def predict(self, parameters: ArrayLike, tokens: ArrayLike) -> tuple[Floats, Floats, Floats]:
        """Predicts the loss at N and D, and its 95% interval.

        The interval is NaN without a bootstrap, infinite where the runs do not determine the law.

        Raises:
          UserError: the law predicts no loss.
        """
        n, d = np.broadcast_arrays(*(np.asarray(v, np.float64) for v in (parameters, tokens)))
        loss = self.law.loss(n, d)
        if loss is None:
            raise UserError(
                f"{self.method} says how to divide a budget, not what loss it buys; "
                "fit the same runs with approach3."
            )
        if not self.samples:
            return loss, np.full_like(loss, np.nan), np.full_like(loss, np.nan)
        if self.undetermined:
            return loss, np.full_like(loss, -np.inf), np.full_like(loss, np.inf)
        low, high = interval(self.sampled_law.loss(n[..., None], d[..., None]))
        return loss, low, high

    def optimum(self, flops: float) -> dict[str, Any]:
        """The optimal N and D and their loss for a budget, each with its 95% interval.

        The interval of the loss is that of each resample's optimal loss at its own N and D. A loss
        is None if the law predicts none, an interval without a bootstrap.
        """
        n, d = self.law.optimum(flops)
        loss = self.law.loss(n, d)
        found: dict[str, Any] = {
            "flops": float(flops),
            "parameters": float(n),
            "tokens": float(d),
            "loss": None if loss is None else float(loss),
            "parameters_interval": None,
            "tokens_interval": None,
            "loss_interval": None,
        }
        if self.samples and self.undetermined:
            for name in ("parameters", "tokens", *(["loss"] if loss is not None else [])):
                found[f"{name}_interval"] = [-np.inf, np.inf]
        elif self.samples:
            sampled = self.sampled_law
            n, d = sampled.optimum(flops)
            found["parameters_interval"] = _pair(n)
            found["tokens_interval"] = _pair(d)
            if loss is not None:
                found["loss_interval"] = _pair(sampled.loss(n, d))
        return found

    def to_json(self) -> dict[str, Any]:
        """Converts the fit to one object of plain values; what is not finite becomes None."""
        written = {
            "method": self.method,
            **self.parameters,
            "parameters": dict(self.parameters),
            "law": self.law.to_json(),
            "objective": self.objective,
            "starts": self.starts,
            "starts_agreeing": self.starts_agreeing,
            "gradient": self.gradient,
            "curvature": self.curvature,
            "rows_used": self.rows_used,
            "settings": self.settings,
            "rows_left_out": self.rows_left_out,
            "weighed": self.weighed,
            "resampled": self.resampled,
            "undetermined": list(self.undetermined),
            "intervals": self.intervals,
            "optimum": [self.optimum(flops) for flops in self.at_flops],
            "warnings": self.warnings,
            "influence": self.influence.to_dict(orient="records"),
            "residuals": self.residuals.to_dict(orient="records"),
            "correlation": self.correlation.to_dict(),
            "samples": {
                name: [float(f"{value:.{SAMPLE_DIGITS}g}") for value in values]
                for name, values in self.samples.items()
            },
        }
        if self.minima is not None:
            written["minima"] = self.minima.to_dict(orient="records")
        return _plain(written)


def interval(samples: Floats) -> tuple[Any, Any]:
    """The 95% interval over the last axis; resamples without a law are left out.

    NaN where more than half have none: what is left says little of the spread.
    """
    lost = np.isnan(samples)
    few = 2 * lost.sum(axis=-1) > samples.shape[-1]
    # Replaced, because NumPy warns of rows without any number.
    usable = np.where(few[..., None] & lost, 0.0, samples)
    with np.errstate(invalid="ignore"):  # between infinite samples there is no percentile
        low, high = np.nanpercentile(usable, PERCENTILES, axis=-1)
    low, high = (np.where(np.isnan(end), np.inf, end) for end in (low, high))
    return np.where(few, np.nan, low)[()], np.where(few, np.nan, high)[()]


def _unbounded(name: str, samples: Floats) -> list[float]:
    """The interval of a parameter, without the end that the search set."""
    low, high = _pair(samples)
    at_bound = name in ("alpha", "beta", "eta", "alpha_D") and high >= LARGEST_EXPONENT * (1 - 1e-9)
    return [low, np.inf if at_bound else high]


def _pair(samples: Floats) -> list[float]:
    low, high = interval(samples)
    return [float(low), float(high)]


def correlation(samples: Mapping[str, Floats], names: Sequence[str]) -> pd.DataFrame:
    """The correlation of parameters over the bootstrap, with coefficients in logarithms."""
    columns = {}
    for name in names:
        logged = is_coefficient(name)
        with np.errstate(divide="ignore", invalid="ignore"):
            values = np.log(samples[name]) if logged else samples[name]
        columns[f"log {name}" if logged else name] = np.where(np.isfinite(values), values, np.nan)
    return pd.DataFrame(columns).corr()


def is_coefficient(name: str) -> bool:
    """Whether a parameter is a factor, which varies over orders of magnitude."""
    return name in ("A", "B", "a_M", "b_M", "N_c", "D_c", "coefficient")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value
