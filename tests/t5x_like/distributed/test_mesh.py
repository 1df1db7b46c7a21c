"""The same numbers on every mesh and with every rule set, to rounding."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
MESHES = ([8, 1], [4, 2], [2, 4], [1, 8], [2, 2, 2])
RULES = (
    "data_parallel", "fsdp", "tensor_parallel", "fsdp_tensor", "expert_parallel",
    "sequence_parallel", "context_parallel", "standard",
)  # fmt: skip
TOLERANCE = 1e-5


def differences(cases):
    """From one device after five steps, in a process with eight."""
    command = [sys.executable, "-m", "tests.t5x_like.distributed.mesh_worker", json.dumps(cases)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    reports = [json.loads(line) for line in done.stdout.splitlines()]
    assert [report["case"] for report in reports] == [list(case) for case in cases]
    return reports


def check(cases):
    for report in differences(cases):
        for what in ("losses", "gradient_norms", "params"):
            assert report[what] <= TOLERANCE, report


@pytest.mark.slow
def test_five_steps_are_the_same_on_one_device_and_on_eight():
    """Also where shared heads and a vocabulary do not divide, which are Llama's."""
    check(
        [
            ["palm", "fsdp_tensor", [2, 2, 2]],
            ["palm", "sequence_parallel", [2, 1, 4]],
            ["llama", "context_parallel", [1, 2, 4]],
        ]
    )


@pytest.mark.slow
def test_shared_heads_and_vocabulary_that_do_not_divide_on_other_meshes():
    check([["llama", "fsdp_tensor", [2, 4]], ["llama", "tensor_parallel", [1, 8]]])


# Rule sets that hold what the simpler ones do: those, and the other models, are a release's.
IN_CI = {
    ("palm", "fsdp_tensor"), ("palm", "standard"), ("t5", "context_parallel"),
    ("switch", "expert_parallel"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "rules"),
    [
        pytest.param(
            model, rules, marks=() if (model, rules) in IN_CI else pytest.mark.release,
            id=f"{model}-{rules}",
        )
        for model in ("t5", "palm", "switch")
        for rules in RULES
    ],
)  # fmt: skip
def test_every_rule_set_gives_the_same_numbers_on_every_mesh(model, rules):
    check([[model, rules, sizes] for sizes in MESHES])
