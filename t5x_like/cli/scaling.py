"""The commands of scaling laws: `plan`, `sweep`, `fit` and `report`.

Each imports what it needs when it runs.
"""

import json
import math
import os
import re
import shlex
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from t5x_like.cli import suites
from t5x_like.cli.configuration import check, configure, warn
from t5x_like.config.gin_files import nearest
from t5x_like.errors import UserError

if TYPE_CHECKING:
    from t5x_like.scaling.sweeps.cells import Cell
    from t5x_like.scaling.sweeps.sweep import Sweep

_SUFFIXES = {"k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12}


def add(command: Callable[..., ArgumentParser]) -> None:
    """Adds the commands to the command line.

    Args:
      command: makes a subparser from a name, the function to run, and a line of help.
    """
    _add_plan_arguments(
        command("plan", plan, "The compute-optimal model for a budget, and how to train it.")
    )
    _add_sweep_arguments(command("sweep", sweep, "Train the models of a scaling-law sweep."))
    _add_fit_arguments(command("fit", fit, "Fit a scaling law to training runs."))
    _add_report_arguments(command("report", report, "Tables, figures and a page of a sweep."))


def _add_json(parser: Any) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


# -- plan ------------------------------------------------------------------------------------


def _add_plan_arguments(parser: ArgumentParser) -> None:
    query = parser.add_argument_group("what is given: one, or two but --flops with --loss")
    amount: dict[str, Any] = {"type": quantity, "metavar": "X"}
    query.add_argument("--flops", **amount, help="training budget C, 5.76e23")
    query.add_argument("--parameters", **amount, help="N, 70b")
    query.add_argument("--tokens", **amount, help="D, 1.4T")
    query.add_argument("--loss", **amount, help="to reach, in nats")
    query.add_argument(
        "--inference_tokens",
        **amount,
        help="expected over the model's life: minimises the FLOPs of training and inference",
    )
    query.add_argument(
        "--unique_tokens", **amount, help="tokens that the data have; more are repetitions"
    )
    options = parser.add_argument_group("how it is planned")
    options.add_argument(
        "--law", default="besiroglu2024", help="a published law, or fit.json; %(default)s"
    )
    options.add_argument("--family", default="gopher", help="of the model; %(default)s")
    options.add_argument(
        "--row_tokens", type=int, metavar="T", help="target tokens of a row; 2048 for decoders"
    )
    options.add_argument("--chips", help="v5p-2048, v6e-256, v5p:8x16x16, h100-8")
    options.add_argument(
        "--mfu", type=float, help="share of the chips' peak that training reaches; 0.4"
    )
    options.add_argument(
        "--tokens_per_second",
        **amount,
        help="of one chip, as `train` logs those of all, instead of --mfu",
    )
    energy = parser.add_argument_group("energy and CO2 of the chips")
    energy.add_argument("--watts", **amount, help="of one chip; the mean or design power published")
    energy.add_argument("--pue", type=float, help="energy of the data centre; 1.1")
    energy.add_argument(
        "--kg_co2_per_kwh",
        type=float,
        help="of the grid; 0.385, the average of the United States",
    )
    _add_json(options)


def plan(options: Namespace) -> None:
    """Prints the plan of a training run: N, D, the loss, a model and its cost."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # a plan computes nothing on a device
    from t5x_like.scaling.family import Family
    from t5x_like.scaling.planning import plan as planning
    from t5x_like.scaling.planning.accelerators import accelerators
    from t5x_like.scaling.planning.electricity import Electricity
    from t5x_like.scaling.planning.plan_report import plan_text
    from t5x_like.scaling.recipe import Recipe

    if options.row_tokens is not None and options.row_tokens < 1:
        raise UserError(f"--row_tokens={options.row_tokens}: at least 1.")
    if options.gin_search_paths:
        raise UserError("--gin_search_paths: `plan` has none; name gin files by their paths.")
    for name in ("mfu", "tokens_per_second", "watts", "pue", "kg_co2_per_kwh"):
        if options.chips is None and getattr(options, name) is not None:
            raise UserError(f"--{name} is of chips: name them, --chips=h100-8, or leave it out.")
    energy = {name: getattr(options, name) for name in ("watts", "pue", "kg_co2_per_kwh")}
    given = {name: value for name, value in energy.items() if value is not None}
    recipe = Recipe()
    found = planning.plan(
        planning.Question(
            flops=options.flops,
            parameters=options.parameters,
            tokens=options.tokens,
            loss=options.loss,
            inference_tokens=options.inference_tokens,
            unique_tokens=options.unique_tokens,
        ),
        law=options.law,
        family=Family(
            options.family,
            gin_files=tuple(options.gin_file),
            bindings=tuple(options.bindings),
            modules=tuple(options.module_import),
        ),
        recipe=recipe,
        row_tokens=options.row_tokens,
        accelerators=None if options.chips is None else accelerators(options.chips),
        mfu=options.mfu,
        tokens_per_second=options.tokens_per_second,
        electricity=Electricity(**given),
    )
    print(json.dumps(found.to_json()) if options.json else plan_text(found, recipe))


def quantity(text: str) -> float:
    """Reads a number above 0: 5.76e23, 70b, 1.4T, 300,000.

    Raises:
      ArgumentTypeError: the text is no such number.
    """
    plain = text.strip().replace("_", "").lower()
    if re.match(r"\d{1,3}(,\d{3})+(?![\d,])", plain):  # a decimal comma stays, and is refused
        plain = plain.replace(",", "")
    factor = _SUFFIXES.get(plain[-1:], 1.0)
    try:
        value = float(plain[:-1] if factor != 1.0 else plain) * factor
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise ArgumentTypeError(f"'{text}' is not a number above 0, such as 5.76e23, 70b or 1.4T")
    return value


# -- sweep -----------------------------------------------------------------------------------


def _add_sweep_arguments(parser: ArgumentParser) -> None:
    _add_json(parser)
    parser.add_argument("--cell", metavar="RUN", help="with --dry_run: one run's whole gin text")
    parser.set_defaults(
        kept="runs that were finished are kept; the same command resumes with the others."
    )


def sweep(options: Namespace) -> None:
    """Runs the sweep of the gin files; `--dry_run` lists its runs, or shows one of them.

    Raises:
      UserError: a run could not begin, or has failed; there is no such run, or it is to be run
        alone.
    """
    from t5x_like.cli import preflight
    from t5x_like.scaling.sweeps import runner

    if options.gin_search_paths:
        raise UserError(
            "--gin_search_paths is not handed on to the runs of a sweep, which start from any "
            "directory: name gin files by their paths, in `base` and in `variants` too."
        )
    if options.module_import:
        options.bindings.append(("sweep.Sweep.modules", repr(options.module_import)))
    config = configure(options)
    warn(options, check(options, runner.run_sweep, "sweeps/isoflop_quick.gin"))
    program = config.configured(runner.run_sweep, "sweeps/isoflop_quick.gin")
    if options.cell and not options.dry_run:
        raise UserError("--cell shows the configuration of one run: give --dry_run too.")
    planned = runner.with_cache_dir(config.macro("SWEEP"), config.macro("CACHE_DIR"))
    if options.cell:
        print(_one_cell(planned, options.cell))
        return
    cells = [cell for stage in planned.stage_cells() for cell in stage]
    warn(options, preflight.check_runs(planned.name, cells))
    if options.dry_run:
        print(_runs_table(cells))
        return
    result = program()
    if options.json:
        print(json.dumps(result))
    else:
        print(f"{result['done']} of {result['runs']} runs done: {result['directory']}")
        if result["done"]:
            print(f"t5x-like report {shlex.quote(result['directory'])}")
    if result["failed"]:
        raise UserError(f"{len(result['failed'])} runs failed: {', '.join(result['failed'])}.")
    if missing := result["not_measured"]:
        raise UserError(f"{len(missing)} measurements failed: {', '.join(missing)}.")


def _one_cell(sweep: "Sweep", name: str) -> str:
    """The whole gin text of one run, as `_runs_table` names it, or of the learning rate search.

    Where there is a search, a run's rate is that of the recipe: the search comes first.

    Raises:
      UserError: there is no such run.
    """
    from t5x_like import config
    from t5x_like.scaling.sweeps import runner

    stages = (sweep.search_cells(), *sweep.stage_cells())
    cells = {cell.name: cell for stage in stages for cell in stage}
    if name not in cells:
        near = nearest(name, cells) or " --dry_run alone lists its runs."
        raise UserError(f"the sweep '{sweep.name}' has no run '{name}'.{near}")
    return cells[name].whole_text(sweep.name, runner.sweep_root(config.macro("SWEEP_DIR")))


def _runs_table(cells: Sequence["Cell"]) -> str:
    """A line for each run of a sweep, and their number and FLOPs."""
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
    counted = "exact" if any(cell.exact for cell in cells) else "6ND"
    return "\n".join([*lines, f"{len(cells)} runs, {total:.4g} FLOPs ({counted})"])


# -- fit -------------------------------------------------------------------------------------


def _add_fit_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("runs", help="a CSV, TSV, JSONL or Parquet file, or a sweep's directory")
    parser.add_argument(
        "--method",
        default="approach3",
        help="approach1, approach2, approach3 (default), variable_projection, "
        "variable_projection_relative, kaplan, gadre",
    )
    parser.add_argument(
        "--bootstrap", type=int, default=0, metavar="R", help="resamples for 95%% intervals"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the resamples")
    parser.add_argument(
        "--drop_highest", type=int, default=0, metavar="K", help="leave the K highest losses out"
    )
    parser.add_argument(
        "--huber_delta", type=float, default=1e-3, help="where Huber's loss stops being square"
    )
    parser.add_argument(
        "--weigh", action="store_true", help="runs by the standard errors of their losses"
    )
    parser.add_argument(
        "--starts", type=int, default=64, help="initial values of the search; %(default)s"
    )
    parser.add_argument("--variant", help="whose runs are fitted, where there are several")
    parser.add_argument("--count", help="what N counts: total, active, without_embeddings")
    parser.add_argument(
        "--at_flops", metavar="C,...", help="budgets to predict; the largest C, 10 and 100 times it"
    )
    parser.add_argument("--budgets", metavar="C,...", help="of approach2's groups")
    parser.add_argument(
        "--window", type=float, metavar="DECADES", help="of N around approach2's minima"
    )
    parser.add_argument("--plot", metavar="FILE", help="residuals, as .png, .svg or .pdf")
    _add_json(parser)


def fit(options: Namespace) -> None:
    """Prints a fitted scaling law, its intervals and its warnings."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # a fit computes nothing on a device
    from t5x_like.scaling import fitting
    from t5x_like.scaling.fitting.fit_report import fit_text

    found = fitting.fit(
        options.runs,
        options.method,
        bootstrap=options.bootstrap,
        seed=options.seed,
        drop_highest=options.drop_highest,
        variant=options.variant,
        count=options.count,
        huber_delta=options.huber_delta,
        starts=options.starts,
        weigh=options.weigh,
        at_flops=_numbers("at_flops", options.at_flops),
        budgets=_numbers("budgets", options.budgets) or (),
        window=options.window,
    )
    if options.plot:
        from t5x_like.scaling.fitting.plots import save_residuals

        save_residuals(found, options.plot)
    print(json.dumps(found.to_json()) if options.json else fit_text(found))


def _numbers(flag: str, text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise UserError(f"--{flag} takes FLOPs like 1e21,1e22, not '{text}'.") from None


# -- report ----------------------------------------------------------------------------------


def _add_report_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "directories",
        nargs="+",
        metavar="DIR",
        help="of `t5x-like sweep`, or a run's; of several runs, side by side",
    )
    parser.add_argument("--out", metavar="DIR", help="to write; the first DIR/report by default")
    parser.add_argument(
        "--baseline", metavar="VARIANT", help="to compare with; the sweep's own by default"
    )
    parser.add_argument(
        "--bootstrap", type=int, default=1000, metavar="R", help="resamples; %(default)s"
    )
    parser.add_argument(
        "--floor",
        action="append",
        default=[],
        metavar="MODEL_DIR",
        help="an evaluated run, such as an n-gram model's, as a line among the losses; repeatable",
    )
    _add_json(parser)


def report(options: Namespace) -> None:
    """Writes the report of a sweep, or the page of runs, and prints where it is.

    Of a run, it prints what suites found too.
    """
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # a report computes nothing on a device
    from t5x_like.scaling import run_report
    from t5x_like.suites.tables import has_results

    first, *others = options.directories
    if others or run_report.is_run(first):
        page = run_report.write(options.directories, options.out)
        if not others and has_results(first):
            suites.report(options)
        elif options.json:
            print(json.dumps(run_report.as_json(options.directories, page)))
        else:
            print(run_report.text(options.directories, page))
        return
    if has_results(first):
        suites.report(options)
        return
    from t5x_like.scaling.report.summary import report_text
    from t5x_like.scaling.report.write import report as write

    found = write(
        first,
        options.out,
        baseline=options.baseline,
        bootstrap=options.bootstrap,
        floors=options.floor,
    )
    print(json.dumps(found) if options.json else report_text(found))
