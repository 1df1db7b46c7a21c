"""The rules of the house, checked on the source."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
WINGS = ("t5x_like", "models", "tasks")
ROOF = {"t5x_like/cli.py"}
GIN = {"t5x_like/config.py", "t5x_like/cli.py"}

# Of the engine: a module may import from its own floor and those below it.
FLOORS = (
    ("errors", "protocols", "macros", "arguments", "chips", "hlo",
     "inheritance", "storage", "disk_space", "gin_files", "gin_mistakes", "binding_types",
     "xla_flags", "child_command", "wings"),
    ("mesh", "partitioning", "schedules", "optimizers", "hardware", "preemption",
     "compilation_cache", "distributed", "agreement", "peers", "config", "topologies", "roofline",
     "flops", "subtrees"),
    ("data", "train_state", "train_step", "validation", "checkpoints", "host_params", "metrics_log",
     "progress", "ledger", "anomalies", "anomaly_dump", "run_identity", "run_summary",
     "training_plan", "training_run", "decoding", "scoring", "inspection", "inside"),
    ("train", "preflight", "evaluate", "infer", "runs", "aot", "aot_report"),
    ("exchange", "scaling"),
    ("cli",),
    ("__main__", "__init__"),
)  # fmt: skip


def sources(*wings):
    return [path for wing in wings for path in sorted((ROOT / wing).rglob("*.py"))]


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def imported(path):
    """Dotted names that a file imports, wherever in it."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def floor(name):
    """The floor of `t5x_like/NAME/...` or `t5x_like.NAME...`."""
    part = name.replace("/", ".").removesuffix(".py").split(".")[1]
    found = [level for level, modules in enumerate(FLOORS) if part in modules]
    assert found, f"t5x_like.{part} is on no floor: add it to FLOORS in {__file__}"
    return found[0]


@pytest.mark.parametrize("path", sources(*WINGS), ids=name_of)
def test_wings_never_import_one_another(path):
    own = name_of(path).split("/")[0]
    roots = {name.split(".")[0] for name in imported(path)}
    if name_of(path) not in ROOF:
        assert roots & set(WINGS) <= {own}


@pytest.mark.parametrize("path", sources(*WINGS), ids=name_of)
def test_gin_is_known_to_configuration_and_command_line_only(path):
    if name_of(path) not in GIN:
        assert "gin" not in {name.split(".")[0] for name in imported(path)}


@pytest.mark.parametrize("path", sources("t5x_like"), ids=name_of)
def test_imports_run_downwards(path):
    for name in imported(path):
        if name.startswith("t5x_like.") and name.split(".")[1] not in ("Run", "load_run"):
            assert floor(name) <= floor(name_of(path)), f"{name_of(path)} imports {name}"


def test_there_are_no_circles():
    """Neither at import time nor behind functions, but for those of one package with itself."""
    edges = {}
    for path in sources("t5x_like"):
        own = name_of(path).removesuffix(".py").split("/")[1]
        for name in imported(path):
            if name.startswith("t5x_like.") and name.split(".")[1] != own:
                edges.setdefault(own, set()).add(name.split(".")[1])
    done, walking = set(), []

    def visit(module):
        assert module not in walking, " -> ".join([*walking, module])
        if module not in done:
            walking.append(module)
            for inner in sorted(edges.get(module, ())):
                visit(inner)
            done.add(walking.pop())

    for module in sorted(edges):
        if module != "__init__":
            visit(module)


@pytest.mark.parametrize("path", sources(*WINGS), ids=name_of)
def test_files_are_short_and_named_for_a_subject(path):
    assert len(path.read_text().splitlines()) <= 400
    assert path.stem not in ("utils", "common", "helpers", "misc")


@pytest.mark.parametrize("path", sources("t5x_like"), ids=name_of)
def test_the_engine_imports_tensorflow_and_seqio_only_inside_functions(path):
    heavy = {"tensorflow", "tensorflow_datasets", "seqio", "sentencepiece"}
    for node in ast.parse(path.read_text()).body:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        assert not heavy & {name.split(".")[0] for name in names}
