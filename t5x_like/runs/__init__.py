"""A run, opened from its MODEL_DIR: numbers, model, parameters, text.

```python
run = load_run("runs/demo")
run.metrics
run.generate(["translate English to German: That is good."], temperature=0.0)
run.attention(["That is good."])
run.neighbours("play")
```
"""

from t5x_like import checkpoints, config
from t5x_like.errors import UserError
from t5x_like.host import files
from t5x_like.runs.at_hand import Pooling
from t5x_like.runs.run import Run

__all__ = ["Pooling", "Run", "load_run"]


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
    path = files.location(model_dir) / "config.gin"
    if not path.is_file():
        raise UserError(f"no run in '{model_dir}': it has no config.gin.")
    if step is not None:
        checkpoints.find_checkpoint(model_dir, step)
    with config.isolated():
        config.parse([str(path)])
        model = config.macro("MODEL")
        lengths = config.macro("TASK_FEATURE_LENGTHS")
    return Run(model_dir, model, lengths, step)
