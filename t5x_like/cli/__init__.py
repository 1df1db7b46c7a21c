"""The command line `t5x-like`: the one place that may reach into engine, models and tasks."""

from t5x_like.cli.program import main

__all__ = ["main"]
