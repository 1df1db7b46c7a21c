"""Sources that make labelled rows of plain text, to pre-train an encoder's head on."""

from tasks.sources.synthetic.cloze_questions import ClozeQuestions
from tasks.sources.synthetic.perturbed_sentences import PerturbedSentences

__all__ = ["ClozeQuestions", "PerturbedSentences"]
