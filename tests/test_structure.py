"""The rules of the house, checked on the source."""

import ast
import functools
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("t5x_like", "models", "tasks")

# Of the engine, from the ground up: what stands in a line may import from its own line and
# from those before it. A folder with a line of its own module is divided: `training.state`.
FLOORS = (
    ("errors", "protocols"),
    ("host",),
    ("cost.chips", "cost.units", "cost.hlo", "config"),
    ("distributed",),
    ("partitioning", "schedules"),
    ("optimizers", "data", "overlap", "near_duplicates", "corpora", "cost"),
    ("training.state", "training.loss"),
    ("inspection", "decoding", "checkpoints", "vectors"),
    ("evaluation",),
    ("tools",),
    ("anomalies", "interpretability", "alignment", "trackers"),
    (
        "training",
        "alignment.learning",
        "alignment.plan",
        "alignment.iteration",
        "alignment.ahead_of_time",
        "alignment.back_translation",
    ),
    ("train", "align", "evaluate", "suites", "infer", "counting", "runs", "aot"),
    ("scaling",),
    ("cli",),
    ("__main__", "__init__"),
)

# Lists of like things, which may be longer than a folder of parts.
FLAT_LISTS = {
    "models": "a file for each family, beside what families share",
    "models/hf": "a file for each model type, beside what they share",
    "tasks/objectives": "a file for each objective, beside what they share",
}
MOST_MODULES, MOST_LINES = 15, 400


def modules():
    """Dotted name to path, of all three packages."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
            found[name.removesuffix(".__init__")] = path
    return found


MODULES = modules()
ENGINE = [name for name in MODULES if name.startswith("t5x_like.")]


@functools.cache
def imported(name, top_level_only=False):
    """Dotted names that a module imports, wherever in it or at its top level alone."""
    tree = ast.parse(MODULES[name].read_text())
    names = []
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def imported_modules(name):
    """Which of our modules a module imports, wherever in it."""
    found = set()
    for inner in imported(name):
        while inner and inner not in MODULES:
            inner = inner.rpartition(".")[0]
        if inner and inner != name:
            found.add(inner)
    return found


def floor(name):
    """The floor of an engine's module, counted from the ground."""
    inner = name.removeprefix("t5x_like.") if name != "t5x_like" else "__init__"
    while inner:
        for level, names in enumerate(FLOORS):
            if inner in names:
                return level
        inner = inner.rpartition(".")[0]
    raise AssertionError(f"{name} is on no floor: add it to FLOORS in {__file__}")


def roots(name, **kwargs):
    """The packages that a module imports."""
    return {inner.split(".")[0] for inner in imported(name, **kwargs)}


def test_the_three_packages_never_import_one_another():
    others = {name: roots(name) & set(PACKAGES) - {name.split(".")[0]} for name in MODULES}
    wrong = {name for name, found in others.items() if found}
    assert {name for name in wrong if not name.startswith("t5x_like.cli")} == set()


def test_gin_is_known_to_configuration_and_command_line_only():
    knowing = {name for name in MODULES if "gin" in roots(name)}
    allowed = ("t5x_like.config", "t5x_like.cli")
    assert {name for name in knowing if not name.startswith(allowed)} == set()


def test_imports_run_downwards():
    wrong = [
        f"{name} imports {inner}, which stands above it"
        for name in ENGINE
        for inner in imported_modules(name)
        if inner.startswith("t5x_like.") and floor(inner) > floor(name)
    ]
    assert wrong == []


@pytest.mark.parametrize("package", PACKAGES)
def test_there_are_no_circles(package):
    """Neither at import time nor behind functions."""
    own = [name for name in MODULES if name.split(".")[0] == package]
    edges = {name: sorted(imported_modules(name) & set(own)) for name in own}
    done, walking = set(), []

    def visit(module):
        assert module not in walking, " -> ".join([*walking[walking.index(module) :], module])
        if module not in done:
            walking.append(module)
            for inner in edges[module]:
                # A module inside a package has loaded the package; only what it takes counts.
                if not module.startswith(f"{inner}."):
                    visit(inner)
            done.add(walking.pop())

    for module in edges:
        visit(module)


def test_modules_are_short_and_named_for_a_subject():
    lines = {name: len(path.read_text().splitlines()) for name, path in MODULES.items()}
    assert {name: count for name, count in lines.items() if count > MOST_LINES} == {}
    unnamed = ("utils", "common", "helpers", "misc")
    assert {name for name, path in MODULES.items() if path.stem in unnamed} == set()


def test_folders_hold_few_modules():
    counts = {}
    for path in MODULES.values():
        if path.stem not in ("__init__", "__main__"):
            folder = path.parent.relative_to(ROOT).as_posix()
            counts[folder] = counts.get(folder, 0) + 1
    long = {folder for folder, count in counts.items() if count > MOST_MODULES}
    assert long <= set(FLAT_LISTS)


def test_the_engine_imports_tensorflow_and_seqio_only_inside_functions():
    heavy = {"tensorflow", "tensorflow_datasets", "seqio", "sentencepiece"}
    assert {name for name in ENGINE if heavy & roots(name, top_level_only=True)} == set()
