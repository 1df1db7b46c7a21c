"""SuperGLUE as text to text, word for word as T5's code writes it (Raffel et al. 2020).

The name of the task first, then the columns by name, or in the order of T5's code. WSC is the words
that a pronoun refers to and not a yes or no, and is learned together with a larger set of the same
kind, DPR; ReCoRD is learned from a row for each of a query's answers. Rows are those of TFDS, or of
JSON lines with the same fields.
"""

from collections.abc import Sequence

from tasks import metrics, postprocessors
from tasks.benchmarks.source import BenchmarkSource
from tasks.forms import DefinitePronoun, Form, MultiRC, Record, Template, Wsc
from tasks.postprocessors import Postprocessor
from tasks.registry import add_mixture, add_task, text_to_text
from tasks.sources import EachAnswer, Source, Tfds, Where
from tasks.task import Metric

_FALSE_TRUE = ("False", "True")
_ENTAILMENT = ("entailment", "not_entailment")
_CB = ("entailment", "contradiction", "neutral")

# Rows that are learned from, the rates of the mixture.
RATES = {
    "super_glue_boolq": 9_427.0,
    "super_glue_cb": 250.0,
    "super_glue_copa": 400.0,
    "super_glue_multirc": 27_243.0,
    "super_glue_record": 138_854.0,
    "super_glue_rte": 2_490.0,
    "super_glue_wic": 5_428.0,
    "super_glue_wsc": 259.0,
    "dpr": 1_322.0,
}


def declare() -> None:
    """Registers `super_glue_*`, `dpr`, and the mixture `super_glue` of all that is learned.

    The diagnostic sets, `super_glue_axb` and `super_glue_axg`, have a test split alone and are
    written as RTE, which answers them.
    """
    accuracy = [metrics.accuracy]
    _add_labels("boolq", "boolq passage: {passage} question: {question}", _FALSE_TRUE, accuracy)
    cb = "cb hypothesis: {hypothesis} premise: {premise}"
    _add_labels("cb", cb, _CB, [cb_macro_f1, metrics.accuracy])
    copa = "copa choice1: {choice1} choice2: {choice2} premise: {premise} question: {question}"
    _add_labels("copa", copa, ("choice1", "choice2"), accuracy)
    rte = "rte hypothesis: {hypothesis} premise: {premise}"
    _add_labels("rte", rte, _ENTAILMENT, accuracy)
    wic = "wic sentence1: {sentence1} sentence2: {sentence2} word: {word}"
    _add_labels("wic", wic, _FALSE_TRUE, accuracy)
    axb = "rte hypothesis: {sentence2} premise: {sentence1}"
    _add_labels("axb", axb, _ENTAILMENT, [metrics.matthews_corrcoef], test_only=True)
    _add_labels("axg", rte, _ENTAILMENT, accuracy, test_only=True)
    _add(
        "super_glue_multirc",
        _source("multirc", "multirc", MultiRC()),
        MultiRC(),
        postprocessors.GroupedLabel(_FALSE_TRUE, "question_number"),
        [metrics.multirc],
    )
    record = Tfds("super_glue/record:1.0.2", ("query", "entities", "passage", "answers"))
    _add(
        "super_glue_record",
        EachAnswer(BenchmarkSource("super_glue_record", record.columns, record)),
        Record(),
        postprocessors.AllAnswers(),
        [metrics.squad],
    )
    # Only what the pronoun refers to can be learned; whether something is it can be measured.
    rows = _source("wsc", "wsc.fixed", Wsc())
    wsc = Where(rows, "label", ("1", "true"), only_in=("train",))
    _add("super_glue_wsc", wsc, Wsc(), postprocessors.Referent(), accuracy)
    # It has no validation split; its test split is in no benchmark.
    splits = {"train": "train", "validation": "test"}
    dpr = Tfds("definite_pronoun_resolution:1.1.0", DefinitePronoun().columns, split_names=splits)
    source = BenchmarkSource("dpr", dpr.columns, dpr)
    _add("dpr", source, DefinitePronoun(), postprocessors.TEXT, accuracy)
    add_mixture("super_glue", RATES)


def cb_macro_f1(targets: Sequence[int], predictions: Sequence[int]) -> dict[str, float]:
    """Mean F1 of CommitmentBank's three classes, `macro_f1`."""
    return metrics.macro_f1(targets, predictions, classes=len(_CB))


def _source(name: str, dataset: str, form: Form, test_only: bool = False) -> BenchmarkSource:
    splits = {"test": "test"} if test_only else None
    tfds = Tfds(f"super_glue/{dataset}:1.0.2", form.columns, split_names=splits)
    return BenchmarkSource(f"super_glue_{name}", form.columns, tfds)


def _add_labels(
    name: str,
    inputs: str,
    labels: Sequence[str],
    metric_fns: Sequence[Metric],
    test_only: bool = False,
) -> None:
    # TFDS has numbers, SuperGLUE's own files names, true and false, or numbers.
    words = {str(i): label for i, label in enumerate(labels)} | {label: label for label in labels}
    if labels == _FALSE_TRUE:
        words |= {label.lower(): label for label in labels}
    form = Template(inputs, "{label}", words={"label": words})
    _add(
        f"super_glue_{name}",
        _source(name, name, form, test_only),
        form,
        postprocessors.LabelClass(tuple(labels)),
        metric_fns,
    )


def _add(
    name: str,
    source: Source,
    form: Form,
    postprocessor: Postprocessor,
    metric_fns: Sequence[Metric],
) -> None:
    add_task(text_to_text(name, source, form, postprocessor=postprocessor, metrics=metric_fns))
