"""Formats a data frame as a sortable HTML table."""

import html
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from t5x_like.scaling.report import style

COUNTS = {
    *("parameters", "parameters_without_embeddings", "active_parameters", "tokens"),
    *("batch_tokens", "tokens_per_second", "parameters_low", "parameters_high"),
    *("tokens_low", "tokens_high", "smallest", "largest"),
}
FLOPS = {"flops", "budget", "model_flops"}


def table(frame: pd.DataFrame, titles: Mapping[str, str], runs: Iterable[str] | None = None) -> str:
    """Makes the HTML.

    Args:
      frame: the data; a column's name determines its number format.
      titles: column -> heading; by default the column's name.
      runs: whose gin file a click on each row shows.
    """
    texts = {name: _is_text(frame[name]) for name in frame.columns}
    heads = "".join(
        f'<th scope="col"{_kind(texts[name])}><button type="button">'
        f"{html.escape(titles.get(name, name))}</button></th>"
        for name in frame.columns
    )
    names = [None] * len(frame) if runs is None else list(runs)
    rows = []
    for run, values in zip(names, frame.itertuples(index=False), strict=True):
        cells = "".join(map(_cell, frame.columns, values, texts.values()))
        about = "" if run is None else f' data-run="{html.escape(run)}"'
        if run is not None:  # its first cell, so that the keyboard reaches the row
            cells = re.sub(
                r">(.*?)</td>", r'><button type="button">\1</button></td>', cells, count=1
            )
        rows.append(f"<tr{about}>{cells}</tr>")
    inner = f"<thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody>"
    # What scrolls sideways must be reached by the keyboard.
    return f'<div class="table" tabindex="0"><table>{inner}</table></div>'


def _kind(is_text: bool) -> str:
    return ' class="text"' if is_text else ""


def _is_text(column: pd.Series) -> bool:
    return not (pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column))


def _cell(column: str, value: Any, is_text: bool) -> str:
    if is_text:
        return f'<td class="text">{html.escape(str(value))}</td>'
    if isinstance(value, bool | np.bool_):
        return f"<td>{'yes' if value else 'no'}</td>"
    number = float(value)
    if np.isnan(number):
        return "<td>–</td>"
    if np.isinf(number):
        return f'<td data-value="{number!r}">{"∞" if number > 0 else "−∞"}</td>'
    if column in FLOPS:
        shown = style.power(number, 3)
    elif column in COUNTS or abs(number) >= 1e4:
        shown = style.short(number)
    else:
        shown = f"{number:.5g}"
    return f'<td data-value="{number!r}">{shown}</td>'
