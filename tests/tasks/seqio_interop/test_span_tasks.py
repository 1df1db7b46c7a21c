"""SQuAD for a head through seqio and TFDS, on mock data."""

import json

import numpy as np
import pytest
import tensorflow_datasets as tfds

import tasks
from tasks import metrics, objectives, sources


@pytest.mark.parametrize(
    ("name", "unanswerable", "measured"),
    [
        ("squad_spans", False, [metrics.squad]),
        ("squad2_spans", True, [metrics.squad2, metrics.squad2_best_threshold]),
    ],
)
def test_squad_for_heads_runs_on_mock_data(name, unanswerable, measured):
    task = tasks.get_mixture_or_task(name)
    assert task.unanswerable == unanswerable and list(task.metric_fns) == measured
    assert task.learned == objectives.SpanWindows(stride=128, question_length=64)
    with tfds.testing.mock_data(num_examples=4):
        dataset = task.seqio().get_dataset(
            {"inputs": 96}, split="validation", shuffle=False, try_in_mem_cache=False
        )
        examples = list(dataset.as_numpy_iterator())
    assert len(examples) >= 4
    for example in examples:
        row = example["inputs"].tolist()
        # Bytes have sentinels 382 and 381 for [CLS] and [SEP].
        assert row[0] == 382 and row[-1] == 381 and row.count(381) == 2 and len(row) <= 96
        assert example["char_begins"].shape == example["inputs"].shape
        # The mock's answers are no parts of its texts.
        assert example["span_start"] == example["span_end"] <= 0


def test_a_long_text_is_several_rows_with_the_answer_in_those_that_hold_it(tmp_path):
    text = "ab " * 40 + "Xyz" + " cd" * 20
    row = {"question": "Who?", "context": text, "answers": ["Xyz"]}
    (tmp_path / "q.jsonl").write_text(f"{json.dumps(row)}\n")
    source = sources.JsonLines(
        files={"train": str(tmp_path / "q.jsonl")}, columns=("question", "context", "answers")
    )
    windows = objectives.SpanWindows(stride=16, question_length=8)
    task = tasks.spans("seqio_span_rows", source, windows=windows)
    dataset = task.seqio().get_dataset({"inputs": 64}, split="train", shuffle=False)
    rows = list(dataset.as_numpy_iterator())
    width = 64 - 3 - 4
    assert len(rows) == 1 + -(-(len(text) - width) // 16)
    found = []
    for i, row in enumerate(rows):
        inside = 16 * i <= 120 and 16 * i + width >= 123
        assert (row["span_start"] > 0) == inside
        if inside:
            span = slice(row["span_start"], row["span_end"] + 1)
            found.append((row["inputs"][span] - 3).astype(np.uint8).tobytes().decode())
            assert row["char_begins"][row["span_start"]] == 120
    assert found and set(found) == {"Xyz"}
    once = np.concatenate([row["char_begins"][row["may_begin"] > 0] for row in rows])
    assert sorted(once.tolist()) == list(range(len(text)))
