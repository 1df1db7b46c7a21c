"""Benchmarks from TFDS: a row has the same text as from a file of JSON lines."""

import pytest
import seqio
import tensorflow as tf
import tensorflow_datasets as tfds

import tasks
from tasks import forms
from tests.tasks.benchmarks.test_benchmarks import ANSWERED, RANKED, written

# What TFDS's features need beside the columns that are read.
COQA = {"story": "Ann ran.", "questions": ["Who?", "Where?"],
        "answers": {"input_text": ["Ann", "home"]}}  # fmt: skip
ROWS = {name: row for name, (row, *_) in {**RANKED, **ANSWERED}.items()} | {"coqa": COQA}
ELSEWHERE = {"siqa", "mmlu", "cbt_cn"}  # not in TFDS
LIKE_OTHERS = {
    "arc_challenge",
    "lambada_cloze",
    "piqa",
    "story_cloze",
    "natural_questions",
    "rte_options",
    "cb_options",
    "copa_options",
    "wic_options",
}
OWN_SPLIT = {"lambada": "test", "winograd": "test",
             "gpt3_two_digit_addition": "test"}  # fmt: skip


def blank(feature):
    """A value that a feature takes."""
    if isinstance(feature, tfds.features.FeaturesDict):
        return {name: blank(one) for name, one in feature.items()}
    if isinstance(feature, tfds.features.Sequence):
        inner = feature.feature
        is_dict = isinstance(inner, tfds.features.FeaturesDict)
        return {name: [] for name in inner} if is_dict else []
    return "" if tf.as_dtype(feature.tf_dtype) == tf.string else 0


def filled(feature, value):
    """The same with the values of a row."""
    if isinstance(value, dict):
        inner = getattr(feature, "feature", feature)
        empty = blank(feature)
        count = len(next(iter(value.values()))) if inner is not feature else None
        return {
            name: filled(one, value[name]) if name in value
            else ([blank(one)] * count if count is not None else empty[name])
            for name, one in inner.items()
        }  # fmt: skip
    return value


def tensors(value):
    if isinstance(value, dict):
        return {name: tensors(one) for name, one in value.items()}
    if isinstance(value, list) and value and isinstance(value[0], list):
        return tf.ragged.constant(value)
    return tf.constant(value)


@pytest.mark.parametrize("name", sorted(ROWS.keys() - ELSEWHERE - LIKE_OTHERS))
def test_a_row_of_tfds_is_one_of_a_file(name, tmp_path):
    row = {**ROWS[name]}
    if isinstance(row.get("label"), bool):
        row["label"] = int(row["label"])

    def dataset(builder, *_, **__):
        features = builder.info.features
        encoded = features.encode_example(filled(features, row))
        return tf.data.Dataset.from_tensors(tensors(encoded))

    task = tasks.get_mixture_or_task(name)
    with tfds.testing.mock_data(as_dataset_fn=dataset):
        made = task.seqio().get_dataset(
            {"inputs": 512, "targets": 64}, split=OWN_SPLIT.get(name, "validation"),
            shuffle=False, try_in_mem_cache=False,
        )  # fmt: skip
        found = list(made.as_numpy_iterator())
    expected = list(written(tmp_path, name, ROWS[name]).examples("validation"))
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        for feature in ("inputs", "targets"):
            assert one[f"{feature}_pretokenized"].decode() == other[feature]
        for kept, kind in task.form.kept.items():
            if kind == "texts":
                assert forms.texts_of(one[kept], kept) == list(other[kept])
        if "label" in other:
            assert one["label"] == other["label"]


def test_words_and_bytes_of_wikitext_are_those_of_its_file(tmp_path):
    """` 1 @,@ 000 . ` has four words in the file, one where people write it."""
    (tmp_path / "wikitext2").mkdir()
    text = " \n = A = \n \n 1 @,@ 000 . \n"
    (tmp_path / "wikitext2" / "test.txt").write_text(text)
    task = tasks.get_mixture_or_task("wikitext2", files_dir=str(tmp_path)).seqio()
    seqio.TaskRegistry.remove("wikitext2")  # of these files: others find it as it was
    rows = task.source.get_dataset(split="test", shuffle=False)
    (made,) = task.preprocess_precache(rows).as_numpy_iterator()
    counted = made["targets_words"], made["targets_bytes"], len(made["targets"])
    assert counted == (7, len(text), len("\n= A =\n\n1,000.\n"))
