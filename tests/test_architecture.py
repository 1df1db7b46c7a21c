"""docs/architecture.md lists every folder, and its walks name functions that exist."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "architecture.md").read_text()
PACKAGES = ("t5x_like", "models", "tasks")
BESIDE = {"gin_configs", "notebooks", "tests", "benchmarks", "docs"}
STEPS = re.findall(r"^\d+\. (.+?): ", PAGE, re.M)


def test_every_folder_of_the_packages_has_a_line():
    table = PAGE.partition("## Folders")[2].partition("## From")[0]
    listed = re.findall(r"^\| `([\w/]+)/` \|", table, re.M)
    modules = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    folders = {path.parent.relative_to(ROOT).as_posix() for path in modules} | BESIDE
    assert sorted(listed) == sorted(folders)


def names_in(path):
    """Functions, classes and their methods and fields, as `Class.method`."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found.add(node.name)
            methods = [inner for inner in node.body if isinstance(inner, ast.FunctionDef)]
            found.update(f"{node.name}.{method.name}" for method in methods)
    return found


@pytest.mark.parametrize("step", STEPS)
def test_a_step_of_a_walk_names_functions_of_its_files(step):
    for part in step.split("; "):
        path, *names = re.findall(r"`([^`]+)`", part)
        assert (ROOT / path).is_file(), path
        assert set(names) <= names_in(ROOT / path), part


def test_there_are_four_walks_and_each_has_a_way_to_go():
    walks = re.split(r"^## ", PAGE, flags=re.M)[3:]
    assert len(walks) == 4
    assert all(len(re.findall(r"^\d+\. `", walk, re.M)) >= 6 for walk in walks)
