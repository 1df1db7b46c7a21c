"""Heads for fine-tuning in Hugging Face's form: a class of `transformers`, options of labels."""

from typing import Any

from models.errors import ModelError
from models.heads import Classification, Head, Regression
from models.hf.family import Config

_SEQUENCE = "ForSequenceClassification"
_ROW_PROBLEMS = ("regression", "single_label_classification")
# The classes' names where there are none, as in `transformers`.
_UNNAMED = "LABEL_{}"


def head_of(config: Config, rate: float | None, source: str) -> Head | None:
    """The head that the class of a `config.json` has; None for a class without one of ours.

    Args:
      config: its options.
      rate: dropout of what the head reads; None is the model's own.
      source: where they come from, for errors.

    Raises:
      ModelError: labels that do not go together, or more than one label for a row.
    """
    classes = config.get("architectures") or [""]
    if not str(classes[0]).endswith(_SEQUENCE):
        return None
    labels = _labels(config, source)
    problem = config.get("problem_type")
    if problem is None:
        problem = _ROW_PROBLEMS[len(labels) > 1]
    if problem not in _ROW_PROBLEMS:
        raise ModelError(
            f"{source}: problem_type {problem!r} is not supported: only "
            f"{' or '.join(map(repr, _ROW_PROBLEMS))} is."
        )
    if problem == "regression" and len(labels) == 1:
        return Regression(rate)
    if problem == "regression" or len(labels) < 2:
        raise ModelError(
            f"{source}: problem_type {problem!r} with {len(labels)} labels is not supported: a "
            "regression has 1, a classification 2 or more."
        )
    return Classification(labels, rate)


def architecture_of(head: Head, family: str) -> str:
    """The class of `transformers`, of a family whose classes begin so."""
    return f"{family}{_SEQUENCE}"


def options_of(head: Head) -> dict[str, Any]:
    """The options of `config.json` that say what a head is."""
    names = head.label_names.get("label", (_UNNAMED.format(0),))
    return {
        "id2label": {str(i): name for i, name in enumerate(names)},
        "label2id": {name: i for i, name in enumerate(names)},
        "problem_type": _ROW_PROBLEMS[isinstance(head, Classification)],
    }


def _labels(config: Config, source: str) -> tuple[str, ...]:
    """The names of the classes in their order, by `id2label`, or as many as `num_labels`."""
    given = config.get("id2label")
    count = config.get("num_labels", 2)
    if given is None:
        return tuple(_UNNAMED.format(i) for i in range(count))
    try:
        names = {int(i): str(name) for i, name in given.items()}
    except (AttributeError, TypeError, ValueError):
        names = {}
    if sorted(names) != list(range(len(names))) or not names:
        raise ModelError(
            f"{source}: id2label {given!r} of config.json does not name the classes 0, 1, …"
        )
    return tuple(names[i] for i in range(len(names)))
