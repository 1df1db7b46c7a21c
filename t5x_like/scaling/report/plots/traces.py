"""Runs, lines and points as plotly traces, with hover boxes about the runs.

The strings "theme:ink", "theme:muted", "theme:grid" and "theme:surface" are placeholders for
colours that the page chooses in light or dark mode.
"""

import dataclasses
import html
import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from t5x_like.scaling.report import style
from t5x_like.scaling.report.analysis import Analysis

INK, MUTED = "theme:ink", "theme:muted"
# Maximum lines of a gin file in a hover box; a click on the point shows all of it.
HOVER_LINES, HOVER_COLUMNS = 12, 76
Json = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Plot:
    """One plot.

    Attributes:
      name: unique on the page, an HTML id.
      section: key of the section that it is in.
      title: above it.
      caption: below it: what is shown and how to read it.
      data: plotly's traces.
      layout: plotly's layout.
    """

    name: str
    section: str
    title: str
    caption: str
    data: list[Json]
    layout: Json


class Hover:
    """The hover box of a run: its name, numbers, gin file and bindings."""

    def __init__(self, analysis: Analysis) -> None:
        cells = analysis.sweep.cells.to_dict("records")
        self._cells = {cell["name"]: cell for cell in cells}
        self._gin = analysis.sweep.gin_texts

    def text(self, name: str) -> str:
        """The box in plotly's HTML: `<b>`, `<br>`."""
        cell = self._cells[name]
        numbers = [
            ("N", style.short(cell["parameters"])),
            ("D", style.short(cell["tokens"])),
            ("C", f"{style.power(cell['flops'], 3)} FLOPs"),
            ("loss", f"{cell['loss']:.4f}" if np.isfinite(cell["loss"]) else cell["status"]),
            ("learning rate", f"{cell['learning_rate']:.3g}"),
            ("layers × width", f"{_whole(cell['num_layers'])} × {_whole(cell['embed_dim'])}"),
        ]
        lines = [f"<b>{html.escape(name)}</b>"]
        lines += [", ".join(f"{key} {value}" for key, value in numbers[:3])]
        lines += [", ".join(f"{key} {value}" for key, value in numbers[3:])]
        lines += [f"<i>{html.escape(_clipped(str(cell['gin_file'])))}</i>"]
        bindings = gin_bindings(self._gin.get(name, ""))
        lines += [html.escape(_clipped(line)) for line in bindings[:HOVER_LINES]]
        if len(bindings) > HOVER_LINES:
            lines.append(f"… {len(bindings) - HOVER_LINES} more: click")
        return "<br>".join(lines)

    def columns(self, names: Iterable[str]) -> Json:
        """The parts of a trace that attach the hover boxes to its points."""
        listed = list(names)
        return {
            "hovertext": [self.text(name) for name in listed],
            "hoverinfo": "text",
            "customdata": listed,
        }


def gin_bindings(text: str) -> list[str]:
    """The lines of a gin file that bind something, with continued lines joined."""
    bindings: list[str] = []
    for line in text.splitlines():
        plain = line.strip()
        if not plain or plain.startswith(("#", "import ", "from ", "include ")):
            continue
        continues = bindings and not re.match(r"^[\w./@]+\s*(=|:)", plain)
        if continues:
            bindings[-1] += " " + plain
        else:
            bindings.append(plain)
    return bindings


def _clipped(line: str) -> str:
    return line if len(line) <= HOVER_COLUMNS else line[: HOVER_COLUMNS - 1] + "…"


def _whole(value: float) -> str:
    return f"{int(value)}" if np.isfinite(value) else "?"


def numbers(values: Any) -> list[float | None]:
    """Converts values to JSON numbers; non-finite ones become gaps."""
    return [float(v) if np.isfinite(v) else None for v in np.asarray(values, np.float64)]


def about(variant: str) -> str:
    """The part of a title that names a variant."""
    return f": {variant}" if variant else ""


def html_id(*parts: str) -> str:
    """Makes an HTML id."""
    return "-".join(re.sub(r"\W+", "-", part).strip("-") for part in parts if part)


# -- Each plot -------------------------------------------------------------------------------


def line_trace(
    x: Any, y: Any, colour: str, *, dash: str = "solid", width: float = 2, **more: Any
) -> Json:
    """Makes a line; `more` are keys of plotly's trace."""
    return {
        "type": "scatter",
        "mode": "lines",
        "x": numbers(x),
        "y": numbers(y),
        "line": {"color": colour, "width": width, "dash": dash},
        # Lines below points have no hover box of their own.
        "hoverinfo": "name" if more.get("showlegend", True) else "skip",
        **more,
    }


def marker_trace(x: Any, y: Any, colour: str, i: int, **more: Any) -> Json:
    """Makes points with the i-th symbol; `more` are keys of plotly's trace."""
    symbol = style.cycled(style.PLOTLY_MARKERS, i)
    return {
        "type": "scatter",
        "mode": "markers",
        "x": numbers(x),
        "y": y if isinstance(y, list) else numbers(y),
        "marker": {"color": colour, "size": 9, "symbol": symbol},
        **more,
    }


def band_trace(x: Any, low: Any, high: Any, colour: str, label: str) -> Json:
    """Makes a filled band between two lines."""
    return {
        "type": "scatter",
        "mode": "lines",
        "x": numbers([*x, *x[::-1]]),
        "y": numbers([*low, *high[::-1]]),
        "fill": "toself",
        "fillcolor": colour,
        "opacity": 0.25,
        "line": {"width": 0},
        "hoverinfo": "skip",
        "showlegend": False,
        "legendgroup": label,
    }


def error_bars(values: Any, low: Any, high: Any, colour: str) -> Json | None:
    """Makes error bars from low to high; None if one of them is unknown."""
    values, low, high = (np.asarray(each, np.float64) for each in (values, low, high))
    if not np.isfinite([*low, *high]).all():
        return None
    return {
        "type": "data",
        "symmetric": False,
        "array": numbers(high - values),
        "arrayminus": numbers(values - low),
        "color": colour,
        "thickness": 2,
        "width": 6,
    }
