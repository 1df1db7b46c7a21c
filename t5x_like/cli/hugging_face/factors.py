"""Low-rank factors of another project as a run of ours, and back.

What reads and writes the other project's files is passed in, as for whole models.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from t5x_like import checkpoints, config
from t5x_like.checkpoints import base as base_checkpoint
from t5x_like.checkpoints import host_params
from t5x_like.cli import hf_conversion
from t5x_like.cli.imported_gin import config_elsewhere, field_text
from t5x_like.errors import on_one_line
from t5x_like.host import files
from t5x_like.partitioning import path_name, split_boxes
from t5x_like.protocols import Model, Params

Load = Callable[[Path, Model], tuple[Model, Params]]


def import_factors(source: str, model_dir: str, *, base: str, load: Load) -> dict[str, Any]:
    """Makes a MODEL_DIR of factors, as if they had been trained on another run's model.

    Its checkpoint holds the factors, and names that run's newest checkpoint for the rest.

    Args:
      source: the directory with the factors.
      model_dir: the MODEL_DIR to make.
      base: the MODEL_DIR of the model that they are added to.
      load: reads them, for the base's model.

    Returns:
      `model`, `parameters` (with the base's), `model_dir` and `vocabulary`, which is the base's.

    Raises:
      UserError: the base has no model or no checkpoint; what `load` raises.
    """
    text = config_elsewhere(base, model_dir)
    with config.isolated():
        config.parse([str(Path(base) / "config.gin")])
        model: Model = config.macro("MODEL")
    tuned, factors = load(Path(source), model)
    below = checkpoints.find_checkpoint(base)
    known = checkpoints.load_metadata(base)
    shapes, _ = split_boxes(model.abstract_params())
    names = [path_name(place) for place, _ in jax.tree_util.tree_leaves_with_path(shapes)]
    elsewhere = base_checkpoint.base_of(below, known, names)
    count = tuned.parameter_count()
    with hf_conversion.whole_directory(model_dir) as directory:
        text += f"\n# Low-rank factors of {on_one_line(source)}.\n{field_text(tuned, 'tuning')}"
        (directory / "config.gin").write_text(text, "utf-8")
        final = files.location(model_dir) / checkpoints.DIRECTORY / "0"
        metadata = {
            "parameters": count, "tokens": 0, "seconds": 0.0, "jax": jax.__version__,
            "base": base_checkpoint.with_place(elsewhere, final),
        }  # fmt: skip
        host_params.write_params(str(directory), factors, 0, metadata)
    return {
        "model": type(tuned).__name__,
        "parameters": count,
        "model_dir": str(model_dir),
        "vocabulary": "low-rank factors alone",
    }


def saves_factors(save: Callable[..., None]) -> hf_conversion.Save:
    """What `export_model` calls to write a model, for factors: the rest that it gives is unused."""

    def saved(model: Model, params: Params, path: str, *, like: Path | None, **_: Any) -> Model:
        save(model, params, path, base=None if like is None else str(like))
        return model

    return saved
