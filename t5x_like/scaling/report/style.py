"""Colours, number formats and axes that figures and page share."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

# Okabe & Ito 2008: eight colours that colour-blind readers can distinguish, without yellow, which
# is pale on white, and with black last.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
GREY = "#767676"
# Of the published laws, which are drawn behind the data; their dashes differ too.
PUBLISHED_DASHES = ("dash", "dot", "dashdot", "12px,3px", "6px,2px,2px,2px,2px,2px")
DASHES: Any = ("--", ":", "-.", (0, (8, 2)), (0, (3, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
PLOTLY_MARKERS = (
    "circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "x",
    "triangle-left", "triangle-right", "star",
)  # fmt: skip

# Viridis without its last quarter, which is pale on white.
_SEQUENCE = (
    (0.267, 0.005, 0.329), (0.279, 0.175, 0.483), (0.230, 0.322, 0.546), (0.173, 0.449, 0.558),
    (0.128, 0.567, 0.551), (0.158, 0.684, 0.502), (0.369, 0.789, 0.383),
)  # fmt: skip

# The page's background in dark mode.
_DARK = np.array([0x16, 0x18, 0x1C]) / 255

RC: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Arial", "Helvetica", "sans-serif"],
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "legend.fontsize": 8,
    "legend.title_fontsize": 8,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "lines.linewidth": 1.5,
    "lines.markersize": 4.5,
    # Real text, which can be selected, searched and set in a paper's font.
    "svg.fonttype": "none",
    # The same data give the same bytes.
    "svg.hashsalt": "t5x-like",
    "savefig.dpi": 220,
    "savefig.bbox": "tight",
    "savefig.pad_inches": 0.04,
}
"""Settings of matplotlib."""


def sequence(count: int) -> list[str]:
    """Colours from dark to light for `count` ordered things, such as budgets."""
    places = np.linspace(0, len(_SEQUENCE) - 1, max(count, 2))[:count]
    return [colour_at(place / (len(_SEQUENCE) - 1)) for place in places]


def colour_at(share: float) -> str:
    """The colour at a fraction of the way from dark to light."""
    place = float(np.clip(share, 0, 1)) * (len(_SEQUENCE) - 1)
    columns = list(zip(*_SEQUENCE, strict=True))
    parts = [np.interp(place, np.arange(len(_SEQUENCE)), column) for column in columns]
    return "#" + "".join(f"{round(255 * float(part)):02x}" for part in parts)


def on_dark(colour: str) -> str:
    """Mixes a colour with white until its contrast on dark is 3:1 (WCAG 2.2, 1.4.11)."""
    channels = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    for white in np.linspace(0, 1, 21):
        mixed = channels + white * (1 - channels)
        if (_luminance(mixed) + 0.05) / (_luminance(_DARK) + 0.05) >= 3.5:
            break
    return "#" + "".join(f"{round(255 * float(part)):02x}" for part in mixed)


def _luminance(channels: np.ndarray) -> float:
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ np.array([0.2126, 0.7152, 0.0722]))


def cycled(choices: Sequence[str], i: int) -> str:
    """The i-th choice, cyclically."""
    return choices[i % len(choices)]


def line_of(i: int) -> str:
    """The i-th line's dash, in matplotlib's signs: another when `COLOURS` come round again."""
    return cycled(("-", "--", ":"), i // len(COLOURS))


def plotly_line_of(i: int) -> str:
    """`line_of` in plotly's words."""
    return cycled(("solid", "dash", "dot"), i // len(COLOURS))


def short(value: float, digits: int = 3) -> str:
    """Formats a count: 12.3M, 1.5B; powers of ten beyond trillions."""
    if not np.isfinite(value):
        return "∞" if value > 0 else "–"
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        rounded = float(f"{value:.{digits}g}")
        if rounded >= size and rounded < 1e15:
            return f"{float(f'{value / size:.{digits}g}'):g}{unit}"
    return f"{value:.{digits}g}"


def times(value: float) -> str:
    """Formats a compute multiplier: 1.24, or ∞ if the baseline never reaches the loss."""
    return f"{value:.2f}" if np.isfinite(value) else "∞" if value > 0 else "–"


def times_within(low: float, high: float) -> str:
    """Formats the interval of a multiplier, " [1.1, 1.4]"; "" if there is none."""
    return "" if np.isnan([low, high]).any() else f" [{times(low)}, {times(high)}]"


def power(value: float, digits: int = 2) -> str:
    """Formats FLOPs: 3.2×10¹⁷."""
    if not np.isfinite(value) or value <= 0:
        return "–"
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    raised = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    plain = f"{float(mantissa):g}"
    return f"10{raised}" if plain == "1" else f"{plain}×10{raised}"


def ticks(low: float, high: float, text: Any = None) -> list[float]:
    """Tick positions on a log axis: few, of few digits, and with different labels."""
    apart = (0.18 if text is power else 0.09) * np.log(high / low)
    kept: list[float] = []
    for place in _plain_places(low, high):
        if not kept or np.log(place / kept[-1]) >= apart:
            kept.append(place)
    return kept


def _plain_places(low: float, high: float) -> list[float]:
    if high < 5 * low:
        return _even_ticks(low, high)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    every = int(np.ceil((len(decades) - 1) / 6))
    # Written, because some processors' powers of arrays differ from it in the last digit.
    powers = [place for d in decades[::every] if low <= (place := float(f"1e{d}")) <= high]
    if len(powers) >= 3:
        return powers
    found: list[float] = []
    for steps in ((1, 3), (1, 2, 5), (1, 2, 3, 5)):
        places = (float(f"{s}e{d}") for d in decades for s in steps)
        found = [place for place in places if low <= place <= high]
        if len(found) >= 4:
            break
    return found


def _even_ticks(low: float, high: float) -> list[float]:
    """Linear ticks, for log axes of less than a decade."""
    rough = (high - low) / 5
    size = 10.0 ** np.floor(np.log10(rough))
    step = next(size * each for each in (1, 2, 2.5, 5, 10) if size * each >= rough)
    first = int(np.ceil(low / step - 1e-9))
    found = [float(f"{i * step:.6g}") for i in range(first, int(np.floor(high / step + 1e-9)) + 1)]
    return found or [float(f"{np.sqrt(low * high):.3g}")]


def span(values: Any, margin: float = 0.06) -> tuple[float, float]:
    """The limits of a log axis that contains all values with a margin."""
    numbers = np.asarray(values, np.float64)
    numbers = numbers[np.isfinite(numbers) & (numbers > 0)]
    low, high = np.log(numbers.min()), np.log(numbers.max())
    air = max(margin * (high - low), 0.02)
    return float(np.exp(low - air)), float(np.exp(high + air))


def log_axis(axis: Any, limits: tuple[float, float], text: Any = short) -> None:
    """Makes a matplotlib axis (`axes.xaxis`) logarithmic, with plain labels."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axes = axis.axes
    horizontal = axis is axes.xaxis
    (axes.set_xscale if horizontal else axes.set_yscale)("log")
    (axes.set_xlim if horizontal else axes.set_ylim)(*limits)
    axis.set_major_locator(FixedLocator(ticks(*limits, text)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: text(value)))
    axis.set_minor_locator(NullLocator())


def plotly_log_axis(limits: tuple[float, float], title: str, text: Any = short) -> dict[str, Any]:
    """Makes a logarithmic plotly axis, with plain labels."""
    places = ticks(*limits, text)
    return {
        "type": "log",
        "title": {"text": title},
        "range": [float(np.log10(end)) for end in limits],
        "tickmode": "array",
        "tickvals": places,
        "ticktext": [text(place) for place in places],
    }
