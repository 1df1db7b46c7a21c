"""Hugging Face checkpoints: directories with `config.json` and safetensors."""

import json
from pathlib import Path
from typing import Any

from models.errors import ModelError
from models.hf import gpt2, t5
from models.hf.mapping import filled
from models.hf.tensor_files import TensorFiles
from models.language_model import LanguageModel

MODEL_TYPES = {"gpt2": gpt2, "t5": t5}


def load_hf(path: str | Path) -> tuple[LanguageModel, dict[str, Any]]:
    """A model and its float32 parameters from a Hugging Face directory.

    Args:
      path: a directory with `config.json` and safetensors, in one file or several.

    Returns:
      The model, in float32, and its parameters as NumPy arrays: `model.apply({"params":
      params}, **batch)` gives logits.

    Raises:
      ModelError: an unknown model type or option; a tensor that is missing, left over or
        misshapen; no safetensors.
    """
    directory = Path(path)
    try:
        config = json.loads((directory / "config.json").read_text("utf-8"))
        family = MODEL_TYPES[config["model_type"]]
    except (OSError, ValueError) as error:
        raise ModelError(f"{directory / 'config.json'} cannot be read as JSON.") from error
    except (KeyError, TypeError) as error:
        raise ModelError(
            f"{directory / 'config.json'}: model_type must be one of "
            f"{', '.join(map(repr, MODEL_TYPES))}."
        ) from error
    tensors = TensorFiles(directory)
    try:
        model = family.build(config, tensors, str(directory))
    except KeyError as error:
        raise ModelError(f"{directory / 'config.json'} lacks the option {error}.") from error
    table = family.weights(model, tensors)
    return model, filled(model, table, tensors, family.IGNORED, str(directory))
