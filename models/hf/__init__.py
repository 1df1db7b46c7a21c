"""Hugging Face checkpoints: directories with `config.json` and safetensors, in and out."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from models.errors import ModelError
from models.hf import generation
from models.hf.albert import ALBERTFamily
from models.hf.bart import BARTFamily
from models.hf.bert import BERTFamily
from models.hf.bigbird import BigBirdFamily
from models.hf.deberta import DeBERTaFamily
from models.hf.distilbert import DistilBERTFamily
from models.hf.electra import ELECTRAFamily
from models.hf.family import CONFIG, Family
from models.hf.gpt2 import GPT2Family
from models.hf.gpt_neox import GPTNeoXFamily
from models.hf.llama import LLaMAFamily
from models.hf.mapping import Written, filled
from models.hf.openai_gpt import GPT1Family
from models.hf.roberta import RoBERTaFamily
from models.hf.switch import SwitchFamily
from models.hf.t5 import T5Family
from models.hf.tensor_files import MAX_FILE_BYTES, WRITTEN_DTYPES, TensorFiles, write_tensors
from models.hf.transfo_xl import TransfoXLFamily
from models.hf.xlnet import XLNetFamily
from models.model import Model

FAMILIES: tuple[Family, ...] = (
    GPT1Family(),
    GPT2Family(),
    T5Family(),
    SwitchFamily(),
    BARTFamily(),
    BERTFamily(),
    RoBERTaFamily(),
    DistilBERTFamily(),
    ALBERTFamily(),
    ELECTRAFamily(),
    DeBERTaFamily(),
    BigBirdFamily(),
    LLaMAFamily(),
    GPTNeoXFamily(),
    TransfoXLFamily(),
    XLNetFamily(),
)


def load_hf(path: str | Path) -> tuple[Model, dict[str, Any]]:
    """A model and its float32 parameters from a Hugging Face directory.

    One tensor at a time is read: memory holds the parameters and the tensor in turn.

    Args:
      path: a directory with `config.json` and safetensors, in one file or several.

    Returns:
      The model, in float32, and its parameters as NumPy arrays: `model.apply({"params":
      params}, **batch)` gives logits.

    Raises:
      ModelError: an unknown model type or option; a token's id that is none; a tensor that is
        missing, left over or misshapen; no safetensors.
    """
    family, model, tensors = _opened(Path(path))
    family.prepare(model, tensors, str(path))
    return model, filled(model, family.weights(model), tensors, str(path))


def hf_model(path: str | Path) -> Model:
    """The model of a Hugging Face directory, whose parameters are not read.

    Raises:
      ModelError: as `load_hf`.
    """
    return _opened(Path(path))[1]


def _opened(directory: Path) -> tuple[Family, Model, TensorFiles]:
    place = directory / CONFIG
    try:
        config = json.loads(place.read_text("utf-8"))
        model_type = config["model_type"]
    except OSError as error:
        if not directory.exists():
            raise ModelError(
                f"there is no directory {directory}: if it is a name on the Hugging Face Hub, "
                f"fetch it with `hf download {directory} --local-dir DIR` and give DIR, a "
                f"directory with {CONFIG} and safetensors."
            ) from error
        raise ModelError(
            f"{place}: {error.strerror or error}: a directory with {CONFIG} and safetensors is "
            "needed."
        ) from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{place} is not JSON: {error}.") from error
    except (KeyError, TypeError):
        model_type = None
    family = next((family for family in FAMILIES if family.model_type == model_type), None)
    if family is None:
        known = ", ".join(repr(family.model_type) for family in FAMILIES)
        raise ModelError(f"{place}: model_type must be one of {known}, not {model_type!r}.")
    # Read where text is generated and where the model is exported: they must be right by then.
    generation.token_ids(directory)
    tensors = TensorFiles(directory)
    return family, family.with_heads(family.build(config, str(directory)), config, tensors), tensors


def save_hf(
    model: Model,
    params: Any,
    path: str | Path,
    *,
    options: Mapping[str, Any] | None = None,
    like: str | Path | None = None,
    files: Mapping[str, str | Path] | None = None,
    dtype: str = "float32",
    max_file_bytes: int = MAX_FILE_BYTES,
    part: str | None = None,
    generated_by: Mapping[str, Any] | None = None,
) -> Model:
    """Writes a Hugging Face directory that `transformers` loads.

    Blocks of a tensor are converted at a time. The directory appears when it is whole.

    Args:
      model: of a family that Hugging Face has.
      params: its parameters, NumPy or JAX arrays; low-rank factors are merged.
      path: the directory to make; it may be there if it is empty.
      options: further options of `config.json` that change nothing that is computed, such as
        `eos_token_id`; with ids of where texts begin and end, or `like`, `generation_config.json`
        is written too.
      like: a directory of which the options that change nothing go along, and where texts begin
        and end, where it is of the same model type; an `eos_token_id` of `options` joins its own.
      files: files to copy into it, by their names there: a tokenizer's.
      dtype: "float32", "bfloat16" or "float16".
      max_file_bytes: tensors beyond this go into further files, with an index.
      part: which network of a model that has several: ELECTRA's "discriminator", which is the one
        without it, or "generator".
      generated_by: how text is generated, in the names of `generation.GenerationOptions.kept_to`,
        in place of what `like` says of it; None for that.

    Returns:
      The model that was written.

    Raises:
      ModelError: a model or a field that Hugging Face has no type for, parameters that are not
        the model's, a directory that is not empty or a link, a file name that leads elsewhere.
    """
    family = next((family for family in FAMILIES if type(model) in family.models), None)
    if family is None:
        kinds = ", ".join(kind.__name__ for family in FAMILIES for kind in family.models)
        raise ModelError(
            f"{type(model).__name__} has no model type of Hugging Face; those that have: {kinds}."
        )
    if dtype not in WRITTEN_DTYPES:
        raise ModelError(f"dtype {dtype!r}: one of {', '.join(WRITTEN_DTYPES)} can be written.")
    for name in files or {}:
        if Path(name).name != name or name in ("", ".."):
            raise ModelError(
                f"a file to copy is named {name!r}: only plain file names are written."
            )
    model, params = family.written(*_untuned(model, params), part)
    config = family.config(model)
    wanted = dict(options or {})
    if generation.EOS in wanted and "forced_eos_token_id" in family.tokens:
        # The published id stands for the published vocabulary's EOS.
        wanted.setdefault("forced_eos_token_id", wanted[generation.EOS])
    like = _of_type(family, like)
    if like is not None:
        config |= family.kept(generation.options_of(like, CONFIG), config)
        # What pads is the model's own where its positions depend on it.
        ids = {
            name: value
            for name, value in generation.token_ids(like).items()
            if family.is_neutral(name)
        }
        ends = generation.joined(ids.get(generation.EOS), wanted.get(generation.EOS))
        wanted |= ids if ends is None else {**ids, generation.EOS: ends}
    for name, value in wanted.items():
        if name in config and not family.is_neutral(name):
            raise ModelError(
                f"the option {name} of config.json is the model's own: {config[name]!r}."
            )
        config[name] = value
    written = Written(model, family.weights(model), params)
    with _whole_directory(Path(path)) as directory:
        text = json.dumps({**config, "dtype": dtype}, indent=2, sort_keys=True)
        (directory / CONFIG).write_text(text + "\n", "utf-8")
        if wanted.keys() & set(generation.TOKEN_IDS) or generated_by:
            named = generation.generation_config(config, like, generated_by)
            text = json.dumps(named, indent=2, sort_keys=True)
            (directory / generation.GENERATION).write_text(text + "\n", "utf-8")
        write_tensors(directory, written.shapes, written.blocks, dtype, max_file_bytes)
        for name, file in (files or {}).items():
            shutil.copyfile(file, directory / name)
    return model


def _untuned(model: Model, params: Any) -> tuple[Model, Any]:
    """The model without its tuning, and its parameters with what that added within."""
    tuned = model.tuning
    if tuned is None:
        return model, params
    if not tuned.mergeable:
        raise ModelError(
            f"{type(tuned).__name__} are parameters of their own, for which Hugging Face's model "
            "types have no place."
        )
    return model.clone(tuning=None), tuned.merged(params, "float32")


def _of_type(family: Family, like: str | Path | None) -> Path | None:
    """The directory if it is one of this type's, else None."""
    if like is None or generation.options_of(like, CONFIG).get("model_type") != family.model_type:
        return None
    return Path(like)


@contextmanager
def _whole_directory(path: Path) -> Iterator[Path]:
    """A directory to write to, which takes its name at the end, or is gone after an error."""
    if path.is_symlink():
        raise ModelError(f"{path} is a link: give the directory to write, itself.")
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ModelError(f"{path} is there already: give a new or an empty directory.")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        yield temporary
        # What mkdtemp makes is its owner's alone.
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o777 & ~mask)
        temporary.rename(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
