"""A user's own seqio tasks and mixtures, read from the cache like those of this package.

seqio itself caches what precedes `seqio.CacheDatasetPlaceholder`. What follows it must be
known here, because training runs without TensorFlow: an objective wrapped in
`preprocessors.ApplyObjective`, and the appending of EOS.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import seqio

from tasks.errors import TaskError
from tasks.filters.fingerprints import described
from tasks.objectives import Objective
from tasks.seqio_interop import to_seqio, vocabularies
from tasks.task import BaseTask, Feature, Metric, Mixture
from tasks.vocabularies import Vocabulary

_EOS = (seqio.preprocessors.append_eos, seqio.preprocessors.append_eos_after_trim)

# Entries of a vocabulary's spec that only the layout of batches uses, after the cache.
_AFTER_THE_CACHE = ("start_id", "start_token")


@dataclasses.dataclass(frozen=True)
class SeqioTask(BaseTask):
    """A seqio task, used like a `task.Task`.

    Attributes:
      name: as registered with seqio.
      cache_name: the same; seqio keeps a cache under the task's name.
      output_features: what a model is given.
      learned: the objective, where one follows the cache.
      metric_fns: the metrics of predicted text; metrics of scores are left to seqio.
      provider: the `seqio.Task`, with a placeholder for the cache.
    """

    name: str
    cache_name: str
    output_features: Mapping[str, Feature]
    learned: Objective | None
    metric_fns: Sequence[Metric]
    provider: seqio.Task

    @property
    def cached_features(self) -> tuple[str, ...]:
        """What the objective reads, or all features."""
        if self.learned is None:
            return tuple(self.output_features)
        return self.learned.bind(self._specs()).reads

    def _specs(self) -> dict[str, dict[str, Any]]:
        return {name: f.vocabulary.spec() for name, f in self.output_features.items()}

    @property
    def splits(self) -> tuple[str, ...]:
        """The source's splits."""
        return tuple(self.provider.splits)

    @property
    def source_is_local(self) -> bool:
        """False: nothing is known of a user's source, so `t5x-like cache` is asked for."""
        return False

    def examples(self, split: str) -> Iterator[dict[str, Any]]:
        """The text of each example, for the features that seqio kept as `NAME_pretokenized`."""
        dataset = self.provider.source.get_dataset(split, shuffle=False)
        for example in self.provider.preprocess_precache(dataset).as_numpy_iterator():
            texts = {
                name: example[f"{name}_pretokenized"]
                for name in self.output_features
                if f"{name}_pretokenized" in example
            }
            yield {name: text.decode("utf-8") for name, text in texts.items()}

    def postprocess(self, text: str, example: Mapping[str, Any], is_target: bool) -> Any:
        """Decoded text to what the metrics compare, by seqio's postprocessor."""
        return self.provider.postprocess_fn(text, example=example, is_target=is_target)

    def fingerprint(self) -> str:
        """Hex digest of the declaration, without what seqio does not show of a source."""
        steps = [described(step) for step in self.provider.preprocessors]
        specs = {
            name: {key: value for key, value in spec.items() if key not in _AFTER_THE_CACHE}
            for name, spec in self._specs().items()
        }
        parts = (self.name, str(self.provider.source), steps, specs)
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def with_vocabulary(self, vocabulary: Vocabulary) -> "SeqioTask":
        """The task itself: its own module sets its vocabulary.

        Raises:
          TaskError: another vocabulary than the task has.
        """
        if all(feature.vocabulary == vocabulary for feature in self.output_features.values()):
            return self
        raise TaskError(
            f"the vocabulary of the seqio task '{self.name}' is set in the module that "
            "registers it: leave VOCABULARY unset (None)."
        )

    def seqio(self) -> seqio.Task:
        """The `seqio.Task`."""
        return self.provider


@dataclasses.dataclass(frozen=True)
class SeqioMixture(Mixture):
    """A seqio mixture, used like a `task.Mixture`.

    Attributes:
      provider: the `seqio.Mixture`.
    """

    provider: seqio.Mixture

    def seqio(self) -> seqio.Mixture:
        """The `seqio.Mixture`."""
        return self.provider


def names() -> list[str]:
    """The names of the tasks and mixtures that modules of the user's registered with seqio."""
    found = {*seqio.TaskRegistry.names(), *seqio.MixtureRegistry.names()}
    return sorted(name for name in found if not to_seqio.is_ours(name))


def find(name: str) -> SeqioTask | SeqioMixture:
    """The task or mixture of this name in seqio's registries.

    Raises:
      TaskError: a step that follows the cache cannot run without TensorFlow.
    """
    provider = seqio.get_mixture_or_task(name)
    if isinstance(provider, seqio.Mixture):
        members = [(_wrapped(task), float(provider.get_rate(task))) for task in provider.tasks]
        return SeqioMixture(name, tuple(members), provider)
    return _wrapped(provider)


def _wrapped(provider: seqio.Task) -> SeqioTask:
    steps = list(provider.preprocessors)
    places = [i for i, s in enumerate(steps) if isinstance(s, seqio.CacheDatasetPlaceholder)]
    if not places:
        # All of it is cached but for EOS, which must come after trimming.
        end = len(steps)
        while end and _function(steps[end - 1]) in _EOS:
            end -= 1
        steps.insert(end, seqio.CacheDatasetPlaceholder())
        places = [end]
        provider = provider.replace(preprocessors=steps)
    after = steps[places[0] + 1 :]
    learned = None
    appends_eos = False
    for step in after:
        objective = getattr(step, "objective", None)
        if objective is not None and learned is None and not appends_eos:
            learned = objective
        elif _function(step) in _EOS:
            appends_eos = True
        else:
            raise TaskError(
                f"seqio task '{provider.name}': '{_name(step)}' follows CacheDatasetPlaceholder, "
                "and training runs without TensorFlow; only an objective wrapped in "
                "tasks.seqio_interop.preprocessors.ApplyObjective, append_eos and "
                "append_eos_after_trim can follow it."
            )
    appends_eos = appends_eos or getattr(learned, "document_eos", False)
    features = {
        name: Feature(
            vocabularies.from_seqio(feature.vocabulary),
            add_eos=feature.add_eos and appends_eos,
        )
        for name, feature in provider.output_features.items()
    }
    return SeqioTask(
        name=provider.name,
        cache_name=getattr(provider, "cache_name", provider.name),
        output_features=features,
        learned=learned,
        metric_fns=tuple(provider.predict_metric_fns),
        provider=provider,
    )


def _function(step: Any) -> Any:
    while isinstance(step, functools.partial):
        step = step.func
    return step


def _name(step: Any) -> str:
    step = _function(step)
    return getattr(step, "__name__", type(step).__name__)
