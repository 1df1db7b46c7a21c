"""Tasks on unlabelled text: Python's standard library and C4.

Each corpus has one cache and four tasks: `NAME_text` has no objective, `NAME_lm`,
`NAME_prefix_lm` and `NAME_span_corruption` have the objective of their name.
"""

from tasks.objectives import CausalLM, PrefixLM, SpanCorruption
from tasks.registry import add_task, unsupervised
from tasks.sources import Source, StandardLibraryModules, Tfds

_OBJECTIVES = {
    "text": None,
    "lm": CausalLM(),
    "prefix_lm": PrefixLM(),
    "span_corruption": SpanCorruption(),
}


def add_corpus(prefix: str, source: Source) -> None:
    """Registers the tasks of a corpus, which share the cache `PREFIX_text`."""
    for suffix, objective in _OBJECTIVES.items():
        task = unsupervised(
            f"{prefix}_{suffix}", source, objective=objective, cache_name=f"{prefix}_text"
        )
        add_task(task)


def declare() -> None:
    """Registers `stdlib_*` and `c4_*` (Raffel et al. 2020, section 2.2)."""
    add_corpus("stdlib", StandardLibraryModules())
    add_corpus("c4", Tfds("c4/en:3.1.0", columns=("text",)))
