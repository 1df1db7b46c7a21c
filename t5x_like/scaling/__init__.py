"""The scaling-law laboratory: plan, sweep, fit, report."""

import importlib
from typing import Any

# Where each public name lives; imported when first asked for.
_HOMES: dict[str, str] = {
    "Fit": "t5x_like.scaling.fitting",
    "RunsTable": "t5x_like.scaling.runs_table",
    "fit": "t5x_like.scaling.fitting",
    "read_runs": "t5x_like.scaling.runs_table",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
