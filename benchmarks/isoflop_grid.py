"""How sure an IsoFLOP sweep would be of its exponent, by simulation, before it is run.

    python -m benchmarks.isoflop_grid [--law docs/results/isoflop_cpu/law.json] [--noise 0.005]
        [--budgets 3e10,3e13] [--levels 4 7] [--sizes 5 7 9] [--spread 0.35 0.5] [--seeds 1 2]
        [--sweeps 40] [--json] [--sweep sweeps/isoflop_decades_cpu.gin]

For each grid, sweeps whose losses are a law's, but for noise of their logarithms, normal and
independent, are fitted by approach 2 as `fit` does it. The noise is that between runs: seed, data
order, learning rate; 0.005 is the residual of the runs of `isoflop_cpu` below its largest budget.
Sizes are spaced evenly in log N, `--spread` decades to either side of the budget's best size, which
a real grid has to guess; `--sweep` takes the runs of a sweep as they are planned instead.

Each grid has its runs and FLOPs; the half width of the 95% interval of the exponent, from 200
resamples, in the middle and in nine of ten sweeps; 1.96 standard deviations of the exponent itself
over the sweeps, which the interval should match; and in how many the interval has the law's.
"""

import argparse
import itertools
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from t5x_like.errors import UserError
from t5x_like.scaling.fitting import fit
from t5x_like.scaling.laws import ParametricLaw
from t5x_like.scaling.planning.law_choice import chosen_law

RESAMPLES = 200


def grid_runs(
    law: ParametricLaw, budgets: np.ndarray, sizes: int, spread: float, seeds: int
) -> pd.DataFrame:
    """The runs of a grid, with the losses of the law: columns N, D, C, budget, loss."""
    rows = []
    for budget in budgets:
        best = float(law.optimum(budget)[0])
        for n in best * 10 ** np.linspace(-spread, spread, sizes):
            d = budget / 6 / n
            loss = float(law.loss(n, d))
            rows += [{"N": n, "D": d, "C": budget, "budget": budget, "loss": loss}] * seeds
    return pd.DataFrame(rows)


def planned_runs(law: ParametricLaw, gin_file: str) -> pd.DataFrame:
    """The runs of a sweep's gin file, with the losses of the law: columns N, D, C, budget, loss."""
    from t5x_like import config

    with config.isolated():
        config.parse([gin_file])
        cells = config.macro("SWEEP").cells()
    rows = [
        {"N": cell.size.active, "D": cell.training.tokens, "C": cell.flops, "budget": cell.budget}
        for cell in cells
    ]
    frame = pd.DataFrame(rows)
    return frame.assign(loss=law.loss(frame["N"], frame["D"]))


def simulated(law: ParametricLaw, runs: pd.DataFrame, noise: float, sweeps: int) -> dict[str, Any]:
    """The exponents and intervals of sweeps over these runs."""
    rng = np.random.default_rng(0)
    exponents, halves, held, lost = [], [], 0, 0
    for _ in range(sweeps):
        losses = runs["loss"] * np.exp(noise * rng.standard_normal(len(runs)))
        try:
            found = fit(runs.assign(loss=losses), "approach2", bootstrap=RESAMPLES)
        except UserError:  # fewer than two budgets have a minimum inside
            lost += 1
            continue
        low, high = found.intervals["a"]
        exponents.append(found.parameters["a"])
        halves.append((high - low) / 2)
        held += low <= law.a <= high
    known = len(exponents) > 1
    return {
        "half_width": float(np.median(halves)) if known else None,
        "half_width_of_90": float(np.quantile(halves, 0.9)) if known else None,
        "scatter": float(1.96 * np.std(exponents, ddof=1)) if known else None,
        "mean": float(np.mean(exponents)) if known else None,
        "held": held / max(len(exponents), 1),
        "without_law": lost,
    }


def main(arguments: list[str] | None = None) -> None:
    """Simulates each grid and prints a line for it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--law", default="docs/results/isoflop_cpu/law.json")
    parser.add_argument("--noise", type=float, default=0.005)
    parser.add_argument("--budgets", default="3e10,3e13", help="the smallest and the largest")
    parser.add_argument("--levels", type=int, nargs="+", default=[4, 7])
    parser.add_argument("--sizes", type=int, nargs="+", default=[5, 7, 9])
    parser.add_argument("--spread", type=float, nargs="+", default=[0.35, 0.5])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--sweeps", type=int, default=40)
    parser.add_argument("--sweep", help="a gin file, whose runs are the grid")
    parser.add_argument("--json", action="store_true", help="one object a line")
    options = parser.parse_args(arguments)
    law = chosen_law(options.law).law
    assert isinstance(law, ParametricLaw)
    first, last = map(float, options.budgets.split(","))
    print(f"a {law.a:.3f} by the law, noise {options.noise:g}")
    for words, runs in _grids(law, options, np.array([first, last])):
        found = {
            **words,
            **{"runs": len(runs), "flops": float(runs["C"].sum())},
            **simulated(law, runs, options.noise, options.sweeps),
        }
        if options.json:
            print(json.dumps(found))
            continue
        print(
            f"{', '.join(f'{name} {value}' for name, value in words.items())}: "
            f"{found['runs']} runs, {found['flops']:.2g} FLOPs, a {_shown(found['mean'])} "
            f"± {_shown(found['half_width'])} ({_shown(found['half_width_of_90'])} in 9 of 10; "
            f"scatter {_shown(found['scatter'])}), held {found['held']:.0%}, "
            f"{found['without_law']} without a law",
            flush=True,
        )


def _grids(
    law: ParametricLaw, options: argparse.Namespace, ends: np.ndarray
) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    if options.sweep:
        yield {"sweep": options.sweep}, planned_runs(law, options.sweep)
        return
    grids = itertools.product(options.levels, options.sizes, options.spread, options.seeds)
    for levels, sizes, spread, seeds in grids:
        budgets = np.geomspace(*ends, levels)
        words = {"budgets": levels, "sizes": sizes, "spread": spread, "seeds": seeds}
        yield words, grid_runs(law, budgets, sizes, spread, seeds)


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    main()
