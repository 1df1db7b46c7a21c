"""Metrics of postprocessed targets and predictions.

Each function takes two lists of equal length and returns `{name: value}`, as seqio expects of
`metric_fns`; one with `aux_values` also what belongs to the predictions, lists by name. Names and
scales are those of T5's metrics, shares and scores between 0 and 1 in percent. Nothing here needs
TensorFlow. `labelled_responses` takes a file of what people say of responses.
"""

from tasks.metrics.answers import natural_questions, trivia_qa
from tasks.metrics.classification import accuracy, exact_match, f1, macro_f1, matthews_corrcoef
from tasks.metrics.conversations import coqa, quac
from tasks.metrics.correlations import pearson_corrcoef, spearman_corrcoef
from tasks.metrics.drop import drop
from tasks.metrics.generated_text import bleu, chrf, meteor, nist, rouge
from tasks.metrics.labelled_responses import labelled_responses
from tasks.metrics.multirc import multirc
from tasks.metrics.ranked_lists import ndcg, pairwise_accuracy
from tasks.metrics.squad import squad, squad2, squad2_best_threshold
from tasks.metrics.tags import entity_f1, word_accuracy

__all__ = [
    "accuracy",
    "bleu",
    "chrf",
    "coqa",
    "drop",
    "entity_f1",
    "exact_match",
    "f1",
    "labelled_responses",
    "macro_f1",
    "matthews_corrcoef",
    "meteor",
    "multirc",
    "natural_questions",
    "ndcg",
    "nist",
    "pairwise_accuracy",
    "pearson_corrcoef",
    "quac",
    "rouge",
    "spearman_corrcoef",
    "squad",
    "squad2",
    "squad2_best_threshold",
    "trivia_qa",
    "word_accuracy",
]
