"""Heads for fine-tuning in Hugging Face's form: a class of `transformers`, options of labels."""

from collections.abc import Callable
from typing import Any, NamedTuple

from models.errors import ModelError
from models.heads import Classification, Head, MultipleChoice, Regression, Spans, Tagging
from models.heads.head import unnamed
from models.hf.family import CONFIG, Config, unsupported

_ROW_PROBLEMS = ("regression", "single_label_classification")


def head_of(config: Config, source: str) -> Head | None:
    """The head that the class of a `config.json` has; None for a class without one of ours.

    Its dropout is the model's.

    Args:
      config: its options.
      source: where they come from, for errors.

    Raises:
      ModelError: labels that do not go together, more than one label for a row, or a class whose
        tensors we do not know.
    """
    classes = config.get("architectures") or [""]
    if not isinstance(classes, list):
        raise unsupported(source, "architectures", classes, "a list of names of classes")
    for one in _CLASSES:
        family, ending, rest = str(classes[0]).rpartition(one.ending)
        if ending and not rest:
            if one.families is not None and family not in one.families:
                raise ModelError(f"{source}: the class {classes[0]} is not supported.")
            return one.make(config, source)
    return None


def rate_of(config: Config, option: str | None, otherwise: float | None) -> float | None:
    """The rate of dropout of a head, null or absent as it is otherwise, of the options that say it.

    Raises:
      ModelError: it is no number.
    """
    rate = otherwise if option is None else config.get(option, otherwise)
    if rate is not None and (isinstance(rate, bool) or not isinstance(rate, int | float)):
        raise unsupported(CONFIG, str(option), rate, "a number")
    return rate


def _of_rows(config: Config, source: str) -> Head:
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
        return Regression()
    if problem == "regression" or len(labels) < 2:
        raise ModelError(
            f"{source}: problem_type {problem!r} with {len(labels)} labels is not supported: a "
            "regression has 1, a classification 2 or more."
        )
    return Classification(labels)


def _of_words(config: Config, source: str) -> Head:
    return Tagging(_labels(config, source))


def _of_choices(config: Config, source: str) -> Head:
    return MultipleChoice()


def _of_spans(config: Config, source: str) -> Head:
    return Spans(dropout_rate=None)


class _Class(NamedTuple):
    """A class of `transformers`.

    Attributes:
      ending: of its name, after the family's.
      heads: ours that are written as it.
      make: one of them, of the options of a `config.json`.
      families: how the names of those begin whose tensors we know; None is all.
    """

    ending: str
    heads: tuple[type[Any], ...]
    make: Callable[[Config, str], Head]
    families: tuple[str, ...] | None = None


_BERTS = ("Bert", "Roberta", "DistilBert", "Albert", "Electra")
_ENCODERS = (*_BERTS, "Deberta")
_BIG_BIRD = "BigBird"
_CLASSES = (
    _Class("ForSequenceClassification", (Classification, Regression), _of_rows),
    _Class("ForTokenClassification", (Tagging,), _of_words, (*_ENCODERS, "XLNet", _BIG_BIRD)),
    _Class("ForMultipleChoice", (MultipleChoice,), _of_choices, (*_BERTS, "XLNet", _BIG_BIRD)),
    _Class("ForQuestionAnswering", (Spans,), _of_spans, (*_ENCODERS, _BIG_BIRD)),
    _Class("ForQuestionAnsweringSimple", (Spans,), _of_spans, ("XLNet",)),
)


def architecture_of(head: Head, family: str) -> str:
    """The class of `transformers`, of a family whose classes begin so.

    Raises:
      ModelError: there is none whose tensors we know.
    """
    for one in _CLASSES:
        if isinstance(head, one.heads) and (one.families is None or family in one.families):
            return f"{family}{one.ending}"
    raise ModelError(
        f"a head {type(head).__name__} cannot be expressed as a class of {family} in Hugging "
        "Face's form."
    )


def options_of(head: Head) -> dict[str, Any]:
    """The options of `config.json` that say what a head is."""
    if isinstance(head, MultipleChoice):
        return {}
    names = next(iter(head.label_names.values()), unnamed(head.outputs))
    labels = {
        "id2label": {str(i): name for i, name in enumerate(names)},
        "label2id": {name: i for i, name in enumerate(names)},
    }
    if isinstance(head, Tagging | Spans):
        return labels
    return labels | {"problem_type": _ROW_PROBLEMS[isinstance(head, Classification)]}


def _labels(config: Config, source: str) -> tuple[str, ...]:
    """The names of the classes in their order, by `id2label`, or as many as `num_labels`."""
    given = config.get("id2label")
    count = config.get("num_labels", 2)
    if type(count) is not int:
        raise unsupported(source, "num_labels", count, "a whole number")
    if given is None:
        return unnamed(count)
    try:
        names = {int(i): str(name) for i, name in given.items()}
    except (AttributeError, TypeError, ValueError):
        names = {}
    if sorted(names) != list(range(len(names))) or not names:
        raise ModelError(
            f"{source}: id2label {given!r} of config.json does not name the classes 0, 1, …"
        )
    return tuple(names[i] for i in range(len(names)))
