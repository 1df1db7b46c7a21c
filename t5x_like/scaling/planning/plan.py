"""Plans a training run by a scaling law: the optimal model for a budget, or the inverse."""

from dataclasses import dataclass
from typing import Any

from t5x_like.errors import UserError
from t5x_like.host import command
from t5x_like.scaling.family import Family, NoModel
from t5x_like.scaling.laws import TOTAL, WITHOUT_EMBEDDINGS, AllocationLaw, Law
from t5x_like.scaling.named_laws import DEFAULT, KnownLaw
from t5x_like.scaling.planning.accelerators import Accelerators
from t5x_like.scaling.planning.buildable import Buildable, buildable
from t5x_like.scaling.planning.electricity import Electricity
from t5x_like.scaling.planning.law_choice import chosen_law
from t5x_like.scaling.planning.query import Interval, Point, Question, answer, intervals
from t5x_like.scaling.planning.repeated_data import RepeatedData
from t5x_like.scaling.recipe import Recipe

# Muennighoff et al. 2023, figure 1: up to here repeated tokens are almost as good as new ones.
_FREE_EPOCHS = 4

_MFU = 0.4


@dataclass(frozen=True)
class Plan:
    """A plan: the law's answer, a model to build, and its cost.

    Attributes:
      question: what was given.
      known: the law, with its samples and notes.
      law: the law that answered: `known.law`, or that with repeated data.
      point: N, D and the loss.
      intervals: 95%, of `loss` and of what was not given.
      compute_optimal: what the training budget alone would have chosen, where inference or
        repetitions moved the point.
      model: the nearest model that can be built, with its training; None where there is none.
      accelerators: that train it.
      mfu: the share of their peak that they reach.
      electricity: that they take.
      notes: sentences that qualify the answer.
    """

    question: Question
    known: KnownLaw
    law: Law
    point: Point
    intervals: dict[str, Interval]
    compute_optimal: Point | None
    model: Buildable | None
    accelerators: Accelerators | None
    mfu: float
    electricity: Electricity
    notes: tuple[str, ...]

    @property
    def training_flops(self) -> float:
        """The exact FLOPs of the model that can be built; 6ND if there is none."""
        return self.model.training_flops if self.model else self.point.flops

    @property
    def device_hours(self) -> float | None:
        """Hours of all chips together; None without chips."""
        if self.accelerators is None:
            return None
        return self.accelerators.hours(self.training_flops, self.mfu)

    @property
    def wall_days(self) -> float | None:
        """Days from start to end; None without chips."""
        if self.accelerators is None:
            return None
        return self.accelerators.hours(self.training_flops, self.mfu) / self.accelerators.count / 24

    @property
    def tokens_per_second(self) -> float | None:
        """Positions, as `train` counts them, for each second of one chip; None without chips."""
        if self.device_hours is None:
            return None
        tokens = self.point.tokens
        if self.model:
            tokens = self.model.training.tokens * self.model.positions_per_token
        return tokens / self.device_hours / 3600

    @property
    def energy_kwh(self) -> float | None:
        """Energy in kWh; None without chips or their power."""
        if self.accelerators is None or self.device_hours is None:
            return None
        return self.electricity.kwh(self.accelerators.chip, self.device_hours)

    @property
    def co2_kg(self) -> float | None:
        """CO2 in kg; None without chips or their power."""
        if self.accelerators is None or self.device_hours is None:
            return None
        return self.electricity.kg_co2(self.accelerators.chip, self.device_hours)

    def to_json(self) -> dict[str, Any]:
        """Converts the plan to numbers, strings, lists and dicts."""
        question, point, model = self.question, self.point, self.model
        written: dict[str, Any] = {
            "law": self.known.law.to_json(),
            "given": {name: getattr(question, name) for name in question.given},
            **_point_json(point),
            "loss_interval": _listed(self.intervals.get("loss")),
            "intervals": {name: _listed(pair) for name, pair in self.intervals.items()},
            "family": model.family.name if model else None,
            "config": model.bindings if model else None,
            "learning_rate": model.training.learning_rate if model else None,
            "batch_tokens": model.training.batch_tokens if model else None,
            "warmup_steps": model.training.warmup_steps if model else None,
            "steps": model.training.steps if model else None,
            "model": model.to_json(self.law) if model else None,
            "command": model.command if model else None,
            "chips": self.accelerators.count if self.accelerators else None,
            "chip": self.accelerators.chip.name if self.accelerators else None,
            "mfu": self.mfu if self.accelerators else None,
            "device_hours": self.device_hours,
            "wall_days": self.wall_days,
            "tokens_per_second": self.tokens_per_second,
            "energy_kwh": self.energy_kwh,
            "co2_kg": self.co2_kg,
            "notes": list(self.notes),
        }
        if question.inference_tokens is not None:
            total = point.with_inference(question.inference_tokens)
            written["inference_tokens"] = question.inference_tokens
            written["total_flops"] = total
        if isinstance(self.law, RepeatedData):
            n, d = self.law.effective(point.parameters, point.tokens)
            written["unique_tokens"] = self.law.unique_tokens
            written["epochs"] = max(point.tokens / self.law.unique_tokens, 1.0)
            written["effective_parameters"], written["effective_tokens"] = float(n), float(d)
        if self.compute_optimal is not None:
            written["compute_optimal"] = _point_json(self.compute_optimal)
            if question.inference_tokens is not None:
                written["compute_optimal"]["total_flops"] = self.compute_optimal.with_inference(
                    question.inference_tokens
                )
        return written


def plan(
    question: Question,
    *,
    law: str | KnownLaw = DEFAULT,
    family: str | Family = "gopher",
    recipe: Recipe | None = None,
    row_tokens: int | None = None,
    accelerators: Accelerators | None = None,
    mfu: float | None = None,
    tokens_per_second: float | None = None,
    electricity: Electricity | None = None,
) -> Plan:
    """Answers a question by a law, and plans the training of a model.

    Args:
      question: what is given.
      law: a name, a fit's file, or the law itself.
      family: a family, or one with changes, in which a model is looked for.
      recipe: the rules for its shape, batch and learning rate; the defaults when None.
      row_tokens: target tokens of a row; see `buildable`.
      accelerators: that are to train it.
      mfu: share of their peak that training is taken to reach; 0.4 when None.
      tokens_per_second: of one chip, as it was measured, from which `mfu` then follows. They are
        positions, as `train` counts them: of an encoder-decoder those of inputs and targets.
      electricity: what turns hours into energy and CO2; its defaults when None.

    Raises:
      UserError: the law has no answer, or predicts no loss and is asked for one; no such law or
        family, or one with bindings that the plan makes itself or that nothing reads; the speed is
        given twice, without chips or above their peak.
    """
    if mfu is not None and not 0 < mfu <= 1:
        raise UserError(f"--mfu={mfu:g}: a share of the chips' peak, above 0 and at most 1.")
    if tokens_per_second is not None and (mfu is not None or accelerators is None):
        raise UserError(
            f"--tokens_per_second={tokens_per_second:g} is the speed of one of the --chips, from "
            "which the MFU follows: give it with --chips and without --mfu."
        )
    family = Family(family) if isinstance(family, str) else family
    known = chosen_law(law) if isinstance(law, str) else law
    used, samples = known.law, known.samples
    if question.unique_tokens is not None:
        used = RepeatedData(used, question.unique_tokens)
        samples = samples and RepeatedData(samples, question.unique_tokens)
    point, compute_optimal = answer(used, question)
    notes = [*known.notes, *_notes(known, used, question, point)]
    devices = accelerators.devices if accelerators else 1
    try:
        model = buildable(
            *(family, point.parameters, point.tokens),
            kind=used.parameters_kind,
            recipe=recipe or Recipe(),
            row_tokens=row_tokens,
            devices=devices,
        )
        notes += model.notes(devices)
    except NoModel as error:
        model = None
        notes.append(f"no model: {error}")
    if accelerators is not None and tokens_per_second is not None:
        flops_per_token = 6 * point.parameters
        if model:
            flops_per_token = model.flops_per_token / model.positions_per_token
        mfu = _checked_mfu(accelerators, flops_per_token, tokens_per_second)
    return Plan(
        question=question,
        known=known,
        law=used,
        point=point,
        intervals=intervals(used, samples, question, point),
        compute_optimal=compute_optimal,
        model=model,
        accelerators=accelerators,
        mfu=_MFU if mfu is None else mfu,
        electricity=electricity or Electricity(),
        notes=tuple(notes),
    )


def _checked_mfu(
    accelerators: Accelerators, flops_per_token: float, tokens_per_second: float
) -> float:
    mfu = accelerators.mfu(flops_per_token, tokens_per_second * accelerators.count)
    if mfu > 1:
        raise UserError(
            f"--tokens_per_second={tokens_per_second:g}: {mfu:.3g} times the peak of one "
            f"{accelerators.chip.name}; it is the speed of one chip, not of all."
        )
    return mfu


def _notes(known: KnownLaw, law: Law, question: Question, point: Point) -> list[str]:
    notes = []
    weighed = question.chooses_for_inference or isinstance(law, RepeatedData)
    if weighed and isinstance(known.law, AllocationLaw) and known.law.loss_law:
        notes.append(
            f"inference and repetitions are weighed on the loss of {known.law.loss_law.name}, "
            f"whose best N for a budget is not that of {known.law.name}."
        )
    if known.budgets and point.flops > 2 * known.budgets[1]:
        times = point.flops / known.budgets[1]
        notes.append(
            f"{point.flops:.3g} FLOPs are {times:,.0f} times the largest run behind "
            f"{law.name}: an extrapolation; the interval does not cover errors of the law's form."
        )
    if isinstance(law, RepeatedData):
        epochs = point.tokens / law.unique_tokens
        if epochs > _FREE_EPOCHS:
            notes.append(
                f"{epochs:.1f} epochs: beyond {_FREE_EPOCHS} repeated tokens are worth clearly "
                "less than new ones (Muennighoff et al. 2023)."
            )
    if law.parameters_kind not in (TOTAL, WITHOUT_EMBEDDINGS):
        notes.append("what N counts is not known of this law; it is taken to be all parameters.")
    return notes


def _point_json(point: Point) -> dict[str, Any]:
    return {
        "parameters": point.parameters,
        "tokens": point.tokens,
        "flops": point.flops,
        "tokens_per_parameter": point.tokens / point.parameters,
        "loss": point.loss,
    }


def _listed(interval: Interval | None) -> list[float | None] | None:
    return None if interval is None else list(interval)


if __name__ == "__main__":
    command.run("plan")
