"""A run, opened from its MODEL_DIR: `load_run`."""

from t5x_like.runs.at_hand import Pooling
from t5x_like.runs.run import Run, load_run

__all__ = ["Pooling", "Run", "load_run"]
