"""The reference of the site has every object, macro and gin file; the site has no broken link."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from models.errors import ModelError
from t5x_like.cli.reference import errors, objects
from t5x_like.cli.reference.pages import pages
from t5x_like.config.gin_files import packaged_gin_configs
from t5x_like.config.macro_help import PURPOSES
from t5x_like.errors import UserError
from tasks.errors import TaskError

ROOT = Path(__file__).parents[3]
# The classes that most errors of users are raised as.
CLASSES = [kind.__name__ for kind in (UserError, ModelError, TaskError)]


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


def test_every_error_of_one_line_is_there_with_what_to_do(reference):
    page = reference["errors.md"]
    assert "- `` NUM_MICROBATCHES {num_microbatches} does not divide BATCH_SIZE {rows}. ``" in page
    assert "- `` task '{name}' uses the column '{...}': its source has {...}. ``" in page
    # Looked for in the text of the source, where the page goes by its syntax.
    raised = re.compile(rf"(?<!class )\b(?:{'|'.join(CLASSES)})\($", re.MULTILINE)
    on_one_line = re.compile(rf"raise (?:{'|'.join(CLASSES)})\(\S")
    for package in ("t5x_like", "models", "tasks"):
        for path in (ROOT / package).rglob("*.py"):
            source, module = path.read_text(), path.relative_to(ROOT).as_posix()
            wanted = len(raised.findall(source)) + len(on_one_line.findall(source))
            assert sum(one.module == module for one in errors.messages()) >= wanted, module


def test_errors_without_a_text_of_their_own_pass_one_on_and_are_few():
    """Those of another process, of the first of several mistakes, of a disk."""
    found = [one for one in errors.messages() if one.text is None]
    assert {"t5x_like/data/cache/worker.py", "t5x_like/cli/configuration.py"} <= {
        one.module for one in found
    }
    assert len(found) < len(errors.messages()) / 50


def test_what_to_do_about_errors_leads_to_pages_and_headings():
    targets = re.findall(
        r"\]\(\.\./([\w.]+)(?:#([\w-]+))?\)", "".join(s.advice for s in errors.SUBJECTS)
    )
    assert len(targets) > len(errors.SUBJECTS)
    for page, anchor in targets:
        headings = re.findall(r"^#+ (.*)", (ROOT / "docs" / page).read_text(), re.M)
        slugs = {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in headings}
        assert not anchor or anchor in slugs, f"{page}#{anchor}"


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
    # Nothing is loaded from elsewhere, or the search of pages opened as files would not be there.
    assert (tmp_path / "javascripts" / "iframe-worker.js").is_file()
    start = (tmp_path / "index.html").read_text()
    assert 'src="javascripts/iframe-worker.js"' in start
    assert not re.search(r'(src|rel="stylesheet" href)="http', start)
    # Every page is in the navigation, whether it was put there or not.
    for page in (ROOT / "docs").rglob("*.md"):
        name = page.relative_to(ROOT / "docs").with_suffix(".html").as_posix()
        assert name.replace("README", "index") in start
