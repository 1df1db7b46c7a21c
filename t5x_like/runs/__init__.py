"""A run, opened from its MODEL_DIR: numbers, model, parameters, text.

```python
run = load_run("runs/demo")
run.metrics
run.generate(["translate English to German: That is good."], temperature=0.0)
run.attention(["That is good."])
run.neighbours("play")
```
"""

from etils import epath

from t5x_like import checkpoints, config
from t5x_like.errors import UserError
from t5x_like.host import files
from t5x_like.protocols import Model, Vocabulary
from t5x_like.runs.at_hand import Pooling
from t5x_like.runs.run import Run

__all__ = ["Pooling", "Run", "load_run", "model_of", "vocabulary_of"]


def load_run(model_dir: str, step: int | None = None) -> Run:
    """Opens a run, finished or still going.

    Its `config.gin` is run, which imports and builds what it names: open your own runs, or
    those of people you trust.

    Args:
      model_dir: where the run writes.
      step: the checkpoint to use; None for the newest when first needed.

    Raises:
      UserError: there is no run, or no such checkpoint.
    """
    path = _config_of(model_dir)
    if step is not None:
        checkpoints.find_checkpoint(model_dir, step)
    with config.isolated():
        config.parse([str(path)])
        model = config.macro("MODEL")
        lengths = config.macro("TASK_FEATURE_LENGTHS")
    return Run(model_dir, model, lengths, step)


def model_of(model_dir: str) -> Model:
    """The model of a run, for one that learns from it or is compared with it.

    Args:
      model_dir: where the run writes; its `config.gin` is run, as `load_run` does.

    Raises:
      UserError: there is no run.
    """
    path = _config_of(model_dir)
    with config.isolated():
        config.parse([str(path)])
        model: Model = config.macro("MODEL")
    return model


def vocabulary_of(model_dir: str) -> Vocabulary | None:
    """The vocabulary of a run's task, to be compared with another's; None of a run without a task.

    Args:
      model_dir: as for `model_of`.

    Raises:
      UserError: there is no run.
    """
    path = _config_of(model_dir)
    with config.isolated():
        config.parse([str(path)])
        if not config.has_macro("TASK"):
            return None
        first, _ = config.macro("TASK").tasks[0]
    return next(iter(first.output_features.values())).vocabulary


def _config_of(model_dir: str) -> epath.Path:
    path = files.location(model_dir) / "config.gin"
    if not path.is_file():
        raise UserError(f"no run in '{model_dir}': it has no config.gin.")
    return path
