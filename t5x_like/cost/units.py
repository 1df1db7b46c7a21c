"""Formats sizes and counts."""

import math

_COUNTS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))


def gibibytes(count: int) -> str:
    """Formats bytes as `1.50 GiB` or `12.3 MiB`."""
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"


def short_count(number: float) -> str:
    """Formats a count in k, M, B or T with four digits, such as `70.06B`; `-` if not finite."""
    if not math.isfinite(number):
        return "-"
    for unit, letter in _COUNTS:
        if unit <= abs(number) < 1e4 * unit:
            return f"{number / unit:.4g}{letter}"
    return f"{number:.4g}"
