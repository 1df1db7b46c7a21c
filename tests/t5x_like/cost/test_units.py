"""How sizes and counts are written."""

import pytest

from t5x_like.cost.units import short_count


@pytest.mark.parametrize(
    ("number", "text"),
    [(70.06e9, "70.06B"), (1.4e12, "1.4T"), (999, "999"), (5e17, "5e+17"), (float("nan"), "-")],
)
def test_counts_are_shown_short(number, text):
    assert short_count(number) == text
