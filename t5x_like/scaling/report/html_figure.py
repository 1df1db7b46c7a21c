"""A plot as an HTML figure, with what it shows in words."""

import html
from typing import Any

from t5x_like.scaling.report import style
from t5x_like.scaling.report.plots.traces import Plot

# Lines and sets of points that a plot's words tell of, at most.
SPOKEN_TRACES = 12


def figure_html(plot: Plot, titled: bool = True, captioned: bool = True) -> str:
    """A plot with its title and caption, and what it shows in words for those who hear the page."""
    title = html.escape(plot.title)
    heading = f"<h3>{title}</h3>" if titled else ""
    caption = f"<figcaption>{html.escape(plot.caption)}</figcaption>" if captioned else ""
    spoken = html.escape(f"{plot.caption} {in_words(plot)}")
    return (
        f'<figure>{heading}<div class="plot" id="{plot.name}" role="img" aria-label="{title}" '
        f'aria-describedby="{plot.name}-words"></div>'
        f'<p class="spoken" id="{plot.name}-words">{spoken}</p>{caption}</figure>'
    )


def in_words(plot: Plot) -> str:
    """What a plot shows: its axes, and for each named line or set of points how far it reaches."""
    axes = {name: plot.layout[f"{name}axis"].get("title", {}).get("text", name) for name in "xy"}
    shown: dict[str, list[str]] = {}
    for trace in plot.data:
        name = trace.get("name")
        if not name or trace.get("fill"):
            continue
        ends = [_ends(trace[axis]) for axis in "xy"]
        kind = "line" if trace.get("mode") == "lines" else f"{len(trace['x'])} points"
        shown.setdefault(str(name), []).append(f"{kind}, x {ends[0]}, y {ends[1]}")
    parts = [f"{name}: {'; '.join(texts)}." for name, texts in list(shown.items())[:SPOKEN_TRACES]]
    if len(shown) > SPOKEN_TRACES:
        parts.append(f"And {len(shown) - SPOKEN_TRACES} more.")
    return " ".join([f"x is {axes['x'] or 'not named'}, y is {axes['y'] or 'not named'}.", *parts])


def _ends(values: list[Any]) -> str:
    """Where numbers begin and end, or the names on an axis of names."""
    numbers = [value for value in values if isinstance(value, float)]
    if not numbers:
        return ", ".join(str(value) for value in values if value is not None) or "none"
    low, high = min(numbers), max(numbers)
    texts = [f"{end:.3g}" if abs(end) < 1e4 else style.short(end) for end in (low, high)]
    return texts[0] if texts[0] == texts[1] else f"from {texts[0]} to {texts[1]}"
