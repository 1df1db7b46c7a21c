"""Prints the report of a compiled train step, saves it, and compares it with a saved one."""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from t5x_like.cost.fitting_memory import shortage
from t5x_like.cost.units import gibibytes
from t5x_like.errors import UserError

LEAST_SHARE = 0.01
"""Of traffic or FLOPs: what has less is shown with the rest."""


def show(
    report: Mapping[str, Any],
    *,
    as_json: bool = False,
    save: str | None = None,
    saved: Mapping[str, Any] | None = None,
) -> None:
    """Prints a report of `aot.compile_step`.

    Args:
      report: what to print.
      as_json: one object and nothing else on standard output.
      save: file to save it in, as JSON.
      saved: an earlier report; the differences are printed after the new one, or, with
        `as_json`, on standard error.
    """
    print(json.dumps(report) if as_json else report_text(report))
    if save:
        Path(save).write_text(json.dumps(report, indent=2) + "\n")
    if saved is not None:
        out = sys.stderr if as_json else sys.stdout
        print("", compare_text(saved, report), sep="\n", file=out)


def check_place(path: str) -> None:
    """Refuses a file to save a report in that cannot be written, before there is one.

    Raises:
      UserError: says why.
    """
    place = Path(path)
    if place.is_dir() or not place.parent.is_dir():
        wrong = "is a directory" if place.is_dir() else "is in no directory"
        raise UserError(f"--save={path} {wrong}: name a file in a directory that exists.")
    if not os.access(place if place.exists() else place.parent, os.W_OK):
        raise UserError(f"--save={path} cannot be written: name a file elsewhere.")


def read(path: str) -> dict[str, Any]:
    """Reads a report that `show` has saved.

    Raises:
      UserError: there is none.
    """
    try:
        report = json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is no kept result of `compile`: {error}.") from error
    if not isinstance(report, dict) or "argument_bytes" not in report:
        raise UserError(f"{path} is no kept result of `compile`: it has no argument_bytes.")
    return report


def report_text(report: Mapping[str, Any]) -> str:
    """Formats what `compile` prints without `--json`."""
    mesh = ", ".join(f"{axis} {size}" for axis, size in report["mesh"].items() if size > 1)
    slices = f" x {report['num_slices']}" if report["num_slices"] > 1 else ""
    batch = ", ".join(f"{name} {tuple(shape)}" for name, shape in report["batch"].items())
    lines = [
        f"{report['topology']}{slices}: {report['devices']:,} devices, mesh {mesh or 'of one'}",
        f"{report['parameters']:,} parameters; {batch}; {report['num_microbatches']} microbatches",
        *report["attention"],
        "",
        "memory of a device",
        *(
            f"  {label:<24}{gibibytes(report[key]):>12}"
            for label, key in (
                ("arguments", "argument_bytes"),
                ("temporaries", "temporary_bytes"),
                ("outputs", "output_bytes"),
                ("  of which donated", "donated_bytes"),
                ("program", "program_bytes"),
                ("in all", "used_bytes"),
            )
            if report[key] is not None
        ),
        f"  {_verdict(report)}",
    ]
    if report["would_fit"]:
        lines += ["", "what would make it fit, from the cheapest on"]
        lines += [f"  {change}" for change in report["would_fit"]]
    if report["flops"] is None:
        return "\n".join(lines)
    lines += [
        "",
        "a step of a device",
        f"  FLOPs                   {report['flops']:12.4g}  of the program{_of_8_bits(report)}",
        f"                          {report['model_flops']:12.4g}  of the model, nothing repeated",
        f"  HBM traffic             {gibibytes(int(report['bytes_accessed'])):>12}",
        *_parts(report),
    ]
    for kind, total in report["collectives"].items():
        for axes, part in total["axes"].items():
            size = gibibytes(part["bytes"])
            lines.append(f"  {kind:<24}{size:>12}  {part['count']:,} times along {axes}")
    if report["seconds"]:
        each = ", ".join(f"{name} {value:.3g}" for name, value in report["seconds"].items())
        best, worst = report["step_seconds"]
        high, low = report["mfu"]
        lines += [
            f"  seconds                 {each}",
            f"  step                    {best:.3g} s to {worst:.3g} s: from all at once to one "
            "after the other",
            f"  MFU                     {high:.1%} to {low:.1%}",
        ]
    lines += [
        "",
        f"{report['instructions']:,} instructions, lowered in {report['lower_seconds']:.1f} s, "
        f"compiled in {report['compile_seconds']:.1f} s",
    ]
    return "\n".join(lines)


def _of_8_bits(report: Mapping[str, Any]) -> str:
    found = {dtype: n for dtype, n in report["flops_of_dtypes"].items() if "8" in dtype}
    return "".join(f", {n / report['flops']:.0%} in {dtype}" for dtype, n in found.items())


def _parts(report: Mapping[str, Any]) -> Iterator[str]:
    """The parts that a hundredth of the traffic or of the FLOPs is spent on; others together."""
    shown: dict[str, tuple[float, float]] = {}
    for name, part in report["parts"].items():
        traffic = part["bytes_accessed"] / (report["bytes_accessed"] or 1)
        flops = part["flops"] / (report["flops"] or 1)
        label = name.replace("_", " ") if max(traffic, flops) >= LEAST_SHARE else "other"
        sofar = shown.get(label, (0.0, 0.0))
        shown[label] = sofar[0] + traffic, sofar[1] + flops
    for label, (traffic, flops) in shown.items():
        size = gibibytes(int(traffic * report["bytes_accessed"]))
        yield f"    {label:<22}{size:>12}  {traffic:4.0%}, and {flops:.0%} of the FLOPs"


def _verdict(report: Mapping[str, Any]) -> str:
    available, used = report["hbm_bytes"], report["used_bytes"]
    if available is None:
        return "simulated devices: no limit"
    if not report["fits"]:
        return shortage(report)
    return f"fits: {gibibytes(available - used)} of {gibibytes(available)} left"


def compare_text(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Formats what differs between two reports: old, new and their ratio, one value a line."""
    before, after = _flat(old), _flat(new)
    rows = [("", "old", "new", "new / old")]
    for name in dict.fromkeys([*after, *before]):
        a, b = before.get(name), after.get(name)
        if a == b:
            continue
        numbers = all(isinstance(x, int | float) and not isinstance(x, bool) for x in (a, b))
        ratio = f"{b / a:.3f}" if numbers and a else ""
        rows.append((name, _shown(a), _shown(b), ratio))
    if len(rows) == 1:
        return "nothing changed"
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """Flattens nested values to dotted names."""
    if isinstance(value, Mapping):
        items = list(value.items())
    elif isinstance(value, list) and name.rpartition(".")[2] in ("step_seconds", "mfu"):
        items = list(zip(("best", "worst"), value, strict=True))
    else:
        return {name: value}
    parts = (_flat(inner, f"{name}.{key}" if name else str(key)) for key, inner in items)
    return {key: inner for part in parts for key, inner in part.items()}


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
