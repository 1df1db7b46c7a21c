"""What runs before a commit and on a push: the project's own tools, and nothing else."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent


def test_commit_hooks_run_the_tools_of_the_environment_and_download_nothing():
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"
    tools = [hook["entry"].split()[0] for hook in repository["hooks"]]
    assert tools == [".venv/bin/ruff", ".venv/bin/ruff", ".venv/bin/mypy"]
    assert {hook["language"] for hook in repository["hooks"]} == {"system"}


def test_a_push_runs_the_ci_script_on_the_oldest_and_the_newest_python():
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    job = workflow["jobs"]["ci"]
    assert job["steps"][-1] == {"run": ".ci/run"}
    assert job["timeout-minutes"] == 90
    supported = re.search(r"Python (3\.\d+) to (3\.\d+)", (ROOT / "README.md").read_text())
    assert job["strategy"]["matrix"]["python"] == list(supported.groups())


@pytest.mark.slow
def test_no_test_begins_after_the_time_of_a_run():
    """It is skipped and counted: no run that was cut looks whole."""
    test = f"{__file__}::test_every_test_belongs_to_a_command_of_make"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider"]
    for seconds, end in (("-1", "1 skipped"), ("600", "1 passed")):
        environment = os.environ | {"TEST_SECONDS": seconds}
        done = subprocess.run(
            [*command, test], env=environment, cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0 and end in done.stdout.splitlines()[-1], done.stdout
        assert (f"TEST_SECONDS={seconds}" in done.stdout) == (end == "1 skipped")


def test_every_test_belongs_to_a_command_of_make():
    """Fast, slow or of a release: each marker is in the expression of one target alone.

    `test-optimized` is a part of the fast ones once more, so that an expression counts once.
    """
    makefile = (ROOT / "Makefile").read_text()
    expressions = set(re.findall(r"-m '([^']+)'", makefile))
    markers = ({}, {"slow"}, {"interop"}, {"slow", "interop"}, {"release"}, {"slow", "release"})
    for marked in markers:
        values = {name: name in marked for name in ("slow", "interop", "release")}
        chosen = [expression for expression in expressions if eval(expression, {}, values)]
        assert len(chosen) == (0 if "release" in marked else 1)
