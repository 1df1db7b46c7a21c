"""A report as JSON, and for the terminal."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from t5x_like.scaling.report.analysis import Analysis
from t5x_like.scaling.report.conclusion import conclusion
from t5x_like.scaling.report.style import power, short
from t5x_like.scaling.report.sweep_runs import SweepRuns


def as_json(analysis: Analysis) -> dict[str, Any]:
    """Makes what `report --json` prints, except the files; None for non-finite numbers."""
    sweep, found, steps = analysis.sweep, analysis.multipliers, analysis.steps_law
    return _finite(
        {
            "sweep": sweep.name,
            "conclusion": conclusion(analysis).sentence,
            "family": sweep.family,
            "cells": len(sweep.cells),
            **sweep.counts(),
            "baseline": analysis.baseline,
            "fits": [
                {"variant": variant, **_without_samples(each.to_json())}
                for (variant, _), each in analysis.fits.items()
            ],
            "multipliers": [] if found is None else _multipliers(found.table.to_dict("records")),
            "shapes": analysis.shapes.to_dict("records"),
            "rates": analysis.rates.to_dict("records"),
            "sizes": analysis.sizes.to_dict("records"),
            "efficiency": analysis.efficiency.to_dict("records"),
            "steps_law": None if steps is None else dataclasses.asdict(steps),
            "floors": [dataclasses.asdict(floor) for floor in analysis.floors],
            "downstream": analysis.downstream.to_dict("records"),
            "comparison": analysis.comparison.to_dict("records"),
            "published": None if sweep.published is None else _published(sweep),
            "error_laws": [dataclasses.asdict(law) for law in analysis.error_laws],
            "notes": [dataclasses.asdict(note) for note in analysis.notes],
        }
    )


def _multipliers(rows: Sequence[Mapping[Any, Any]]) -> list[dict[Any, Any]]:
    """The rows, and which of their numbers are infinite: JSON has neither these nor NaN."""
    names = ("multiplier", "low", "high")
    return [{**row, "unbounded": [name for name in names if row[name] == np.inf]} for row in rows]


def _published(sweep: SweepRuns) -> dict[str, Any]:
    """What the paper prints of the sweep's variants, in the sweep's order."""
    study = sweep.published
    assert study is not None
    rows = [study.of(variant) for variant in sweep.variants]
    fields = {**dataclasses.asdict(study), "columns": list(study.columns)}
    return {**fields, "rows": [dataclasses.asdict(row) for row in rows if row is not None]}


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _without_samples(written: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in written.items() if key != "samples"}


def report_text(found: Mapping[str, Any]) -> str:
    """Formats what `report` prints without `--json`: progress, laws, multipliers, notes, page."""
    done = f"{found['done']} of {found['cells']} runs done"
    others = ", ".join(
        f"{found[name]} {name}" for name in ("running", "failed", "waiting") if found[name]
    )
    progress = f"{found['sweep']}: {done}{f' ({others})' if others else ''}"
    lines = [progress, "", found["conclusion"], ""]
    for each in found["fits"]:
        who = " ".join(filter(None, [each["variant"], each["method"]]))
        parameters = ", ".join(
            f"{name} {value:.4g}{_interval(each['intervals'].get(name))}"
            for name, value in each["parameters"].items()
            if value is not None and name != "exponent"  # which is `a`
        )
        lines.append(f"{who}: {parameters}")
    for row in found["multipliers"]:
        if row["headline"]:
            ends = [np.inf if name in row["unbounded"] else row[name] for name in ("low", "high")]
            value = "undefined" if row["multiplier"] is None else f"{row['multiplier']:.3g}"
            value = "unbounded" if "multiplier" in row["unbounded"] else value
            lines.append(
                f"{row['variant']}: compute multiplier {value}{_interval(ends)} against "
                f"{row['baseline']} at {power(row['flops'])} FLOPs"
            )
    for row in found["comparison"]:
        spread = "" if row["deviation"] is None else f" ± {row['deviation']:.3g}"
        mark = ", best" if row["best"] else ", tied with the best" if row["tied"] else ""
        seeds = f"{row['seeds']} seed{'s' if row['seeds'] > 1 else ''}"
        lines.append(
            f"{row['task']} {row['metric']}: {row['setting']} {row['mean']:.4g}{spread} "
            f"({seeds}{mark}{_against(row)})"
        )
    lines += _published_lines(found["published"])
    lines += [f"floor {one['name']}: loss {one['loss']:.4f}" for one in found["floors"]]
    for law in found["error_laws"]:
        lines.append(
            f"{law['task']} {law['split']}: 100 - {law['metric']} = {law['epsilon']:.4g} - "
            f"{law['k']:.4g} exp(-{law['gamma']:.3g} L), over {law['runs']} runs"
        )
    if found["notes"]:
        lines.append("")
    for note in found["notes"]:
        kind = "warning" if note["warning"] else "note"
        about = f"{note['about']}: " if note["about"] else ""
        lines.append(f"{kind} [{note['name']}] {about}{note['message']}")
    return "\n".join([*lines, "", f"page, tables and figures: {found['files'][0]}"])


def _against(row: Mapping[str, Any]) -> str:
    if row["reach"] is None:
        return ""
    return f"; {row['difference']:+.3g} ± {row['reach']:.2g} against {row['against']}"


def _published_lines(study: Mapping[str, Any] | None) -> list[str]:
    """The paper's rows as a table, under a line that says whose they are."""
    if study is None or not study["rows"]:
        return []
    head = ["variant", "row of the paper", *study["columns"]]
    rows = [
        [
            *(row["variant"], row["row"]),
            *(
                f"{row['scores'][name]:.2f}{'*' if name in row['tied'] else ' '}"
                for name in study["columns"]
            ),
        ]
        for row in study["rows"]
    ]
    head[2:] = [f"{name} " for name in head[2:]]
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    return [
        "",
        f"{study['source']} prints of its own runs, at its size ({study['size']}; * best of its "
        "table, or within two standard deviations of it):",
        *(
            "  ".join(
                text.ljust(width) if i < 2 else text.rjust(width)
                for i, (text, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in [head, *rows]
        ),
    ]


def _interval(ends: Any) -> str:
    if not ends or None in ends:
        return ""
    return " [" + ", ".join(map(_end, ends)) + "]"


def _end(value: float) -> str:
    if np.isinf(value):
        return "∞"
    return short(value) if abs(value) >= 1e4 else f"{value:.4g}"
