"""MLflow."""

import contextlib
import dataclasses
import os
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

from t5x_like.trackers.tracker import OpenTracker, TrackedRun, package

# Longest value of a parameter that every store of MLflow takes.
_LONGEST = 500
_UNNAMED = re.compile(r"[^\w\-./ ]")
# By MLflow's own, 7 retries of up to two minutes, a server that is away holds a start up for four
# minutes at least.
_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}


@dataclasses.dataclass(frozen=True)
class MLflow:
    """Logs to an experiment of MLflow.

    A restart continues the run there, whose id is kept in `MODEL_DIR/mlflow.json`.

    Attributes:
      experiment: the experiment, made if it is not there.
      tracking_uri: of the server or the database; None is what MLFLOW_TRACKING_URI says, or
        MLflow's own default.
    """

    experiment: str
    tracking_uri: str | None = None

    def open(self, run: TrackedRun) -> OpenTracker:
        """See `Tracker`."""
        with _waited_for():
            return self._open(run)

    def _open(self, run: TrackedRun) -> OpenTracker:
        mlflow = package("mlflow", f"the MLflow experiment '{self.experiment}'")
        client = mlflow.MlflowClient(tracking_uri=self.tracking_uri)
        made = []

        def make() -> str:
            found = client.get_experiment_by_name(self.experiment)
            if found is None:
                experiment = client.create_experiment(self.experiment)
            else:
                experiment = found.experiment_id
            made.append(str(client.create_run(experiment, run_name=run.name).info.run_id))
            return made[0]

        run_id = run.kept_id("mlflow", make)
        if made:  # parameters cannot be changed later
            param = mlflow.entities.Param
            named = {_named(key): str(value) for key, value in run.configuration.items()}
            params = [param(key, value[:_LONGEST]) for key, value in named.items()]
            client.log_batch(run_id, params=params)
        else:
            client.update_run(run_id, status="RUNNING")
        return _Run(client, mlflow.entities.Metric, run_id)


@dataclasses.dataclass(frozen=True)
class _Run:
    client: Any
    metric: Any
    run_id: str

    def log(self, step: int, values: Mapping[str, float]) -> None:
        now = int(time.time() * 1000)
        metrics = [self.metric(_named(tag), float(x), now, step) for tag, x in values.items()]
        # The server is not waited for.
        self.client.log_batch(self.run_id, metrics=metrics, synchronous=False)

    def close(self) -> None:
        with _waited_for():
            self.client.set_terminated(self.run_id)


@contextlib.contextmanager
def _waited_for() -> Iterator[None]:
    """While training waits for the server, which is given up sooner, unless the user says when."""
    added = {name: value for name, value in _PATIENCE.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def _named(tag: str) -> str:
    """A tag in the letters that MLflow takes."""
    return _UNNAMED.sub("_", tag)
