"""Texts whose loss is measured: WikiText-2 and 103, Penn Treebank, text8, enwik8, 1BW, PG-19."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, ClassVar

from tasks.benchmarks.form import Row
from tasks.benchmarks.source import BenchmarkSource
from tasks.forms import text_of
from tasks.objectives import CausalLM
from tasks.registry import unsupervised
from tasks.sources import Tfds
from tasks.task import Task

# What WikiText's files do to a text, undone one after the other.
_UNDONE = tuple(
    (re.compile(pattern), text)
    for pattern, text in (
        (r" @([-,.])@ ", r"\1"),  # well @-@ known, 1 @,@ 000, 0 @.@ 5
        (r" ([:;.!?,]) ", r"\1 "),
        (r"\( *([^()\n]*?) *\)", r"(\1)"),
        (r"\[ *([^\[\]\n]*?) *\]", r"[\1]"),
        (r'" *([^"\n]*?) *"', r'"\1"'),
        (r"s ' ", "s' "),
        (r" '(s|re|ve|ll|d|m|t)\b", r"'\1"),
        (r"(?<==) (?==)", ""),  # headings: = = Section = =
        (r" ([.,;:!?])?[ ]*\n", r"\1\n"),
        (r"\n ", "\n"),
    )
)


@dataclasses.dataclass(frozen=True)
class WikiText:
    """The text of WikiText as it was before it was cut into words (Merity et al. 2017).

    Its detokenizer is part of a number per word or byte: both are counted in the file's own text,
    as lm-evaluation-harness counts them.
    """

    columns: ClassVar[tuple[str, ...]] = ("text",)
    features: ClassVar[tuple[str, ...]] = ("targets",)
    kept: ClassVar[Mapping[str, str]] = {"targets_words": "integer", "targets_bytes": "integer"}

    def __call__(self, row: Row) -> dict[str, Any]:
        """The text, and the words and bytes that it has in the file."""
        text = text_of(row["text"])
        words, size = len(text.split()), len(text.encode("utf-8"))
        return {"targets": detokenized(text), "targets_words": words, "targets_bytes": size}


def detokenized(text: str) -> str:
    """A text of WikiText with its spaces where people write them."""
    for pattern, replacement in _UNDONE:
        text = pattern.sub(replacement, text)
    return text.strip(" ")


def text_tasks() -> list[Task]:
    """`wikitext2`, `wikitext103`, `ptb`, `text8`, `enwik8`, `lm1b` and `pg19`."""
    lm1b = Tfds("lm1b:1.1.0", ("text",))
    tasks = []
    for name, kind in _KINDS.items():
        source = BenchmarkSource(name, ("text",), lm1b if name == "lm1b" else None, kind)
        task = unsupervised(name, source, objective=CausalLM())
        if kind == "articles":
            task = dataclasses.replace(task, form=WikiText())
        tasks.append(task)
    return tasks


_KINDS = {
    "wikitext2": "articles", "wikitext103": "articles", "ptb": "texts", "text8": "portions",
    "enwik8": "portions", "lm1b": "lines", "pg19": "texts",
}  # fmt: skip
