"""A Python or a JAX that is too old, and an output that nobody reads."""

import ast
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from t5x_like import __main__ as entry

ROOT = Path(__file__).parent.parent.parent
OLD = [f"python3.{minor}" for minor in (8, 9, 10)]


@pytest.fixture(autouse=True)
def signals_as_before():
    """The entry point answers signals until its process ends; here it does not end."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def run(interpreter, *arguments, path=ROOT):
    return subprocess.run(
        [interpreter, "-m", "t5x_like", *arguments],
        env={**os.environ, "PYTHONPATH": str(path), "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.mark.parametrize("name", ["__init__.py", "__main__.py"])
def test_an_old_python_can_read_what_says_that_it_is_too_old(name, tally):
    """No syntax of after Python 3.0 in what runs before the version is checked."""
    tree = ast.parse((ROOT / "t5x_like" / name).read_text("ascii"), feature_version=(3, 0))
    newer = (ast.AnnAssign, ast.JoinedStr, ast.NamedExpr, ast.Match, ast.AsyncFunctionDef)
    assert not [node for node in ast.walk(tree) if isinstance(node, newer)]
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    assert not [f for f in functions if f.returns or any(a.annotation for a in f.args.args)]


@pytest.mark.parametrize("name", OLD)
def test_a_python_too_old_is_answered_in_one_line(name, tally):
    interpreter = shutil.which(name)
    if interpreter is None or run(interpreter, "--version").returncode not in (0, 2):
        pytest.skip(f"{name} is not installed")
    done = run(interpreter, "plan", "--flops=1e21")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"t5x-like: error: Python 3.{name[9:]}.")
    assert line.endswith(" is too old: t5x-like needs 3.11 or newer.")
    tally("bad inputs")


def test_a_python_too_old_is_answered_in_one_line_by_this_one(monkeypatch, capsys, tally):
    monkeypatch.setattr(sys, "version_info", (3, 10, 4))
    assert entry.main() == 2
    said = "t5x-like: error: Python 3.10.4 is too old: t5x-like needs 3.11 or newer.\n"
    assert capsys.readouterr().err == said
    tally("bad inputs")


def test_a_jax_too_old_is_answered_in_one_line(tmp_path, tally):
    """As an old environment has it: an earlier `jax` in the metadata of what is installed."""
    metadata = tmp_path / "jax-0.4.30.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: jax\nVersion: 0.4.30\n")
    done = run(sys.executable, "plan", "--flops=1e21", path=f"{tmp_path}{os.pathsep}{ROOT}")
    said = "t5x-like: error: JAX 0.4.30 is too old: t5x-like needs 0.8 or newer.\n"
    assert (done.returncode, done.stderr, done.stdout) == (2, said, "")
    tally("bad inputs")


@pytest.mark.slow
def test_an_output_that_nobody_reads_ends_the_program_quietly(tally):
    """`t5x-like plan --flops=1e21 | head -1`, by a pipe whose reader has gone."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as output:
        done = subprocess.run(
            [sys.executable, "-m", "t5x_like", "plan", "--flops=1e21"],
            env={**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
            stdout=output,
            stderr=subprocess.PIPE,
            timeout=100,
            check=False,
        )
    assert done.stderr == b""
    assert done.returncode == 128 + 13  # as a shell reports SIGPIPE
