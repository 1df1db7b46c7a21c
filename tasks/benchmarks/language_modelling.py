"""Texts whose loss is measured: WikiText-2 and 103, Penn Treebank, text8, enwik8, 1BW, PG-19."""

import abc
import dataclasses
import re
from collections.abc import Mapping, Sequence
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
# The same of Penn Treebank's, whose numbers are all N.
_PENN = tuple(
    (re.compile(pattern), text)
    for pattern, text in (
        (r" (n't|'(?:s|re|ve|ll|d|m))(?= |\n|$)", r"\1"),
        (r"s ' ", "s' "),
        (r"([$#]) N\b", r"\1N"),
        (r" \n", "\n"),
        (r"\n ", "\n"),
    )
)


class _Detokenized(abc.ABC):
    """The text of a file as it was before it was cut into words.

    The detokenizer is part of a number per word or byte: both are counted in the file's own text,
    as lm-evaluation-harness counts them.
    """

    undone: ClassVar[Sequence[tuple[re.Pattern[str], str]]]

    columns: ClassVar[tuple[str, ...]] = ("text",)
    features: ClassVar[tuple[str, ...]] = ("targets",)
    kept: ClassVar[Mapping[str, str]] = {"targets_words": "integer", "targets_bytes": "integer"}

    def __call__(self, row: Row) -> dict[str, Any]:
        """The text, and the words and bytes that it has in the file."""
        text = text_of(row["text"])
        words, size = len(text.split()), len(text.encode("utf-8"))
        return {"targets": self.detokenized(text), "targets_words": words, "targets_bytes": size}

    def detokenized(self, text: str) -> str:
        """A text with its spaces where people write them."""
        for pattern, replacement in self.undone:
            text = pattern.sub(replacement, text)
        return text.strip(" ")


@dataclasses.dataclass(frozen=True)
class WikiText(_Detokenized):
    """The text of WikiText (Merity et al. 2017) without what its tokenizer did to it."""

    undone: ClassVar[Sequence[tuple[re.Pattern[str], str]]] = _UNDONE


@dataclasses.dataclass(frozen=True)
class PennTreebank(_Detokenized):
    """The text of Penn Treebank (Mikolov et al. 2010) with its contractions and sums whole.

    Capitals, punctuation, numbers and rare words, of which the file has N and <unk>, stay lost.
    """

    undone: ClassVar[Sequence[tuple[re.Pattern[str], str]]] = _PENN


def text_tasks() -> list[Task]:
    """`wikitext2`, `wikitext103`, `ptb`, `text8`, `enwik8`, `lm1b` and `pg19`.

    WikiText is detokenized, and `wikitext2_tokenized` and `wikitext103_tokenized` are not; Penn
    Treebank is not, and `ptb_detokenized` is.
    """
    lm1b = Tfds("lm1b:1.1.0", ("text",))
    tasks = []
    for name, kind in _KINDS.items():
        source = BenchmarkSource(name, ("text",), lm1b if name == "lm1b" else None, kind)
        plain = unsupervised(name, source, objective=CausalLM())
        if kind == "articles":
            whole = dataclasses.replace(plain, form=WikiText())
            tasks += [whole, _named(plain, f"{name}_tokenized")]
            continue
        tasks.append(plain)
        if name == "ptb":
            detokenized = dataclasses.replace(plain, form=PennTreebank())
            tasks.append(_named(detokenized, f"{name}_detokenized"))
    return tasks


def _named(task: Task, name: str) -> Task:
    """A task of another name, and so with a cache of its own."""
    return dataclasses.replace(task, name=name, cache_name=name)


_KINDS = {
    "wikitext2": "articles", "wikitext103": "articles", "ptb": "texts", "text8": "portions",
    "enwik8": "portions", "lm1b": "lines", "pg19": "texts",
}  # fmt: skip
