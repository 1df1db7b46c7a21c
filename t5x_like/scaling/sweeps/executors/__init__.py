"""Executors of a sweep's runs: `Local`, `Print`, `Ray`, `Slurm`."""

from t5x_like.scaling.sweeps.executors.dry_run import Print
from t5x_like.scaling.sweeps.executors.executor import Executor, Handle, Job
from t5x_like.scaling.sweeps.executors.local import Local
from t5x_like.scaling.sweeps.executors.ray import Ray
from t5x_like.scaling.sweeps.executors.slurm import Slurm

__all__ = ["Executor", "Handle", "Job", "Local", "Print", "Ray", "Slurm"]
