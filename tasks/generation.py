"""Tasks whose targets are free text: docstrings, translations, answers and summaries."""

from tasks import metrics, postprocessors
from tasks.forms import Squad, Template
from tasks.registry import add_task, text_to_text
from tasks.sources import StandardLibraryFunctions, Tfds

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


def translation(source: str, target: str) -> Template:
    """The template `translate English to German: …`, for columns named by their languages."""
    prefix = f"translate {LANGUAGES[source]} to {LANGUAGES[target]}: "
    return Template(f"{prefix}{{{source}}}", f"{{{target}}}")


def declare() -> None:
    """Registers `stdlib_docstring`, `wmt*`, `squad` and `cnn_dailymail`."""
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
    summary = Template("summarize: {article}", "{highlights}")
    add_task(
        text_to_text(
            "cnn_dailymail",
            Tfds("cnn_dailymail:3.4.0", columns=summary.columns),
            summary,
            metrics=(metrics.rouge,),
        )
    )
