"""SuperGLUE's tasks as seqio reads them, on the datasets' features and made-up rows."""

import functools

import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

import tasks

LENGTHS = {"inputs": 64, "targets": 32}


@pytest.mark.parametrize(
    ("name", "split", "begins"),
    [
        ("super_glue_boolq", "validation", "boolq passage: "),
        ("super_glue_cb", "validation", "cb hypothesis: "),
        ("super_glue_copa", "validation", "copa choice1: "),
        ("super_glue_multirc", "validation", "multirc question: "),
        ("super_glue_rte", "validation", "rte hypothesis: "),
        ("super_glue_wic", "validation", "wic sentence1: "),
        ("super_glue_axb", "test", "rte hypothesis: "),
        ("super_glue_axg", "test", "rte hypothesis: "),
        ("super_glue_record", "train", "record query: "),
        ("dpr", "validation", "wsc: "),
    ],
)
def test_super_glue_runs_on_mock_data(name, split, begins):
    task = tasks.get_mixture_or_task(name)
    with tfds.testing.mock_data(num_examples=4):
        rows = list(task.examples(split))
        made = task.seqio()
        dataset = made.get_dataset(LENGTHS, split=split, shuffle=False, try_in_mem_cache=False)
        examples = list(dataset.as_numpy_iterator())
    assert len(rows) == len(examples) >= 4
    for row, example in zip(rows, examples, strict=True):
        assert row["inputs"].startswith(begins)
        assert example["inputs_pretokenized"].decode() == row["inputs"]
        assert example["targets_pretokenized"].decode() == row["targets"]
        assert {name: plain(example[name]) for name in task.form.kept} == {
            name: row[name] for name in task.form.kept
        }
    labels = getattr(task.postprocessor, "labels", None)
    if labels:
        assert {row["targets"] for row in rows} <= {*labels, "<unk>"}
    assert made.metric_fns == list(task.metric_fns)


def plain(value):
    """An array as numbers or texts."""
    found = value.tolist()
    return [text.decode() for text in found] if isinstance(found, list) else found


def made_of(task, split, rows):
    """What a task makes of rows in the place of its dataset's."""

    def tensors(builder, row):
        return tf.nest.map_structure(tf.constant, builder.info.features.encode_example(row))

    def dataset(builder, *_, **__):
        parts = [tf.data.Dataset.from_tensors(tensors(builder, row)) for row in rows]
        return functools.reduce(tf.data.Dataset.concatenate, parts)

    with tfds.testing.mock_data(as_dataset_fn=dataset):
        made = task.seqio().get_dataset(LENGTHS, split=split, shuffle=False, try_in_mem_cache=False)
        return list(made.as_numpy_iterator())


def test_wsc_learns_what_is_right_and_is_measured_on_all():
    row = {"text": "Bob asked Tom if he paid.", "span1_index": 0, "span2_index": 4}
    row |= {"span1_text": "Bob", "span2_text": "he", "idx": 0}
    rows = [{**row, "label": "False"}, {**row, "span1_text": "Tom", "label": "True"}]
    task = tasks.get_mixture_or_task("super_glue_wsc")
    (learned,) = made_of(task, "train", rows)
    assert learned["inputs_pretokenized"] == b"wsc: Bob asked Tom if *he* paid."
    assert learned["targets_pretokenized"] == b"Tom" and learned["label"] == 1
    measured = made_of(task, "validation", rows)
    assert [one["label"] for one in measured] == [0, 1]
    # "Tom" is what the second row says and not what the first does: both are right.
    found = [task.postprocess("Tom", one, False) for one in measured]
    expected = [task.postprocess("", one, True) for one in measured]
    assert task.metric_fns[0](expected, found) == {"accuracy": 100}


def test_record_is_a_row_for_each_answer_in_training_only():
    row = {
        "passage": "The passage.",
        "query": "A @placeholder is a bird.",
        "entities": ["penguin", "pigeon", "potato"],
        "answers": ["penguin", "pigeon"],
        "idx": {"passage": 0, "query": 0},
    }
    task = tasks.get_mixture_or_task("super_glue_record")
    rows = [row, {**row, "answers": []}]
    learned = made_of(task, "train", rows)
    assert [one["targets_pretokenized"] for one in learned] == [b"penguin", b"pigeon", b"<unk>"]
    inputs = b"record query: A @placeholder is a bird. entities: penguin, pigeon, potato "
    assert {one["inputs_pretokenized"] for one in learned} == {inputs + b"passage: The passage."}
    measured = made_of(task, "validation", rows)
    assert [one["targets_pretokenized"] for one in measured] == [b"penguin", b"<unk>"]
    assert measured[0]["answers"].tolist() == [b"penguin", b"pigeon"]
    assert task.metric_fns[0]([task.postprocess("", measured[0], True)], ["Pigeon"])["em"] == 100


def test_all_answers_to_a_question_of_multirc_are_measured_together():
    row = {"paragraph": "P.", "question": "Q?", "answer": "A", "idx": {"paragraph": 0}}
    labels = [(4, "True"), (4, "False"), (5, "True")]
    rows = [
        {**row, "label": label, "idx": {"paragraph": 0, "question": question, "answer": i}}
        for i, (question, label) in enumerate(labels)
    ]
    task = tasks.get_mixture_or_task("super_glue_multirc")
    examples = made_of(task, "validation", rows)
    expected = [
        task.postprocess(one["targets_pretokenized"].decode(), one, True) for one in examples
    ]
    assert expected == [(4, 1), (4, 0), (5, 1)]
    found = [task.postprocess(text, {}, False) for text in ("True", "True", "True")]
    # 2 hits of 2 and 3; of the first question not all are right.
    assert task.metric_fns[0](expected, found) == {"f1a": pytest.approx(80), "em": 50}
