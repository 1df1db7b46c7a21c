"""What two runs of the same steps share: all that is recorded, but for times."""

from typing import Any

from t5x_like.training import metrics_log

_TIMED = {
    "step_seconds",
    "tokens_per_second",
    "rollout_tokens_per_second",
    "update_tokens_per_second",
    "model_tflops",
    "mfu",
    "goodput",
}

# What takes the place of a checkpoint's times in its metadata.
NO_TIMES = {"seconds": 0, "time": None}


def untimed(model_dir: Any) -> list[dict[str, Any]]:
    """Every record of a run's `metrics.jsonl`, but for times."""
    return [
        {k: v for k, v in record.items() if k not in _TIMED and not k.startswith("seconds")}
        for record in metrics_log.read_records(str(model_dir))
    ]
