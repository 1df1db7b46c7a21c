"""Sweeps that have no runs, or runs that cannot be built."""

import pytest

HEAD = """
from __gin__ import dynamic_registration
from t5x_like.scaling.sweeps import grids
from t5x_like.scaling.sweeps import sweep
include 'sweeps/isoflop_quick.gin'
"""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("grids.IsoFLOP.budgets = []", ["grid is empty", "its budgets are []"]),
        ("grids.IsoFLOP.sizes = []", ["grid is empty", "its sizes are []"]),
        ("grids.IsoFLOP.sizes = [-1]", ["sizes hold -1", "numbers above 0"]),
        ("grids.IsoFLOP.sizes = 13e3", ["sizes is 13000.0", "takes a list, each a number"]),
        ("GRID = @grids.Product()\ngrids.Product.values = {'SEED': []}", ["no value of SEED"]),
        ("sweep.Sweep.seeds = []", ["the sweep has no seeds", "at least one"]),
        ("sweep.Sweep.variants = []", ["variants are []", "at least one"]),
        ("sweep.Sweep.base = ['tasks/nowhere.gin']", ["'tasks/nowhere.gin' not found"]),
        ("sweep.Sweep.family = 'lama'", ["no family 'lama'", "Did you mean llama"]),
        (
            "sweep.Sweep.bindings = {'llama.LLaMA.num_heads': 7}",
            ["a run of sweep 'isoflop_quick' cannot be built", "num_heads 7"],
        ),
        (
            "sweep.Sweep.bindings = {'llama.LLaMA.num_heds': 7}",
            ["a run of sweep 'isoflop_quick' cannot be built", "Did you mean num_heads"],
        ),
        (
            "sweep.Sweep.variants = [@wide/sweep.Variant()]\n"
            "wide/sweep.Variant.name = 'wide'\n"
            "wide/sweep.Variant.bindings = {'llama.LLaMA.remat_policy': 'som'}",
            ["variant 'wide' cannot be built", "remat_policy 'som'"],
        ),
        ("EXECUTOR = 'slurm'", ["EXECUTOR is 'slurm'", "takes an Executor"]),
    ],
)
def test_a_sweep_that_cannot_be_run_writes_nothing(refused, tmp_path, text, words):
    path = tmp_path / "mine.gin"
    path.write_text(HEAD + text + "\n")
    refused(["sweep", f"--gin_file={path}", f"--gin.SWEEP_DIR={tmp_path}/sweep"], *words)


def test_a_sweep_needs_a_directory(refused):
    words = ["SWEEP_DIR (directory that the sweep writes to and resumes from) is not set"]
    refused(["sweep", "--gin_file=sweeps/isoflop_quick.gin"], *words)


def test_a_directory_that_holds_no_sweep_has_no_report(refused, tmp_path):
    words = [f"no sweep in '{tmp_path}'", "`t5x-like sweep` makes one"]
    refused(["report", tmp_path], *words)
