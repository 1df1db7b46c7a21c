"""What `sweep.json` must hold: it may come from elsewhere, and names folders to read."""

import math
from typing import Any

# Numbers of a run, and the least that each may be.
_ABOVE_0 = ("parameters", "active_parameters", "tokens", "flops", "steps", "batch_tokens")
_AT_LEAST_0 = ("parameters_without_embeddings", "model_flops")
_ANY = ("learning_rate",)  # a run of a wrong one has failed, and the plan holds it all the same
_MAYBE = ("budget", "num_layers", "embed_dim", "num_heads", "warmup_fraction", "seed")


def is_name(name: str) -> bool:
    """Whether a text can name a folder of `cells/`, and not one elsewhere."""
    return name not in ("", ".", "..") and not set(name) & set("/\\\0")


def mistake(plan: Any) -> str:
    """What is wrong with a plan; "" if it is one."""
    if not isinstance(plan, dict) or not isinstance(plan.get("cells"), list):
        return 'it has no list of "cells"'
    maybe = dict.fromkeys(("family", "baseline", "published"), str | None)
    for field, kinds in {"name": str, **maybe}.items():
        if not isinstance(plan.get(field), kinds):
            return f"its {field} is {_shown(plan.get(field))}"
    names = set()
    others = {field: plan.get(field, []) for field in ("search", "earlier")}
    for field, listed in others.items():
        if not isinstance(listed, list):
            return f"its {field} is {_shown(listed)}, not a list"
    for i, cell in enumerate([*plan["cells"], *others["search"], *others["earlier"]]):
        if not isinstance(cell, dict):
            return f"run {i + 1} is {_shown(cell)}"
        name = cell.get("name")
        if not isinstance(name, str) or not is_name(name):
            return f"run {i + 1} is called {_shown(name)}, which is no name of a folder"
        if name in names:
            return f"two runs are called {name}"
        names.add(name)
        if not isinstance(cell.get("variant"), str):
            return f"the variant of run {name} is {_shown(cell.get('variant'))}"
        for field in (*_ABOVE_0, *_AT_LEAST_0, *_ANY, *_MAYBE):
            wrong = _wrong_number(field, cell.get(field))
            if wrong:
                return f"the {field} of run {name} is {wrong}"
    return ""


def _wrong_number(field: str, value: Any) -> str:
    """What is wrong with a number of a run; "" if nothing is."""
    if value is None and field in _MAYBE:
        return ""
    number = _number(value)
    if number is None:
        return f"{_shown(value)}, not a number"
    if field in _ABOVE_0 and number <= 0:
        return f"{_shown(value)}, not above 0"
    return f"{_shown(value)}, below 0" if field in _AT_LEAST_0 and number < 0 else ""


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + "..."
