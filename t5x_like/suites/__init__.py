"""Suites: the rows of a paper's table, measured of a run and put beside its numbers."""

from t5x_like.suites.measuring import evaluate_suite
from t5x_like.suites.suite import Row, Suite

__all__ = ["Row", "Suite", "evaluate_suite"]
