"""Models that are counted in one pass over a corpus, and not trained."""

import dataclasses
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import jax

from t5x_like import inspection
from t5x_like.checkpoints import host_params
from t5x_like.data import DatasetConfig, EvaluationDataset, open_evaluation
from t5x_like.data.cache.status import require_cache
from t5x_like.data.cache.vocabularies import vocabulary_specs
from t5x_like.data.config import facts_of
from t5x_like.errors import UserError
from t5x_like.host import command, files, memory
from t5x_like.host.progress import ProgressBar
from t5x_like.partitioning import Partitioner
from t5x_like.protocols import Batch, Counts, Model, Task

# Rows that are laid out together: reading is the faster for it, and a batch is never on a device.
_ROWS = 512


def count(
    *,
    counter: Counts,
    model_dir: str,
    dataset: DatasetConfig,
    config_text: Callable[[Model], str] | None = None,
) -> dict[str, Any]:
    """Makes a MODEL_DIR of a corpus, as if its model had been trained to step 0.

    It holds `checkpoints/0` (parameters alone), `config.gin` and `model-info.txt`: `eval`, `infer`,
    `inspect` and `load_run` take it as any other run's. It appears when all of it is written.

    Rows are those of an evaluation of the split: each once, in order, cut to the lengths of the
    task's features, each after the vocabulary's start token. So what is predicted of a text, and
    from what, is the same in counting as in evaluation, and as for any other model of the task.

    Args:
      counter: what counts.
      model_dir: the MODEL_DIR to make; it may be there if it is empty.
      dataset: the split; of a mixture the tasks one after the other, whatever their rates.
      config_text: makes the text of `config.gin`; None leaves it out.

    Returns:
      `model`, `parameters`, `tokens`, `seconds`, `model_dir` and `notes`.

    Raises:
      UserError: the MODEL_DIR is not empty, the cache is not ready, the split is empty; and what
        the counter raises.
    """
    began = time.monotonic()
    _check(model_dir)
    memory.give_back_large_blocks()
    tokens = _Tally()
    rows = open_evaluation(
        dataclasses.replace(dataset, batch_size=_ROWS), batch_format=counter.batch_format
    )
    model, params, notes = counter.count(
        tokens.of(rows, f"{dataset.task.name} {dataset.split}"),
        zero_is_token=facts_of(dataset).zero_is_token,
        **_vocabulary(dataset),
    )
    parameters = model.parameter_count()
    with files.new_directory(Path(model_dir)) as directory:
        if config_text is not None:
            (directory / "config.gin").write_text(config_text(model), "utf-8")
        one_cpu = Partitioner(devices=(jax.devices("cpu")[0],))
        table = inspection.parameter_table(inspection.parameter_tree(model, one_cpu))
        title = f"{inspection.title(model)}, {parameters:,} parameters"
        (directory / "model-info.txt").write_text(f"{title}\n\n{table}\n", "utf-8")
        metadata = {
            "parameters": parameters,
            "tokens": tokens.total,
            "seconds": time.monotonic() - began,
            "jax": jax.__version__,
        }
        host_params.write_params(str(directory), params, 0, metadata)
    return {
        "model": type(model).__name__,
        "parameters": parameters,
        "tokens": tokens.total,
        "seconds": time.monotonic() - began,
        "model_dir": model_dir,
        "notes": list(notes),
    }


class _Tally:
    """How many tokens were read, with a progress bar."""

    total = 0

    def of(self, rows: EvaluationDataset, label: str) -> Iterator[Batch]:
        """The batches of a split, counted on their way."""
        bar = ProgressBar(rows.num_examples, label=label, stream=sys.stderr)
        with bar:
            for one in rows:
                self.total += int((one.batch["decoder_loss_weights"] > 0).sum())
                yield one.batch
                bar.add(len(one.indices))


def _check(model_dir: str) -> None:
    if jax.process_count() > 1:
        raise UserError("one process counts a corpus: start it without --process_count.")
    if "://" in str(model_dir):
        raise UserError(f"'{model_dir}' is remote: give a local directory and copy it afterwards.")
    path = Path(model_dir)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f"'{model_dir}' is there already: give a new or an empty directory.")


def _vocabulary(dataset: DatasetConfig) -> dict[str, int]:
    """What is told of the vocabulary of the targets; of several tasks the size is the largest."""
    specs = []
    for task, _ in dataset.task.tasks:
        folder = require_cache(task, dataset.cache_dir, dataset.split, verify_source=False)
        specs.append(vocabulary_specs(cast(Task, task), folder)["targets"])
    return {
        "vocab_size": max(spec["vocab_size"] for spec in specs),
        "start_id": specs[0].get("start_id", 0),
        "end_id": specs[0]["eos_id"],
    }


if __name__ == "__main__":
    command.run("ngram")
