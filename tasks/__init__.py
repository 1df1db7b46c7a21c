"""Tasks and mixtures, and their parts: sources, forms, vocabularies, objectives, metrics.

Importing this package declares the tasks that come with it and reads no data. TensorFlow,
seqio and sentencepiece are imported when something is first tokenized.
"""

from tasks import benchmarks, choices, corpora, generation, glue
from tasks.alignment.prompts import prompts
from tasks.changes import with_sentences
from tasks.chat import conversations, rated_responses
from tasks.choices import multiple_choice
from tasks.comparisons import comparisons
from tasks.forms.entity_tags import bio_labels
from tasks.registry import (
    add_mixture,
    add_task,
    get_mixture_or_task,
    labelled,
    names,
    proportional_rates,
    ranked,
    spans,
    text_to_text,
    unsupervised,
)
from tasks.tagging import tagged
from tasks.task import Feature, Mixture, Task

benchmarks.declare()
choices.declare()
corpora.declare()
generation.declare()
glue.declare()

__all__ = [
    "Feature",
    "Mixture",
    "Task",
    "add_mixture",
    "add_task",
    "bio_labels",
    "comparisons",
    "conversations",
    "get_mixture_or_task",
    "labelled",
    "multiple_choice",
    "names",
    "prompts",
    "proportional_rates",
    "ranked",
    "rated_responses",
    "spans",
    "tagged",
    "text_to_text",
    "unsupervised",
    "with_sentences",
]
