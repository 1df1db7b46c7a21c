"""The reference of the site has every object, macro and gin file; the site has no broken link."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from t5x_like.cli.reference import objects
from t5x_like.cli.reference.pages import pages
from t5x_like.config.gin_files import packaged_gin_configs
from t5x_like.config.macro_help import PURPOSES

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def reference():
    return pages()


def test_every_object_that_a_gin_file_can_name_has_its_parameters(reference):
    for module in objects.modules():
        headings = re.findall(r"^## (.+)$", reference[f"objects/{module}.md"], re.M)
        assert headings == objects.names_of(module)
    page = reference["objects/optimizers.md"]
    assert "| `beta` | `float` | `0.95` | decay of the momentum that is orthogonalized. |" in page
    assert "| `schedule` | `Schedule` | must be given | learning rate of both. |" in page


def test_every_macro_and_every_gin_file_is_there(reference):
    assert all(f"| `{name}` |" in reference["macros.md"] for name in PURPOSES)
    named = re.findall(r"^- `(.+?)`", reference["gin_files.md"], re.M)
    root = packaged_gin_configs()
    assert sorted(named) == sorted(p.relative_to(root).as_posix() for p in objects.gin_files())


def test_every_folder_of_the_packages_has_a_page(reference):
    assert "\n::: t5x_like.train\n" in reference["python/t5x_like.md"]
    assert "\n::: models.t5\n" in reference["python/models.md"]


@pytest.mark.slow
def test_the_site_is_built_without_a_broken_link(tmp_path):
    pytest.importorskip("mkdocs", reason="needs the extra [docs]")
    pytest.importorskip("mkdocstrings", reason="needs the extra [docs]")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "reference" / "objects" / "optimizers.html").is_file()
    # Every page is in the navigation, whether it was put there or not.
    start = (tmp_path / "index.html").read_text()
    for page in (ROOT / "docs").rglob("*.md"):
        name = page.relative_to(ROOT / "docs").with_suffix(".html").as_posix()
        assert name.replace("README", "index") in start
