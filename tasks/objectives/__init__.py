"""What a tokenized document is turned into, afresh in every epoch, in pure NumPy.

One file an objective. Each is a frozen dataclass of settings whose `bind` takes the
vocabularies' specs and gives a callable `(example, rng) -> example`; see `objective.py`.
"""

from tasks.objectives.causal_lm import CausalLM
from tasks.objectives.objective import BoundObjective, Example, Objective
from tasks.objectives.prefix_lm import PrefixLM
from tasks.objectives.span_corruption import SpanCorruption

__all__ = [
    "BoundObjective",
    "CausalLM",
    "Example",
    "Objective",
    "PrefixLM",
    "SpanCorruption",
]
