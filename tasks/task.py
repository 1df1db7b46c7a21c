"""Tasks and mixtures of tasks: declared once, read and tokenized later."""

import abc
import dataclasses
import hashlib
import inspect
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np

from tasks.errors import TaskError
from tasks.forms import Choices, FewShot, Form, Labelled, Spans, Tags, WritesInputs, written
from tasks.objectives import BoundObjective, Example, Objective, VocabularySpecs
from tasks.postprocessors import TEXT, Postprocessor
from tasks.sources import Source, check_files, said
from tasks.vocabularies import Vocabulary, encode_counted, encode_each

Metric = Callable[..., Mapping[str, float]]
# seqio's rule, so that every task can be registered there.
_NAME = re.compile(r"[\w.:]+")
# Entries of a vocabulary's spec that leave the cache as it is: the place of its file and how it is
# read, whose SHA-256 counts instead, and ids that only objectives and the layout of batches look
# for.
_NOT_IN_FINGERPRINT = (
    "file", "full_stop_ids", "mask_id", "mask_token", "cls_id", "sep_id", "continuation_ids",
    "special_ids", "eos_token", "start_id", "start_token", "lower_case", "longest_word",
    "pair_separators", "cls_at_end", "counts", "first_word_id", "words", "first_byte_id",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Feature:
    """One output feature of a task.

    Attributes:
      vocabulary: how its text becomes ids.
      add_eos: whether EOS ends it, after the objective and after trimming.
      rank: of what the objective makes of it.
      keeps: which part of a text that is too long a model is given. The end, where it says what is
        to be written next; elsewhere the beginning, as seqio does.
    """

    vocabulary: Vocabulary
    add_eos: bool = True
    rank: int = 1
    keeps: Literal["beginning", "end"] = "beginning"


class BaseTask(abc.ABC):
    """What all tasks have in common, wherever they are declared.

    Attributes:
      name: as registered.
      cache_name: folder under the cache directory, without the fingerprint that is added to it.
      output_features: what a model is given, by name, after the objective.
      learned: the objective, or None where the text itself is inputs and targets.
      metric_fns: `(targets, predictions) -> {name: value}`.
    """

    name: str
    cache_name: str
    output_features: Mapping[str, Feature]
    learned: Objective | None
    metric_fns: Sequence[Metric]

    @property
    def tasks(self) -> Sequence[tuple["BaseTask", float]]:
        """The task itself with rate 1, as a mixture lists its tasks."""
        return ((self, 1.0),)

    @property
    def example_features(self) -> tuple[str, ...]:
        """What every example has after the objective: output features, and weights and labels."""
        return tuple(self.output_features if self.learned is None else self.learned.writes)

    @property
    def positioned(self) -> tuple[str, ...]:
        """The features whose tokens come with their positions in a longer text."""
        return getattr(self.learned, "positioned", ())

    @property
    def listed(self) -> Mapping[str, str]:
        """The cached features that are lists of texts, see `forms.Form`."""
        return {}

    @property
    def spelled_special_tokens(self) -> str:
        """What becomes of special tokens that a text spells out: "text" or "ids"."""
        return "ids"

    def tokenized(self, feature: str, text: str | Sequence[str]) -> Example:
        """What the cache holds of a text, `{feature: ids}`, int32.

        Of a list the ids of all, and `FEATURE_sizes`, how many each of its texts has.
        """
        features = self.output_features
        # A part of an output feature has the first one's vocabulary.
        vocabulary = features.get(feature, next(iter(features.values()))).vocabulary

        def encode(text: str) -> Sequence[int]:
            return encode_counted(vocabulary, text, self.spelled_special_tokens)[0]

        if isinstance(text, str):
            return {feature: np.asarray(encode(text), np.int32)}
        ids, sizes = encode_each(text, self.listed[feature], encode)
        return {
            feature: np.asarray(ids, np.int32),
            f"{feature}_sizes": np.asarray(sizes, np.int32),
        }

    @property
    @abc.abstractmethod
    def source_is_local(self) -> bool:
        """Whether the cache can be built from what is on this machine."""

    def objective(self, vocabularies: VocabularySpecs) -> BoundObjective | None:
        """The objective for these vocabularies, specs by feature name."""
        return None if self.learned is None else self.learned.bind(vocabularies)

    @abc.abstractmethod
    def postprocess(self, text: str, example: Mapping[str, Any], is_target: bool) -> Any:
        """Decoded text to what the metrics compare."""

    @abc.abstractmethod
    def fingerprint(self) -> str:
        """Hex digest of everything that decides the cache.

        Raises:
          SourceUnavailable: the source or a vocabulary's file is not on this machine.
        """

    @abc.abstractmethod
    def with_vocabulary(self, vocabulary: Vocabulary) -> Self:
        """The same task with another vocabulary, and so with a cache of its own.

        Raises:
          TaskError: the vocabulary of this task cannot be replaced.
        """

    @abc.abstractmethod
    def seqio(self) -> Any:
        """The `seqio.Task`, registered; imports seqio, and so TensorFlow."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task(BaseTask):
    """A task declared with this package.

    The cache holds what the form writes, tokenized, without EOS; the objective, trimming
    and EOS come after it. Nothing is read, and TensorFlow is not imported, before it is needed.

    Attributes:
      name: letters, digits, `_`, `.` and `:`, as seqio allows.
      source: where rows come from.
      form: turns a row into text.
      output_features: what a model is given, by name, after the objective.
      learned: the objective, or None where the text itself is inputs and targets.
      postprocessor: decoded text to what the metrics compare.
      metric_fns: `(targets, predictions) -> {name: value}`.
      cache_name: folder under the cache directory, to which the fingerprint is added; shared
        by tasks that differ only in what follows the cache; "" takes the name.
      few_shot: how examples stand before what a model is asked.
    """

    name: str
    source: Source
    form: Form
    output_features: Mapping[str, Feature]
    learned: Objective | None = None
    postprocessor: Postprocessor = TEXT
    metric_fns: Sequence[Metric] = ()
    cache_name: str = ""
    special_tokens: Literal["text", "ids"] | None = None
    few_shot: FewShot = FewShot()  # noqa: RUF009 (frozen)

    def __post_init__(self) -> None:
        if self.special_tokens not in (None, "text", "ids"):
            raise TaskError(
                f"task '{self.name}' has special_tokens {self.special_tokens!r}: 'text', 'ids' or "
                "None."
            )
        if not _NAME.fullmatch(self.name):
            raise TaskError(
                f"task name '{self.name}': letters, digits, '_', '.' and ':' can be used."
            )
        if not self.cache_name:
            object.__setattr__(self, "cache_name", self.name)
        for name in (self.name, self.cache_name):
            # Each part becomes a folder of the cache.
            if any(part in ("", ".", "..") or "/" in part for part in name.split(":")):
                raise TaskError(
                    f"task name '{name}': it would lead out of the cache directory; no part of it "
                    "can be empty, '.' or '..'."
                )
        columns = self.source.columns
        missing = [column for column in self.form.columns if columns and column not in columns]
        if missing:
            raise TaskError(
                f"task '{self.name}' uses the column '{missing[0]}': "
                f"its source has {', '.join(columns)}."
            )

    def __getstate__(self) -> dict[str, Any]:
        # Without gin's wrappers around functions, whose bindings stay in this process.
        functions = tuple(inspect.unwrap(function) for function in self.metric_fns)
        return {**self.__dict__, "metric_fns": functions}

    @property
    def cached_features(self) -> tuple[str, ...]:
        """The features in the cache, int32."""
        return self.form.features

    @property
    def cached_vocabularies(self) -> Mapping[str, Vocabulary]:
        """The vocabulary of each of them.

        One that the objective makes a part of an output feature has the first one's.
        """
        features = self.output_features
        first = next(iter(features.values()))
        return {name: features.get(name, first).vocabulary for name in self.cached_features}

    @property
    def listed(self) -> Mapping[str, str]:
        """The cached features that are lists of texts, see `forms.Form`."""
        return getattr(self.form, "listed", {})

    @property
    def label_names(self) -> tuple[str, ...]:
        """Of the classes 0, 1, … that its labels are; nothing where they are none."""
        return tuple(getattr(self.form, "label_names", ()))

    @property
    def unanswerable(self) -> bool:
        """Whether its questions may have no answer."""
        return isinstance(self.form, Spans) and self.form.unanswerable

    @property
    def splits(self) -> tuple[str, ...]:
        """The source's splits."""
        return tuple(self.source.splits)

    @property
    def source_is_local(self) -> bool:
        """Whether the cache can be built from what is on this machine."""
        return self.source.is_local

    @property
    def spelled_special_tokens(self) -> str:
        """What becomes of special tokens that a text spells out: "text" or "ids"."""
        if self.special_tokens is not None:
            return self.special_tokens
        return "text" if getattr(self.source, "is_users_own", False) else "ids"

    @property
    def inputs_form(self) -> WritesInputs | None:
        """How inputs are written of columns, where they are the text as it is or a head's."""
        of_head = isinstance(self.form, Labelled | Tags | Choices | Spans)
        kept = self.learned is None or getattr(self.learned, "keeps_texts", False)
        as_it_is = kept or of_head
        known = as_it_is and isinstance(self.form, WritesInputs)
        return self.form if known else None  # type: ignore[return-value]

    def examples(self, split: str, shards: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """The text of every example of some or all shards, before it is tokenized."""
        return written(self.form, self.source.rows(split, shards), f"split '{split}'")

    def postprocess(self, text: str, example: Mapping[str, Any], is_target: bool) -> Any:
        """Decoded text to what the metrics compare."""
        return self.postprocessor(text, example, is_target)

    def fingerprint(self) -> str:
        """Hex digest of everything that decides the cache.

        Raises:
          SourceUnavailable: the source or a vocabulary's file is not on this machine.
        """
        decisive = {
            "source": self.source.fingerprint(),
            "form": said(self.form),
            "vocabularies": {
                name: {
                    key: value
                    for key, value in vocabulary.spec().items()
                    if key not in _NOT_IN_FINGERPRINT
                }
                for name, vocabulary in self.cached_vocabularies.items()
            },
        }
        cached = self.cached_vocabularies.values()
        spells = any(getattr(one, "special_tokens", None) for one in cached)
        if spells and self.spelled_special_tokens == "text":
            decisive["special_tokens"] = "text"
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()

    def check_files(self) -> None:
        """Checks that what the cache is made of is on this machine; of the source nothing is read.

        Raises:
          SourceUnavailable: a file of the source, or a vocabulary's, is not.
        """
        check_files(self.source)
        for vocabulary in self.cached_vocabularies.values():
            vocabulary.spec()

    def with_vocabulary(self, vocabulary: Vocabulary) -> "Task":
        """The same task with another vocabulary, and so with a cache of its own."""
        if all(feature.vocabulary == vocabulary for feature in self.output_features.values()):
            return self
        return dataclasses.replace(
            self,
            output_features={
                name: dataclasses.replace(feature, vocabulary=vocabulary)
                for name, feature in self.output_features.items()
            },
            cache_name=f"{self.cache_name}.{vocabulary.tag}",
        )

    def seqio(self) -> Any:
        """The `seqio.Task`, registered; imports seqio, and so TensorFlow."""
        import seqio

        from tasks.seqio_interop import to_seqio

        return to_seqio.register_task(
            self.name,
            cache_name=self.cache_name,
            fingerprint=self.fingerprint,
            source=self.source.seqio(),
            form=self.form,
            output_features={
                name: seqio.Feature(
                    feature.vocabulary.seqio(), add_eos=feature.add_eos, rank=feature.rank
                )
                for name, feature in self.output_features.items()
            },
            ends_kept=[name for name, f in self.output_features.items() if f.keeps == "end"],
            vocabularies={
                **{name: f.vocabulary for name, f in self.output_features.items()},
                **self.cached_vocabularies,
            },
            special_tokens=self.spelled_special_tokens,
            objective=self.learned,
            postprocess=self.postprocess,
            metric_fns=self.metric_fns,
            definition=repr(self),
        )


@dataclasses.dataclass(frozen=True)
class Mixture:
    """Tasks with the rates at which their examples are drawn.

    Attributes:
      name: as registered.
      tasks: each task with its rate, any positive number.
    """

    name: str
    tasks: Sequence[tuple[BaseTask, float]]

    def __post_init__(self) -> None:
        for task, rate in self.tasks:
            if not 0 < rate < float("inf"):
                raise TaskError(
                    f"mixture '{self.name}' draws '{task.name}' at rate {rate}: "
                    "a positive number is needed."
                )
        if not self.tasks:
            raise TaskError(f"mixture '{self.name}' has no tasks.")

    def with_vocabulary(self, vocabulary: Vocabulary) -> Self:
        """The same mixture with another vocabulary in every task."""
        tasks = tuple((task.with_vocabulary(vocabulary), rate) for task, rate in self.tasks)
        return dataclasses.replace(self, tasks=tasks)

    def seqio(self) -> Any:
        """The `seqio.Mixture`, registered; imports seqio, and so TensorFlow."""
        from tasks.seqio_interop import to_seqio

        for task, _ in self.tasks:
            task.seqio()
        return to_seqio.register_mixture(self.name, {task.name: rate for task, rate in self.tasks})
