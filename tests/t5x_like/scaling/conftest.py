"""Sweeps whose laws are known, as frames of `results` and as directories."""

import numpy as np
import pandas as pd
import pytest

from t5x_like.scaling.laws import ParametricLaw

# Hoffmann et al. 2022, equation 10.
LAW = ParametricLaw(E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28)


def worth(multiplier):
    """The law whose loss at any C is that of `LAW` at `multiplier * C`."""
    return ParametricLaw(
        E=LAW.E,
        A=LAW.A * multiplier ** (-LAW.alpha / 2),
        B=LAW.B * multiplier ** (-LAW.beta / 2),
        alpha=LAW.alpha,
        beta=LAW.beta,
    )


def _cell(variant, n, d, loss, **more):
    layers = max(2, round((n / 1e5) ** 0.3))
    name = f"{variant}-{more.get('budget', 6 * n * d):.3g}-{n:.3g}".strip("-").replace("+", "")
    return {
        "name": name,
        "variant": variant,
        "budget": np.nan,
        "parameters": n,
        "parameters_without_embeddings": 0.8 * n,
        "active_parameters": n,
        "tokens": d,
        "flops": 6 * n * d,
        "model_flops": 6.3 * n * d,
        "steps": 100,
        "step": 100,
        "status": "done",
        "loss": loss,
        "train_loss": loss - 0.01,
        "learning_rate": 1e-3,
        "batch_tokens": d / 100,
        "warmup_fraction": 0.05,
        "seconds": n * d / 1e12,
        "tokens_per_second": 1e12 / n,
        "gin_file": f"cells/{name}/cell.gin",
        "directory": f"cells/{name}",
        "num_layers": layers,
        "embed_dim": max(8, round(np.sqrt(n / 12 / layers))),
        "num_heads": 4,
        "seed": 0,
        **more,
    }


def isoflop_cells(variants=None, *, budgets=5, sizes=7, noise=0.002, seed=0):
    """A row a cell of an IsoFLOP sweep, sizes around each optimum; {variant: law}."""
    rng = np.random.default_rng(seed)
    rows = []
    for variant, law in (variants or {"": LAW}).items():
        for budget in np.geomspace(1e16, 1e18, budgets):
            best = float(law.optimum(budget)[0])
            for n in best * np.geomspace(0.35, 3, sizes):
                d = budget / 6 / n
                loss = float(law.loss(n, d)) * np.exp(noise * rng.standard_normal())
                rows.append(_cell(variant, n, d, loss, budget=budget))
    return pd.DataFrame(rows)


def shape_cells():
    """Kaplan's study: two sizes, five aspect ratios each, best near 50."""
    rows = []
    for n in (1e6, 4e6):
        for layers in (2, 4, 8, 16, 32):
            embed = round(np.sqrt(n / 12 / layers))
            loss = 3.2 * (1 + 0.004 * np.log(embed / layers / 50) ** 2) * n**-0.01
            row = _cell("", n, 20 * n, loss, num_layers=layers, embed_dim=embed)
            rows.append({**row, "name": f"{n:.0e}-{layers}l"})
    return pd.DataFrame(rows)


def curves_of(cells, law=LAW, points=30):
    """The training curve of each cell that has begun: its loss on the way to its end."""
    rows = []
    for cell in cells[cells["step"] > 0].to_dict("records"):
        end = cell["tokens"] * cell["step"] / cell["steps"]
        for d in np.geomspace(end / 100, end, points):
            # Before a run's end the learning rate is too high still, by which the loss is above.
            lag = 0.05 * np.log(cell["tokens"] / d)
            rows.append(
                {
                    "name": cell["name"],
                    "variant": cell["variant"],
                    "parameters": cell["parameters"],
                    "step": round(cell["steps"] * d / cell["tokens"]),
                    "tokens": d,
                    "flops": 6 * cell["parameters"] * d,
                    "loss": float(law.loss(cell["parameters"], d)) + lag,
                }
            )
    columns = ("name", "variant", "parameters", "step", "tokens", "flops", "loss")
    return pd.DataFrame(rows, columns=columns)


class Sweeps:
    """What the tests of this folder make sweeps with."""

    law = LAW
    worth = staticmethod(worth)
    isoflop_cells = staticmethod(isoflop_cells)
    shape_cells = staticmethod(shape_cells)
    curves_of = staticmethod(curves_of)


@pytest.fixture(scope="session")
def sweeps():
    return Sweeps
