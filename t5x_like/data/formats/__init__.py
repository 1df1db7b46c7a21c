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
from t5x_like.data.formats.labelled.choices import (
    Choices,
    Comparisons,
    MeasuredChoices,
    MeasuredComparisons,
)
from t5x_like.data.formats.labelled.labelled_tasks import (
    LabelledTasks,
    RankedCandidates,
    task_number,
)
from t5x_like.data.formats.labelled.predictions import Measured, MeasuredRows
from t5x_like.data.formats.labelled.span_extraction import Extracted, SpanExtraction
from t5x_like.data.formats.labelled.tagged import MeasuredWords, Tagged
from t5x_like.data.formats.labelled.texts import Labelled, OfDecoders, OfEncoderDecoders
from t5x_like.data.formats.language_model import Contiguous, LanguageModel, Prompts
from t5x_like.data.formats.masked_language_model import MaskedLanguageModel
from t5x_like.data.formats.multidirectional import Multidirectional
from t5x_like.data.formats.permutation_language_model import PermutationLanguageModel
from t5x_like.data.formats.rows import Item, ModelBatch, Row
from t5x_like.data.formats.with_sentences import WithSentences
from t5x_like.data.formats.words import (
    LONGEST_PATH,
    LONGEST_WORD,
    Cooccurrences,
    OfSpelledWords,
    SpelledWords,
    WordWindows,
)

register("encoder_decoder", EncoderDecoder())
register("causal_language_model", LanguageModel(prefix=False))
register("prefix_language_model", LanguageModel(prefix=True))
register("contiguous_language_model", Contiguous())
register("contiguous_language_model_of_drawn_lengths", Contiguous(draws_lengths=True))
register("prompts", Prompts())
register("masked_language_model", MaskedLanguageModel())
register("multidirectional_language_model", Multidirectional())
register("permutation_language_model", PermutationLanguageModel(contiguous=False))
register("contiguous_permutation_language_model", PermutationLanguageModel(contiguous=True))
register("masked_span_language_model", MaskedLanguageModel(spans=True))
register("sequence_classification", Labelled(numbers=False))
register("sequence_regression", Labelled(numbers=True))
register("labelled_tasks", LabelledTasks())
register("ranked_candidates", RankedCandidates())
register("token_classification", Tagged())
register("multiple_choice", Choices())
register("comparisons", Comparisons())
register("causal_sequence_classification", OfDecoders(Labelled(numbers=False)))
register("causal_sequence_regression", OfDecoders(Labelled(numbers=True)))
register("encoder_decoder_sequence_classification", OfEncoderDecoders(Labelled(numbers=False)))
register("encoder_decoder_sequence_regression", OfEncoderDecoders(Labelled(numbers=True)))
register("causal_multiple_choice", OfDecoders(Choices()))
register("causal_comparisons", OfDecoders(Comparisons()))
register("span_extraction", SpanExtraction())
register("words_and_noise", WordWindows(paths=False))
register("words_and_paths", WordWindows(paths=True))
register("cooccurrences", Cooccurrences())
register("spelled_words", SpelledWords())
register("contiguous_spelled_words", SpelledWords(contiguous=True))
register("masked_language_model_with_sentences", WithSentences(MaskedLanguageModel()))
register("sequence_classification_with_sentences", WithSentences(Labelled(numbers=False)))
register("sequence_regression_with_sentences", WithSentences(Labelled(numbers=True)))
register("token_classification_with_sentences", WithSentences(Tagged()))
register("span_extraction_with_sentences", WithSentences(SpanExtraction()))
register("spelled_sequence_classification", OfSpelledWords(Labelled(numbers=False)))
register("spelled_sequence_regression", OfSpelledWords(Labelled(numbers=True)))
register("spelled_token_classification", OfSpelledWords(Tagged()))

__all__ = [
    "LONGEST_PATH",
    "LONGEST_WORD",
    "BatchFormat",
    "BoundFormat",
    "Choices",
    "Comparisons",
    "Contiguous",
    "Cooccurrences",
    "EncoderDecoder",
    "Extracted",
    "Item",
    "Labelled",
    "LabelledTasks",
    "LanguageModel",
    "MaskedLanguageModel",
    "Measured",
    "MeasuredChoices",
    "MeasuredComparisons",
    "MeasuredRows",
    "MeasuredWords",
    "ModelBatch",
    "Multidirectional",
    "OfDecoders",
    "OfEncoderDecoders",
    "OfSpelledWords",
    "PermutationLanguageModel",
    "Prompts",
    "RankedCandidates",
    "Row",
    "SpanExtraction",
    "SpelledWords",
    "Tagged",
    "TaskFacts",
    "WithSentences",
    "WordWindows",
    "bound",
    "example_batch",
    "find",
    "names",
    "register",
    "task_number",
]
