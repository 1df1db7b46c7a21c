"""What can be measured of a model on a task: objects, which a gin file lists."""

from t5x_like.evaluation.clean_parts import Overlap
from t5x_like.evaluation.continuation import Continuation
from t5x_like.evaluation.extraction import Extraction
from t5x_like.evaluation.generation import Generation
from t5x_like.evaluation.loss import Loss
from t5x_like.evaluation.measurement import Finding, Measurement, Subject
from t5x_like.evaluation.prediction import Prediction
from t5x_like.evaluation.prompts.shots import Shots
from t5x_like.evaluation.ranking import Ranking
from t5x_like.evaluation.task import Evaluation

__all__ = [
    "Continuation",
    "Evaluation",
    "Extraction",
    "Finding",
    "Generation",
    "Loss",
    "Measurement",
    "Overlap",
    "Prediction",
    "Ranking",
    "Shots",
    "Subject",
]
