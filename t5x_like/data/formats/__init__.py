"""Batch formats: how each kind of model is given a task's features."""

from t5x_like.data.formats.batch_format import (
    BatchFormat,
    BoundFormat,
    TaskFacts,
    bound,
    example_batch,
    find,
    names,
    register,
)
from t5x_like.data.formats.encoder_decoder import EncoderDecoder
from t5x_like.data.formats.labelled import Labelled
from t5x_like.data.formats.labelled_tasks import LabelledTasks, RankedCandidates, task_number
from t5x_like.data.formats.language_model import Contiguous, LanguageModel
from t5x_like.data.formats.masked_language_model import MaskedLanguageModel
from t5x_like.data.formats.permutation_language_model import PermutationLanguageModel
from t5x_like.data.formats.predictions import Measured
from t5x_like.data.formats.rows import Item, ModelBatch, Row

register("encoder_decoder", EncoderDecoder())
register("causal_language_model", LanguageModel(prefix=False))
register("prefix_language_model", LanguageModel(prefix=True))
register("contiguous_language_model", Contiguous())
register("masked_language_model", MaskedLanguageModel())
register("permutation_language_model", PermutationLanguageModel(contiguous=False))
register("contiguous_permutation_language_model", PermutationLanguageModel(contiguous=True))
register("sequence_classification", Labelled(numbers=False))
register("sequence_regression", Labelled(numbers=True))
register("labelled_tasks", LabelledTasks())
register("ranked_candidates", RankedCandidates())

__all__ = [
    "BatchFormat",
    "BoundFormat",
    "Contiguous",
    "EncoderDecoder",
    "Item",
    "Labelled",
    "LabelledTasks",
    "LanguageModel",
    "MaskedLanguageModel",
    "Measured",
    "ModelBatch",
    "PermutationLanguageModel",
    "RankedCandidates",
    "Row",
    "TaskFacts",
    "bound",
    "example_batch",
    "find",
    "names",
    "register",
    "task_number",
]
