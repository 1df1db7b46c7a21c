"""Sources that make rows: of plain text, to pre-train an encoder's head on, or of nothing."""

from tasks.sources.synthetic.brackets import Brackets
from tasks.sources.synthetic.cloze_questions import ClozeQuestions
from tasks.sources.synthetic.opinions import Opinions
from tasks.sources.synthetic.perturbed_sentences import PerturbedSentences

__all__ = ["Brackets", "ClozeQuestions", "Opinions", "PerturbedSentences"]
