"""Values of the examples that were in the training text, and of those that were not, apart."""

import dataclasses
from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from t5x_like.data import DatasetConfig
from t5x_like.data.records import open_records
from t5x_like.errors import UserError
from t5x_like.evaluation.generation import text_of
from t5x_like.evaluation.measurement import ROWS, Finding
from t5x_like.overlap import flags
from t5x_like.protocols import Task

# What an example with options keeps, of which one context and the right option are its text.
_CONTEXTS, _CONTINUATIONS, _LABEL = "contexts", "continuations", "label"
_OPTIONS = {_CONTEXTS, _CONTINUATIONS, _LABEL}
_KEPT = "_pretokenized"
# In records: which examples are dirty.
SETTING = "overlap"


@dataclasses.dataclass(frozen=True)
class Overlap:
    """Flags that `t5x-like overlap` wrote, by which values are told apart.

    Attributes:
      directory: of the flags.
      rule: which of them: "gpt3", one n-gram, or "palm", 70% of the 8-grams.
    """

    directory: str
    rule: str = "gpt3"

    def check(self, dataset: DatasetConfig) -> None:
        """Reads the flags of a task's split, before anything is measured.

        Raises:
          UserError: there are none.
        """
        flags.read(self.directory, cast(Task, dataset.task).name, dataset.split, self.rule)

    def parts(self, dataset: DatasetConfig, findings: Mapping[str, Finding]) -> Finding | None:
        """The values of both parts, `clean/NAME` and `dirty/NAME`, and how many rows each has.

        Args:
          dataset: the split of one task.
          findings: those of it whose values can be told of some examples alone have parts.

        Raises:
          UserError: there are no flags of the task, or none of an example.
        """
        told = [one for one in findings.values() if one.part is not None]
        if not told:
            return None
        task = cast(Task, dataset.task)
        known = flags.read(self.directory, task.name, dataset.split, self.rule)
        records = open_records(dataset, ())
        assert records is not None  # no feature was asked for
        is_dirty: dict[int, bool] = {}
        for number in {number for one in told for number in one.examples}:
            text = example_text(records.examples.raw(number), task.output_features)
            is_dirty[number] = known.is_dirty(text)
        values: dict[str, float] = {}
        for name, wanted in (("clean", False), ("dirty", True)):
            for one in told:
                assert one.part is not None
                places = [i for i, n in enumerate(one.examples) if is_dirty[n] == wanted]
                values.setdefault(f"{name}/{ROWS}", float(len(places)))
                if places:
                    found = one.part(places)
                    values |= {f"{name}/{metric}": value for metric, value in found.items()}
        return Finding(values, settings={SETTING: known.described})


def example_text(record: Mapping[str, Any], features: Mapping[str, Any]) -> str:
    """All text of an example, as it is in the cache: what it reads, and what is expected.

    Of options, the context and the right one; the context alone where none is known.

    Args:
      record: of the cache.
      features: the task's output features, by whose vocabularies ids are read where the cache has
        not kept the text.
    """
    if record.keys() >= _OPTIONS:
        contexts, continuations = (_texts(record[name]) for name in (_CONTEXTS, _CONTINUATIONS))
        label = int(np.ravel(record[_LABEL])[0])
        if label < 0:
            return contexts[0]
        return "".join(texts[label if len(texts) > 1 else 0] for texts in (contexts, continuations))
    names = sorted(name for name in record if name.endswith(_KEPT))
    texts = [" ".join(_texts(record[name])) for name in names]
    if not texts:
        texts = [
            text_of(record, name, feature.vocabulary)
            for name, feature in sorted(features.items())
            if name in record
        ]
    if not texts:
        raise UserError("the cache keeps no text of the examples: they cannot be compared.")
    return "\n".join(texts)


def keeps_text(record: Mapping[str, Any]) -> bool:
    """Whether the cache has kept the text of an example, or its ids alone."""
    return record.keys() >= _OPTIONS or any(name.endswith(_KEPT) for name in record)


def _texts(value: Any) -> list[str]:
    values = value if isinstance(value, list | tuple) else np.ravel(value).tolist()
    return [one.decode("utf-8") if isinstance(one, bytes) else str(one) for one in values]
