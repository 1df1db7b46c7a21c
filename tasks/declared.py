"""A user's seqio task as JSON, so that training can know it without importing seqio.

`t5x-like cache` writes it where the module that registers the task can be imported; a
training process reads it and leaves the module, and with it TensorFlow, alone.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tasks import objectives
from tasks.errors import TaskError
from tasks.objectives import BoundObjective, Objective
from tasks.objectives.objective import VocabularySpecs
from tasks.task import Feature, Mixture
from tasks.vocabularies import ByteVocabulary, SentencePieceVocabulary, Vocabulary


@dataclasses.dataclass(frozen=True)
class DeclaredTask:
    """What reading a cache needs to know of a task.

    Attributes:
      name: as registered with seqio.
      cache_name: its folder.
      output_features: what a model is given.
      learned: the objective, where one follows the cache.
      recorded_fingerprint: of the declaration that the JSON was made from.
    """

    name: str
    cache_name: str
    output_features: Mapping[str, Feature]
    learned: Objective | None
    recorded_fingerprint: str
    metric_fns: Sequence[Callable[..., Any]] = ()

    @property
    def source_is_local(self) -> bool:
        """Only the module knows the source."""
        return False

    def objective(self, specs: VocabularySpecs) -> BoundObjective | None:
        """The objective for these vocabularies."""
        return None if self.learned is None else self.learned.bind(specs)

    def postprocess(self, text: str, example: Mapping[str, Any], is_target: bool) -> Any:
        """The text as it is: seqio's postprocessing is in the module."""
        return text

    def fingerprint(self) -> str:
        """As recorded."""
        return self.recorded_fingerprint

    def with_vocabulary(self, vocabulary: Any) -> "DeclaredTask":
        """Refused: the task's own module sets its vocabulary."""
        raise TaskError(
            f"the vocabulary of the seqio task '{self.name}' is set in the module that "
            "registers it: leave VOCABULARY unset (None)."
        )

    def seqio(self) -> Any:
        """Refused: there is only the declaration."""
        raise TaskError(
            f"the seqio task '{self.name}' is in a module of yours: name it by --module_import."
        )


def to_json(task: Any) -> dict[str, Any] | None:
    """The declaration of a `from_seqio.SeqioTask`, or of a mixture of them.

    None for tasks of ours, which need none, and where an objective or a vocabulary is not
    one of this package.
    """
    if isinstance(task, Mixture):
        members = [(to_json(member), rate) for member, rate in task.tasks]
        if any(member is None for member, _ in members):
            return None
        return {"name": task.name, "tasks": members}
    if not hasattr(task, "provider"):
        return None
    specs = {name: f.vocabulary.spec() for name, f in task.output_features.items()}
    learned = task.learned
    ours = learned is None or getattr(objectives, type(learned).__name__, None) is type(learned)
    if not ours or any(spec["kind"] not in ("bytes", "sentencepiece") for spec in specs.values()):
        return None
    return {
        "name": task.name,
        "cache_name": task.cache_name,
        "fingerprint": task.fingerprint(),
        "features": {
            name: {"add_eos": feature.add_eos, "vocabulary": specs[name]}
            for name, feature in task.output_features.items()
        },
        "objective": learned
        and {"name": type(learned).__name__, "settings": dataclasses.asdict(learned)},
    }


def from_json(declaration: Mapping[str, Any]) -> DeclaredTask | Mixture:
    """The task or mixture that `to_json` described."""
    if "tasks" in declaration:
        members = tuple((from_json(member), rate) for member, rate in declaration["tasks"])
        return Mixture(declaration["name"], members)
    objective = declaration["objective"]
    return DeclaredTask(
        name=declaration["name"],
        cache_name=declaration["cache_name"],
        output_features={
            name: Feature(_vocabulary(feature["vocabulary"]), feature["add_eos"])
            for name, feature in declaration["features"].items()
        },
        learned=objective and getattr(objectives, objective["name"])(**objective["settings"]),
        recorded_fingerprint=declaration["fingerprint"],
    )


def _vocabulary(spec: Mapping[str, Any]) -> Vocabulary:
    """Needs neither the file nor sentencepiece to be there."""
    if spec["kind"] == "bytes":
        return ByteVocabulary(spec["extra_ids"])
    return SentencePieceVocabulary(spec["file"], spec["extra_ids"])
