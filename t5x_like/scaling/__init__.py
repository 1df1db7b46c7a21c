"""Scaling laws: plan, sweep, fit, report."""

import importlib
from typing import Any

# The module of each public name, which is imported on first use.
_HOMES: dict[str, str] = {
    "Fit": "t5x_like.scaling.fitting",
    "Question": "t5x_like.scaling.planning.query",
    "Recipe": "t5x_like.scaling.recipe",
    "RunsTable": "t5x_like.scaling.runs_table",
    "Sweep": "t5x_like.scaling.sweeps.sweep",
    "fit": "t5x_like.scaling.fitting",
    "plan": "t5x_like.scaling.planning.plan",
    "read_runs": "t5x_like.scaling.runs_table",
    "run_sweep": "t5x_like.scaling.sweeps.runner",
    "sweep_measurements": "t5x_like.scaling.sweeps.results",
    "sweep_results": "t5x_like.scaling.sweeps.results",
    "training_curves": "t5x_like.scaling.sweeps.results",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
