"""A question to a law and its answer: N, D, the loss and their intervals."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from t5x_like.errors import UserError
from t5x_like.scaling.laws import Law
from t5x_like.scaling.planning import invert_law
from t5x_like.scaling.planning.repeated_data import RepeatedData

# Plans whose last repetition is worth less than this share of new tokens are refused.
_LEAST_WORTH = 0.01
_PERCENTILES = (2.5, 97.5)

Interval = tuple[float, float | None]
"""95%, low and high; high is None where the law allows any."""


@dataclass(frozen=True)
class Question:
    """The given quantities, from which the law computes the others.

    One of the first four is given, or two other than `flops` and `loss`.

    Attributes:
      flops: the training budget C.
      parameters: N, as the law counts them.
      tokens: D.
      loss: to be reached, in nats.
      inference_tokens: that the model will read and write in its life. With `flops` or `loss`
        alone, N and D are those of the least training and inference at the same loss.
      unique_tokens: different tokens that there are; more are repetitions.
    """

    flops: float | None = None
    parameters: float | None = None
    tokens: float | None = None
    loss: float | None = None
    inference_tokens: float | None = None
    unique_tokens: float | None = None

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if value is not None and not 0 < value < math.inf:
                raise UserError(f"--{name}={value:g}: must be above 0.")
        given = self.given
        if len(given) not in (1, 2) or set(given) == {"flops", "loss"}:
            found = " and ".join(f"--{name}" for name in given) or "none"
            raise UserError(
                "a plan needs one of --flops, --parameters, --tokens and --loss, or two that are "
                f"not --flops and --loss; found {found}."
            )
        if self.inference_tokens and set(given) in ({"parameters"}, {"tokens"}):
            raise UserError(
                f"--inference_tokens with --{given[0]} alone leaves nothing to choose: give "
                "--flops or --loss, or another quantity."
            )

    @property
    def given(self) -> tuple[str, ...]:
        """The names of the given quantities among the first four."""
        names = ("flops", "parameters", "tokens", "loss")
        return tuple(name for name in names if getattr(self, name) is not None)

    @property
    def chooses_for_inference(self) -> bool:
        """Whether N and D minimise the cost of training and inference together."""
        return self.inference_tokens is not None and self.given in (("flops",), ("loss",))


@dataclass(frozen=True)
class Point:
    """A model size, its number of tokens and the resulting loss.

    Attributes:
      parameters: N.
      tokens: D.
      loss: in nats; None where the law predicts none.
    """

    parameters: float
    tokens: float
    loss: float | None

    @property
    def flops(self) -> float:
        """The FLOPs of training, 6ND."""
        return 6 * self.parameters * self.tokens

    def with_inference(self, inference_tokens: float) -> float:
        """The FLOPs of training and inference, 6ND + 2N·`inference_tokens`."""
        return self.flops + 2 * self.parameters * inference_tokens


def answer(law: Law, question: Question) -> tuple[Point, Point | None]:
    """Computes N, D and the loss by the law.

    Returns:
      The point; and that for the training budget alone or for unlimited data, if inference or
      repetitions changed it.

    Raises:
      UserError: the law has no answer, or predicts no loss and is asked for one.
    """
    _check_loss(law, question)
    parameters, tokens = (float(value) for value in _solve(law, question))
    point = _checked(law, question, parameters, tokens)
    if not question.chooses_for_inference:
        return point, _with_endless_data(law, question, point)
    if point.loss is None:
        raise UserError(f"--inference_tokens: {law.name} predicts no loss to hold.")
    cheapest = invert_law.cheapest_in_use(law, point.loss, question.inference_tokens or 0.0)
    return _checked(law, question, *cheapest), point


def _with_endless_data(law: Law, question: Question, point: Point) -> Point | None:
    """The same budget's optimum on unlimited data; None if no data are repeated."""
    if not isinstance(law, RepeatedData) or question.given != ("flops",):
        return None
    if point.tokens <= law.unique_tokens:
        return None
    parameters, tokens = (float(value) for value in law.law.optimum(point.flops))
    return Point(parameters, tokens, _loss(law.law, parameters, tokens))


def intervals(
    law: Law, samples: Law | None, question: Question, point: Point
) -> dict[str, Interval]:
    """The intervals of the loss at N and D, and of N, D and C from each bootstrap sample.

    95% percentiles over the samples; empty without samples.
    """
    if samples is None:
        return {}
    found: dict[str, Interval] = {}
    losses = samples.loss(point.parameters, point.tokens)
    if losses is not None and np.ndim(losses):
        found["loss"] = _percentiles(losses)
    if not isinstance(law, RepeatedData) and not question.chooses_for_inference:
        n, d = _solve(samples, question)
        free = {"parameters": n, "tokens": d, "flops": 6 * n * d}
        for name, values in free.items():
            if name not in question.given and np.ndim(values):
                found[name] = _percentiles(values)
    return found


def _solve(law: Law, question: Question) -> tuple[Any, Any]:
    """N and D, or arrays of them for a law with samples; NaN if there is no answer."""
    given: dict[str, Any] = {name: getattr(question, name) for name in question.given}
    match given:
        case {"parameters": n, "tokens": d}:
            return n, d
        case {"parameters": n, "flops": c}:
            return n, c / 6 / n
        case {"parameters": n, "loss": loss}:
            return n, invert_law.tokens_for_loss(law, n, loss)
        case {"parameters": n}:
            return n, invert_law.flops_for_parameters(law, n) / 6 / n
        case {"tokens": d, "flops": c}:
            return c / 6 / d, d
        case {"tokens": d, "loss": loss}:
            return invert_law.parameters_for_loss(law, d, loss), d
        case {"tokens": d}:
            return invert_law.flops_for_tokens(law, d) / 6 / d, d
        case {"loss": loss}:
            return law.optimum(invert_law.flops_for_loss(law, loss))
    return law.optimum(given["flops"])


def _check_loss(law: Law, question: Question) -> None:
    """Refuses a loss that the law cannot reach, and a law that predicts none."""
    if question.loss is None:
        return
    if law.loss(1e9, 1e10) is None:
        raise UserError(f"--loss={question.loss:g}: {law.name} predicts no loss.")
    if isinstance(law, RepeatedData):
        lowest = float(law.lowest_loss())
        why = f"the lowest that {law.unique_tokens:.4g} unique tokens allow"
    else:
        n, d = question.parameters or invert_law.MANY, question.tokens or invert_law.MANY
        lowest = float(invert_law.loss_of(law, n, d))
        of = [f"N {question.parameters:.4g}" if question.parameters else ""]
        of += [f"D {question.tokens:.4g}" if question.tokens else ""]
        why = f"what {law.name} predicts for {' '.join(filter(None, of)) or 'endless N and D'}"
    if question.loss <= lowest:
        raise UserError(f"--loss={question.loss:g} is not above {lowest:.5g}, {why}.")


def _checked(law: Law, question: Question, parameters: float, tokens: float) -> Point:
    if not all(math.isfinite(value) and value >= 1 for value in (parameters, tokens)):
        found = " ".join(f"--{name}={getattr(question, name):g}" for name in question.given)
        raise UserError(
            f"{found}: {law.name} has no answer of at least one parameter and one token, within "
            f"{invert_law.MANY:g} FLOPs."
        )
    if isinstance(law, RepeatedData):
        _check_epochs(law, tokens)
    return Point(parameters, tokens, _loss(law, parameters, tokens))


def _loss(law: Law, parameters: float, tokens: float) -> float | None:
    loss = law.loss(parameters, tokens)
    return None if loss is None else float(loss)


def _check_epochs(law: RepeatedData, tokens: float) -> None:
    """Refuses plans whose repetitions are worth almost nothing."""
    most = 1 - law.r_star_d * math.log(_LEAST_WORTH)
    epochs = tokens / law.unique_tokens
    if epochs > most:
        raise UserError(
            f"{tokens:.4g} tokens are {epochs:.1f} epochs of "
            f"--unique_tokens={law.unique_tokens:g}; after {most:.0f} an epoch is worth less than "
            f"{_LEAST_WORTH:.0%} of new tokens: find more data, or plan for less."
        )


def _percentiles(values: Any) -> Interval:
    """The 95% percentiles; samples that cannot reach the loss count as infinite."""
    reached = np.where(np.isnan(values), np.inf, values)
    low, high = np.percentile(reached, _PERCENTILES, method="nearest")
    return float(low), float(high) if math.isfinite(high) else None
