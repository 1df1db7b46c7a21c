"""Trackers get what `metrics.jsonl` gets, continue one run, and stop nothing when they fail."""

import json
import logging
import os
import struct
import sys
import types

import pytest
from etils import epath

from t5x_like.data.cache import tfrecord
from t5x_like.errors import UserError
from t5x_like.trackers import MLflow, TrackedRun, Trackio, WeightsAndBiases, open_trackers
from t5x_like.trackers.tensorboard import EventFile
from t5x_like.training.metrics_log import MetricsLog, read_records

CONFIGURATION = {"seed": "0", "model.num_layers": "6"}


class WandB:
    """What Weights & Biases is asked for; it is not installed where the tests run."""

    def __init__(self):
        self.begun, self.logged = [], []

    def init(self, **settings):
        self.begun.append(settings)
        return self

    def log(self, values, step):
        self.logged.append((step, values))

    def finish(self):
        pass


def starts(directory, tracker):
    """Two starts of a run, and one of another, each with a record."""
    for name in ("run", "run", "other"):
        (directory / name).mkdir(exist_ok=True)
        log = MetricsLog(str(directory / name), 0, [tracker], CONFIGURATION)
        log.write(1, "train", {"loss": 2.0})
        log.close()


def test_weights_and_biases_continue_one_run_with_its_configuration(tmp_path, monkeypatch):
    """A restart has the id of the first start; another MODEL_DIR has an id of its own."""
    wandb = WandB()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    starts(tmp_path, WeightsAndBiases("p"))
    first, second, other = wandb.begun
    assert first == second and len(first["id"]) == 16 and other["id"] != first["id"]
    assert {name: value for name, value in first.items() if name != "id"} == {
        "project": "p", "name": "run", "config": CONFIGURATION, "resume": "allow",
    }  # fmt: skip
    assert wandb.logged == 3 * [(1, {"train/loss": 2.0})]


@pytest.mark.parametrize("text", ["{", "[]", '{"id": 3}', "[" * 100_000])
def test_a_damaged_id_of_weights_and_biases_is_made_anew(tmp_path, monkeypatch, text):
    monkeypatch.setitem(sys.modules, "wandb", WandB())
    (tmp_path / "wandb.json").write_text(text)
    MetricsLog(str(tmp_path), trackers=[WeightsAndBiases("p")]).close()
    assert len(json.loads((tmp_path / "wandb.json").read_text())["id"]) == 16


def test_weights_and_biases_themselves_offline(tmp_path):
    """With the package, where it is installed: everything is kept in MODEL_DIR."""
    pytest.importorskip("wandb")
    tracker = WeightsAndBiases("p", mode="offline")
    starts(tmp_path, tracker)
    run_id = json.loads((tmp_path / "run" / "wandb.json").read_text())["id"]
    kept = list((tmp_path / "run" / "wandb").glob(f"offline-run-*-{run_id}/run-{run_id}.wandb"))
    assert kept


def test_mlflow_itself(tmp_path, monkeypatch):
    """With the package, where it is installed: one run over two starts, parameters and metrics."""
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # which needs no database
    place = (tmp_path / "mlruns").as_uri()
    starts(tmp_path, MLflow("words", place))
    client = mlflow.MlflowClient(tracking_uri=place)
    experiment = client.get_experiment_by_name("words")
    found = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert found.keys() == {"run", "other"}
    run = found["run"]
    assert run.info.status == "FINISHED"
    assert run.data.params == CONFIGURATION
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert [(one.step, one.value) for one in history] == [(1, 2.0)] * 2


@pytest.mark.parametrize(("own", "seen"), [(None, "2"), ("5", "5")])
def test_an_mlflow_server_that_is_away_is_given_up_soon(own, seen, tmp_path, monkeypatch, caplog):
    """By MLflow's 7 retries a start would wait for four minutes; what the user says holds."""
    retries, found = "MLFLOW_HTTP_REQUEST_MAX_RETRIES", []

    class Client:
        def __init__(self, tracking_uri):
            pass

        def get_experiment_by_name(self, name):
            found.append(os.environ.get(retries))
            raise ConnectionError("refused")

    monkeypatch.setitem(sys.modules, "mlflow", types.SimpleNamespace(MlflowClient=Client))
    monkeypatch.delenv(retries, raising=False)
    if own:
        monkeypatch.setenv(retries, own)
    MetricsLog(str(tmp_path), trackers=[MLflow("words", "http://localhost")]).close()
    assert found == [seen]
    assert os.environ.get(retries) == own
    assert "MLflow failed (ConnectionError: refused)" in caplog.text


def test_trackio_itself(tmp_path, monkeypatch):
    """With the package, where it is installed."""
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    pytest.importorskip("trackio")
    starts(tmp_path, Trackio("words"))
    name = json.loads((tmp_path / "run" / "trackio.json").read_text())["id"]
    assert name.startswith("run-")
    assert list((tmp_path / "trackio").rglob("words*"))


class Failing:
    """A tracker that fails at the given record."""

    def __init__(self, at):
        self.at, self.logged, self.closed = at, [], False

    def open(self, run):
        if self.at == 0:
            raise ConnectionError("the server\ndoes not answer")
        return self

    def log(self, step, values):
        if step == self.at:
            raise ConnectionError("the server\ndoes not answer")
        self.logged.append(step)

    def close(self):
        self.closed = True


@pytest.mark.parametrize("at", [0, 2])
def test_a_failing_tracker_gets_no_more_and_stops_nothing(at, tmp_path, caplog):
    failing, other = Failing(at), Failing(-1)
    with caplog.at_level(logging.WARNING):
        log = MetricsLog(str(tmp_path), trackers=[failing, other])
        for step in (1, 2, 3):
            log.write(step, "train", {"loss": 1.0})
        log.close()
    assert failing.logged == ([1] if at else [])
    assert other.logged == [1, 2, 3] and other.closed
    assert [record["step"] for record in read_records(str(tmp_path))] == [1, 2, 3]
    (warning,) = [record.getMessage() for record in caplog.records]
    assert warning.startswith("warning: Failing failed (ConnectionError: the server")
    assert "\n" not in warning


@pytest.mark.parametrize(
    ("tracker", "name"),
    [(WeightsAndBiases("p"), "wandb"), (MLflow("p"), "mlflow"), (Trackio("p"), "trackio")],
)
def test_a_package_that_is_not_installed_is_named_before_anything_is_trained(
    tracker, name, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=f"needs `pip install {name}`"):
        open_trackers([tracker], TrackedRun(epath.Path(tmp_path), {}))


def test_tensorboards_own_reader_reads_the_event_file(tmp_path):
    from tensorboard.compat.proto import event_pb2

    events = EventFile(epath.Path(tmp_path))
    events.log(300, {"train/loss": 1.25, "train/mfu": 0.5})
    events.close()
    (path,) = tmp_path.glob("events.out.tfevents.*")
    data = path.read_bytes()
    found = []
    while data:
        (length,) = struct.unpack_from("<Q", data)
        found.append(event_pb2.Event.FromString(data[12 : 12 + length]))
        data = data[16 + length :]
    assert found[0].file_version == "brain.Event:2"
    assert found[1].step == 300
    values = {value.tag: value.simple_value for value in found[1].summary.value}
    assert values == {"train/loss": 1.25, "train/mfu": 0.5}
    # The checksums too, which TensorBoard verifies: our cache reader refuses a wrong one.
    assert len(tfrecord.RecordFile(path)) == 2
