"""A user's own seqio tasks and mixtures, read from our caches like any other.

What stands before `seqio.CacheDatasetPlaceholder` is cached by seqio itself. What stands
after it must be known here, because training runs without TensorFlow: an objective
wrapped in `seqio_pipeline.ApplyObjective`, and the appending of EOS.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import seqio

from tasks.errors import TaskError
from tasks.objectives import BoundObjective, Objective
from tasks.objectives.objective import VocabularySpecs
from tasks.seqio_vocabulary import SeqioTokenizer
from tasks.task import Feature, Mixture
from tasks.vocabularies import ByteVocabulary, SentencePieceVocabulary
from tasks.vocabularies.special_pieces import own_sentinels

_EOS = (seqio.preprocessors.append_eos, seqio.preprocessors.append_eos_after_trim)

# Of a vocabulary's spec, what only those look for who lay out batches.
_AFTER_THE_CACHE = ("start_id", "start_token")


@dataclasses.dataclass(frozen=True)
class OtherVocabulary:
    """Any other seqio vocabulary, used through seqio.

    Attributes:
      wrapped: the vocabulary.
    """

    wrapped: seqio.Vocabulary

    @property
    def vocab_size(self) -> int:
        """With the extra ids."""
        return self.wrapped.vocab_size

    @property
    def extra_ids(self) -> int:
        """As seqio counts them."""
        return self.wrapped.extra_ids

    @property
    def eos_id(self) -> int:
        """The id that ends a sequence."""
        return self.wrapped.eos_id

    @property
    def unk_id(self) -> int | None:
        """The id of the unknown."""
        return self.wrapped.unk_id

    @property
    def start_id(self) -> int:
        """0, with which seqio's converters begin."""
        return 0

    @property
    def tag(self) -> str:
        """Short name for folders."""
        return hashlib.sha256(str(self.wrapped).encode()).hexdigest()[:8]

    def encode(self, text: str) -> list[int]:
        """As the wrapped vocabulary does."""
        return list(self.wrapped.encode(text))

    def decode(self, ids: Sequence[int]) -> str:
        """As the wrapped vocabulary does."""
        return self.wrapped.decode(ids)

    def spec(self) -> dict[str, Any]:
        """What is known of the ids, as JSON."""
        return {
            "kind": type(self.wrapped).__name__,
            "vocab_size": self.vocab_size,
            "extra_ids": self.extra_ids,
            "pad_id": 0,
            "eos_id": self.eos_id,
            "unk_id": self.unk_id,
            "start_id": self.start_id,
            "described": str(self.wrapped),
        }

    def seqio(self) -> seqio.Vocabulary:
        """The wrapped vocabulary."""
        return self.wrapped


def vocabulary_from_seqio(vocabulary: seqio.Vocabulary) -> Any:
    """The vocabulary of ours with the same ids, which needs no TensorFlow."""
    if type(vocabulary) is seqio.ByteVocabulary:
        return ByteVocabulary(vocabulary.extra_ids)
    if type(vocabulary) is seqio.SentencePieceVocabulary:
        size = vocabulary.vocab_size
        pieces = [vocabulary.tokenizer.IdToPiece(i) for i in range(size)]
        return SentencePieceVocabulary(
            vocabulary.sentencepiece_model_file, extra_ids=own_sentinels(pieces)
        )
    if isinstance(vocabulary, SeqioTokenizer):
        return vocabulary.wrapped
    return OtherVocabulary(vocabulary)


@dataclasses.dataclass(frozen=True)
class SeqioTask:
    """A seqio task under the contract of `task.Task`.

    Attributes:
      name: as registered with seqio.
      output_features: what a model is given.
      learned: the objective, where one follows the cache.
      provider: the `seqio.Task`, with a placeholder for the cache.
    """

    name: str
    output_features: Mapping[str, Feature]
    learned: Objective | None
    provider: seqio.Task

    @property
    def cache_name(self) -> str:
        """Seqio keeps a cache under the task's name."""
        return getattr(self.provider, "cache_name", self.name)

    @property
    def cached_features(self) -> tuple[str, ...]:
        """What the objective reads, or all features."""
        if self.learned is None:
            return tuple(self.output_features)
        return self.learned.bind(self._specs()).reads

    def _specs(self) -> dict[str, dict[str, Any]]:
        return {name: f.vocabulary.spec() for name, f in self.output_features.items()}

    @property
    def metric_fns(self) -> Sequence[Callable[..., Any]]:
        """Those of predicted text; metrics of scores are seqio's own."""
        return tuple(self.provider.predict_metric_fns)

    @property
    def positioned(self) -> tuple[str, ...]:
        """Features whose tokens come with their places in a longer text."""
        return getattr(self.learned, "positioned", ())

    @property
    def splits(self) -> tuple[str, ...]:
        """The source's."""
        return tuple(self.provider.splits)

    @property
    def source_is_local(self) -> bool:
        """Unknown for a source of the user's, so `t5x-like cache` is asked for."""
        return False

    def objective(self, vocabularies: VocabularySpecs) -> BoundObjective | None:
        """The objective for these vocabularies."""
        return None if self.learned is None else self.learned.bind(vocabularies)

    def examples(self, split: str) -> Iterator[dict[str, Any]]:
        """The cached examples, with text where seqio kept it as `NAME_pretokenized`."""
        dataset = self.provider.source.get_dataset(split, shuffle=False)
        for example in self.provider.preprocess_precache(dataset).as_numpy_iterator():
            texts = {
                name: example[f"{name}_pretokenized"]
                for name in self.output_features
                if f"{name}_pretokenized" in example
            }
            yield {name: text.decode("utf-8") for name, text in texts.items()}

    def postprocess(self, text: str, example: Mapping[str, Any], is_target: bool) -> Any:
        """Seqio's postprocessing."""
        return self.provider.postprocess_fn(text, example=example, is_target=is_target)

    def fingerprint(self) -> str:
        """Of the declaration: what seqio does not show of a source is not in it."""
        names = [_name(step) for step in self.provider.preprocessors]
        specs = {
            name: {key: value for key, value in spec.items() if key not in _AFTER_THE_CACHE}
            for name, spec in self._specs().items()
        }
        parts = (self.name, str(self.provider.source), names, specs)
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def with_vocabulary(self, vocabulary: Any) -> "SeqioTask":
        """Refused unless it is the same: the task's own module sets its vocabulary.

        Raises:
          TaskError: another vocabulary.
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


def names() -> list[str]:
    """What is registered with seqio."""
    return sorted({*seqio.TaskRegistry.names(), *seqio.MixtureRegistry.names()})


def from_seqio(name: str) -> SeqioTask | Mixture:
    """A task or mixture of seqio's registries under our contract.

    Raises:
      TaskError: something follows the cache that cannot run without TensorFlow, or a
        mixture's rate depends on more than the task.
    """
    provider = seqio.get_mixture_or_task(name)
    if isinstance(provider, seqio.Mixture):
        members = [(_wrapped(task), float(provider.get_rate(task))) for task in provider.tasks]
        return Mixture(name, tuple(members))
    return _wrapped(provider)


def _wrapped(provider: seqio.Task) -> SeqioTask:
    steps = list(provider.preprocessors)
    places = [i for i, s in enumerate(steps) if isinstance(s, seqio.CacheDatasetPlaceholder)]
    if not places:
        # All of it is cached, but for EOS, which follows trimming.
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
                "and training runs without TensorFlow; an objective wrapped in "
                "tasks.seqio_pipeline.ApplyObjective, append_eos and append_eos_after_trim may."
            )
    appends_eos = appends_eos or getattr(learned, "document_eos", False)
    features = {
        name: Feature(
            vocabulary_from_seqio(feature.vocabulary), add_eos=feature.add_eos and appends_eos
        )
        for name, feature in provider.output_features.items()
    }
    return SeqioTask(provider.name, features, learned, provider)


def _function(step: Any) -> Any:
    while isinstance(step, functools.partial):
        step = step.func
    return step


def _name(step: Any) -> str:
    step = _function(step)
    return getattr(step, "__name__", type(step).__name__)
