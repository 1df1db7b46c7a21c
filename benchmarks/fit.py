"""A fit of 240 runs beside PyPI's `chinchilla` and plain L-BFGS, in one run.

    python -m benchmarks.fit [--runs FILE] [--peer_python PYTHON] [--peer_grid 3] [--json]

What is fitted is L = E + A/N^alpha + B/D^beta by Huber's loss (1e-3) of log loss: to `--runs`, less
its five highest losses, or to 240 runs made from Hoffmann et al. 2022, equation 10, with 1% of
noise. Contenders, one after the other:

- `fit` as it is: 64 starts, the proof of the optimum, the influence table;
- the same with 1,000 resamples;
- L-BFGS-B of SciPy with its default tolerances from every `--every`th of the 4,500 starts of
  Besiroglu et al. 2024, on the sum as printed, with analytic gradients from here;
- this project's search from the same starts;
- `chinchilla` (pip install chinchilla; `--peer_python` where it lives in an environment of its
  own), told to use the same loss, with `--peer_grid` values of each parameter to start from.

Each reports its seconds and how far above the lowest objective of all it ended.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize as scipy_minimize

from t5x_like.scaling.fitting import fit
from t5x_like.scaling.fitting.forms import ParametricForm, Points
from t5x_like.scaling.fitting.numerics.newton import minimize
from t5x_like.scaling.fitting.numerics.residuals import HuberObjective
from t5x_like.scaling.laws import ParametricLaw

DELTA = 1e-3
PEER = """
import functools, json, sys, time
import numpy as np
from chinchilla import Chinchilla
from chinchilla._metrics import log_huber
folder, size = sys.argv[1], int(sys.argv[2])
loss = functools.partial(log_huber, delta=1e-3)
loss.__name__ = "log_huber"
grid = dict(e=np.linspace(-1, 1, size), a=np.linspace(0, 25, size), b=np.linspace(0, 25, size),
            alpha=np.linspace(0.1, 1, size), beta=np.linspace(0.1, 1, size))
peer = Chinchilla(folder, param_grid=grid, seed_ranges=dict(C=(1e18, 1e22), N_to_D=(1, 100)),
                  loss_fn=loss, log_level=40)
start = time.perf_counter()
peer.fit(parallel=True)
print("RESULT" + json.dumps({"seconds": time.perf_counter() - start,
                             **{name: float(peer.params[name]) for name in
                                ("E", "A", "B", "alpha", "beta")}}))
"""


def runs_of(path: str | None) -> pd.DataFrame:
    """N, D, loss and C of 240 runs."""
    if path:
        frame = pd.read_csv(path).sort_values("loss").iloc[:-5].astype(np.float64)
    else:
        rng = np.random.default_rng(0)
        n = 10 ** rng.uniform(7.5, 10, 240)
        d = n * 10 ** rng.uniform(0.3, 2.3, 240)
        law = ParametricLaw(E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28)
        loss = law.loss(n, d) * np.exp(0.01 * rng.standard_normal(240))
        frame = pd.DataFrame({"N": n, "D": d, "loss": loss})
    return frame.assign(C=6 * frame["N"] * frame["D"])[["C", "N", "D", "loss"]]


def huber(frame: pd.DataFrame, law: ParametricLaw) -> float:
    """The sum that all contenders minimize."""
    size = np.abs(np.log(law.loss(frame["N"], frame["D"]) / frame["loss"]))
    return float(np.where(size <= DELTA, size**2 / 2, DELTA * (size - DELTA / 2)).sum())


def published_starts(points: Points, every: int) -> np.ndarray:
    """Starts of Besiroglu et al. 2024, in centred coordinates."""
    axes = np.meshgrid(
        np.linspace(-1, 1, 5), *[np.linspace(0, 25, 6)] * 2, *[np.linspace(0, 2, 5)] * 2
    )
    starts = np.stack([axis.ravel() for axis in axes], axis=1)[::every]
    mean_n, mean_d = points.means
    starts[:, 1] -= starts[:, 3] * mean_n
    starts[:, 2] -= starts[:, 4] * mean_d
    return starts


def from_published_starts(frame: pd.DataFrame, every: int) -> dict[str, dict[str, Any]]:
    """L-BFGS with its defaults, and this project's search, from the same starts."""
    points = Points(*(frame[name].to_numpy() for name in ("N", "D", "loss")))
    starts = published_starts(points, every)
    objective = HuberObjective(ParametricForm(), points, DELTA, np.ones((len(starts), len(frame))))
    mean_n, mean_d = points.means
    # By log A and log B of N and D as they are, not centred, as fits are usually written.
    to_centred = np.eye(5)
    to_centred[1, 3], to_centred[2, 4] = -mean_n, -mean_d

    def plain(point: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope, _ = objective.evaluate((to_centred @ point)[None], np.zeros(1, np.intp))
        return value[0] * DELTA**2, to_centred.T @ slope[0] * DELTA**2

    start = time.perf_counter()
    uncentred = starts @ np.linalg.inv(to_centred).T
    ends = np.array(
        [scipy_minimize(plain, one, jac=True, method="L-BFGS-B").fun for one in uncentred]
    )
    lbfgs = time.perf_counter() - start
    start = time.perf_counter()
    found = minimize(objective.evaluate, starts, *ParametricForm().bounds(points))
    ours = time.perf_counter() - start
    values = found.values * DELTA**2
    return {
        f"L-BFGS-B, {len(starts)} starts": {
            "seconds": lbfgs, "objective": float(ends.min()), "ends": ends.tolist(),
        },
        f"this search, {len(starts)} starts": {
            "seconds": ours, "objective": float(values.min()), "ends": values.tolist(),
        },
    }  # fmt: skip


def peer(frame: pd.DataFrame, python: str, grid: int) -> dict[str, Any] | None:
    """`chinchilla` in a process of its own; None where it is not installed."""
    if subprocess.run([python, "-c", "import chinchilla"], capture_output=True).returncode:
        return None
    with tempfile.TemporaryDirectory() as folder:
        frame.to_csv(Path(folder) / "df.csv", index=False)
        done = subprocess.run(
            [python, "-W", "ignore", "-c", PEER, folder, str(grid)], capture_output=True, text=True
        )
    if done.returncode:
        raise RuntimeError(done.stderr)
    found = json.loads(done.stdout.partition("RESULT")[2])
    seconds = found.pop("seconds")
    return {"seconds": seconds, "objective": huber(frame, ParametricLaw(**found))}


def measure(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Every contender's seconds and objective."""
    frame = runs_of(options.runs)
    results: dict[str, dict[str, Any]] = {}
    fit(frame.head(20), starts=4)  # what is imported when first used
    for name, resamples in (("fit", 0), ("fit, 1,000 resamples", 1000)):
        start = time.perf_counter()
        found = fit(frame, bootstrap=resamples)
        results[name] = {
            "seconds": time.perf_counter() - start,
            "objective": found.objective,
            "agreeing": f"{found.starts_agreeing} of {found.starts}",
        }
    results.update(from_published_starts(frame, options.every))
    other = peer(frame, options.peer_python, options.peer_grid)
    if other:
        results[f"chinchilla, {options.peer_grid**5} starts"] = other
    best = min(result["objective"] for result in results.values())
    for result in results.values():
        result["above_best"] = result["objective"] / best - 1
        result["times_slower"] = result["seconds"] / results["fit"]["seconds"]
        if "ends" in result:
            ends = np.array(result.pop("ends"))
            result["agreeing"] = f"{(ends <= 1.01 * best).sum()} of {len(ends)}, within 1%"
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", help="N,D,C,loss; made ones by default")
    parser.add_argument("--every", type=int, default=20, help="of the 4,500 starts")
    parser.add_argument("--peer_python", default=sys.executable)
    parser.add_argument("--peer_grid", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results = measure(options)
    if options.json:
        print(json.dumps(results))
        return
    print(f"{'contender':28} {'seconds':>9} {'x fit':>8} {'above best':>11}  starts that agree")
    for name, result in results.items():
        print(
            f"{name:28} {result['seconds']:9.2f} {result['times_slower']:8.1f} "
            f"{result['above_best']:11.1e}  {result.get('agreeing', '')}"
        )


if __name__ == "__main__":
    main()
