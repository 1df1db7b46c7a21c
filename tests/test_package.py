"""What is installed: the wheel's contents, and what a host that only trains needs."""

import ast
import importlib.metadata
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PACKAGES = ("t5x_like", "models", "tasks")
TYPED = {f"{package}/py.typed" for package in PACKAGES}


def setup_argument(name):
    tree = ast.parse((ROOT / "setup.py").read_text())
    (value,) = (
        node.value for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == name
    )
    return ast.literal_eval(value)


def files_of(folder, *endings):
    paths = [path.relative_to(ROOT) for path in (ROOT / folder).rglob("*")]
    kept = [path for path in paths if path.suffix in endings and "__pycache__" not in path.parts]
    return {path.as_posix() for path in kept}


@pytest.mark.slow
def test_the_wheel_has_the_three_packages_the_gin_files_and_nothing_else(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copyfile(ROOT / name, source / name)
    for folder in (*PACKAGES, "gin_configs", "tests", "benchmarks"):
        ignored = shutil.ignore_patterns("__pycache__", "fixtures")
        shutil.copytree(ROOT / folder, source / folder, ignore=ignored)
    command = [sys.executable, "setup.py", "-q", "bdist_wheel", "--dist-dir", str(tmp_path)]
    subprocess.run(command, cwd=source, check=True, capture_output=True, timeout=300)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name == f"t5x_like-{setup_argument('version')}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    wanted = set().union(*(files_of(package, ".py", ".html", ".csv") for package in PACKAGES))
    gin = {f"t5x_like/{name}" for name in files_of("gin_configs", ".gin")}
    assert names == wanted | gin | TYPED


def test_every_package_says_that_it_has_types():
    assert all((ROOT / name).is_file() for name in TYPED)


def training_requirements():
    lines = (ROOT / "requirements-train.txt").read_text().splitlines()
    return [line for line in lines if not line.startswith("#")]


def test_a_host_that_only_trains_needs_all_but_tensorflow_and_seqio():
    """What trains without both is tested in tests/t5x_like/test_train.py."""
    left_out = [r for r in setup_argument("install_requires") if r not in training_requirements()]
    assert [Requirement(r).name for r in left_out] == ["seqio", "tensorflow"]
    assert set(training_requirements()) < set(setup_argument("install_requires"))


def test_what_such_a_host_installs_brings_neither_along():
    waiting = [canonicalize_name(Requirement(r).name) for r in training_requirements()]
    seen = set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            needed = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # of another platform
        for text in needed:
            one = Requirement(text)
            if one.marker is None or one.marker.evaluate({"extra": ""}):
                waiting.append(canonicalize_name(one.name))
    assert "jax" in seen
    assert not {"tensorflow", "tensorflow-datasets", "seqio"} & seen
