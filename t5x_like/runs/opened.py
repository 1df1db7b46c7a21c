"""What a run has: numbers, model, parameters, task."""

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from t5x_like import anomalies, checkpoints, config
from t5x_like.decoding import TextCodec
from t5x_like.errors import UserError
from t5x_like.host import files
from t5x_like.protocols import Mixture, Model, Params, Task
from t5x_like.training import metrics_log

if TYPE_CHECKING:
    import pandas as pd


class OpenedRun:
    """A run of which nothing has been asked yet.

    Attributes:
      model_dir: where it writes.
      model: the Linen module.
      task_feature_lengths: tokens of each feature.
    """

    def __init__(
        self,
        model_dir: str,
        model: Model,
        task_feature_lengths: Mapping[str, int],
        step: int | None = None,
    ) -> None:
        self.model_dir = model_dir
        self.model = model
        self.task_feature_lengths = dict(task_feature_lengths)
        self._wanted_step = step

    def __repr__(self) -> str:
        return f"Run({self.model_dir!r}, {type(self.model).__name__}, steps {self.steps})"

    @property
    def metrics(self) -> "pd.DataFrame":
        """`metrics.jsonl` as it is now: a row for each record, a column for each value."""
        import pandas as pd

        return pd.DataFrame(metrics_log.read_records(self.model_dir))

    @property
    def batch(self) -> dict[str, np.ndarray]:
        """The batch of an anomalous step, of a run opened at `MODEL_DIR/anomalies/STEP`."""
        return anomalies.read_batch(files.location(self.model_dir))

    @property
    def steps(self) -> list[int]:
        """The steps that have a checkpoint."""
        return checkpoints.checkpoint_steps(self.model_dir)

    @property
    def step(self) -> int:
        """The step of `params`."""
        return self._restored[1]

    @property
    def params(self) -> Params:
        """The parameters, read when first asked for."""
        return self._restored[0]

    @functools.cached_property
    def _restored(self) -> tuple[Params, int]:
        return checkpoints.load_params(self.model_dir, self.model, step=self._wanted_step)

    @functools.cached_property
    def task(self) -> Task | Mixture:
        """What it learns; a seqio task of your own is found once its module is imported."""
        with config.isolated():
            config.parse([str(files.location(self.model_dir) / "config.gin")])
            if not config.has_macro("TASK"):
                raise UserError(
                    f"the run in '{self.model_dir}' has no task, and so no vocabulary to read text "
                    "with: it was imported without a tokenizer. Import it from a directory with "
                    "tokenizer.json, which transformers' AutoTokenizer.from_pretrained(DIR)"
                    ".save_pretrained(DIR) writes, or give token ids to run.model."
                )
            return config.macro("TASK")

    @functools.cached_property
    def codec(self) -> TextCodec:
        """From text to token ids and back, as the task has them."""
        return TextCodec.for_task(self.task, self.model, self.task_feature_lengths)
