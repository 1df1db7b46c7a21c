"""Sweeps whose laws are known, as frames of `results` and as directories."""

import json

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


def cell(variant, n, d, loss, **more):
    layers = max(2, round((n / 1e5) ** 0.3))
    width = max(8, round(np.sqrt(n / 12 / layers)))
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
        "embed_dim": width,
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
                rows.append(cell(variant, n, d, loss, budget=budget))
    return pd.DataFrame(rows)


def shape_cells():
    """Kaplan's study: two sizes, five aspect ratios each, best near 50."""
    rows = []
    for n in (1e6, 4e6):
        for layers in (2, 4, 8, 16, 32):
            embed = round(np.sqrt(n / 12 / layers))
            loss = 3.2 * (1 + 0.004 * np.log(embed / layers / 50) ** 2) * n**-0.01
            row = cell("", n, 20 * n, loss, num_layers=layers, embed_dim=embed)
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


RESULTS = (
    *("status", "step", "loss", "train_loss", "seconds", "tokens_per_second"),
    *("gin_file", "directory"),
)


def write_sweep(root, cells, curves, *, name="synthetic"):
    """The directory that `results` reads: sweep.json, and for cells that began their MODEL_DIR."""
    cells = cells.assign(batch_tokens=cells["tokens"] / cells["steps"], stem=None)
    records = cells.drop(columns=list(RESULTS)).astype(object)
    records = records.where(records.notna(), None)
    plan = {
        "name": name,
        "family": "gopher",
        "baseline": cells["variant"].iloc[0],
        "cells": records.to_dict("records"),
    }
    root.mkdir(parents=True, exist_ok=True)
    (root / "sweep.json").write_text(json.dumps(plan))
    for cell in cells[cells["status"] != "waiting"].to_dict("records"):
        folder = root / "cells" / cell["name"]
        folder.mkdir(parents=True)
        (folder / "config.gin").touch()
        (folder / "cell.gin").write_text(
            f"# {cell['name']}\nNUM_LAYERS = {cell['num_layers']}\nMODEL_DIR = '{folder}'\n"
        )
        if cell["status"] == "failed":
            (folder / "failed.txt").write_text("loss is NaN\n")
        lines = [
            {"step": row["step"], "split": "train", "loss": row["loss"], "seconds": 1.0}
            for row in curves[curves["name"] == cell["name"]].to_dict("records")
        ]
        if cell["status"] == "done":
            lines.append({"step": cell["steps"], "split": "validation", "loss": cell["loss"]})
        (folder / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    return root


def unfinished(cells, done):
    """The same sweep after `done` runs: one is at work, one has failed, the others wait."""
    cells = cells.assign(status="waiting")
    column = cells.columns.get_loc
    cells.iloc[:done, column("status")] = "done"
    cells.iloc[done, column("status")] = "running"
    cells.iloc[done + 1, column("status")] = "failed"
    cells.loc[cells["status"] != "done", "loss"] = np.nan
    cells.loc[cells["status"] == "waiting", "step"] = 0
    cells.loc[cells["status"].isin(["running", "failed"]), "step"] = 40
    return cells


class Sweeps:
    """What the tests of this folder make sweeps with."""

    law = LAW
    worth = staticmethod(worth)
    isoflop_cells = staticmethod(isoflop_cells)
    shape_cells = staticmethod(shape_cells)
    curves_of = staticmethod(curves_of)
    cell = staticmethod(cell)
    write = staticmethod(write_sweep)
    unfinished = staticmethod(unfinished)


@pytest.fixture(scope="session")
def sweeps():
    return Sweeps
