"""`t5x-like fit`: a scaling law from a table of runs or a sweep, with its uncertainty."""

import json
import os
from argparse import ArgumentParser, Namespace

from t5x_like.errors import UserError


def add_arguments(parser: ArgumentParser) -> None:
    """The command's flags."""
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
    parser.add_argument("--starts", type=int, default=64, help="of the search; %(default)s")
    parser.add_argument("--variant", help="whose runs, where there are several")
    parser.add_argument("--count", help="what N counts: total, active, without_embeddings")
    parser.add_argument(
        "--at_flops", metavar="C,...", help="budgets to predict; the largest C, 10 and 100 times it"
    )
    parser.add_argument("--budgets", metavar="C,...", help="of approach2's groups")
    parser.add_argument(
        "--window", type=float, metavar="DECADES", help="of N around approach2's minima"
    )
    parser.add_argument("--plot", metavar="FILE", help="residuals, as .png, .svg or .pdf")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def run(options: Namespace) -> None:
    """Prints the law, its intervals and what to mind."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # a fit computes nothing on a device
    from t5x_like.scaling.fitting import fit
    from t5x_like.scaling.fitting.text import fit_text

    found = fit(
        options.runs,
        options.method,
        bootstrap=options.bootstrap,
        seed=options.seed,
        drop_highest=options.drop_highest,
        variant=options.variant,
        count=options.count,
        huber_delta=options.huber_delta,
        starts=options.starts,
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
