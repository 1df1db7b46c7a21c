"""Objectives: what is learned from tokenized text, drawn anew in each epoch, in pure NumPy.

Each objective has a file and is a frozen dataclass of settings whose `bind` takes the specs of
the vocabularies and returns a function `(example, rng) -> example`; see `objective.py`.
"""

from tasks.objectives.assistant_turns import AssistantTurns
from tasks.objectives.causal_lm import CausalLM
from tasks.objectives.context_windows import ContextWindows
from tasks.objectives.cooccurrences import Cooccurrences
from tasks.objectives.corruptions import (
    Corruption,
    Deshuffling,
    DocumentRotation,
    LocalShuffling,
    SentencePermutation,
    TextInfilling,
    TokenDeletion,
    TokenMasking,
)
from tasks.objectives.denoising import Denoising
from tasks.objectives.drop_tokens import DropTokens
from tasks.objectives.hidden_targets import HiddenTargets
from tasks.objectives.iid_span_corruption import IIDSpanCorruption
from tasks.objectives.labelled import (
    Choices,
    LabelledSegments,
    LabelledSpelledWords,
    RankedAnswers,
    RankedSegments,
    SpanWindows,
    TaggedWords,
)
from tasks.objectives.masked_lm import MaskedLM
from tasks.objectives.masked_spans import MaskedSpans
from tasks.objectives.mass import MASS
from tasks.objectives.noised_inputs import NoisedInputs
from tasks.objectives.numbered_sentences import NumberedSentences
from tasks.objectives.objective import BoundObjective, Example, Objective, VocabularySpecs
from tasks.objectives.packed_sentences import PackedSentences
from tasks.objectives.permutation_lm import PermutationLM
from tasks.objectives.prefix_lm import FixedPrefixLM, PrefixLM
from tasks.objectives.sentence_pairs import SentenceOrder, SentencePairs
from tasks.objectives.sentence_structure import SentenceStructure
from tasks.objectives.span_corruption import SpanCorruption
from tasks.objectives.spelled_words import SpelledWords
from tasks.objectives.unified_lm import UnifiedLM

__all__ = [
    "MASS",
    "AssistantTurns",
    "BoundObjective",
    "CausalLM",
    "Choices",
    "ContextWindows",
    "Cooccurrences",
    "Corruption",
    "Denoising",
    "Deshuffling",
    "DocumentRotation",
    "DropTokens",
    "Example",
    "FixedPrefixLM",
    "HiddenTargets",
    "IIDSpanCorruption",
    "LabelledSegments",
    "LabelledSpelledWords",
    "LocalShuffling",
    "MaskedLM",
    "MaskedSpans",
    "NoisedInputs",
    "NumberedSentences",
    "Objective",
    "PackedSentences",
    "PermutationLM",
    "PrefixLM",
    "RankedAnswers",
    "RankedSegments",
    "SentenceOrder",
    "SentencePairs",
    "SentencePermutation",
    "SentenceStructure",
    "SpanCorruption",
    "SpanWindows",
    "SpelledWords",
    "TaggedWords",
    "TextInfilling",
    "TokenDeletion",
    "TokenMasking",
    "UnifiedLM",
    "VocabularySpecs",
]
