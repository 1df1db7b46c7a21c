"""What is read, and how: the settings of a dataset, and what they tell without reading it."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from t5x_like.data import formats
from t5x_like.data.batch_schedule import BatchSchedule
from t5x_like.data.formats import ModelBatch, TaskFacts
from t5x_like.data.long_examples import LongExamples, TrimLong
from t5x_like.data.mixing import GivenRates, Mixing, MixtureSchedule
from t5x_like.data.rows.one_task_batches import OneTaskBatches
from t5x_like.data.sharded.store import ShardStore
from t5x_like.errors import UserError
from t5x_like.protocols import Mixture, Task


@dataclass(frozen=True)
class DatasetConfig:
    """What to read, and how.

    Attributes:
      task: a task or mixture (not its name).
      task_feature_lengths: tokens of each of its features, `{"inputs": 512, "targets": 114}`.
      cache_dir: where `t5x-like cache` wrote it.
      split: name of the split.
      batch_size: rows of a batch, all processes together.
      batch_schedule: rows of each training batch, where they grow; `batch_size` is then the
        largest. None for batches that are all the same.
      shuffle: whether every epoch is shuffled as a whole; training only.
      seed: decides order, cuts and objectives.
      pack: whether a row holds several examples, with segment ids; training only. None packs
        where the model's batch format does.
      mixing: how a mixture's tasks are weighed: shares of examples, or with `TokenShares` of
        tokens; with `MixtureSchedule` they change while the run trains, and with
        `OneTaskBatches` each batch is of one task.
      virtual_streams: parts in which packing is done; divides the batch, and the number of
        processes divides it. None takes the largest power of two up to 64. To continue a run on
        more processes than this, choose it from the start.
      open_rows: most rows that each stream keeps open while it packs; fewer of a corpus of which
        they would hold more than a quarter.
      prefetch: batches made ahead in the background.
      patience: seconds without a single example read, after which reading is given up; it needs
        `prefetch`. None waits for ever.
      long_examples: what becomes of examples longer than `task_feature_lengths`, which are
        counted on standard error; training only.
      verify_source: whether a cache whose fingerprint differs from the task's is refused.
      first_tokens: tokens at the beginning of each task's split that alone are trained on, again
        and again; by the name of the task, or one number for all. None for the whole split.
    """

    task: Task | Mixture
    task_feature_lengths: Mapping[str, int]
    cache_dir: str | os.PathLike[str]
    split: str = "train"
    batch_size: int = 32
    shuffle: bool = True
    seed: int = 0
    pack: bool | None = None
    mixing: Mixing | MixtureSchedule = field(default_factory=GivenRates)
    virtual_streams: int | None = None
    open_rows: int = 16
    prefetch: int = 2
    patience: float | None = 60.0
    long_examples: LongExamples = field(default_factory=TrimLong)
    verify_source: bool = True
    batch_schedule: BatchSchedule | None = None
    first_tokens: int | Mapping[str, int] | None = None
    shard_store: ShardStore | None = None

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """The rows of the training batches, each number once, in their order."""
        if self.batch_schedule is None:
            return (self.batch_size,)
        return tuple(dict.fromkeys(rows for _, rows in self.batch_schedule.sizes))


def first_tokens_of(config: DatasetConfig, task: str) -> int | None:
    """How many tokens of a task are trained on; None for all.

    Raises:
      UserError: that is no whole number above 0, or is given of a task that is not there.
    """
    given = config.first_tokens
    if isinstance(given, Mapping):
        names = [member.name for member, _ in config.task.tasks]
        for name in given:
            if name not in names:
                raise UserError(
                    f"data.DatasetConfig.first_tokens has {name!r}, which is none of the tasks: "
                    f"{', '.join(names)}"
                )
        given = given.get(task)
    if given is not None and (not isinstance(given, int) or given < 1):
        raise UserError(
            f"data.DatasetConfig.first_tokens is {given!r}; it must be a whole number above 0"
        )
    return given


def feature_names(task: Task | Mixture) -> tuple[str, ...]:
    """Names of the features that a model is given.

    Raises:
      UserError: the tasks of a mixture do not have the same features, or there are none.
    """
    members = task.tasks
    if not members:
        raise UserError(f"mixture {task.name!r} has no tasks")
    names = tuple(members[0][0].output_features)
    for member, _ in members:
        if set(member.output_features) != set(names):
            raise UserError(
                f"the tasks of mixture {task.name!r} differ in their features: "
                f"{members[0][0].name!r} has {sorted(names)}, {member.name!r} has "
                f"{sorted(member.output_features)}"
            )
    return names


def check_lengths(task: Task, lengths: Mapping[str, int]) -> None:
    """Compares the lengths that are given with the features of a task.

    Raises:
      UserError: a feature has no length, or one that is no whole number above 0; a length belongs
        to no feature.
    """
    wanted = sorted(task.output_features)
    if sorted(lengths) != wanted:
        raise UserError(
            f"task_feature_lengths has {sorted(lengths)}, but task {task.name!r} has the features "
            f"{wanted}; give a length for each of them"
        )
    for name, length in lengths.items():
        if not isinstance(length, int) or length < 1:
            raise UserError(
                f"task_feature_lengths[{name!r}] is {length!r}; it must be a whole number above 0"
            )


def example_batch(config: DatasetConfig, batch_format: str, rows: int | None = None) -> ModelBatch:
    """A training batch of empty rows, without reading any data: names, dtypes and shapes.

    Args:
      config: which tasks, lengths and rows.
      batch_format: of the model.
      rows: how many; those of `config` when None.

    Raises:
      UserError: the tasks lack a feature, or the configuration a length, that the format needs.
    """
    return formats.example_batch(
        batch_format,
        config.task_feature_lengths,
        config.batch_size if rows is None else rows,
        pack=packs(config, batch_format),
        facts=facts_of(config),
    )


def check_pairing(config: DatasetConfig, batch_format: str) -> None:
    """Compares what each task's examples have with what a batch format reads, without any data.

    Raises:
      UserError: they do not go together.
    """
    for task, _ in config.task.tasks:
        formats.bound(batch_format, facts_of(dataclasses.replace(config, task=task)))
    if formats.find(batch_format).contiguous and len(config.task.tasks) > 1:
        raise not_one_text(batch_format, [task.name for task, _ in config.task.tasks])


def not_one_text(batch_format: str, names: Sequence[str]) -> UserError:
    """The error about tasks whose documents are not one text."""
    return UserError(
        f"batches of the format {batch_format!r} are the consecutive pieces of one text: choose "
        "one task whose documents are joined (objectives.CausalLM, as stdlib_lm), and not "
        f"{' and '.join(map(repr, names))}."
    )


def facts_of(config: DatasetConfig, start_id: int = 0) -> TaskFacts:
    """What is known of the tasks; `start_id` is, once they are opened."""
    members = [task for task, _ in config.task.tasks]
    return TaskFacts(
        feature_names(config.task),
        example_features=tuple(
            dict.fromkeys(name for task in members for name in task.example_features)
        ),
        zero_is_token=any(
            getattr(feature.vocabulary, "zero_is_token", False)
            for task in members
            for feature in task.output_features.values()
        ),
        positioned=tuple(
            dict.fromkeys(name for task in members for name in getattr(task, "positioned", ()))
        ),
        start_id=start_id,
    )


def packs(config: DatasetConfig, batch_format: str) -> bool:
    """Whether training rows hold several examples.

    Raises:
      UserError: that is asked for, and rows of the format hold one.
    """
    able = formats.find(batch_format).packs
    if config.pack and not able:
        raise UserError(
            f"data.DatasetConfig.pack is True, but rows of the batch format {batch_format!r} "
            "hold one example each: leave it out, or set it to False."
        )
    return able if config.pack is None else config.pack


def batches_of(config: DatasetConfig, batch_format: str) -> BatchSchedule:
    """The rows of each training batch.

    Raises:
      UserError: they grow, and the rows have places of their own in each batch; or `batch_size` is
        not the largest.
    """
    given = config.batch_schedule
    if given is None:
        return BatchSchedule(((0, config.batch_size),))
    if formats.find(batch_format).contiguous or isinstance(config.mixing, OneTaskBatches):
        raise UserError(
            "data.DatasetConfig.batch_schedule (BATCH_SCHEDULE) is for rows that stand alone, and "
            "in these batches each has a place of its own: leave it out."
        )
    if config.batch_size != given.largest:
        raise UserError(
            f"BATCH_SIZE is {config.batch_size}, but the batches of data.BatchSchedule.sizes have "
            f"up to {given.largest} rows: set it to {given.largest}."
        )
    return given
