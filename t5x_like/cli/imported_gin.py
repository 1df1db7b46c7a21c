"""The gin files of a model that was imported: the model, and a task for data of its kind."""

import dataclasses
import re
import sys
import types
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from t5x_like.data import formats
from t5x_like.errors import UserError, on_one_line
from t5x_like.protocols import Model, Vocabulary, label_names

# Lengths of an imported model's features, where its own positions allow as many.
_TEXT_LENGTH = 512
_LENGTHS = {
    "inputs and targets": {"targets": 128},
    "text": {},
    "hidden tokens": {},
    "tokens in an order": {},
    "labels": {"inputs": 128},
    "numbers": {"inputs": 128},
    "tags": {"inputs": 128},
    "choices": {"inputs": 128, "choices": 4},
    "answers": {"inputs": 384},
}

# The data of an imported run, for `eval` and training: files of the working directory unless the
# command line names others.
_TASKS = {  # by what the model's batches hold
    "inputs and targets": """
include 'tasks/jsonl_text_to_text.gin'

COLUMNS = ['inputs', 'targets']
INPUTS = '{inputs}'
TARGETS = '{targets}'
""",
    "text": """
include 'tasks/jsonl.gin'
include 'tasks/causal_lm.gin'
""",
    "hidden tokens": """
include 'tasks/jsonl.gin'
include 'tasks/objectives/masked_lm.gin'
""",
    "tokens in an order": """
include 'tasks/jsonl.gin'
include 'tasks/objectives/permutation_lm.gin'
""",
    "labels": """
include 'tasks/classification_jsonl.gin'

COLUMNS = {columns}
TEXTS = {texts}
LABELS = {labels}
""",
    "numbers": """
include 'tasks/regression_jsonl.gin'

COLUMNS = {columns}
TEXTS = {texts}
""",
    "tags": """
include 'tasks/tagging_jsonl.gin'

LABELS = {labels}
""",
    "choices": """
include 'tasks/multiple_choice_jsonl.gin'

COLUMNS = ['text', 'choices', 'label']
CONTEXT = '{text}'
OPTIONS = ['choices']
LABELS = ['0', '1', '2', '3']
""",
    "answers": """
include 'tasks/spans_jsonl.gin'
""",
}
# The columns of rows that have labels, by how many texts each is made of.
_TEXTS = {1: ["text"], 2: ["first", "second"]}


# Of tags that are not those of entities.
_OTHER_TAGS = """
from tasks import metrics

SCHEME = None
METRICS = [@metrics.word_accuracy]
"""
_FILES = """
TRAIN_FILES = 'train.jsonl'
VALIDATION_FILES = 'validation.jsonl'
"""


def file_of(vocabulary: Vocabulary) -> Path:
    """The file that a vocabulary is read from."""
    # Of a directory, what is read in it.
    return Path(getattr(vocabulary, "file", None) or vocabulary.path)  # type: ignore[attr-defined]


def header(source: str, name: str) -> str:
    """The first lines of a file: where the model is from, and how the file is used."""
    use = {
        "model.gin": "give it after a task's file, and runs/finetune.gin (for a fresh head "
        "runs/finetune_head.gin) with INITIAL_CHECKPOINT_PATH.",
        "config.gin": "as a run's; its data are JSON lines, TRAIN_FILES and VALIDATION_FILES.",
    }
    return (
        f"# Imported from {on_one_line(source)}.\n# {name}: {use[name]}\n"
        "from __gin__ import dynamic_registration\n"
    )


def model_text(model: Model, vocabulary: Vocabulary | None, directory: Path, *, head: bool) -> str:
    """Bindings of MODEL, and of VOCABULARY where there is one.

    Args:
      model: as it was read.
      vocabulary: its own, or None.
      directory: where the vocabulary's file will be.
      head: whether the model has its head; that of another task is the task's file's to bind.
    """
    left_out = () if head else ("head",)
    text = _bindings("MODEL", model, {"dropout_rate": "%DROPOUT_RATE"}, left_out)
    text += f"DROPOUT_RATE = {model.dropout_rate!r}\n"  # type: ignore[attr-defined]
    if vocabulary is not None:
        path = str(directory / file_of(vocabulary).name)
        text += _bindings("VOCABULARY", vocabulary, {"path": repr(path)})
    return text


def config_elsewhere(model_dir: str, out: str, *, with_model: bool = True) -> str:
    """A run's `config.gin`, as that of another MODEL_DIR.

    Args:
      model_dir: the run's.
      out: the other.
      with_model: whether MODEL is the run's; else it is left out, to be bound again.

    Raises:
      UserError: there is no run.
    """
    path = Path(model_dir) / "config.gin"
    if not path.is_file():
        raise UserError(f"no run in '{model_dir}': it has no config.gin.")
    left_out = "MODEL_DIR" if with_model else "MODEL(?:_DIR)?"
    # A value that is long stands on lines of its own, which are indented.
    statement = rf"(?m)^{left_out} = .*\n(?:[ \t]+.*\n)*"
    rest = re.sub(statement, "", path.read_text("utf-8"))
    return f"{rest}\nMODEL_DIR = {str(out)!r}\n"


def field_text(value: Any, field: str) -> str:
    """A binding of one field of a dataclass to another dataclass.

    Args:
      value: of a class that gin files know by its module.
      field: its name.
    """
    kind = type(value)
    package, module = _module_of(kind)
    selector = f"{module}.{kind.__name__}.{field}"
    return f"from {package} import {module}\n" + _bindings(selector, getattr(value, field), {})


def members_text(ensemble: Any) -> str:
    """Bindings that make an ensemble MODEL, each member in a scope of its own.

    Args:
      ensemble: of models that gin files know by their modules.

    Raises:
      UserError: a member cannot be written to a gin file.
    """
    members, imports, text = [], "\n", ""
    for number, member in enumerate(ensemble.members):
        scope = f"member_{number}/"
        members.append(f"@{scope}{_selector(member)}()")
        package, module = _module_of(type(member))
        imports += f"from {package} import {module}\n"
        text += _fields(member, scope=scope)
    own = _bindings("MODEL", ensemble, {"members": f"[{', '.join(members)}]"})
    return f"{imports}{own}{text}"


def _bindings(
    macro: str,
    value: Any,
    replaced: Mapping[str, str],
    left_out: Collection[str] = (),
    scope: str = "",
) -> str:
    """Gin that makes a dataclass again.

    Args:
      macro: what to bind it to: a macro, or the field of another.
      value: the dataclass, of a module that can be imported.
      replaced: text of fields that are written otherwise.
      left_out: fields that are not written.
      scope: of the dataclass and all within, `member_0/`; then every field is written, since what
        is bound without a scope holds within one too.

    Raises:
      UserError: a field is neither plain nor the class's own value.
    """
    package, module = _module_of(type(value))
    lines = f"\nfrom {package} import {module}\n\n{macro} = @{scope}{_selector(value)}()\n"
    return lines + _fields(value, replaced, left_out, scope).lstrip("\n")


def _fields(
    value: Any,
    replaced: Mapping[str, str] = types.MappingProxyType({}),
    left_out: Collection[str] = (),
    scope: str = "",
) -> str:
    """Gin that binds the fields of a dataclass; see `_bindings`."""
    kind, selector = type(value), f"{scope}{_selector(value)}"
    lines, inner = [""], []
    for field in dataclasses.fields(value):
        found = getattr(value, field.name)
        if not field.init or field.name in ("parent", "name", *left_out):
            continue
        if found is None and field.default is None and not scope:
            continue  # no choice, and a head is the task's file's to bind
        if field.name in replaced or _is_plain(found):
            lines.append(f"{selector}.{field.name} = {replaced.get(field.name, repr(found))}")
        elif _is_made(found) and (scope or found != field.default):
            inner.append(_bindings(f"{selector}.{field.name}", found, {}, scope=scope))
        elif found != field.default:
            raise UserError(
                f"{kind.__name__}.{field.name} = {found} cannot be written to a gin file."
            )
    return "\n".join(lines) + "\n" + "".join(inner)


def _selector(value: Any) -> str:
    """The name of a dataclass in gin files."""
    return f"{_module_of(type(value))[1]}.{type(value).__name__}"


def _module_of(kind: type) -> tuple[str, str]:
    """The package and module from which gin files take a class: the uppermost that has it."""
    package, _, module = kind.__module__.rpartition(".")
    while "." in package and getattr(sys.modules[package], kind.__name__, None) is kind:
        package, _, module = package.rpartition(".")
    return package, module


def _is_made(value: Any) -> bool:
    """Whether a value is a dataclass's, and not a class itself."""
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def _kind_of(batch_format: formats.BatchFormat) -> str:
    """Which of `_TASKS` a model with these batches is for."""
    measured = getattr(batch_format, "measured", None)
    if isinstance(measured, formats.MeasuredWords):
        return "tags"
    if isinstance(measured, formats.MeasuredChoices):
        return "choices"
    if isinstance(measured, formats.MeasuredRows):
        return "labels" if measured.probabilities else "numbers"
    if "perm_own_rank" in batch_format.reads:
        return "tokens in an order"
    if getattr(batch_format, "extracted", None) is not None:
        return "answers"
    if batch_format.prompts is None:
        return "hidden tokens"
    return "inputs and targets" if "inputs" in batch_format.task_features else "text"


def texts_of(model: Model, texts: int | None) -> int | None:
    """How many texts a row is made of: 1 unless 2 are asked for; None of a model without labels.

    A directory does not say it: a classifier of pairs looks like one of single texts.

    Raises:
      UserError: it is asked for, and the model labels nothing.
    """
    if _kind_of(formats.find(model.batch_format)) in ("labels", "numbers"):
        return texts or 1
    if texts is not None:
        raise UserError(
            f"--texts={texts} is for models that label texts or pairs, and this "
            f"{type(model).__name__} has no head for that: leave it out."
        )
    return None


def run_text(
    model: Model, vocabulary: Vocabulary | None, model_dir: str, texts: int | None = None
) -> str:
    """Bindings of the run: where it is, and a task, where there is a vocabulary for one.

    Args:
      model: as it was read.
      vocabulary: its own, or None.
      model_dir: of the run.
      texts: see `texts_of`.
    """
    longest = model.max_length
    batch_format = formats.find(model.batch_format)
    kind, labels = _kind_of(batch_format), list(next(iter(label_names(model).values()), ()))
    wanted = {name: _LENGTHS[kind].get(name, _TEXT_LENGTH) for name in batch_format.task_features}
    lengths = {name: min(n, longest or n) for name, n in wanted.items()}
    task = ""
    if vocabulary is not None:
        # The task's file binds a vocabulary of its own, so ours comes after it.
        selector = f"{_module_of(type(vocabulary))[1]}.{type(vocabulary).__name__}"
        of_entities = all(label == "O" or label[:2] in ("B-", "I-") for label in labels)
        columns = _TEXTS[texts or 1]
        task = (
            _TASKS[kind]
            .replace("{labels}", repr(labels))
            .replace("{texts}", repr(columns))
            .replace("{columns}", repr([*columns, "label"]))
            + ("" if kind != "tags" or of_entities else _OTHER_TAGS)
            + _FILES
            + f"VOCABULARY = @{selector}()\n"
        )
    return f"{task}\nTASK_FEATURE_LENGTHS = {lengths!r}\nMODEL_DIR = {model_dir!r}\n"
