"""`t5x-like sweep`."""

import argparse
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from t5x_like.config.gin_files import nearest
from t5x_like.errors import UserError

if TYPE_CHECKING:
    from t5x_like.scaling.sweeps.cells import Cell
    from t5x_like.scaling.sweeps.sweep import Sweep


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes beside gin files."""
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--cell", metavar="RUN", help="with --dry_run: one run's whole gin text")


def run(options: argparse.Namespace) -> None:
    """Runs the sweep of the gin files; `--dry_run` lists its runs, or shows one of them.

    Raises:
      UserError: runs have failed; there is no such run, or it is to be run alone.
    """
    from t5x_like import config
    from t5x_like.scaling.sweeps import runner

    paths = [path for path in options.gin_search_paths.split(",") if path]
    config.parse(options.gin_file, options.bindings, paths, options.module_import)
    program = config.configured(runner.run_sweep, "sweeps/isoflop_quick.gin")
    if options.cell and not options.dry_run:
        raise UserError("--cell shows the configuration of one run: give --dry_run too.")
    if options.dry_run:
        sweep = config.macro("SWEEP")
        print(one_cell(sweep, options.cell) if options.cell else planned(sweep.cells()))
        return
    result = program()
    if options.json:
        print(json.dumps(result))
    else:
        print(f"{result['done']} of {result['runs']} runs done: {result['directory']}")
    if result["failed"]:
        raise UserError(f"{len(result['failed'])} runs failed: {', '.join(result['failed'])}.")


def one_cell(sweep: "Sweep", name: str) -> str:
    """The whole gin text of one run, as `planned` names it, or of the learning rate search.

    Where there is a search, a run's rate is that of the recipe: the search comes first.

    Raises:
      UserError: there is no such run.
    """
    from t5x_like import config
    from t5x_like.scaling.sweeps import runner

    sweep = runner.with_cache_dir(sweep, config.macro("CACHE_DIR"))
    cells = {cell.name: cell for cell in (*sweep.search_cells(), *sweep.cells())}
    if name not in cells:
        near = nearest(name, cells) or " --dry_run alone lists its runs."
        raise UserError(f"the sweep '{sweep.name}' has no run '{name}'.{near}")
    return cells[name].whole_text(sweep.name, runner.sweep_root(config.macro("SWEEP_DIR")))


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
