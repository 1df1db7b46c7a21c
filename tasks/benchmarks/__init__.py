"""Benchmarks as the papers on language models measured them, from zero to many examples.

Each is a task of its name, from TFDS or from files of the user's own with the same fields.
"""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

from tasks import metrics
from tasks.benchmarks import (
    arithmetic,
    closed_book,
    common_sense,
    completion,
    knowledge,
    language_modelling,
    reading,
    super_glue,
)
from tasks.benchmarks.source import BenchmarkSource
from tasks.forms import FewShot, Form
from tasks.postprocessors import TEXT, AllAnswers, FinalAnswer, GroupedLabel, Postprocessor
from tasks.registry import add_mixture, add_task, text_to_text
from tasks.sources import Tfds
from tasks.task import Metric

_DEV = {"train": "train", "validation": "dev"}
_RACE_SPLITS = {"train": "train", "validation": "dev", "test": "test"}
_COQA_SPLITS = {"train": "train", "validation": "test"}  # TFDS calls its development set so
_LAMBADA_SPLITS = {"validation": "train", "test": "test"}  # and this one's training set is that
_WINOGRANDE_SPLITS = {"train": "train_xl", "validation": "validation", "test": "test"}


def declare() -> None:
    """Registers all of them; docs/tasks.md has a table."""
    _declare_ranked()
    _declare_answered()
    _declare_computed()
    for task in language_modelling.text_tasks():
        add_task(task)


def _declare_ranked() -> None:
    _add("hellaswag", "hellaswag:1.1.0", common_sense.HellaSwag())
    _add("piqa", "piqa:1.0.0", common_sense.PIQA)
    _add("winogrande", "winogrande:1.2.0", common_sense.WINOGRANDE, splits=_WINOGRANDE_SPLITS)
    of_test, of_validation = FewShot(split="test"), FewShot(split="validation")
    _add("winograd", "wsc273:1.0.0", common_sense.Winograd(), of_test)
    _add("story_cloze", "story_cloze/2016:1.0.0", common_sense.STORY_CLOZE, of_validation)
    _add("siqa", None, common_sense.SIQA)
    for level in ("Easy", "Challenge"):
        _add(f"arc_{level.lower()}", f"ai2_arc/ARC-{level}:1.0.0", knowledge.Arc())
    _add("openbookqa", "openbookqa:0.1.0", knowledge.OpenBookQA())
    mmlu = FewShot(description=knowledge.MMLU_DESCRIPTION, split="dev", order="first")
    _add("mmlu", None, knowledge.Mmlu(), mmlu)
    for level in ("middle", "high"):
        _add(f"race_{level}_options", f"race/{level}:2.0.0", reading.Race(), splits=_RACE_SPLITS)
    _add("boolq_options", "super_glue/boolq:1.0.2", reading.BoolQ())
    for number in "123":
        _add(f"anli_r{number}", f"anli/r{number}:0.1.0", reading.Anli())
    forms: dict[str, Form] = {
        "rte": super_glue.Rte(), "cb": super_glue.CommitmentBank(), "copa": super_glue.Copa(),
        "wic": super_glue.Wic(),
    }  # fmt: skip
    for name, form in forms.items():
        _add(f"{name}_options", f"super_glue/{name}:1.0.2", form)
    _add("wsc_options", "super_glue/wsc.fixed:1.0.2", super_glue.WscOptions())
    of_question = _By(GroupedLabel(("no", "yes"), "question_number"), metrics.multirc)
    multirc, record = super_glue.MultiRCOptions(), super_glue.RecordOptions()
    _add("multirc_options", "super_glue/multirc:1.0.2", multirc, by=of_question)
    accepted = _By(AllAnswers(), metrics.squad)
    _add("record_options", "super_glue/record:1.0.2", record, by=accepted)
    for kind in ("cn", "ne"):
        _add(f"cbt_{kind}", None, completion.ChildrensBookTest())


def _declare_answered() -> None:
    of_validation = FewShot(split="validation")
    for name, blank in (("lambada", ""), ("lambada_cloze", " ____. →")):
        form = completion.Lambada(blank)
        _add(name, "lambada:1.0.0", form, of_validation, splits=_LAMBADA_SPLITS, folder="lambada")
    nocontext, natural = "trivia_qa/rc.nocontext:1.1.0", "natural_questions_open:1.0.0"
    words = _By(AllAnswers(), metrics.natural_questions)
    trivia = words._replace(metric=metrics.trivia_qa)
    _add("trivia_qa", nocontext, closed_book.TRIVIA_QA, by=trivia)
    _add("natural_questions", natural, closed_book.NATURAL_QUESTIONS, by=words)
    _add("web_questions", "web_questions:1.0.0", closed_book.WEB_QUESTIONS, by=words)
    _add("drop", "drop:2.0.0", reading.Drop(), splits=_DEV, by=words._replace(metric=metrics.drop))
    _add("quac", "quac:1.0.0", reading.Quac(), by=words._replace(metric=metrics.quac))
    squad2 = _By(AllAnswers(reading.UNANSWERABLE), metrics.squad2)
    _add("squad2", "squad/v2.0:3.0.0", reading.Squad2(), by=squad2)
    coqa = Tfds("coqa:1.0.0", reading.Turns.of_source, split_names=_COQA_SPLITS)
    dialogues = reading.Turns(BenchmarkSource("coqa", coqa.columns, coqa))
    task = text_to_text("coqa", dialogues, reading.Coqa(), postprocessor=words.postprocessor)
    add_task(dataclasses.replace(task, metric_fns=(metrics.coqa,)))


def _declare_computed() -> None:
    exact = _By(TEXT, metrics.exact_match)
    of_test = FewShot(split="test")  # the only one
    for name in (*arithmetic.ARITHMETIC, *arithmetic.WORD_SCRAMBLING):
        _add(f"gpt3_{name}", f"gpt3/{name}:1.1.0", arithmetic.Synthetic(), of_test, by=exact)
    for name in ("arithmetic", "word_scrambling"):
        members = getattr(arithmetic, name.upper())
        add_mixture(f"gpt3_{name}", {f"gpt3_{member}": 1.0 for member in members})
    number = _By(FinalAnswer(), metrics.accuracy)
    _add("gsm8k", "gsm8k:1.0.0", arithmetic.Gsm8k(), by=number)
    fixed = FewShot(examples=arithmetic.SOLVED)
    _add("gsm8k_cot", "gsm8k:1.0.0", arithmetic.Gsm8k(), fixed, folder="gsm8k", by=number)


class _By(NamedTuple):
    """What answers are compared by."""

    postprocessor: Postprocessor
    metric: Metric


def _add(
    name: str,
    dataset: str | None,
    form: Form,
    few_shot: FewShot = FewShot(),  # noqa: B008 (frozen)
    *,
    splits: Mapping[str, str] | None = None,
    folder: str = "",
    by: _By | None = None,
) -> None:
    """Registers a task on TFDS's dataset or on the files of a folder called as the task is."""
    columns = form.columns
    tfds = None if dataset is None else Tfds(dataset, columns, split_names=splits)
    add_task(
        text_to_text(
            name,
            BenchmarkSource(folder or name, columns, tfds),
            form,
            postprocessor=TEXT if by is None else by.postprocessor,
            metrics=() if by is None else (by.metric,),
            few_shot=few_shot,
        )
    )
