"""Tasks that are others with one thing changed, or mixtures in which each task is."""

import dataclasses
from collections.abc import Callable
from typing import Any, cast

from tasks.errors import TaskError
from tasks.objectives import NumberedSentences, Objective
from tasks.sources import Tfds
from tasks.sources.wrappers.wrapper import Wrapper
from tasks.task import BaseTask, Mixture, Task


def each(found: BaseTask | Mixture, change: Callable[[BaseTask], BaseTask]) -> BaseTask | Mixture:
    """The task, or each task of the mixture, changed."""
    if isinstance(found, BaseTask):
        return change(found)
    members = tuple((change(task), rate) for task, rate in found.tasks)
    return dataclasses.replace(found, tasks=members)


def with_sentences(
    task: BaseTask | Mixture,
    full_stop_ids: tuple[int, ...] | None = None,
    token_types: tuple[int, ...] | None = None,
) -> BaseTask | Mixture:
    """A task for encoders, or each of a mixture, that also says which sentence each token is of.

    Args:
      task: its objective makes one row of an example.
      full_stop_ids: see `objectives.NumberedSentences`.
      token_types: see `objectives.NumberedSentences`.

    Raises:
      TaskError: it is not for encoders, or seqio's.
    """

    def numbered(task: BaseTask) -> BaseTask:
        if not isinstance(task, Task) or task.learned is None:
            raise TaskError(
                f"the sentences of task '{task.name}' cannot be numbered: it has no objective that "
                "makes rows of an encoder, such as MaskedLM or LabelledSegments."
            )
        learned = NumberedSentences(task.learned, full_stop_ids, token_types)
        return dataclasses.replace(task, learned=learned)

    return each(task, numbered)


def with_objective(task: BaseTask, objective: Objective) -> BaseTask:
    """The task of pairs of texts with an objective."""
    if not isinstance(task, Task) or task.learned is not None:
        raise TaskError(
            f"task '{task.name}' cannot be given the objective {type(objective).__name__}: it has "
            "one of its own, or is seqio's; take a task of inputs and targets."
        )
    return dataclasses.replace(task, learned=objective)


def located_in(task: BaseTask, tfds_data_dir: str | None, files_dir: str | None) -> BaseTask:
    """The task with its TFDS dataset, or its own files, in other directories."""
    if not isinstance(task, Task):
        return task

    def located(source: Any) -> Any:
        if isinstance(source, Tfds):
            return dataclasses.replace(source, data_dir=tfds_data_dir or source.data_dir)
        if hasattr(source, "located"):
            return source.located(located, files_dir)
        if isinstance(source, Wrapper):
            return dataclasses.replace(cast(Any, source), source=located(source.source))
        return source

    return dataclasses.replace(task, source=located(task.source))
