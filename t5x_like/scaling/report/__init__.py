"""The report of a sweep: tables, figures and a page."""
