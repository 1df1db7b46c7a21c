"""GLUE, as text to text and with labels for a head.

As text to text it is written as T5 writes it (Raffel et al. 2020, section 2.4, appendix D): the
name of the task first, then the columns in the order of T5's code. For a head, a row is one text
or a pair, in the order of GLUE's files, and STS-B's number is as it is.
"""

import dataclasses

from tasks import metrics, postprocessors
from tasks.forms import Form, Similarity, Template, Wnli
from tasks.registry import add_mixture, add_task, labelled, ranked, text_to_text
from tasks.sources import Candidates, Tfds
from tasks.task import Metric

_ENTAILMENT = ("entailment", "not_entailment")


@dataclasses.dataclass(frozen=True)
class Classification:
    """One of the GLUE tasks whose targets are labels.

    Attributes:
      sentences: columns of text, in order.
      labels: the texts of the labels 0, 1, …
      metric_fns: the metrics that GLUE reports.
      examples: size of the training split, the rate of the task in the mixture.
      pair: the same columns in the order of a pair for a head; empty takes `sentences`.
    """

    sentences: tuple[str, ...]
    labels: tuple[str, ...]
    metric_fns: tuple[Metric, ...]
    examples: int
    pair: tuple[str, ...] = ()

    def form(self, name: str) -> Form:
        """The template of the inputs, `NAME COLUMN: … COLUMN: …`, and of the label's text."""
        text = " ".join(f"{column}: {{{column}}}" for column in self.sentences)
        words = {str(i): label for i, label in enumerate(self.labels)}
        return Template(f"{name} {text}", "{label}", words={"label": words})


TASKS = {
    "cola": Classification(
        ("sentence",), ("unacceptable", "acceptable"), (metrics.matthews_corrcoef,), 8_551
    ),
    "sst2": Classification(("sentence",), ("negative", "positive"), (metrics.accuracy,), 67_349),
    "mrpc": Classification(
        ("sentence1", "sentence2"),
        ("not_equivalent", "equivalent"),
        (metrics.f1, metrics.accuracy),
        3_668,
    ),
    "qqp": Classification(
        ("question1", "question2"),
        ("not_duplicate", "duplicate"),
        (metrics.f1, metrics.accuracy),
        363_849,
    ),
    "mnli": Classification(
        ("hypothesis", "premise"),
        ("entailment", "neutral", "contradiction"),
        (metrics.accuracy,),
        392_702,
        ("premise", "hypothesis"),
    ),
    "qnli": Classification(("question", "sentence"), _ENTAILMENT, (metrics.accuracy,), 104_743),
    "rte": Classification(("sentence1", "sentence2"), _ENTAILMENT, (metrics.accuracy,), 2_490),
    "wnli": Classification(("sentence1", "sentence2"), _ENTAILMENT[::-1], (metrics.accuracy,), 635),
}
_STSB_EXAMPLES = 5_749
_STSB_METRICS = (metrics.pearson_corrcoef, metrics.spearman_corrcoef)
# No labels: its rows have numbers.
_STSB = Classification(("sentence1", "sentence2"), (), _STSB_METRICS, _STSB_EXAMPLES)
_MATCHED = {"train": "train", "validation": "validation_matched", "test": "test_matched"}
_MISMATCHED = {"validation": "validation", "test": "test"}
# Test sets have no labels, and so no candidates of which one is relevant.
_LABELLED = {"train": "train", "validation": "validation"}
QNLI_RANKING = "glue_qnli_ranking"


def declare() -> None:
    """Registers `glue_*`, and the mixture `glue` of all but WNLI, in proportion to their sizes.

    `glue_wnli_wsc` is WNLI as T5 answers it: never learned, but asked of a model that has learned
    WSC. `glue_*_labels` are the same for a head, `glue_qnli_ranking` is QNLI as MT-DNN learns it,
    and the mixture `glue_mt_dnn` all that MT-DNN learns (Liu et al. 2019, section 4.1).
    """
    for name, task in TASKS.items():
        splits = _MATCHED if name == "mnli" else None
        _add(name, task.form(name), task.metric_fns, task.labels, splits)
        _add_labelled(name, task, splits)
    _add("stsb", Similarity(), _STSB_METRICS)
    _add_labelled("stsb", _STSB, None)
    mnli = TASKS["mnli"]
    _add("mnli_mismatched", mnli.form("mnli"), mnli.metric_fns, mnli.labels, _MISMATCHED)
    _add_labelled("mnli_mismatched", mnli, _MISMATCHED)
    as_wsc = {split: split for split in ("validation", "test")}
    add_task(
        text_to_text(
            "glue_wnli_wsc",
            Tfds("glue/wnli:2.0.0", Wnli().columns, split_names=as_wsc),
            Wnli(),
            postprocessor=postprocessors.Referent(),
            metrics=(metrics.accuracy,),
        )
    )
    rates = {f"glue_{name}": float(task.examples) for name, task in TASKS.items()}
    # T5 leaves WNLI out of training: its validation set contradicts its training set.
    del rates["glue_wnli"]
    add_mixture("glue", {**rates, "glue_stsb": float(_STSB_EXAMPLES)})
    qnli = Tfds("glue/qnli:2.0.0", ("question", "sentence", "label"), split_names=_LABELLED)
    add_task(ranked(QNLI_RANKING, Candidates(qnli), metrics=(metrics.accuracy,)))
    sizes = {name: float(task.examples) for name, task in {**TASKS, "stsb": _STSB}.items()}
    ranking = {QNLI_RANKING: sizes.pop("qnli") / 2}
    labels = {f"glue_{name}_labels": size for name, size in sizes.items()}
    add_mixture("glue_mt_dnn", {**labels, **ranking})


def _add_labelled(name: str, task: Classification, splits: dict[str, str] | None) -> None:
    texts = task.pair or task.sentences
    add_task(
        labelled(
            f"glue_{name}_labels",
            Tfds(f"glue/{name}:2.0.0", columns=(*texts, "label"), split_names=splits),
            texts,
            labels=[str(i) for i in range(len(task.labels))] or None,
            label_names=task.labels,
            unlabelled="-1",  # of test sets
            metrics=task.metric_fns,
        )
    )


def _add(
    name: str,
    form: Form,
    metric_fns: tuple[Metric, ...],
    labels: tuple[str, ...] = (),
    splits: dict[str, str] | None = None,
) -> None:
    source = Tfds(f"glue/{name}:2.0.0", columns=form.columns, split_names=splits)
    postprocessor = postprocessors.LabelClass(labels) if labels else postprocessors.Number()
    add_task(
        text_to_text(f"glue_{name}", source, form, postprocessor=postprocessor, metrics=metric_fns)
    )
