"""Batches of one task each: which rows they have, and what a model with several heads is given."""

import collections

import numpy as np

from t5x_like import data
from t5x_like.data import formats
from t5x_like.data.formats import Item
from t5x_like.data.rows.one_task_batches import OneTaskRows

FIVE, THREE = range(2)


def item_at(task, number):
    """One that says where it is from."""
    return Item((np.array([task + 1, number + 1], np.int32),))


def rows(examples=(5, 3), batch_size=2, **options):
    options = {"seed": 0, "shard_index": 0, "shard_count": 1, **options}
    return OneTaskRows(item_at, None, examples, batch_size=batch_size, **options)


def read(source, batches):
    """Of each batch (task, number) of its rows, those that are empty left out."""
    found = []
    for _ in range(batches):
        items = [item for row in source.next_rows() for item in row]
        found.append([(int(item.parts[0][0]) - 1, int(item.parts[0][1]) - 1) for item in items])
    return found


def test_examples_are_dealt_to_batches_of_their_task():
    """Of 5 and of 3 examples, two at a time, 3 + 2 batches."""
    batches = read(rows(), 5)
    assert all(len({task for task, _ in batch}) == 1 for batch in batches)
    assert collections.Counter(batch[0][0] for batch in batches) == {FIVE: 3, THREE: 2}
    assert sorted(len(batch) for batch in batches) == [1, 1, 2, 2, 2]
    expected = [(FIVE, i) for i in range(5)] + [(THREE, i) for i in range(3)]
    assert sorted(place for batch in batches for place in batch) == expected


def test_each_epoch_has_each_batch_once_in_an_order_of_its_own():
    source = rows((50, 30))
    epochs = [read(source, 40) for _ in range(3)]
    tasks = [[batch[0][0] for batch in epoch] for epoch in epochs]
    assert all(sum(epoch) == 15 for epoch in tasks)
    assert tasks[0] != tasks[1] != tasks[2]
    # Examples count on, as each epoch shuffles a task's own anew.
    assert {n for batch in epochs[1] for task, n in batch if task == FIVE} == set(range(50, 100))
    assert [batch[0][0] for batch in read(rows((50, 30), seed=None), 40)] == [0] * 25 + [1] * 15


def test_batches_are_a_function_of_the_seed_and_the_step():
    whole = read(rows(), 20)
    source = rows()
    source.set_state({"step": 7})
    assert read(source, 13) == whole[7:]
    assert source.get_state() == {"step": 20}
    assert read(rows(seed=1), 20) != whole


def test_shards_make_the_same_batches_together():
    whole = read(rows((5, 3), 4), 6)
    parts = [read(rows((5, 3), 4, shard_index=i, shard_count=2), 6) for i in range(2)]
    assert [a + b for a, b in zip(*parts, strict=True)] == whole


def test_weights_are_shares_of_the_examples_whatever_rates_say():
    found = data.OneTaskBatches().weights(["a", "b"], [9.0, 1.0], [30, 10], lambda: [])
    assert found == [0.75, 0.25]


# -- Rows of several tasks -------------------------------------------------------------------------


def example(task, label, *candidates):
    first, *others = (np.array(ids, np.int32) for ids in candidates)
    made = {"inputs": first, "token_types": np.arange(first.size, dtype=np.int32) % 2}
    made |= {"label": np.asarray(label), "task": np.int32(formats.task_number(task))}
    if others:
        made["further_inputs"] = np.concatenate(others)
        made["further_token_types"] = np.concatenate([np.ones_like(one) for one in others])
        made["further_sizes"] = np.array([one.size for one in others], np.int32)
    return made


def batch_of(name, *examples, empty=0):
    reads = formats.find(name).reads
    bound = formats.bound(name, formats.TaskFacts(("inputs",), reads))
    items = [(bound.item(one),) for one in examples] + [()] * empty
    return bound, bound.batch(items, {"inputs": 4}, False)


def test_a_row_has_its_label_and_the_number_of_its_task():
    _, batch = batch_of(
        "labelled_tasks",
        example("a", np.int32(2), [5, 6, 7]),
        example("b", np.float32(-1.5), [8]),
        example("a", np.int32(-1), [9]),
        example("b", np.float32(np.nan), [9]),
        empty=1,
    )
    assert batch["encoder_input_tokens"].tolist()[:2] == [[5, 6, 7, 0], [8, 0, 0, 0]]
    assert batch["encoder_token_types"].tolist()[0] == [0, 1, 0, 0]
    assert batch["encoder_segment_ids"].tolist()[4] == [0] * 4
    assert batch["label"].dtype == np.float32
    assert batch["label"].tolist() == [2, -1.5, 0, 0, 0]
    assert batch["label_weight"].tolist() == [1, 1, 0, 0, 0]
    a, b = map(formats.task_number, "ab")
    assert batch["task"].tolist() == [a, b, a, b, 0]


def test_candidates_are_an_axis_between_rows_and_length():
    bound, batch = batch_of(
        "labelled_tasks", example("q", np.int32(1), [5, 6], [7], [8, 9, 4]), empty=1
    )
    assert batch["encoder_input_tokens"].tolist() == [
        [[5, 6, 0, 0], [7, 0, 0, 0], [8, 9, 4, 0]],
        [[0] * 4] * 3,
    ]
    assert batch["encoder_token_types"].tolist()[0] == [[0, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0]]
    assert batch["label"].tolist() == [1, 0] and batch["label_weight"].tolist() == [1, 0]
    # What fills a batch up has as many, so that every process has arrays of one shape.
    blank = bound.blank(bound.item(example("q", np.int32(1), [5, 6], [7], [8, 9, 4])))
    filled = bound.batch([(blank,)], {"inputs": 4}, False)
    assert filled["encoder_input_tokens"].shape == (1, 3, 4)
    assert not filled["encoder_segment_ids"].any() and not filled["label_weight"].any()


def test_ranked_candidates_of_one_task_have_an_axis_also_where_there_is_no_row():
    _, batch = batch_of("ranked_candidates", example("q", np.int32(1), [5], [7, 8]))
    assert batch["encoder_input_tokens"].tolist() == [[[5, 0, 0, 0], [7, 8, 0, 0]]]
    assert batch["label"].dtype == np.int32 and "task" not in batch
    empty = formats.example_batch("ranked_candidates", {"inputs": 4}, 3)
    assert empty["encoder_input_tokens"].shape == (3, 2, 4)
