"""The registry of tasks and mixtures, and functions that build tasks."""

import difflib
import sys
from collections.abc import Mapping, Sequence
from typing import Literal, TypeVar

from tasks import changes
from tasks.errors import TaskError
from tasks.forms import FewShot, Form, Labelled, PlainText, Ranked, Spans
from tasks.objectives import (
    LabelledSegments,
    LabelledSpelledWords,
    Objective,
    RankedSegments,
    SpanWindows,
)
from tasks.postprocessors import TEXT, AllAnswers, Postprocessor
from tasks.sources import Deduplicated, Filter, Filtered, Source
from tasks.task import BaseTask, Feature, Metric, Mixture, Task
from tasks.vocabularies import ByteVocabulary, SpelledWordVocabulary, Vocabulary

_TaskOrMixture = TypeVar("_TaskOrMixture", bound=BaseTask | Mixture)
_REGISTERED: dict[str, BaseTask | Mixture] = {}


def unsupervised(
    name: str,
    source: Source,
    *,
    objective: Objective | None = None,
    column: str = "text",
    vocabulary: Vocabulary | None = None,
    cache_name: str = "",
    special_tokens: Literal["text", "ids"] | None = None,
    filters: Sequence[Filter] = (),
    duplicates: str | None = None,
) -> Task:
    """A task on unlabelled text.

    Args:
      name: of the task.
      source: has a column with the text.
      objective: makes inputs and targets of the text; None makes each document targets.
      column: name of the column.
      vocabulary: None takes bytes.
      cache_name: shared by tasks that differ only in the objective; "" takes the name.
      special_tokens: of the text, where it spells them out; see `Task`.
      filters: of documents, applied one after the other; see `tasks.filters`.
      duplicates: a list of documents, or of lines, that are left out, of `t5x-like dedup` for the
        same source and filters.
    """
    if filters:
        source = Filtered(source, tuple(filters), column)
    if duplicates is not None:
        source = Deduplicated(source, duplicates, column)
    names = ("targets",) if objective is None else objective.writes
    return Task(
        name=name,
        source=source,
        form=PlainText(column),
        output_features=features_of(
            getattr(objective, "output_features", names),
            vocabulary,
            add_eos=getattr(objective, "adds_eos", True),
        ),
        learned=objective,
        cache_name=cache_name,
        special_tokens=special_tokens,
    )


def text_to_text(
    name: str,
    source: Source,
    form: Form,
    *,
    vocabulary: Vocabulary | None = None,
    inputs_vocabulary: Vocabulary | None = None,
    postprocessor: Postprocessor = TEXT,
    metrics: Sequence[Metric] = (),
    objective: Objective | None = None,
    cache_name: str = "",
    special_tokens: Literal["text", "ids"] | None = None,
    few_shot: FewShot = FewShot(),  # noqa: B008 (frozen)
) -> Task:
    """A task with inputs and targets.

    Args:
      name: of the task.
      source: has the columns that the form uses.
      form: makes inputs and targets of a row, such as `forms.Template`.
      vocabulary: None takes bytes.
      inputs_vocabulary: of inputs that have one of their own, for a model with a source encoder.
      postprocessor: decoded text to what the metrics compare.
      metrics: functions of targets and predictions, such as `metrics.bleu`.
      objective: what is drawn of a pair, such as `objectives.HiddenTargets`; None learns the
        targets as they are.
      cache_name: "" takes the name.
      special_tokens: of the text, where it spells them out; see `Task`.
      few_shot: how examples stand before what a model is asked.
    """
    features = features_of(form.features, vocabulary)
    if inputs_vocabulary is not None:
        features |= features_of(["inputs"], inputs_vocabulary)
    return Task(
        name=name,
        source=source,
        form=form,
        output_features=features,
        learned=objective,
        postprocessor=postprocessor,
        metric_fns=tuple(metrics),
        cache_name=cache_name,
        special_tokens=special_tokens,
        few_shot=few_shot,
    )


def labelled(
    name: str,
    source: Source,
    texts: Sequence[str],
    *,
    label: str = "label",
    labels: Sequence[str] | None = None,
    label_names: Sequence[str] = (),
    unlabelled: str | None = None,
    separators: int | None = None,
    cls_at_end: bool | None = None,
    extract: bool = False,
    both_orders: bool = False,
    vocabulary: Vocabulary | None = None,
    metrics: Sequence[Metric] = (),
    cache_name: str = "",
    special_tokens: Literal["text", "ids"] | None = None,
) -> Task:
    """A task whose rows, a text or a pair of texts each, have a label or a number.

    Args:
      name: of the task.
      source: has the columns that are named.
      texts: one column, or the two of a pair.
      label: column of the label.
      labels: what it may be, as the file has it; None for numbers.
      label_names: how the classes are called, in the order of `labels`; empty takes these.
      unlabelled: what the column holds where a row has no label.
      separators: how many [SEP] stand between two texts; None takes the vocabulary's, see
        `objectives.LabelledSegments`.
      cls_at_end: whether [CLS] stands at the end of a row; None takes the vocabulary's.
      extract: whether rows end as GPT-1's do, see `objectives.LabelledSegments`.
      both_orders: whether a pair is read in both orders, by a decoder.
      vocabulary: None takes bytes; one that spells words is for models that read characters.
      metrics: functions of the labels' numbers, such as `metrics.accuracy`, or of the numbers.
      cache_name: "" takes the name.
      special_tokens: of the text, where it spells them out; see `Task`.

    Raises:
      TaskError: a vocabulary that spells words, with a pair or an extract token.
    """
    form = Labelled(texts, label, labels, label_names, unlabelled)
    pair = len(texts) == 2
    objective: LabelledSegments | LabelledSpelledWords = LabelledSegments(
        pair, separators, labels is None, cls_at_end, extract, both_orders
    )
    if isinstance(vocabulary, SpelledWordVocabulary):
        if pair or extract:
            raise TaskError(
                f"task '{name}': a model that reads words by their characters reads one text a "
                f"row, without an extract token: texts is {list(texts)}, extract {extract}."
            )
        objective = LabelledSpelledWords("number" if labels is None else "label")
    return Task(
        name=name,
        source=source,
        form=form,
        output_features=features_of(objective.output_features, vocabulary, add_eos=False),
        learned=objective,
        metric_fns=tuple(metrics),
        cache_name=cache_name,
        special_tokens=special_tokens,
    )


def ranked(
    name: str,
    source: Source,
    *,
    query: str = "question",
    candidates: Sequence[str] = ("first", "second"),
    label: str = "relevant",
    separators: int | None = None,
    vocabulary: Vocabulary | None = None,
    metrics: Sequence[Metric] = (),
    cache_name: str = "",
    special_tokens: Literal["text", "ids"] | None = None,
) -> Task:
    """A task whose rows are a query and its candidates, one of which is relevant.

    Args:
      name: of the task.
      source: has the columns that are named, such as `sources.Candidates`.
      query: column of the query.
      candidates: columns of the candidates, two or more.
      label: column of the number of the relevant one, counted from 0.
      separators: as for `labelled`.
      vocabulary: None takes bytes.
      metrics: functions of the numbers of candidates: `metrics.accuracy` is how often the relevant
        one is ranked first.
      cache_name: "" takes the name.
      special_tokens: of the text, where it spells them out; see `Task`.
    """
    objective = RankedSegments(len(candidates), separators)
    return Task(
        name=name,
        source=source,
        form=Ranked(query, candidates, label),
        output_features=features_of(objective.output_features, vocabulary, add_eos=False),
        learned=objective,
        metric_fns=tuple(metrics),
        cache_name=cache_name,
        special_tokens=special_tokens,
    )


def spans(
    name: str,
    source: Source,
    form: Spans = Spans(),  # noqa: B008 (frozen)
    windows: SpanWindows = SpanWindows(),  # noqa: B008 (frozen)
    *,
    vocabulary: Vocabulary | None = None,
    metrics: Sequence[Metric] = (),
    cache_name: str = "",
    special_tokens: Literal["text", "ids"] | None = None,
) -> Task:
    """A task of questions, each answered by a part of a text.

    Args:
      name: of the task.
      source: has the columns that the form names.
      form: makes a question, a text and the places of answers of a row.
      windows: makes rows for an encoder of them.
      vocabulary: None takes bytes.
      metrics: functions of accepted answers and predictions, such as `metrics.squad`.
      cache_name: "" takes the name.
      special_tokens: of the texts, where they spell them out; see `Task`.
    """
    return Task(
        name=name,
        source=source,
        form=form,
        output_features=features_of(windows.output_features, vocabulary, add_eos=False),
        learned=windows,
        postprocessor=AllAnswers(),
        metric_fns=tuple(metrics),
        cache_name=cache_name,
        special_tokens=special_tokens,
    )


def features_of(
    names: Sequence[str], vocabulary: Vocabulary | None, *, add_eos: bool = True, rank: int = 1
) -> dict[str, Feature]:
    """Features of these names and one vocabulary; None takes bytes."""
    return {name: Feature(vocabulary or ByteVocabulary(), add_eos, rank) for name in names}


def add_task(task: _TaskOrMixture) -> _TaskOrMixture:
    """Registers a task or mixture under its name, in place of an earlier one of that name."""
    _REGISTERED[task.name] = task
    return task


def add_mixture(name: str, rates: Mapping[str, float]) -> Mixture:
    """Registers a mixture of registered tasks.

    Args:
      name: of the mixture.
      rates: how often each task is drawn, by name; `proportional_rates` computes them from
        numbers of examples.

    Raises:
      TaskError: an unknown task, or a rate that is not positive.
    """
    members = []
    for member, rate in rates.items():
        task = _find(member)
        if isinstance(task, Mixture):
            raise TaskError(
                f"mixture '{name}' contains the mixture '{member}': only tasks are allowed."
            )
        members.append((task, rate))
    mixture = Mixture(name, tuple(members))
    _REGISTERED[name] = mixture
    return mixture


def proportional_rates(
    examples: Mapping[str, int], limit: int | None = None, temperature: float = 1.0
) -> dict[str, float]:
    """Mixing rates from numbers of examples (Raffel et al. 2020, section 3.5.2).

    Args:
      examples: number of examples of each task, by name.
      limit: the artificial data set size limit K; None for no limit.
      temperature: rates are raised to the power of its inverse.

    Returns:
      `min(examples, limit) ** (1 / temperature)` by name.

    Raises:
      TaskError: the temperature is 0 or less.
    """
    if temperature <= 0:
        raise TaskError(f"mixing temperature {temperature}: a positive number is needed.")
    return {
        name: (count if limit is None else min(count, limit)) ** (1 / temperature)
        for name, count in examples.items()
    }


def names() -> list[str]:
    """The names of all registered tasks and mixtures."""
    return sorted(_REGISTERED)


def get_mixture_or_task(
    name: str,
    vocabulary: Vocabulary | None = None,
    tfds_data_dir: str | None = None,
    objective: Objective | None = None,
    files_dir: str | None = None,
) -> BaseTask | Mixture:
    """The task or mixture of this name.

    Tasks and mixtures that a user's module registers with seqio are found as well, once that
    module has been imported.

    Args:
      name: as registered.
      vocabulary: replaces that of every feature; None keeps it.
      tfds_data_dir: where TFDS finds the dataset; None takes the environment's `TFDS_DATA_DIR`.
      objective: what is drawn of pairs of texts, see `text_to_text`; None keeps the task's.
      files_dir: a folder with a folder of files for each benchmark, which are read in place of
        TFDS; None for TFDS alone.

    Raises:
      TaskError: the name is unknown, and the message has the nearest ones; an objective for a
        task that has one, or of another kind.
    """
    found = _find(name)
    if vocabulary is not None:
        found = found.with_vocabulary(vocabulary)
    if tfds_data_dir is not None or files_dir is not None:
        found = changes.each(found, lambda task: changes.located_in(task, tfds_data_dir, files_dir))
    if objective is not None:
        found = changes.each(found, lambda task: changes.with_objective(task, objective))
    return found


def _find(name: str) -> BaseTask | Mixture:
    if name in _REGISTERED:
        return _REGISTERED[name]
    others: list[str] = []
    if "seqio" in sys.modules:
        from tasks.seqio_interop import from_seqio

        others = from_seqio.names()
        if name in others:
            return from_seqio.find(name)
    near = difflib.get_close_matches(str(name), [*names(), *others], n=4, cutoff=0.5)
    hint = f"nearest names: {', '.join(near)}" if near else f"known: {', '.join(names())}"
    raise TaskError(f"no task or mixture is called '{name}'; {hint}.")
