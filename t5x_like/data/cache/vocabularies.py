"""What a cache says of the vocabularies that its ids are of."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from t5x_like.data.cache import layout
from t5x_like.errors import UserError
from t5x_like.protocols import Task

# Settings of vocabularies that decide no id of a cached token: they may be others than those
# with which the cache was made.
_SETTINGS = ("start_token", "mask_token")


def vocabulary_specs(task: Task, folder: Path) -> dict[str, Mapping[str, Any]]:
    """The vocabulary spec of each feature, from `task.json` where it has it.

    A cache that another task wrote may lack features; those that share a vocabulary with one it
    has need no vocabulary file on this host either.
    """
    recorded = layout.recorded_vocabularies(folder)
    features = task.output_features

    def spec(name: str) -> Mapping[str, Any]:
        vocabulary = features[name].vocabulary
        for other in [name, *features]:
            if other in recorded and features[other].vocabulary == vocabulary:
                found = recorded[other]
                if all(getattr(vocabulary, key, None) == found.get(key) for key in _SETTINGS):
                    return found
        return vocabulary.spec()

    return {name: spec(name) for name in features}


def start_id_of(task: Task, folder: Path) -> int:
    """What a decoder reads before the targets, or before inputs where a task has nothing else.

    Of a spec that does not say, it is the vocabulary's.

    Raises:
      UserError: neither the cache nor this host knows.
    """
    specs = vocabulary_specs(task, folder)
    feature = "inputs" if tuple(specs) == ("inputs",) else "targets"
    spec = specs.get(feature, {"start_id": 0})
    if "start_id" in spec:
        return spec["start_id"]
    vocabulary = task.output_features[feature].vocabulary
    try:
        return getattr(vocabulary, "start_id", 0)
    except (OSError, ImportError) as error:
        raise UserError(
            f"what the decoder of task {task.name!r} begins with is neither in its cache, which an "
            f"earlier version made, nor known here: {error} Build the cache again where the "
            "vocabulary is, or bring its file."
        ) from None
