"""The notebooks: as they are kept, and executed from top to bottom on the embedded data."""

import ast
import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "notebooks"
OURS = ("t5x_like", "models", "tasks")
# Each with the plots that it draws at least, whatever is installed.
NOTEBOOKS = {
    "01_train_and_generate": 2,
    "02_isoflop": 5,
    "03_architecture_ablations": 2,
    "04_switch_routing": 5,
    "05_plan_a_pod_run": 2,
    "06_fit_published_laws": 4,
    "07_words_to_transformers": 2,
    "08_from_a_model_to_an_assistant": 2,
}
# A cell may be slow on a machine with other work.
CELL_SECONDS = 900

notebooks = pytest.mark.parametrize("name", NOTEBOOKS)


def read(name):
    return json.loads((FOLDER / f"{name}.ipynb").read_text())


def text(cell):
    return "".join(cell["source"])


def test_these_are_all():
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == sorted(NOTEBOOKS)


@notebooks
def test_what_cells_said_is_not_kept(name):
    for cell in read(name)["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None
            assert cell["metadata"] == {}


def test_studies_say_what_came_out_before_any_table():
    """02 and 03: in words as they are kept, and of the runs that are there by the first cell."""
    import pandas as pd

    results = ROOT / "docs" / "results"
    laws = pd.read_csv(results / "isoflop_cpu" / "laws.csv")
    (law,) = laws[(laws["method"] == "approach2") & (laws["quantity"] == "a")].to_dict("records")
    variants = pd.read_csv(results / "ablation_mlp" / "variants.csv")
    (gain,) = variants[variants["headline"]].to_dict("records")
    said = {
        "02_isoflop": f"C^{law['value']:.3f}, 95% interval [{law['low']:.3f}, {law['high']:.3f}]",
        "03_architecture_ablations": f"SwiGLU is worth {gain['multiplier']:.2f} times its compute "
        f"against GELU\nat 6.0e11 FLOPs, 95% interval [{gain['low']:.2f}, {gain['high']:.2f}]",
    }
    assert round(gain["flops"], -9) == 6e11
    for name, sentence in said.items():
        cells = read(name)["cells"]
        assert sentence in text(cells[0])
        pictures = re.findall(r"!\[[^]]+\]\(\.\./([^)]+\.png)\)", text(cells[0]))
        assert len(pictures) == 1 and (ROOT / pictures[0]).exists()
        conclusions = [i for i, cell in enumerate(cells) if "show_conclusion(" in text(cell)]
        tables = [
            i
            for i, cell in enumerate(cells)
            if re.search(r"DataFrame\(|Series\(|\.style\.|^\| ", text(cell), re.MULTILINE)
        ]
        assert conclusions and conclusions[0] < tables[0]


@notebooks
def test_opens_with_what_it_shows_and_how_long_it_takes(name):
    opening, first_code = read(name)["cells"][:2]
    assert opening["cell_type"] == "markdown" and first_code["cell_type"] == "code"
    assert re.match(r"# .+\n\n\*\*Shows\*\* .+", text(opening))
    assert re.search(r"^\*\*Takes\*\* .*\b(minute|minutes)\b", text(opening), re.MULTILINE)


@notebooks
def test_what_cells_import_of_ours_exists(name):
    cells = [text(cell) for cell in read(name)["cells"] if cell["cell_type"] == "code"]
    found = {}
    for node in ast.walk(ast.parse("\n".join(cells))):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in OURS:
            found |= {f"{node.module}.{alias.name}": node.module for alias in node.names}
    assert found
    for full, module in found.items():
        attribute = full.rpartition(".")[2]
        if not hasattr(importlib.import_module(module), attribute):
            importlib.import_module(full)


@notebooks
def test_links_lead_to_files(name):
    cells = [cell for cell in read(name)["cells"] if cell["cell_type"] == "markdown"]
    targets = [target for cell in cells for target in re.findall(r"\]\(([^)#]+)\)", text(cell))]
    here = [target for target in targets if "://" not in target]
    assert here
    for target in here:
        assert (FOLDER / target).is_file(), target


@notebooks
def test_opens_in_colab_where_the_first_cell_installs(name):
    opening, first_code = read(name)["cells"][:2]
    colab = r"\(https://colab\.research\.google\.com/github/(\S+)/blob/main/notebooks/(\S+)\)"
    repository, file = re.search(colab, text(opening)).groups()
    assert file == f"{name}.ipynb"
    assert f'"git+https://github.com/{repository}"' in text(first_code)
    # Where the project is installed nothing is.
    assert re.search(
        r'^if importlib\.util\.find_spec\("t5x_like"\) is None:', text(first_code), re.M
    )


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]])
def test_code_passes_ruff(command):
    checked = [str(FOLDER / f"{name}.ipynb") for name in NOTEBOOKS]
    ruff = [sys.executable, "-m", "ruff", *command, "--no-cache", *checked]
    done = subprocess.run(ruff, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="session")
def environment(tmp_path_factory):
    """Of the notebooks' kernels: one folder for runs, one cache, and programs compiled as usual."""
    folder = tmp_path_factory.mktemp("notebooks")
    return {
        **{name: value for name, value in os.environ.items() if name != "XLA_FLAGS"},
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "JAX_PLATFORMS": "cpu",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "RUNS_DIR": str(folder / "runs"),
        "CACHE_DIR": str(folder / "cache"),
        "ISOFLOP_QUICK_DIR": str(folder / "isoflop_quick"),
    }


@pytest.fixture(scope="session")
def small_isoflop(environment):
    """`isoflop_quick` with budgets that take a minute, where 02 looks for it."""
    command = [
        *(sys.executable, "-m", "t5x_like", "sweep", "--gin_file=sweeps/isoflop_quick.gin"),
        f"--gin.SWEEP_DIR={environment['ISOFLOP_QUICK_DIR']}",
        f"--gin.CACHE_DIR={environment['CACHE_DIR']}",
        "--gin.grids.IsoFLOP.budgets=[1.5e11, 3e11]",
        "--gin.grids.IsoFLOP.sizes=[13e3, 23e3, 37e3, 55e3]",
    ]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=CELL_SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


# Five minutes for 01, for 03, whose sweep is that of 02 with variants, and for 08; ten for 07; two
# for the others.
_LONG = (
    "01_train_and_generate",
    "02_isoflop",
    "03_architecture_ablations",
    "04_switch_routing",
    "07_words_to_transformers",
    "08_from_a_model_to_an_assistant",
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.release if name in _LONG else ()) for name in NOTEBOOKS],
)
def test_runs_from_top_to_bottom(name, environment, request):
    import nbclient as client
    import nbformat

    if name == "02_isoflop":
        request.getfixturevalue("small_isoflop")
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    # In the notebook's own folder, as an editor starts it.
    kernel = client.NotebookClient(
        notebook, timeout=CELL_SECONDS, resources={"metadata": {"path": str(FOLDER)}}
    )
    kernel.execute(env=environment)
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", ())]
    plots = [out for out in outputs if "image/png" in out.get("data", {})]
    assert len(plots) >= NOTEBOOKS[name]
    assert not any(out.get("name") == "stderr" and "Warning" in out["text"] for out in outputs)
