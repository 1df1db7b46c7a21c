import json
import struct

from etils import epath

from t5x_like.data.cache import tfrecord
from t5x_like.training import metrics_log


def test_records_are_one_json_object_a_line(tmp_path):
    log = metrics_log.MetricsLog(str(tmp_path), tensorboard=False)
    log.write(20, "train", {"loss": 2.5, "tokens": 640})
    log.close()
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"step": 20, "split": "train", "loss": 2.5, "tokens": 640}
    ]


def test_what_an_interrupted_run_wrote_after_its_checkpoint_is_dropped(tmp_path):
    records = [{"step": step, "split": "train", "loss": 1.0} for step in (10, 20, 30)]
    text = "".join(json.dumps(record) + "\n" for record in records)
    (tmp_path / "metrics.jsonl").write_text(text + '{"step": 40, "spl')
    log = metrics_log.MetricsLog(str(tmp_path), resumed_step=20, tensorboard=False)
    log.write(30, "train", {"loss": 0.5})
    log.close()
    found = metrics_log.read_records(str(tmp_path))
    assert [(record["step"], record["loss"]) for record in found] == [
        (10, 1.0),
        (20, 1.0),
        (30, 0.5),
    ]


def test_a_last_line_that_is_being_written_is_left_out(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "split": "train"}\n{"step": 2, "sp')
    assert [record["step"] for record in metrics_log.read_records(str(tmp_path))] == [1]


def test_tensorboards_own_reader_reads_the_event_file(tmp_path):
    from tensorboard.compat.proto import event_pb2

    events = metrics_log.EventFile(epath.Path(tmp_path))
    events.write(300, {"train/loss": 1.25, "train/mfu": 0.5})
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
