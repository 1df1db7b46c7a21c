"""What a run says of itself when it starts, and when it is cut short."""

from t5x_like import checkpoints
from t5x_like.cost import peak
from t5x_like.cost.peak import Peak
from t5x_like.data import DatasetConfig
from t5x_like.optimizers import Optimizer
from t5x_like.partitioning import Partitioner
from t5x_like.training.plan import TrainingPlan
from t5x_like.training.progress import aligned


def text(plan: TrainingPlan, origin: str, start: int, peak: Peak) -> str:
    """Model, optimizer, devices, data and steps, a line each.

    Args:
      plan: what was asked for.
      origin: where the parameters come from.
      start: steps made already.
      peak: of all devices.
    """
    count = f"{plan.model.parameter_count():,} parameters"
    return aligned(
        {
            "model": f"{type(plan.model).__name__}, {count}, from {origin}",
            "optimizer": _optimizer_line(plan.optimizer),
            "devices": _device_line(plan.partitioner, peak),
            "data": _data_line(plan.dataset),
            "steps": f"{start} of {plan.train_steps} done" if start else f"{plan.train_steps}",
            "writes to": str(plan.model_dir),
        }
    )


def complete(start: int) -> str:
    """Says what a run that has made all of its steps can be started for."""
    return (
        f"the run is complete: a TRAIN_STEPS above {start} trains it further (with "
        "--allow_config_change where that is refused as another run), and another MODEL_DIR begins "
        "a new one"
    )


def last_saved(model_dir: str) -> str:
    """Says which checkpoint a run can resume from, if it ends now."""
    steps = checkpoints.checkpoint_steps(model_dir)
    if not steps:
        return "There is no checkpoint."
    return f"The last checkpoint is of step {steps[-1]}; the same command resumes from it."


def device_peak(partitioner: Partitioner) -> Peak:
    """What the devices of a mesh could do at best."""
    return peak.peak(list(partitioner.mesh.devices.flat))


def _optimizer_line(optimizer: Optimizer) -> str:
    peak = getattr(optimizer.schedule, "peak", None)
    return optimizer.name if peak is None else f"{optimizer.name}, learning rate {peak:.3g} at most"


def _device_line(partitioner: Partitioner, peak: Peak) -> str:
    devices = list(partitioner.mesh.devices.flat)
    axes = ", ".join(f"{name} {size}" for name, size in partitioner.mesh.shape.items() if size > 1)
    rate = f", peak {peak.flops / 1e12:.2f} TFLOP/s ({peak.source})" if peak.flops else ""
    mesh = f" as {axes}" if axes else ""
    return f"{len(devices)} x {devices[0].device_kind}{mesh}{rate}"


def _data_line(dataset: DatasetConfig) -> str:
    lengths = ", ".join(f"{name} {n}" for name, n in dataset.task_feature_lengths.items())
    rows = " to ".join(map(str, dict.fromkeys((dataset.batch_sizes[0], dataset.batch_sizes[-1]))))
    return f"{dataset.task.name} {dataset.split}, batch {rows}, {lengths}"
