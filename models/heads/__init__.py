"""Heads for fine-tuning: what an encoder's vectors become on a task of its user's.

A head is a frozen dataclass of plain values, an encoder's field `head`. It says which batches it
takes, makes the layers, and knows its loss and what it predicts; the encoder runs it.
"""

from models.heads.classification import Classification
from models.heads.head import Head, HeadOutput
from models.heads.regression import Regression

__all__ = ["Classification", "Head", "HeadOutput", "Regression"]
