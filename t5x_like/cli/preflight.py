"""What a run would fail on after minutes of work, found before anything is written or tokenized."""

import contextlib
import dataclasses
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from t5x_like import checkpoints, config, train
from t5x_like.data import (
    CacheStatus,
    DatasetConfig,
    check_lengths,
    check_pairing,
    check_source,
    example_batch,
    for_lengths,
    packs,
    status_of_description,
)
from t5x_like.decoding.prompt_files import PromptFile
from t5x_like.errors import UserError
from t5x_like.evaluation.one_task import for_task
from t5x_like.evaluation.spans import rules_of
from t5x_like.host import files
from t5x_like.partitioning import split_boxes
from t5x_like.protocols import Model, Task, label_names, longest_row, vocab_size
from t5x_like.scaling.sweeps.cells import GIN_FILE, Cell, naming_run
from t5x_like.training import identity
from t5x_like.training.run import TrainingPlan
from t5x_like.vectors import InitialVectors, initial_table

# A vocabulary of less than a quarter of the model's ids was hardly meant for it: one in which
# sizes were rounded up, or a tiny model's, has more.
_FAR_SMALLER = 4
# Of an example that is labelled as a whole, and of what is predicted for it.
_LABEL = "label"


def check(plan: TrainingPlan, *, here: bool = True) -> list[str]:
    """Compares model, mesh, lengths, vocabulary, MODEL_DIR and initial checkpoint; reads no data.

    Of the data it only sees whether the files of the sources, or caches of them, are there.

    Args:
      plan: of the run.
      here: whether the run is to start on this machine. If not, its devices are not looked at, and
        neither is what is at `gs://`, which this machine may not reach.

    Returns:
      What goes together and was hardly meant: a line each.

    Raises:
      UserError: two of them do not go together, a file is missing, or MODEL_DIR holds another run.
    """
    now, directory = plan.described(mesh=here), files.location(plan.model_dir)
    if here or not files.is_remote(directory):
        identity.check(directory, now, allow_change=plan.allow_config_change)
    if here or not any(files.is_remote(path) for path in (directory, _origin(plan))):
        _check_start(plan)
    warnings: list[str] = []
    evaluated = [evaluation.dataset for evaluation in plan.evaluations]
    datasets = (plan.dataset, *plan.validation, *evaluated)
    check_sources((*datasets, getattr(plan, "pretraining", None)))
    for dataset in datasets:
        if here:
            for rows in dataset.batch_sizes:
                plan.partitioner.check_rows(rows)
        warnings += _check_vocabulary(dataset, plan.model)
    for dataset in datasets:
        for task, _ in dataset.task.tasks:
            check_lengths(task, dataset.task_feature_lengths)
            check_labels(task, for_task(plan.model, task))
            check_answers(task, plan.model)
            _check_objective(task, dataset.task_feature_lengths)
    for dataset in (plan.dataset, *plan.validation):
        check_pairing(dataset, plan.model.batch_format)
    packs(plan.dataset, plan.model.batch_format)
    _check_lengths(plan.dataset, plan.model)
    # Traces the model: what its sizes cannot make fails here.
    if here:
        plan.partitioner.param_shardings(plan.model)
    else:
        plan.model.abstract_params()
    return list(dict.fromkeys(warnings))


def check_runs(sweep: str, cells: Iterable[Cell]) -> list[str]:
    """Checks one run of each variant and stage of a sweep, as `check` does.

    Raises:
      UserError: what it is configured with does not go together, or a file is missing.
    """
    warnings = []
    with tempfile.TemporaryDirectory() as nowhere:  # what is in a run's own is for it to see
        for cell in {cell.family: cell for cell in cells}.values():
            # What it starts from is for another run to make.
            alone = dataclasses.replace(cell, stem=None, start=None)
            text = alone.gin_text(sweep, Path(nowhere))
            with naming_run(sweep, cell.variant), config.isolated():
                config.parse([config.GinText(GIN_FILE, text)])
                warnings += check(config.built(train.train, TrainingPlan), here=False)
    return list(dict.fromkeys(warnings))


def check_sources(datasets: Iterable[DatasetConfig | None]) -> None:
    """Looks whether the files of each dataset are there, or a cache that does without them.

    Raises:
      UserError: a file is missing, and there is no such cache.
    """
    for dataset in filter(None, datasets):
        for task, _ in dataset.task.tasks:
            check_source(task, dataset.cache_dir, verify_source=dataset.verify_source)


def check_read(program: Callable[..., Any]) -> None:
    """Looks whether the files are there that a program reads which does not train.

    Args:
      program: takes a `dataset`, or a `task` in whose vocabularies the prompts of `input_path` are
        written; as gin configures it.

    Raises:
      UserError: a file is missing.
    """
    check_sources([config.argument(program, "dataset")])
    task, path = config.argument(program, "task"), config.argument(program, "input_path")
    if task is not None:
        for member, _ in task.tasks:
            for feature in member.output_features.values():
                feature.vocabulary.spec()
    if path is not None and not files.is_remote(path):
        PromptFile(path, "text", "").check()


def check_labels(task: Task, model: Model) -> None:
    """Compares the labels of a task with those that the model's head has, in their order."""
    wanted = getattr(task, "label_names", None)
    if wanted is None:  # of a task that does not say
        return
    for names in label_names(model).values():
        if wanted and tuple(wanted) != names:
            raise UserError(
                f"task '{task.name}' has the labels {', '.join(wanted)}, but the model's head has "
                f"{', '.join(names)}: give the head the same, in the same order."
            )
    has_labels = bool(label_names(model).get(_LABEL))
    if _LABEL in task.example_features and has_labels != bool(wanted):
        kinds = ("numbers", "labels") if has_labels else ("labels", "numbers")
        raise UserError(
            f"the rows of task '{task.name}' have {kinds[0]}, but the model's head is for "
            f"{kinds[1]}: choose the head for this task, as its gin file does."
        )


def check_answers(task: Task, model: Model) -> None:
    """Compares whether questions may have no answer with whether the model may give none."""
    rules = rules_of(model)
    always = rules is not None and rules.null_threshold is None
    if always and getattr(task, "unanswerable", False):
        raise UserError(
            f"task '{task.name}' has questions without an answer, but the model's head always "
            "gives one: give it a null_threshold, 0.0 to begin with (NULL_THRESHOLD)."
        )


def _check_objective(task: Task, lengths: Mapping[str, int]) -> None:
    """Builds what is drawn of a task's texts, which refuses lengths that it does not fit."""
    try:
        specs = {name: one.vocabulary.spec() for name, one in task.output_features.items()}
    except (OSError, ImportError):
        return  # its cache has them, or `_check_vocabulary` has told
    objective = for_lengths(task.objective(specs), lengths)
    if objective is not None:
        objective.chunk_length(lengths)


def _check_lengths(dataset: DatasetConfig, model: Model) -> None:
    longest = longest_row(model)
    if longest is None or model.max_length is None:
        return
    taken = model.max_length - longest
    before = f", of which {taken} stand before the text" if taken else ""
    for name, value in example_batch(dataset, model.batch_format, rows=1).items():
        if name.endswith("_input_tokens") and value.shape[-1] > longest:
            raise UserError(
                f"TASK_FEATURE_LENGTHS {dict(dataset.task_feature_lengths)} makes rows of "
                f"{value.shape[-1]} tokens, but the model's max_length is {model.max_length}"
                f"{before}: shorten them, or raise max_length."
            )


def _check_vocabulary(dataset: DatasetConfig, model: Model) -> list[str]:
    """Compares all ids where the objective writes sentinels, else those that text is made of.

    Returns:
      A warning for each vocabulary that is far smaller than the model's.
    """
    warnings = []
    task = dataset.task
    for member, _ in task.tasks:
        for name, feature in member.output_features.items():
            vocabulary = feature.vocabulary
            try:
                size, sentinels = vocabulary.vocab_size, getattr(vocabulary, "extra_ids", 0)
            except (OSError, ImportError):
                # Its file is not on this host, which needs none where there is a cache.
                report = status_of_description(
                    member,
                    dataset.cache_dir,
                    dataset.split,
                    verify_source=dataset.verify_source,
                )
                if report.status is CacheStatus.READY:
                    continue
                raise
            known = vocab_size(model, name)
            needed = size if sentinels and _needs_sentinels(member) else size - sentinels
            if needed > known:
                raise UserError(
                    f"the vocabulary of '{name}' of task '{member.name}' has "
                    f"{size - sentinels} tokens and {sentinels} sentinels, but the model's "
                    f"vocab_size is {known}: raise it to {size}, or use the vocabulary "
                    "that the model is for."
                )
            if _FAR_SMALLER * size < known:
                warnings.append(
                    f"the vocabulary of task '{member.name}' has {size:,} ids, but the model's "
                    f"vocab_size is {known:,}: most embeddings will never be used. The "
                    "model's own is given after the task's file, with "
                    "--gin.VOCABULARY_PATH=FILE and "
                    "--gin_file=tasks/vocabularies/sentencepiece.gin, or tokenizer.gin for a "
                    f"tokenizer.json; --gin.VOCAB_SIZE={size} fits the model to this one."
                )
    return warnings


def _needs_sentinels(task: Task) -> bool:
    """Whether its objective refuses vocabularies that have none."""
    without = {
        name: {**feature.vocabulary.spec(), "extra_ids": 0}
        for name, feature in task.output_features.items()
    }
    try:
        task.objective(without)
    except Exception as error:
        if getattr(error, "exit_code", None) != UserError.exit_code:
            raise
        return True
    return False


def _origin(plan: TrainingPlan) -> str:
    """Where a new run's parameters come from; empty for none."""
    source = plan.initial_checkpoint
    if source is None:
        return ""
    return source.model_dir if isinstance(source, checkpoints.Branch) else source.path


def _check_start(plan: TrainingPlan) -> None:
    """Compares the checkpoint that the run resumes or starts from with what it needs."""
    steps = checkpoints.checkpoint_steps(plan.model_dir)
    if not steps:
        _check_initial_checkpoint(plan.initial_checkpoint, plan)
        return
    with contextlib.suppress(checkpoints.Damaged):  # the run looks for an older one
        checkpoints.require_training_state(checkpoints.find_checkpoint(plan.model_dir, steps[-1]))


def _check_initial_checkpoint(source: Any, plan: TrainingPlan) -> None:
    if isinstance(source, checkpoints.Branch):
        checkpoints.find_checkpoint(source.model_dir, source.step)
    elif isinstance(source, checkpoints.InitialCheckpoint):
        wanted, _ = split_boxes(plan.model.abstract_params())
        checkpoints.checked_start(source, plan.model, wanted)
    elif isinstance(source, InitialVectors):
        initial_table(source, plan.model, plan.dataset.task)
