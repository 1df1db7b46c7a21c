"""Heads for fine-tuning: what an encoder's vectors become on a task of its user's.

A head is a frozen dataclass of plain values, an encoder's field `head`. It says which batches it
takes, makes the layers, and knows its loss and what it predicts; the encoder runs it.
`PairClassification` and `Ranking` are heads of `mt_dnn.MTDNN` alone.
"""

from models.heads.choice import MultipleChoice
from models.heads.classification import Classification
from models.heads.head import Head, HeadOutput
from models.heads.ranking import Ranking
from models.heads.regression import Regression
from models.heads.reward import Reward
from models.heads.spans import Spans
from models.heads.stochastic_answer import PairClassification
from models.heads.tagging import Tagging

__all__ = [
    "Classification",
    "Head",
    "HeadOutput",
    "MultipleChoice",
    "PairClassification",
    "Ranking",
    "Regression",
    "Reward",
    "Spans",
    "Tagging",
]
