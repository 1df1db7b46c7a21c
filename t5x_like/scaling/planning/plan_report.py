"""Formats a plan as the `plan` command prints it."""

import shlex
import textwrap
from collections.abc import Sequence

from t5x_like.cost.chips import Chip
from t5x_like.cost.units import short_count
from t5x_like.scaling.planning.plan import Plan
from t5x_like.scaling.planning.query import Interval, Point
from t5x_like.scaling.planning.repeated_data import RepeatedData
from t5x_like.scaling.recipe import Recipe

_WIDTH = 100


def plan_text(plan: Plan, recipe: Recipe) -> str:
    """Formats the law's answer, the model, its training and cost, the notes, and the command."""
    sections = [_answer(plan), _model(plan, recipe), _cost(plan)]
    if plan.notes:
        sections.append(["notes", *(_note(note) for note in plan.notes)])
    if plan.model:
        command = _continued(["t5x-like", *plan.model.arguments])
        sections.append(["command (the task is an example)", *command])
    return "\n\n".join("\n".join(lines) for lines in sections if lines)


def _answer(plan: Plan) -> list[str]:
    point, law, spans = plan.point, plan.law, plan.intervals
    given = [f"{name} {_given(name, value)}" for name, value in _questions(plan)]
    loss = "not predicted" if point.loss is None else f"{point.loss:.4f} nats"
    rows = [
        ("N", short_count(point.parameters), _span(spans.get("parameters"))),
        ("D", short_count(point.tokens), _span(spans.get("tokens"))),
        ("C = 6ND", f"{point.flops:.4g}", _span(spans.get("flops"), flops=True)),
        ("D / N", f"{point.tokens / point.parameters:.4g}", ""),
        ("loss", loss, _span(spans.get("loss"), loss=True)),
    ]
    if isinstance(law, RepeatedData):
        n, d = map(float, law.effective(point.parameters, point.tokens))
        epochs = max(point.tokens / law.unique_tokens, 1)
        worth = f"worth {short_count(d)} new tokens; N is worth {short_count(n)}"
        rows.append(("epochs", f"{epochs:.4g}", worth))
    inference = plan.question.inference_tokens
    if inference:
        rows.append(("with inference", f"{point.with_inference(inference):.4g}", "FLOPs"))
    lines = [f"{plan.known.law.name}: {law.source}", f"given {', '.join(given)}", "", *_table(rows)]
    return [*lines, *_comparison(plan.compute_optimal, point, inference)]


def _comparison(other: Point | None, point: Point, inference: float | None) -> list[str]:
    """The comparison with the optimum for the training budget alone."""
    if other is None:
        return []
    without = "by training alone" if inference else "with endless data"
    line = f"  {without}: N {short_count(other.parameters)}, D {short_count(other.tokens)}"
    if other.loss is not None:
        line += f", loss {other.loss:.4f}"
    if inference is None:
        return [line]
    total = other.with_inference(inference)
    share = 1 - point.with_inference(inference) / total
    return [f"{line}, {total:.4g} FLOPs with inference: {share:.1%} are saved"]


def _model(plan: Plan, recipe: Recipe) -> list[str]:
    model = plan.model
    if model is None:
        return []
    shape, size, training = model.shape, model.size, model.training
    active = f", {size.active:,} active" if size.active != size.parameters else ""
    without = f"{size.without_embeddings:,} without embeddings"
    ratio = model.flops_per_token / (6.0 * size.active)
    rows = [
        ("layers", str(shape.num_layers), ""),
        ("embed_dim", str(shape.embed_dim), f"{shape.num_heads} heads of {shape.head_dim}"),
        ("mlp_dim", str(shape.mlp_dim), ""),
        ("parameters", f"{size.parameters:,}", f"{without}{active}"),
        ("FLOPs", f"{model.training_flops:.4g}", f"exact, {ratio:.3f} times 6ND"),
        (
            "batch",
            f"{training.batch_tokens:,}",
            f"tokens, {model.rows} rows: {_batch_rule(recipe)}",
        ),
        ("learning rate", f"{training.learning_rate:.4g}", _rate_rule(recipe)),
        ("warm-up", f"{training.warmup_steps:,}", "steps"),
        ("steps", f"{training.steps:,}", f"{short_count(training.tokens)} tokens"),
    ]
    return [f"nearest {model.family.name} that can be built", *_table(rows)]


def _cost(plan: Plan) -> list[str]:
    accelerators = plan.accelerators
    if accelerators is None or plan.device_hours is None or plan.tokens_per_second is None:
        return []
    chip = accelerators.chip
    peak = f"{chip.bf16_flops / 1e12:,.0f} TFLOP/s each, MFU {plan.mfu:.2g}"
    both = plan.model is not None and plan.model.positions_per_token > 1
    sides = ", inputs and targets, padding included" if both else ""
    rows = [
        ("chips", f"{accelerators.count:,}", f"{chip.name}, {peak}"),
        ("speed", _plain(plan.tokens_per_second), f"tokens a second of each chip{sides}"),
        ("device hours", f"{plan.device_hours:,.1f}", "of all chips together"),
        ("days", f"{plan.wall_days:,.4g}", ""),
        *_energy(plan, chip),
    ]
    return [f"on {accelerators.name}", *_table(rows)]


def _energy(plan: Plan, chip: Chip) -> list[tuple[str, str, str]]:
    electricity, watts = plan.electricity, plan.electricity.watts_of(chip)
    if watts is None or plan.energy_kwh is None or plan.co2_kg is None:
        return [("energy", "not known", f"no power of {chip.name} is published: --watts")]
    each = f"{watts:,.0f} W a chip, PUE {electricity.pue:g}"
    grid = f"{electricity.kg_co2_per_kwh:g} kg a kWh of the grid"
    return [
        ("energy", *_amount(plan.energy_kwh, "kWh", "MWh", each)),
        ("CO2", *_amount(plan.co2_kg, "kg", "t", grid)),
    ]


def _amount(value: float, unit: str, thousand: str, more: str) -> tuple[str, str]:
    if value >= 1e4:
        value, unit = value / 1e3, thousand
    return _plain(value), f"{unit}, {more}"


def _plain(value: float) -> str:
    """Four digits, and never an exponent for more."""
    return f"{value:,.0f}" if value >= 1e3 else f"{value:.4g}"


def _note(note: str) -> str:
    return textwrap.fill(note, _WIDTH, initial_indent="  - ", subsequent_indent="    ")


def _continued(arguments: Sequence[str]) -> list[str]:
    """The lines of a shell command, with a backslash at the end of each but the last."""
    lines = [f"  {arguments[0]}"]
    for argument in map(_quoted, arguments[1:]):
        if len(lines[-1]) + len(argument) + 3 > _WIDTH:
            lines.append("   ")
        lines[-1] += f" {argument}"
    return [f"{line} \\" for line in lines[:-1]] + lines[-1:]


def _quoted(argument: str) -> str:
    """As `shlex.quote`, but `"{'targets': 2048}"` where that is enough."""
    if "'" in argument and not set('"$`\\!') & set(argument):
        return f'"{argument}"'
    return shlex.quote(argument)


def _batch_rule(recipe: Recipe) -> str:
    rule = f"{recipe.batch_coefficient:g} C^{recipe.batch_exponent:g}"
    return f"{rule}, rounded so that meshes divide it"


def _rate_rule(recipe: Recipe) -> str:
    rule = f"{recipe.learning_rate_coefficient:g} C^{recipe.learning_rate_exponent:g}"
    return f"peak: {rule} (Bi et al. 2024, equation 1), AdamW, cosine to a tenth"


def _questions(plan: Plan) -> list[tuple[str, float]]:
    names = (*plan.question.given, "inference_tokens", "unique_tokens")
    pairs = [(name, getattr(plan.question, name)) for name in names]
    return [(name, value) for name, value in pairs if value is not None]


def _given(name: str, value: float) -> str:
    return f"{value:.6g}" if name in ("flops", "loss") else short_count(value)


def _span(interval: Interval | None, flops: bool = False, loss: bool = False) -> str:
    if interval is None:
        return ""
    form = "{:.3g}".format if flops else "{:.4f}".format if loss else short_count
    low, high = interval
    return f"95%: {form(low)} to {'any' if high is None else form(high)}"


def _table(rows: Sequence[tuple[str, str, str]]) -> list[str]:
    wide = max(len(value) for _, value, _ in rows)
    return [f"  {name:<16}{value:>{wide}}  {more}".rstrip() for name, value, more in rows]
