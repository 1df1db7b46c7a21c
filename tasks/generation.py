"""Tasks whose targets are free text: docstrings, translations, answers and summaries.

SQuAD is also for a head that marks the answer in its paragraph.
"""

import dataclasses
from collections.abc import Sequence

from tasks import metrics, postprocessors
from tasks.forms import Spans, Squad, Template
from tasks.registry import add_task, spans, text_to_text
from tasks.sources import StandardLibraryFunctions, Tfds
from tasks.task import Metric

# T5's translation tasks (Raffel et al. 2020, section 2.3): name, TFDS dataset, source and
# target language.
TRANSLATIONS = (
    ("wmt_t2t_ende", "wmt_t2t_translate/de-en:1.0.0", ("en", "de")),
    ("wmt14_ende", "wmt14_translate/de-en:1.0.0", ("en", "de")),
    ("wmt14_enfr", "wmt14_translate/fr-en:1.0.0", ("en", "fr")),
    ("wmt15_enfr", "wmt15_translate/fr-en:1.0.0", ("en", "fr")),
    ("wmt16_enro", "wmt16_translate/ro-en:1.0.0", ("en", "ro")),
)
LANGUAGES = {"de": "German", "en": "English", "fr": "French", "ro": "Romanian"}

# TFDS has answers as two lists. An answer at another place than it says ends nobody's caching.
_SQUAD = Spans(answers="answers/text", starts="answers/answer_start", id="id", misplaced="skip")
_SQUAD2 = dataclasses.replace(_SQUAD, unanswerable=True)


def translation(source: str, target: str) -> Template:
    """The template `translate English to German: …`, for columns named by their languages."""
    prefix = f"translate {LANGUAGES[source]} to {LANGUAGES[target]}: "
    return Template(f"{prefix}{{{source}}}", f"{{{target}}}")


def declare() -> None:
    """Registers `stdlib_docstring`, `wmt*`, SQuAD (`squad`, `squad_spans`) and `cnn_dailymail`."""
    add_task(
        text_to_text(
            "stdlib_docstring",
            StandardLibraryFunctions(tests=False),
            Template("document python: {source}", "{summary}"),
            metrics=(metrics.exact_match, metrics.bleu, metrics.rouge),
        )
    )
    for name, dataset, languages in TRANSLATIONS:
        form = translation(*languages)
        source = Tfds(dataset, columns=form.columns)
        add_task(text_to_text(name, source, form, metrics=(metrics.bleu,)))
    add_task(
        text_to_text(
            "squad",
            Tfds("squad/v1.1:3.0.0", columns=Squad().columns),
            Squad(),
            postprocessor=postprocessors.AllAnswers(),
            metrics=(metrics.squad,),
        )
    )
    of_squad2: list[Metric] = [metrics.squad2, metrics.squad2_best_threshold]
    _add_spans("squad_spans", "squad/v1.1:3.0.0", _SQUAD, [metrics.squad])
    _add_spans("squad2_spans", "squad/v2.0:3.0.0", _SQUAD2, of_squad2)
    summary = Template("summarize: {article}", "{highlights}")
    add_task(
        text_to_text(
            "cnn_dailymail",
            Tfds("cnn_dailymail:3.4.0", columns=summary.columns),
            summary,
            metrics=(metrics.rouge,),
        )
    )


def _add_spans(name: str, dataset: str, form: Spans, metric_fns: Sequence[Metric]) -> None:
    add_task(spans(name, Tfds(dataset, columns=form.columns), form, metrics=metric_fns))
