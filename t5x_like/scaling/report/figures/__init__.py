"""Figures for a paper, each as PNG and as SVG with real text."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from t5x_like.scaling.report import style
from t5x_like.scaling.report.analysis import Analysis
from t5x_like.scaling.report.figures import laws, studies

FORMATS = ("png", "svg")


def write_figures(analysis: Analysis, folder: Path) -> list[Path]:
    """Draws every figure that the sweep has data for.

    Args:
      analysis: the data.
      folder: is created; gets NAME.png and NAME.svg.

    Returns:
      the files.
    """
    import matplotlib

    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with matplotlib.rc_context(style.RC):
        for name, figure in _drawn(analysis):
            for extension in FORMATS:
                path = folder / f"{name}.{extension}"
                # Without the date, the same numbers give the same bytes.
                dated = {"Date": None} if extension == "svg" else {}
                figure.savefig(path, metadata=dated)
                written.append(path)
    return written


def drawn(analysis: Analysis, name: str) -> Any:
    """One figure of matplotlib, by its name without an extension; None if there are no data for it.

    Args:
      analysis: the data.
      name: of `FILES`.
    """
    import matplotlib

    with matplotlib.rc_context(style.RC):
        return _FIGURES[name](analysis)


def _drawn(analysis: Analysis) -> Iterator[tuple[str, Any]]:
    for name, draw in _FIGURES.items():
        figure = draw(analysis)
        if figure is not None:
            yield name, figure


_FIGURES: dict[str, Callable[[Analysis], Any]] = {
    "comparison": studies.comparison,
    "isoflop": laws.isoflop,
    "optimum": laws.optimum,
    "envelope": laws.envelope,
    "residuals": laws.residuals,
    "variants": studies.variants,
    "shapes": studies.shapes,
    "sizes": studies.sizes,
    "rates": studies.rates,
    "downstream": studies.downstream,
}
FILES = tuple(f"{name}.{extension}" for name in _FIGURES for extension in FORMATS)
"""The names of all figures that a report may have."""
