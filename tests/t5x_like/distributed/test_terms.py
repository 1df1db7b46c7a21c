"""Terms with weights of their own, and a carry, on meshes of simulated devices."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
def test_a_step_is_the_same_on_every_mesh():
    command = [sys.executable, "-m", "tests.t5x_like.distributed.terms_worker"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert len(found) >= 6
    assert max(found.values()) < 1e-6, found
