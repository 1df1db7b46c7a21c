"""`t5x-like sweep`."""

import argparse
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from t5x_like.errors import UserError

if TYPE_CHECKING:
    from t5x_like.scaling.sweeps.cells import Cell


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes beside gin files."""
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def run(options: argparse.Namespace) -> None:
    """Runs the sweep of the gin files; `--dry_run` lists its runs.

    Raises:
      UserError: runs have failed.
    """
    from t5x_like import config
    from t5x_like.scaling.sweeps import runner

    paths = [path for path in options.gin_search_paths.split(",") if path]
    config.parse(options.gin_file, options.bindings, paths, options.module_import)
    program = config.configured(runner.run_sweep, "sweeps/isoflop_quick.gin")
    if options.dry_run:
        print(planned(config.macro("SWEEP").cells()))
        return
    result = program()
    if options.json:
        print(json.dumps(result))
    else:
        print(f"{result['done']} of {result['runs']} runs done: {result['directory']}")
    if result["failed"]:
        raise UserError(f"{len(result['failed'])} runs failed: {', '.join(result['failed'])}.")


def planned(cells: Sequence["Cell"]) -> str:
    """The runs that a sweep consists of, a line each."""
    rows: list[tuple[str, ...]] = [
        ("run", "parameters", "tokens", "steps", "batch", "learning rate", "FLOPs")
    ]
    for cell in cells:
        training = cell.training
        numbers = (cell.size.parameters, training.tokens, training.steps, training.batch_tokens)
        rates = (f"{training.learning_rate:g}", f"{cell.cost:.3g}")
        rows.append((cell.name, *(f"{number:,}" for number in numbers), *rates))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(
            text.rjust(width) if i else text.ljust(width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    total = sum(cell.cost for cell in cells)
    return "\n".join([*lines, f"{len(cells)} runs, {total:.4g} FLOPs (6ND)"])
