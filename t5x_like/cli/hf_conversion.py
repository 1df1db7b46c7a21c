"""Models of other projects as runs of ours, and back.

What reads and writes the other project's files is passed in; here are the MODEL_DIR's own.
"""

import contextlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import jax

from t5x_like import config, inspection
from t5x_like.checkpoints import host_params
from t5x_like.cli import generation_options
from t5x_like.cli.imported_gin import file_of, header, model_text, run_text, texts_of
from t5x_like.data import formats
from t5x_like.errors import UserError, on_one_line
from t5x_like.host import files as storage
from t5x_like.host import memory
from t5x_like.partitioning import Partitioner
from t5x_like.protocols import LABELS, Model, Params, Vocabulary, label_names

Report = dict[str, Any]
Load = Callable[[Path], tuple[Model, Params]]
FindVocabulary = Callable[[Path], Vocabulary | None]

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
        part: str | None,
        generated_by: Mapping[str, Any] | None,
    ) -> Model:
        """Options of its configuration, a directory whose other options go along, files to copy in
        by their names there, which network of a model that has several, and how text is generated,
        where not as that directory says; gives what it wrote.
        """


def import_model(
    source: str,
    model_dir: str,
    *,
    load: Load,
    find_vocabulary: FindVocabulary,
    read_generation: generation_options.Read | None = None,
    texts: int | None = None,
) -> Report:
    """Makes a MODEL_DIR of another project's directory, as if it had been trained to step 0.

    It holds `checkpoints/0` (parameters alone), `config.gin`, `model-info.txt`, the tokenizer's
    files, and `model.gin`: the model and its vocabulary, to be given after a task's gin file.

    Args:
      source: the directory.
      model_dir: the MODEL_DIR to make; it may be there if it is empty.
      load: reads model and parameters.
      find_vocabulary: finds the vocabulary in a directory; None where there is none.
      read_generation: reads how text is generated; None where the directory does not say it.
      texts: of which a row is made that the model labels, 1 or 2; None is 1.

    Returns:
      `model`, `parameters`, `model_dir`, `vocabulary`: the file's name, or None; `texts`, None of a
      model that labels nothing; and `generation_left_out`, the options of generation that nothing
      here keeps to.

    Raises:
      UserError: the MODEL_DIR is not empty; `texts` for a model that labels nothing; what `load`
        and `find_vocabulary` raise.
    """
    memory.give_back_large_blocks()
    with whole_directory(model_dir) as directory:
        vocabulary = find_vocabulary(Path(source))
        model, params = load(Path(source))
        _check_size(model, vocabulary)
        texts = texts_of(model, texts)
        generation = None
        if read_generation is not None:
            generation = generation_options.options_of(read_generation, Path(source), model)
        for name in (*TOKENIZER_FILES, *SOURCE_FILES):
            if (Path(source) / name).is_file():
                shutil.copyfile(Path(source) / name, directory / name)
        if vocabulary is not None and not (directory / file_of(vocabulary).name).exists():
            shutil.copyfile(file_of(vocabulary), directory / file_of(vocabulary).name)
        final = Path(model_dir).absolute()
        text = model_text(model, vocabulary, final, head=False)
        (directory / "model.gin").write_text(f"{header(source, 'model.gin')}{text}", "utf-8")
        whole = model_text(model, vocabulary, final, head=True)
        whole += run_text(model, vocabulary, str(model_dir), texts)
        whole += generation_options.gin_text(generation)
        (directory / "config.gin").write_text(f"{header(source, 'config.gin')}{whole}", "utf-8")
        table = inspection.parameter_table(inspection.parameter_tree(model, _one_cpu()))
        count = model.parameter_count()
        title = f"{type(model).__name__}, {count:,} parameters, from {on_one_line(source)}"
        (directory / "model-info.txt").write_text(f"{title}\n\n{table}\n", "utf-8")
        metadata = {
            "parameters": count,
            "tokens": 0,
            "seconds": 0.0,
            "jax": jax.__version__,
            LABELS: dict(label_names(model)),
        }
        host_params.write_params(str(directory), params, 0, metadata)
    return {
        "model": type(model).__name__,
        "parameters": count,
        "model_dir": str(model_dir),
        "vocabulary": None if vocabulary is None else file_of(vocabulary).name,
        "texts": texts,
        "generation_left_out": {} if generation is None else dict(generation.left_out),
    }


def export_model(
    model_dir: str,
    out: str,
    *,
    save: Save,
    read_generation: generation_options.Read,
    step: int | None = None,
    dtype: str = "float32",
    part: str | None = None,
    bindings: Sequence[tuple[str, str]] = (),
) -> Report:
    """Writes a run's model to another project's directory; the optimizer is not read.

    Args:
      model_dir: the run.
      out: the directory to make.
      save: writes model, parameters and the tokenizer's files.
      read_generation: reads how text is generated, where the model was imported from.
      step: the checkpoint; None for the newest.
      dtype: of the parameters there.
      part: which network, of a model that has several; None is what `save` takes.
      bindings: gin bindings after the run's own, for a field that cannot be expressed there.

    Returns:
      `model` and `parameters` of what was written, `step`, `out`, and `vocabulary`: the file's
      name, or None.

    Raises:
      UserError: no run, no such checkpoint; what `save` raises.
    """
    path = Path(model_dir) / "config.gin"
    if not path.is_file():
        raise UserError(f"no run in '{model_dir}': it has no config.gin.")
    with config.isolated():
        config.parse([str(path)], bindings)
        for one in config.unread([], ["MODEL", "TASK", *generation_options.MACROS]):
            if one.place.line is None:
                raise UserError(one.message)
        model: Model = config.macro("MODEL")
        vocabulary = _configured_vocabulary()
        like = _source_directory(Path(model_dir), vocabulary)
        there = None
        if like is not None:
            there = generation_options.options_of(read_generation, like, model)
        generated_by = generation_options.replacing(there)
    options = {} if vocabulary is None else _special_tokens(vocabulary, model, like)
    params, found = host_params.read_params(model_dir, model, step)
    with tempfile.TemporaryDirectory() as temporary:
        files: dict[str, Path] = {}
        if vocabulary is not None and hasattr(vocabulary, "path"):
            files = _tokenizer_files(vocabulary, model, Path(temporary))
        written = save(
            model,
            params,
            out,
            options=options,
            like=like,
            files=files,
            dtype=dtype,
            part=part,
            generated_by=generated_by,
        )
    return {
        "model": type(written).__name__,
        "parameters": written.parameter_count(),
        "step": found,
        "out": str(out),
        "vocabulary": next(iter(files), None),
    }


# -- Directories -----------------------------------------------------------------------------


@contextlib.contextmanager
def whole_directory(name: str) -> Iterator[Path]:
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
            f"the vocabulary '{file_of(vocabulary)}' has {vocabulary.vocab_size} ids, but the "
            f"model has {model.vocab_size}: the file is not this model's."
        )


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
        directory = file_of(vocabulary).parent
    return directory if (directory / SOURCE_FILES[0]).is_file() else None


def _tokenizer_files(vocabulary: Vocabulary, model: Model, written: Path) -> dict[str, Path]:
    """What is copied beside the model, the vocabulary's own file first.

    What transformers must be told besides is written to the directory `written`.
    """
    file = file_of(vocabulary)
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
    """The ids that transformers needs to generate; of a model that writes no text what separates.

    A directory that the model came from says itself how a text begins, and what separates.
    """
    prompts = formats.find(model.batch_format).prompts
    if prompts is None:
        separator = vocabulary.spec().get("sep_id") if like is None else None
        return {} if separator is None else {"sep_token_id": separator}
    if like is not None:
        return {"eos_token_id": vocabulary.eos_id}
    start = "decoder_start_token_id" if prompts.needs_inputs else "bos_token_id"
    ids = {"eos_token_id": vocabulary.eos_id, start: getattr(vocabulary, "start_id", 0)}
    return ids if getattr(vocabulary, "zero_is_token", False) else {**ids, "pad_token_id": 0}
