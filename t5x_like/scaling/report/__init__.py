"""The report of a sweep: tables, figures and a page."""

from t5x_like.scaling.report.write import report, write_report

__all__ = ["report", "write_report"]
