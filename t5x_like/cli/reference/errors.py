"""The one-line errors, read from the source: what each says, and what can be done about it."""

import ast
import dataclasses
import functools
import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path

_PACKAGES = ("t5x_like", "models", "tasks")
# Functions that show a value as it is: their argument is what a reader knows.
_SHOWN_BY = ("on_one_line", "repr", "shortened", "sorted", "str")
_LONGEST_NAME = 24


@dataclasses.dataclass(frozen=True)
class Message:
    """What one place in the source says when it refuses something.

    Attributes:
      module: file of the source, from its package on, `tasks/registry.py`.
      text: the line, with names in braces for what differs from case to case; None where the line
        is passed on from elsewhere.
      exit_code: with which the command ends.
    """

    module: str
    text: str | None
    exit_code: int


@dataclasses.dataclass(frozen=True)
class Subject:
    """What messages of some folders are about.

    Attributes:
      title: in a few words.
      advice: what helps beyond what the line itself says, in Markdown.
      folders: whose messages belong here; of two that hold a file the longer one counts.
    """

    title: str
    advice: str
    folders: tuple[str, ...]


SUBJECTS = (
    Subject(
        "Gin files and bindings",
        "The line names the file and the place. `--dry_run` shows every value and where it "
        "comes from, and `t5x-like help NAME` what a name takes: "
        "[training](../training.md#configuration-of-a-run).",
        ("t5x_like/config",),
    ),
    Subject(
        "Commands and flags",
        "`t5x-like COMMAND --help` lists the flags of a command. A path that is remote or "
        "taken is replaced by another.",
        ("t5x_like/cli",),
    ),
    Subject(
        "Programs, devices and meshes",
        "Sizes of the mesh divide what they divide: change `BATCH_SIZE`, the mesh or its "
        "rules. `t5x-like inspect` shows how each parameter is divided, without devices: "
        "[training](../training.md#meshes), [launch](../launch.md).",
        ("t5x_like", "t5x_like/distributed"),
    ),
    Subject(
        "Training and resuming",
        "A run that is refused on resuming has another configuration than before: give it "
        "back, or another `MODEL_DIR`: [reliability](../reliability.md#run-identity).",
        ("t5x_like/training", "t5x_like/optimizers"),
    ),
    Subject(
        "Watching a run",
        "A tracker that is not installed is an extra: [training](../training.md#watching-a-run).",
        ("t5x_like/training/watching", "t5x_like/trackers"),
    ),
    Subject(
        "Checkpoints",
        "A damaged checkpoint is passed over where an older one is complete. What is taken of "
        "an initial checkpoint is `checkpoints.InitialCheckpoint.include`: "
        "[training](../training.md#checkpoints-resuming-fine-tuning), "
        "[reliability](../reliability.md).",
        ("t5x_like/checkpoints",),
    ),
    Subject(
        "Disks, memory and files",
        "Make room, or give another directory; what was complete before is kept, and the same "
        "command resumes: [reliability](../reliability.md).",
        ("t5x_like/host",),
    ),
    Subject(
        "Your own files",
        "The line names file, line and column. Rows with gaps are left out, and bytes that are "
        "not UTF-8 replaced, where you say so: "
        "[tasks](../tasks.md#your-own-files-without-python).",
        ("tasks/sources", "tasks/forms"),
    ),
    Subject(
        "Tasks and mixtures",
        "A task of a module of yours is found with `--module_import`: [tasks](../tasks.md).",
        ("tasks", "tasks/seqio_interop"),
    ),
    Subject(
        "Objectives",
        "What an objective makes of a text has to fit `TASK_FEATURE_LENGTHS`: "
        "[objectives](../tasks.md#objectives).",
        ("tasks/objectives",),
    ),
    Subject(
        "Vocabularies",
        "The ids of the vocabulary and `VOCAB_SIZE` of the model go together: "
        "[vocabularies](../tasks.md#vocabularies).",
        ("tasks/vocabularies",),
    ),
    Subject(
        "Benchmarks and metrics",
        "Files of a benchmark have the names of TFDS's features: "
        "[benchmarks](../tasks.md#benchmarks), [metrics](../evaluation.md#metrics).",
        ("tasks/benchmarks", "tasks/metrics", "tasks/glue"),
    ),
    Subject(
        "Batches and caches",
        "A cache that does not belong to its task any more is built again: [data](../data.md).",
        ("t5x_like/data",),
    ),
    Subject(
        "Filters, duplicates and overlap",
        "[Corpora](../corpora.md) has the settings of each rule.",
        (
            "t5x_like/corpora",
            "t5x_like/near_duplicates",
            "t5x_like/overlap",
            "tasks/filters",
            "t5x_like/cli/corpus",
        ),
    ),
    Subject(
        "Models",
        "What the file under `models/` binds can be bound otherwise: `t5x-like help "
        "models/FAMILY/SIZE.gin`, [models](../models.md).",
        ("models",),
    ),
    Subject(
        "Heads, tuning and alignment",
        "Task and head go together, label by label: [fine-tuning](../finetune.md), "
        "[tuning](../tuning.md), [alignment](../alignment.md).",
        ("models/heads", "models/tuning", "t5x_like/alignment"),
    ),
    Subject(
        "Weights from elsewhere",
        "[Models](../models.md#hugging-face-in-and-out) says which architectures and options "
        "are read and written.",
        ("models/hf", "models/t5x", "t5x_like/cli/hugging_face"),
    ),
    Subject(
        "n-grams and word vectors",
        "[n-grams](../ngram.md), [word vectors](../word_vectors.md).",
        ("models/ngrams", "t5x_like/vectors"),
    ),
    Subject(
        "Generating, scoring and looking inside",
        "[Inference](../inference.md) has the flags, and what a run gives in Python.",
        ("t5x_like/decoding", "t5x_like/runs", "t5x_like/interpretability"),
    ),
    Subject(
        "Evaluation",
        "[Evaluation](../evaluation.md) says what each measurement needs of task and model.",
        ("t5x_like/evaluation", "t5x_like/suites", "t5x_like/cli/evaluation"),
    ),
    Subject(
        "Compiling and costs",
        "[Compile](../compile.md#when-it-does-not-fit) has what makes a step fit, from the "
        "cheapest to the costliest.",
        ("t5x_like/cost",),
    ),
    Subject(
        "Sweeps, fits, plans and reports",
        "A sweep resumes where it was when its command is given again: [sweeps](../sweeps.md), "
        "[fit](../fit.md), [plan](../plan.md), [report](../report.md).",
        ("t5x_like/scaling",),
    ),
)


def by_subject() -> Mapping[Subject, list[Message]]:
    """The messages of each subject, in the order of the source."""
    found: dict[Subject, list[Message]] = {subject: [] for subject in SUBJECTS}
    for message in messages():
        found[_subject(message.module)].append(message)
    return found


def _subject(module: str) -> Subject:
    above = [parent.as_posix() for parent in Path(module).parents]
    return next(one for folder in above for one in SUBJECTS if folder in one.folders)


@functools.cache
def messages() -> tuple[Message, ...]:
    """All errors of one line that the three packages raise."""
    trees = dict(_trees())
    codes = _exit_codes(list(trees.values()))
    return tuple(
        Message(module, _text(node.args[0]) if node.args else None, codes[_name(node.func)])
        for module, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and _name(node.func) in codes
    )


def _trees() -> Iterator[tuple[str, ast.Module]]:
    for package in _PACKAGES:
        root = Path(str(importlib.import_module(package).__file__)).parent
        for path in sorted(root.rglob("*.py")):
            yield path.relative_to(root.parent).as_posix(), ast.parse(path.read_text("utf-8"))


def _exit_codes(trees: list[ast.Module]) -> dict[str, int]:
    """The exit code of each class of errors that the command line shows as one line."""
    classes = [node for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)]
    found: dict[str, int] = {}
    for one in classes:
        for node in one.body:
            # An annotated one, of an object that records a process, is no such class.
            if isinstance(node, ast.Assign) and _name(node.targets[0]) == "exit_code":
                found[one.name] = int(ast.literal_eval(node.value))
    known = 0
    while known != len(found):
        known = len(found)
        for one in classes:
            codes = [found[_name(base)] for base in one.bases if _name(base) in found]
            if codes:
                found.setdefault(one.name, codes[0])
    return found


def _name(node: ast.expr) -> str:
    return str(getattr(node, "id", getattr(node, "attr", "")))


def _text(node: ast.expr) -> str | None:
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(
            _shown(part.value) if isinstance(part, ast.FormattedValue) else _text(part) or ""
            for part in node.values
        )
    if isinstance(node, ast.BinOp):
        return (_text(node.left) or _shown(node.left)) + (_text(node.right) or _shown(node.right))
    return None


def _shown(value: ast.expr) -> str:
    """What stands for a value: its name in braces, or dots."""
    while isinstance(value, ast.Call) and _name(value.func) in _SHOWN_BY and value.args:
        value = value.args[0]
    if isinstance(value, ast.Constant):
        return str(value.value)
    name = _name(value).strip("_")
    return f"{{{name}}}" if name and len(name) <= _LONGEST_NAME else "{...}"
