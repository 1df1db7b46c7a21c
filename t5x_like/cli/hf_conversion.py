"""Models of other projects as runs of ours, and back.

What reads and writes the other project's files is passed in; here are the MODEL_DIR's own.
"""

import contextlib
import dataclasses
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import jax

from t5x_like import config, inspection
from t5x_like.checkpoints import host_params
from t5x_like.data import formats
from t5x_like.errors import UserError, on_one_line
from t5x_like.host import files as storage
from t5x_like.host import memory
from t5x_like.partitioning import Partitioner
from t5x_like.protocols import Model, Params, Vocabulary, label_names

Report = dict[str, Any]
Load = Callable[[Path], tuple[Model, Params]]

# Every file in which a tokenizer of transformers keeps something.
TOKENIZER_FILES = (
    "spiece.model", "tokenizer.model", "sentencepiece.bpe.model", "tokenizer.json", "vocab.txt",
    "vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json",
)  # fmt: skip

_TOKENIZER_CONFIG = "tokenizer_config.json"
# By which transformers knows a tokenizer's file of another name, by its ending.
_NAMES = {".json": "tokenizer.json", ".txt": "vocab.txt"}

# What the other project's directory says of its model, kept for the way back.
SOURCE_FILES = ("config.json", "generation_config.json")

# Lengths of an imported model's features, where its own positions allow as many.
_TEXT_LENGTH = 512
_LENGTHS = {
    "inputs and targets": {"targets": 128},
    "text": {},
    "hidden tokens": {},
    "labels": {"inputs": 128},
    "numbers": {"inputs": 128},
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
    "labels": """
include 'tasks/classification_jsonl.gin'

COLUMNS = ['text', 'label']
TEXTS = ['text']
LABELS = {labels}
""",
    "numbers": """
include 'tasks/regression_jsonl.gin'

COLUMNS = ['text', 'label']
TEXTS = ['text']
""",
}
_FILES = """
TRAIN_FILES = 'train.jsonl'
VALIDATION_FILES = 'validation.jsonl'
"""


class Save(Protocol):
    """Writes a model to a directory that does not exist; `models.hf.save_hf` is one."""

    def __call__(
        self,
        model: Model,
        params: Params,
        path: str,
        *,
        options: Mapping[str, Any],
        like: Path | None,
        files: Mapping[str, Path],
        dtype: str,
    ) -> None:
        """Options of its configuration, a directory whose other options go along, and files to
        copy in by their names there.
        """


def import_model(
    source: str,
    model_dir: str,
    *,
    load: Load,
    find_vocabulary: Callable[[Path], Vocabulary | None],
) -> Report:
    """Makes a MODEL_DIR of another project's directory, as if it had been trained to step 0.

    It holds `checkpoints/0` (parameters alone), `config.gin`, `model-info.txt`, the tokenizer's
    files, and `model.gin`: the model and its vocabulary, to be given after a task's gin file.

    Args:
      source: the directory.
      model_dir: the MODEL_DIR to make; it may be there if it is empty.
      load: reads model and parameters.
      find_vocabulary: finds the vocabulary in a directory; None where there is none.

    Returns:
      `model`, `parameters`, `model_dir`, and `vocabulary`: the file's name, or None.

    Raises:
      UserError: the MODEL_DIR is not empty; what `load` and `find_vocabulary` raise.
    """
    memory.give_back_large_blocks()
    with _whole_directory(model_dir) as directory:
        vocabulary = find_vocabulary(Path(source))
        model, params = load(Path(source))
        _check_size(model, vocabulary)
        for name in (*TOKENIZER_FILES, *SOURCE_FILES):
            if (Path(source) / name).is_file():
                shutil.copyfile(Path(source) / name, directory / name)
        final = Path(model_dir).absolute()
        text = _model_text(model, vocabulary, final)
        (directory / "model.gin").write_text(f"{_header(source, 'model.gin')}{text}", "utf-8")
        run_text = text + _run_text(model, vocabulary, str(model_dir))
        (directory / "config.gin").write_text(f"{_header(source, 'config.gin')}{run_text}", "utf-8")
        table = inspection.parameter_table(inspection.parameter_tree(model, _one_cpu()))
        count = model.parameter_count()
        title = f"{type(model).__name__}, {count:,} parameters, from {on_one_line(source)}"
        (directory / "model-info.txt").write_text(f"{title}\n\n{table}\n", "utf-8")
        metadata = {"parameters": count, "tokens": 0, "seconds": 0.0, "jax": jax.__version__}
        host_params.write_params(str(directory), params, 0, metadata)
    return {
        "model": type(model).__name__,
        "parameters": count,
        "model_dir": str(model_dir),
        "vocabulary": None if vocabulary is None else _file_of(vocabulary).name,
    }


def export_model(
    model_dir: str,
    out: str,
    *,
    save: Save,
    step: int | None = None,
    dtype: str = "float32",
    bindings: Sequence[tuple[str, str]] = (),
) -> Report:
    """Writes a run's model to another project's directory; the optimizer is not read.

    Args:
      model_dir: the run.
      out: the directory to make.
      save: writes model, parameters and the tokenizer's files.
      step: the checkpoint; None for the newest.
      dtype: of the parameters there.
      bindings: gin bindings after the run's own, for a field that cannot be expressed there.

    Returns:
      `model`, `parameters`, `step`, `out`, and `vocabulary`: the file's name, or None.

    Raises:
      UserError: no run, no such checkpoint; what `save` raises.
    """
    path = Path(model_dir) / "config.gin"
    if not path.is_file():
        raise UserError(f"no run in '{model_dir}': it has no config.gin.")
    with config.isolated():
        config.parse([str(path)], bindings)
        for one in config.unread([], ["MODEL", "TASK"]):
            if one.place.line is None:
                raise UserError(one.message)
        model: Model = config.macro("MODEL")
        vocabulary = _configured_vocabulary()
    like = _source_directory(Path(model_dir), vocabulary)
    options = {} if vocabulary is None else _special_tokens(vocabulary, model, like)
    params, found = host_params.read_params(model_dir, model, step)
    with tempfile.TemporaryDirectory() as written:
        files: dict[str, Path] = {}
        if vocabulary is not None and hasattr(vocabulary, "path"):
            files = _tokenizer_files(vocabulary, model, Path(written))
        save(model, params, out, options=options, like=like, files=files, dtype=dtype)
    return {
        "model": type(model).__name__,
        "parameters": model.parameter_count(),
        "step": found,
        "out": str(out),
        "vocabulary": next(iter(files), None),
    }


# -- Directories -----------------------------------------------------------------------------


@contextlib.contextmanager
def _whole_directory(name: str) -> Iterator[Path]:
    """A directory to write to, which takes its name at the end, or is gone after an error."""
    if "://" in str(name):
        raise UserError(f"'{name}' is remote: give a local directory and copy it afterwards.")
    try:
        str(name).encode()
    except UnicodeEncodeError:
        raise UserError(f"'{on_one_line(str(name))}' is not UTF-8: give another name.") from None
    path = Path(name)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f"'{name}' is there already: give a new or an empty directory.")
    with storage.new_directory(path) as temporary:
        yield temporary


def _one_cpu() -> Partitioner:
    # Neither an accelerator nor a mesh is needed to copy arrays.
    return Partitioner(devices=(jax.devices("cpu")[0],))


# -- Vocabularies ----------------------------------------------------------------------------


def _check_size(model: Model, vocabulary: Vocabulary | None) -> None:
    if vocabulary is not None and vocabulary.vocab_size > model.vocab_size:
        raise UserError(
            f"the vocabulary '{_file_of(vocabulary)}' has {vocabulary.vocab_size} ids, but the "
            f"model has {model.vocab_size}: the file is not this model's."
        )


def _file_of(vocabulary: Vocabulary) -> Path:
    # Of a directory, what is read in it.
    return Path(getattr(vocabulary, "file", None) or vocabulary.path)  # type: ignore[attr-defined]


def _configured_vocabulary() -> Vocabulary | None:
    """The vocabulary of what the configured task writes or reads, or else the one that is bound."""
    try:
        task = config.macro("TASK")
    except Exception as error:
        # There is no task, or this machine cannot build it.
        if not hasattr(error, "exit_code"):
            raise
        return config.macro("VOCABULARY") if config.has_macro("VOCABULARY") else None
    first, _ = task.tasks[0]
    features = first.output_features
    feature = features.get("targets", features.get("inputs"))
    return None if feature is None else feature.vocabulary


def _source_directory(model_dir: Path, vocabulary: Vocabulary | None) -> Path | None:
    """Where the files of the directory are that the model was imported from, if it was.

    A run that went on from an imported one reads its vocabulary there.
    """
    directory = model_dir
    if vocabulary is not None:
        if not hasattr(vocabulary, "path"):
            return None
        directory = _file_of(vocabulary).parent
    return directory if (directory / SOURCE_FILES[0]).is_file() else None


def _tokenizer_files(vocabulary: Vocabulary, model: Model, written: Path) -> dict[str, Path]:
    """What is copied beside the model, the vocabulary's own file first.

    What transformers must be told besides is written to the directory `written`.
    """
    file = _file_of(vocabulary)
    if file.name in TOKENIZER_FILES:
        companions = [name for name in TOKENIZER_FILES if (file.parent / name).is_file()]
        files = {name: file.parent / name for name in (file.name, *companions)}
    elif file.suffix in _NAMES:
        files = {_NAMES[file.suffix]: file}
    else:
        # The names by which transformers knows T5's and LLaMA's SentencePiece models.
        prompts = formats.find(model.batch_format).prompts
        reads_inputs = prompts is None or prompts.needs_inputs
        return {"spiece.model" if reads_inputs else "tokenizer.model": file}
    if config := getattr(vocabulary, "transformers_config", None):
        files[_TOKENIZER_CONFIG] = written / _TOKENIZER_CONFIG
        files[_TOKENIZER_CONFIG].write_text(json.dumps(config, indent=2) + "\n", "utf-8")
    return files


def _special_tokens(vocabulary: Vocabulary, model: Model, like: Path | None) -> dict[str, int]:
    """The ids that transformers needs to generate; none for a model that writes no text.

    A directory that the model came from says itself how a text begins.
    """
    prompts = formats.find(model.batch_format).prompts
    if prompts is None:
        return {}
    if like is not None:
        return {"eos_token_id": vocabulary.eos_id}
    start = "decoder_start_token_id" if prompts.needs_inputs else "bos_token_id"
    ids = {"eos_token_id": vocabulary.eos_id, start: getattr(vocabulary, "start_id", 0)}
    return ids if getattr(vocabulary, "zero_is_token", False) else {**ids, "pad_token_id": 0}


# -- Gin files -------------------------------------------------------------------------------


def _header(source: str, name: str) -> str:
    use = {
        "model.gin": "give it after a task's file, and runs/finetune.gin with "
        "INITIAL_CHECKPOINT_PATH.",
        "config.gin": "as a run's; its data are JSON lines, TRAIN_FILES and VALIDATION_FILES.",
    }
    return (
        f"# Imported from {on_one_line(source)}.\n# {name}: {use[name]}\n"
        "from __gin__ import dynamic_registration\n"
    )


def _model_text(model: Model, vocabulary: Vocabulary | None, directory: Path) -> str:
    """Bindings of MODEL, and of VOCABULARY where there is one."""
    text = _bindings("MODEL", model, {"dropout_rate": "%DROPOUT_RATE"})
    text += f"DROPOUT_RATE = {model.dropout_rate!r}\n"  # type: ignore[attr-defined]
    if vocabulary is not None:
        path = str(directory / _file_of(vocabulary).name)
        text += _bindings("VOCABULARY", vocabulary, {"path": repr(path)})
    return text


def _bindings(macro: str, value: Any, replaced: Mapping[str, str]) -> str:
    """Gin that makes a dataclass again.

    Args:
      macro: what to bind it to: a macro, or the field of another.
      value: the dataclass, of a module that can be imported.
      replaced: text of fields that are written otherwise.

    Raises:
      UserError: a field is neither plain nor the class's own value.
    """
    kind = type(value)
    package, _, module = kind.__module__.rpartition(".")
    selector = f"{module}.{kind.__name__}"
    lines = ["", f"from {package} import {module}", "", f"{macro} = @{selector}()"]
    inner = []
    for field in dataclasses.fields(value):
        found = getattr(value, field.name)
        if not field.init or field.name in ("parent", "name"):
            continue
        if found is None and field.default is None:
            continue  # no choice, and a head is the task's file's to bind
        if field.name in replaced or _is_plain(found):
            lines.append(f"{selector}.{field.name} = {replaced.get(field.name, repr(found))}")
        elif found != field.default:
            if not dataclasses.is_dataclass(found):
                raise UserError(
                    f"{kind.__name__}.{field.name} = {found} cannot be written to a gin file."
                )
            inner.append(_bindings(f"{selector}.{field.name}", found, {}))
    return "\n".join(lines) + "\n" + "".join(inner)


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def _kind_of(batch_format: formats.BatchFormat) -> str:
    """Which of `_TASKS` a model with these batches is for."""
    measured = getattr(batch_format, "measured", None)
    if measured is not None:
        return "labels" if measured.probabilities else "numbers"
    if batch_format.prompts is None:
        return "hidden tokens"
    return "inputs and targets" if "inputs" in batch_format.task_features else "text"


def _run_text(model: Model, vocabulary: Vocabulary | None, model_dir: str) -> str:
    """Bindings of the run: where it is, and a task, where there is a vocabulary for one."""
    longest = model.max_length
    batch_format = formats.find(model.batch_format)
    kind, labels = _kind_of(batch_format), list(label_names(model).get("label", ()))
    wanted = {name: _LENGTHS[kind].get(name, _TEXT_LENGTH) for name in batch_format.task_features}
    lengths = {name: min(n, longest or n) for name, n in wanted.items()}
    task = ""
    if vocabulary is not None:
        # The task's file binds a vocabulary of its own, so ours comes after it.
        selector = f"{type(vocabulary).__module__.rpartition('.')[2]}.{type(vocabulary).__name__}"
        task = (
            _TASKS[kind].replace("{labels}", repr(labels))
            + _FILES
            + f"VOCABULARY = @{selector}()\n"
        )
    return f"{task}\nTASK_FEATURE_LENGTHS = {lengths!r}\nMODEL_DIR = {model_dir!r}\n"
