"""The manifest of a user's seqio task: a JSON description that training reads without seqio.

`t5x-like cache` writes it where the module that registers the task can be imported. A training
process reads it, and so need not import that module and with it TensorFlow.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tasks import objectives
from tasks.errors import TaskError
from tasks.objectives import Objective
from tasks.task import BaseTask, Feature, Metric, Mixture, Task
from tasks.tokenizer_json import TokenizerVocabulary
from tasks.vocabularies import ByteVocabulary, SentencePieceVocabulary, Vocabulary


@dataclasses.dataclass(frozen=True)
class DeclaredTask(BaseTask):
    """A task as its manifest describes it: enough to read its cache.

    Attributes:
      name: as registered with seqio.
      cache_name: its folder.
      output_features: what a model is given.
      learned: the objective, where one follows the cache.
      recorded_fingerprint: the task's fingerprint when the manifest was written.
    """

    name: str
    cache_name: str
    output_features: Mapping[str, Feature]
    learned: Objective | None
    recorded_fingerprint: str
    metric_fns: Sequence[Metric] = ()

    @property
    def source_is_local(self) -> bool:
        """False: only the task's own module knows its source."""
        return False

    def postprocess(self, text: str, example: Mapping[str, Any], is_target: bool) -> Any:
        """The text unchanged: the postprocessor is in the task's own module."""
        return text

    def fingerprint(self) -> str:
        """The recorded fingerprint."""
        return self.recorded_fingerprint

    def with_vocabulary(self, vocabulary: Any) -> "DeclaredTask":
        """Always raises `TaskError`: the task's own module sets its vocabulary."""
        raise TaskError(
            f"the vocabulary of the seqio task '{self.name}' is set in the module that "
            "registers it: leave VOCABULARY unset (None)."
        )

    def seqio(self) -> Any:
        """Always raises `TaskError`: the `seqio.Task` is in the task's own module."""
        raise TaskError(
            f"the seqio task '{self.name}' is in a module of yours: name it with --module_import."
        )


def to_json(task: BaseTask | Mixture) -> dict[str, Any] | None:
    """The manifest of a `from_seqio.SeqioTask`, or of a mixture of them.

    None for a task declared with this package, which needs none, and where an objective or a
    vocabulary is not one of this package.
    """
    if isinstance(task, Mixture):
        members = [(to_json(member), rate) for member, rate in task.tasks]
        if any(member is None for member, _ in members):
            return None
        return {"name": task.name, "tasks": members}
    if isinstance(task, Task):
        return None
    specs = {name: f.vocabulary.spec() for name, f in task.output_features.items()}
    settings = _settings_to_json(task.learned)
    known = all(spec["kind"] in _VOCABULARIES for spec in specs.values())
    if not known or (task.learned is not None and settings is None):
        return None
    return {
        "name": task.name,
        "cache_name": task.cache_name,
        "fingerprint": task.fingerprint(),
        "features": {
            name: {"add_eos": feature.add_eos, "vocabulary": specs[name]}
            for name, feature in task.output_features.items()
        },
        "objective": settings,
    }


def from_json(declaration: Mapping[str, Any]) -> DeclaredTask | Mixture:
    """The task or mixture that `to_json` described.

    Raises:
      TaskError: the manifest is not what `to_json` gives.
    """
    try:
        if "tasks" in declaration:
            members = tuple((_task(member), rate) for member, rate in declaration["tasks"])
            return Mixture(declaration["name"], members)
        return _task(declaration)
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise TaskError(
            f"the manifest of a seqio task is malformed ({type(error).__name__}: {error}): build "
            "its cache again."
        ) from None


def _task(declaration: Mapping[str, Any]) -> DeclaredTask:
    return DeclaredTask(
        name=declaration["name"],
        cache_name=declaration["cache_name"],
        output_features={
            name: Feature(_vocabulary(feature["vocabulary"]), feature["add_eos"])
            for name, feature in declaration["features"].items()
        },
        learned=_settings_from_json(declaration["objective"]),
        recorded_fingerprint=declaration["fingerprint"],
    )


def _settings_to_json(settings: Any) -> dict[str, Any] | None:
    """An objective or a part of one, or None where it is not one of this package."""
    if getattr(objectives, type(settings).__name__, None) is not type(settings):
        return None
    values: dict[str, Any] = {}
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if isinstance(value, tuple) and any(map(dataclasses.is_dataclass, value)):
            value = [_settings_to_json(one) for one in value]
            if None in value:
                return None
        values[field.name] = value
    return {"name": type(settings).__name__, "settings": values}


def _settings_from_json(described: Any) -> Any:
    if described is None:
        return None
    values = {
        name: tuple(_settings_from_json(one) if isinstance(one, dict) else one for one in value)
        if isinstance(value, list)
        else value
        for name, value in described["settings"].items()
    }
    if described["name"] not in objectives.__all__:
        raise TaskError(f"a manifest names the objective {described['name']!r}: there is none.")
    return getattr(objectives, described["name"])(**values)


def _bytes(spec: Mapping[str, Any]) -> Vocabulary:
    return ByteVocabulary(spec["extra_ids"])


def _sentencepiece(spec: Mapping[str, Any]) -> Vocabulary:
    return SentencePieceVocabulary(spec["file"], spec["extra_ids"], spec.get("start_token"))


def _tokenizer_json(spec: Mapping[str, Any]) -> Vocabulary:
    return TokenizerVocabulary(
        spec["file"],
        spec["extra_ids"],
        spec["eos_token"],
        spec["mask_token"],
        spec.get("start_token"),
        lower_case=spec.get("lower_case"),
        longest_word=spec.get("longest_word"),
    )


# From a spec: neither the vocabulary's file nor the tokenizer's library is needed.
_VOCABULARIES: Mapping[str, Callable[[Mapping[str, Any]], Vocabulary]] = {
    "bytes": _bytes,
    "sentencepiece": _sentencepiece,
    "tokenizer.json": _tokenizer_json,
}


def _vocabulary(spec: Mapping[str, Any]) -> Vocabulary:
    return _VOCABULARIES[spec["kind"]](spec)
