"""The options of a fit."""

from dataclasses import dataclass

STARTS = 64
HUBER_DELTA = 1e-3
ENVELOPE_POINTS = 1500


@dataclass(frozen=True)
class Options:
    """The checked options of `fit`, which its methods receive.

    Attributes:
      bootstrap: resamples; 0 for none.
      seed: of the bootstrap.
      starts: approximate number of initial values of the search.
      huber_delta: residual of log loss above which Huber's loss is linear.
      at_flops: budgets to predict.
      budgets: of the IsoFLOP groups; () finds them.
      weigh: whether runs weigh by the standard errors of their losses.
      window: decades of N on each side of an IsoFLOP minimum that its parabola is fitted to;
        None for all.
      source: what was fitted, for the law.
    """

    bootstrap: int = 0
    seed: int = 0
    starts: int = STARTS
    huber_delta: float = HUBER_DELTA
    at_flops: tuple[float, ...] = ()
    budgets: tuple[float, ...] = ()
    weigh: bool = False
    window: float | None = None
    source: str = ""
