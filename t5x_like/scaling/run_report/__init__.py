"""A page for a run, or for several side by side: curves, goodput, evaluations, samples."""

from t5x_like.scaling.run_report.curves import curves
from t5x_like.scaling.run_report.page import as_json, text, write
from t5x_like.scaling.run_report.read import WatchedRun, is_run, read

__all__ = ("WatchedRun", "as_json", "curves", "is_run", "read", "text", "write")
