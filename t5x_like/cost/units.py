"""Formats sizes."""


def gibibytes(count: int) -> str:
    """Formats bytes as `1.50 GiB` or `12.3 MiB`."""
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"
