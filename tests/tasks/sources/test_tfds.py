"""TFDS datasets whose files are read one by one, as filters and lists of duplicates need them."""

import os
from collections import Counter

import pytest

from tasks.filters import Length
from tasks.sources import Deduplicated, Filtered, Tfds
from tasks.sources.tfds import without_greetings

pytestmark = pytest.mark.slow  # imports TensorFlow


@pytest.fixture
def prepared(tmp_path):
    """Two texts in one file, three in the next."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    texts = [["one", "two words"], ["three", "four more words", "five"]]
    folder = tmp_path / "small" / "1.0.0"
    folder.mkdir(parents=True)
    features = tfds.features.FeaturesDict({"text": tfds.features.Text()})
    for number, shard in enumerate(texts):
        name = folder / f"small-train.tfrecord-{number:05d}-of-00002"
        with tf.io.TFRecordWriter(str(name)) as writer:
            for text in shard:
                writer.write(features.serialize_example({"text": text}))
    template = tfds.core.ShardedFileTemplate(
        data_dir=folder, template="small-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    )
    split = tfds.core.SplitInfo(
        name="train", shard_lengths=[2, 3], num_bytes=100, filename_template=template
    )
    tfds.folder_dataset.write_metadata(
        data_dir=str(folder), features=features, split_infos=[split], check_data=False,
        filename_template=template.template,
    )  # fmt: skip
    return Tfds("small:1.0.0", ("text",), data_dir=str(tmp_path))


def test_files_are_read_one_by_one(prepared, tmp_path):
    first, second = prepared.shards("train")
    assert [row["text"] for row in prepared.rows("train", [second])] == [
        b"three", b"four more words", b"five"
    ]  # fmt: skip
    assert [row["text"] for row in prepared.rows("train", [second, first])][3:] == [
        b"one", b"two words"
    ]  # fmt: skip
    counted = Counter(row["text"] for row in prepared.rows("train"))
    assert counted == Counter(row["text"] for row in prepared.rows("train", [first, second]))

    long = Filtered(prepared, (Length(min_words=2),))
    assert [row["text"] for row in long.rows("train", [second])] == ["four more words"]

    path = tmp_path / "list.jsonl"
    path.write_text(
        f'{{"source": "{prepared.fingerprint()}"}}\n{{"split": "train", "shard": 1, "rows": [0]}}\n'
    )
    rows = Deduplicated(prepared, str(path)).rows("train", [second])
    assert [row["text"] for row in rows] == [b"four more words", b"five"]


def test_greetings_that_no_log_level_silences_are_kept_from_the_user(capfd):
    with without_greetings():
        os.write(2, b"All log messages before InitializeLog() are written to STDERR\n")
    os.write(2, b"a warning\n")
    assert capfd.readouterr().err == "a warning\n"
    with pytest.raises(ImportError), without_greetings():
        raise ImportError
    os.write(2, b"what went wrong\n")
    assert capfd.readouterr().err == "what went wrong\n"
