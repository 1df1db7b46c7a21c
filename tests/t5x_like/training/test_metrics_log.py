import json
import logging
import math
import os
import shutil

import pytest

from t5x_like.data.cache import tfrecord
from t5x_like.errors import DataFault, UserError
from t5x_like.trackers import TensorBoard
from t5x_like.training import metrics_log


def test_records_are_one_json_object_a_line(tmp_path):
    log = metrics_log.MetricsLog(str(tmp_path))
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
    log = metrics_log.MetricsLog(str(tmp_path), resumed_step=20)
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


def test_what_is_not_finite_is_null_in_the_file_and_nan_again_when_it_is_read(tmp_path):
    log = metrics_log.MetricsLog(str(tmp_path))
    log.write(20, "validation", {"loss": math.nan, "accuracy": -math.inf, "tokens": 640})
    log.close()
    line = (tmp_path / "metrics.jsonl").read_text()
    wanted = '{"step": 20, "split": "validation", "loss": null, "accuracy": null, "tokens": 640}\n'
    assert line == wanted
    (record,) = metrics_log.read_records(str(tmp_path))
    assert math.isnan(record["loss"]) and record["tokens"] == 640


def test_a_bare_nan_of_an_earlier_version_is_read_and_becomes_null_when_the_run_resumes(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "split": "train", "loss": NaN}\n')
    metrics_log.MetricsLog(str(tmp_path), resumed_step=1).close()
    assert json.loads((tmp_path / "metrics.jsonl").read_text(), parse_constant=pytest.fail) == {
        "step": 1, "split": "train", "loss": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    "damage",
    [
        b"\0" * 40,
        b'{"step": 2, "spl',
        b"[" * 100_000,
        b"3",
        b'{"step": "2", "split": "train"}',
        b'{"split": "train"}',
        b'\xff\xfe{"step": 2, "split": "train"}',
    ],
)
def test_a_damaged_line_is_left_out_said_once_and_dropped_when_the_run_resumes(
    tmp_path, damage, caplog
):
    whole = [b'{"step": 1, "split": "train"}', b'{"step": 3, "split": "train"}']
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"\n".join([whole[0], damage, whole[1], b""]))
    for _ in range(2):
        found = metrics_log.read_records(str(tmp_path))
        assert [record["step"] for record in found] == [1, 3]
    assert [record.getMessage() for record in caplog.records] == [
        f"warning: '{path}': damaged line left out: 2"
    ]
    metrics_log.MetricsLog(str(tmp_path), resumed_step=3).close()
    assert path.read_bytes() == b"\n".join([*whole, b""])


def test_the_last_evaluation_of_a_step_split_and_task_counts(tmp_path):
    def evaluated(step, split, rows, **more):
        return {"step": step, "split": split, "rows": rows, **more}

    records = [
        evaluated(5, "validation", 1, task="copying"),
        evaluated(5, "validation", 2),  # the run's own validation, which it repeats
        evaluated(5, "validation", 3),
        evaluated(5, "test", 4, task="copying"),
        evaluated(5, "validation", 5, task="others"),
        evaluated(5, "validation", 6, task="copying"),
    ]
    for record in records:
        metrics_log.append_record(tmp_path, record)
    assert [record["rows"] for record in metrics_log.read_records(str(tmp_path))] == [2, 3, 4, 5, 6]


def test_evaluations_after_other_numbers_of_examples_stand_side_by_side(tmp_path):
    """When a run resumes, too; a record of an earlier version tells of no examples."""
    for rows, after in enumerate(
        [{}, {"asked_after": "3_shots"}, {"asked_after": "fit_shots"}] * 2
    ):
        record = {"step": 5, "split": "validation", "task": "sum_shots", "rows": rows, **after}
        metrics_log.append_record(tmp_path, record)
    found = metrics_log.read_records(str(tmp_path))
    assert [(metrics_log.task_told(one), one["rows"]) for one in found] == [
        ("sum_shots", 3), ("sum_shots, 3 shots", 4), ("sum_shots, fit shots", 5)
    ]  # fmt: skip
    metrics_log.MetricsLog(str(tmp_path), resumed_step=5).close()
    assert (tmp_path / "metrics.jsonl").read_text().count("\n") == 3
    assert metrics_log.read_records(str(tmp_path)) == found


def test_an_evaluation_writes_nothing_of_a_run_again(tmp_path, caplog):
    """Neither what the run writes at that moment nor a damaged line can get lost."""
    path = tmp_path / "metrics.jsonl"
    log = metrics_log.MetricsLog(str(tmp_path))
    metrics_log.append_record(tmp_path, {"step": 5, "split": "validation", "task": "a"})
    file = path.stat().st_ino
    with path.open("ab") as other:
        other.write(b'{"step": 6, "spl')  # cut by a kill
    metrics_log.append_record(tmp_path, {"step": 5, "split": "validation", "task": "a", "rows": 2})
    log.write(7, "train", {"loss": 1.0})
    log.close()
    assert path.stat().st_ino == file
    assert [record["step"] for record in metrics_log.read_records(str(tmp_path))] == [5, 7]
    assert path.read_bytes().splitlines()[1] == b'{"step": 6, "spl'
    assert [record.getMessage()[-1] for record in caplog.records] == ["2"]  # nothing "replaced"


def test_a_record_may_hold_a_line_separator_of_unicode(tmp_path):
    record = {"step": 1, "split": "validation", "task": "a\u2028b"}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(record, ensure_ascii=False) + "\n")
    assert metrics_log.read_records(str(tmp_path)) == [record]


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_is_no_file_is_refused_without_waiting(tmp_path, make):
    make(tmp_path / "metrics.jsonl")
    with pytest.raises(UserError, match=r"metrics\.jsonl' is not a file"):
        metrics_log.read_records(str(tmp_path))


def test_a_log_that_is_removed_while_it_is_written_is_there_again_with_the_next_record(
    tmp_path, caplog
):
    log = metrics_log.MetricsLog(str(tmp_path), trackers=[TensorBoard()])
    log.write(1, "train", {"loss": 2.0})
    (tmp_path / "metrics.jsonl").unlink()
    (events,) = (tmp_path / "tensorboard").iterdir()
    events.unlink()
    with caplog.at_level(logging.WARNING):
        log.write(2, "train", {"loss": 1.0})
    log.close()
    assert [record["loss"] for record in metrics_log.read_records(str(tmp_path))] == [2.0, 1.0]
    assert len(tfrecord.RecordFile(events)) == 3
    assert [record.getMessage().endswith("is there again.") for record in caplog.records] == 2 * [
        True
    ]


def test_a_log_that_is_replaced_while_it_is_written_is_continued(tmp_path):
    log = metrics_log.MetricsLog(str(tmp_path))
    log.write(1, "train", {"loss": 2.0})
    path = tmp_path / "metrics.jsonl"
    path.rename(tmp_path / "old")
    shutil.copy(tmp_path / "old", path)  # as an editor saves
    log.write(2, "train", {"loss": 1.0})
    log.close()
    assert [record["loss"] for record in metrics_log.read_records(str(tmp_path))] == [2.0, 1.0]


def test_a_model_dir_that_is_removed_is_noticed_at_the_next_record(tmp_path):
    (tmp_path / "run").mkdir()
    log = metrics_log.MetricsLog(str(tmp_path / "run"))
    shutil.rmtree(tmp_path / "run")
    with pytest.raises(DataFault, match=r"run' was removed while 'metrics\.jsonl' was being"):
        log.write(1, "train", {"loss": 2.0})
    log.close()
