"""What `make docs` adds to the pages of `docs/`: the reference, and files from outside."""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

from t5x_like.cli.reference.pages import pages

ROOT = Path(__file__).parents[2]
# Pages that stand outside of `docs/`, by what they are called on the site.
OUTSIDE = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}


def on_config(config: Any) -> Any:
    """Adds pages that the navigation does not name, at its end."""
    named = set(re.findall(r"[\w/]+\.md", str(config["nav"])))
    docs = ROOT / "docs"
    there = {path.relative_to(docs).as_posix() for path in docs.rglob("*.md")}
    if further := sorted(there - named):
        config["nav"].append({"Further": list(further)})
    return config


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages that are made."""
    for name, text in pages().items():
        files.append(File.generated(config, f"reference/{name}", content=text))
    for name, called in OUTSIDE.items():
        text = (ROOT / name).read_text("utf-8").replace("](docs/", "](")
        files.append(File.generated(config, called, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Leads links to files outside of `docs/` to their pages; others become their text alone."""
    here = "../" * page.file.src_uri.count("/")
    for name, called in OUTSIDE.items():
        markdown = markdown.replace(f"](../{here}{name}", f"]({here}{called}")
        markdown = markdown.replace(f"]({name}", f"]({called}")

    def lead(found: re.Match[str]) -> str:
        target = found[2].partition("#")[0]
        place = (ROOT / "docs" / page.file.src_uri).parent / target
        inside = files.get_file_from_path((Path(page.file.src_uri).parent / target).as_posix())
        if inside is not None or "://" in target or not target or not place.exists():
            return found[0]
        return found[0] if place.resolve().is_relative_to(ROOT / "docs") else found[1]

    return re.sub(r"\[([^\]]*)\]\(([^)\s]+)\)", lead, markdown)
