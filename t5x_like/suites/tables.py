"""What suites found of a run, as tables beside the numbers of papers."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from t5x_like.errors import UserError
from t5x_like.host import files

_FOLDER = "eval/suites"


def results_path(directory: epath.Path, suite: str, step: int) -> epath.Path:
    """The file of a suite's results of one checkpoint."""
    return directory / _FOLDER / suite / f"{step}.json"


def has_results(model_dir: str) -> bool:
    """Whether a suite was measured of a run."""
    folder = files.location(model_dir) / _FOLDER
    return folder.is_dir() and any(folder.glob("*/*.json"))


def read_results(model_dir: str) -> list[dict[str, Any]]:
    """The newest results of each suite of a run, by name.

    Raises:
      UserError: a file is damaged.
    """
    found = []
    for folder in sorted((files.location(model_dir) / _FOLDER).iterdir()):
        steps = sorted(int(path.stem) for path in folder.glob("*.json") if path.stem.isdigit())
        if not steps:
            continue
        path = folder / f"{steps[-1]}.json"
        try:
            found.append(json.loads(files.read_whole(path)))
        except ValueError as error:
            raise UserError(f"{path} is damaged ({error}): measure the suite again.") from None
    return found


def table(results: Mapping[str, Any]) -> str:
    """A suite's rows with the published numbers beside them, and what was not measured."""
    rows = results["rows"]
    models = list(dict.fromkeys(model for row in rows for model in row["published"]))
    cells = [["task", "shots", "split", "value", "measured", *models]]
    for row in rows:
        measured = f"{row['measured']:.2f}"
        if row["standard_error"] is not None:
            measured += f" ± {row['standard_error']:.2f}"
        if row["rows"] != row["split_rows"]:
            measured += f" ({row['rows']:,.0f} of {row['split_rows']:,.0f} rows)"
        published = [_number(row["published"].get(model)) for model in models]
        cells.append([row["task"], _shots(row), row["split"], row["value"], measured, *published])
    lines = [f"suite {results['suite']}, step {results['step']}", *_aligned(cells)]
    missing = [f"not measured: {name}: {why}" for name, why in results["missing"].items()]
    return "\n".join([*lines, *missing])


def _shots(row: Mapping[str, Any]) -> str:
    """How many examples were asked for, and in the mean of the prompts where there were others."""
    asked = row["shots"]
    means = [
        value for name, value in row["values"].items() if name == "shots" or name.endswith("_shots")
    ]
    if not means or means[0] == asked:
        return str(asked)
    return f"{asked} ({means[0]:.1f} in the mean)"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:g}"


def _aligned(cells: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    return [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]
