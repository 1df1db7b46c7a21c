"""Rows for an encoder with what its head is to say of them; nothing in them is drawn."""

from tasks.objectives.labelled.choices import Choices
from tasks.objectives.labelled.ranked import RankedSegments
from tasks.objectives.labelled.ranked_answers import RankedAnswers
from tasks.objectives.labelled.segments import LabelledSegments
from tasks.objectives.labelled.spelled import LabelledSpelledWords
from tasks.objectives.labelled.windows import SpanWindows
from tasks.objectives.labelled.words import TaggedWords

__all__ = [
    "Choices",
    "LabelledSegments",
    "LabelledSpelledWords",
    "RankedAnswers",
    "RankedSegments",
    "SpanWindows",
    "TaggedWords",
]
