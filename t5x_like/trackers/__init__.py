"""Trackers of experiments, which get what `metrics.jsonl` gets."""

from t5x_like.trackers.mlflow import MLflow
from t5x_like.trackers.tensorboard import TensorBoard
from t5x_like.trackers.tracker import OpenTracker, TrackedRun, Tracker, open_trackers
from t5x_like.trackers.trackio import Trackio
from t5x_like.trackers.wandb import WeightsAndBiases

__all__ = (
    "MLflow",
    "OpenTracker",
    "TensorBoard",
    "TrackedRun",
    "Tracker",
    "Trackio",
    "WeightsAndBiases",
    "open_trackers",
)
