"""Labelled texts and tagged words by their characters, by hand."""

import numpy as np
import pytest

import tasks
from tasks import sources
from tasks.errors import TaskError
from tasks.objectives import LabelledSpelledWords
from tasks.vocabularies import SpelledWordVocabulary, encode_each

BOW, EOW, NONE = 259, 260, 261
BEGIN, END = (BOW, 257, EOW), (BOW, 258, EOW)


def spelled(word):
    """The characters of a word: its bytes plus 1, between two marks."""
    return (BOW, *(byte + 1 for byte in word.encode()), EOW)


@pytest.fixture
def vocabulary(tmp_path):
    path = tmp_path / "words.txt"
    header = '#!{"lower_case": false, "pattern": "\\\\w+|[^\\\\w\\\\s]"}\n'
    path.write_text(f"{header}the 5\ncat 2\n", encoding="utf-8")  # ids 3 and 4, byte 0 is 5
    return SpelledWordVocabulary(str(path))


def made(vocabulary, labels, example, row=12):
    bound = LabelledSpelledWords(labels).bind({"inputs": vocabulary.spec()})
    return bound.of_length({"inputs": row})(example, np.random.default_rng(0))


def listed(vocabulary, words):
    ids, sizes = encode_each(words, "words", vocabulary.encode)
    return {"inputs": np.array(ids, np.int32), "inputs_sizes": np.array(sizes, np.int32)}


def words_of(example):
    return [tuple(row[row != NONE].tolist()) for row in example["characters"]]


def test_a_text_stands_between_its_ends_with_its_label(vocabulary):
    ids = np.array(vocabulary.encode("the dog cat"), np.int32)
    found = made(vocabulary, "label", {"inputs": ids, "label": np.int32(2)})
    assert found["inputs"].tolist() == [1, 3, 2, 4, 1]
    assert words_of(found) == [BEGIN, spelled("the"), spelled("dog"), spelled("cat"), END]
    assert found["label"] == 2 and found["label"].dtype == np.int32
    assert made(vocabulary, "label", {"inputs": ids})["label"] == -1
    number = made(vocabulary, "number", {"inputs": ids})["label"]
    assert np.isnan(number) and number.dtype == np.float32


def test_a_tag_stands_at_the_first_part_of_its_word(vocabulary):
    """`cat's` is three words of the vocabulary, and of nothing there is none."""
    example = listed(vocabulary, ["the", "cat's", "", "dog"])
    assert example["inputs_sizes"].tolist() == [1, 5, 0, 4]
    found = made(vocabulary, "tags", example | {"tags": np.array([0, 1, 1, 2])})
    assert words_of(found) == [
        BEGIN, spelled("the"), spelled("cat"), spelled("'"), spelled("s"), spelled("dog"), END
    ]  # fmt: skip
    assert found["word_places"].tolist() == [1, 2, -1, 5]
    assert found["tags"].tolist() == [0, 1, 1, 2]
    assert made(vocabulary, "tags", example)["tags"].tolist() == [-1] * 4


def test_words_without_room_have_no_place(vocabulary):
    example = listed(vocabulary, ["the", "dog", "cat", "the"])
    found = made(vocabulary, "tags", example | {"tags": np.arange(4)}, row=4)
    assert found["inputs"].tolist() == [1, 3, 2, 4]
    assert found["word_places"].tolist() == [1, 2, 3, -1]
    bound = LabelledSpelledWords("tags").bind({"inputs": vocabulary.spec()})
    assert bound.of_length({"inputs": 4}).excess(example) == 2
    with pytest.raises(TaskError, match=r"TASK_FEATURE_LENGTHS\['inputs'\] is 2: 3 or more"):
        bound.of_length({"inputs": 2})


def test_the_vocabulary_decides_how_a_task_reads_words(vocabulary):
    columns = ("words", "tags", "label")
    source = sources.TabSeparated(files={"train": "x.tsv"}, columns=columns)
    task = tasks.tagged("t", source, ["O", "B-x"], vocabulary=vocabulary)
    assert task.example_features == ("inputs", "characters", "tags", "word_places")
    with pytest.raises(TaskError, match="reads one text a row"):
        tasks.labelled("t", source, ["words", "tags"], vocabulary=vocabulary)
    plain = tasks.labelled("t", source, ["words"], vocabulary=vocabulary)
    assert plain.learned == LabelledSpelledWords("number")


def test_another_label_is_refused():
    with pytest.raises(TaskError, match="'tag': label, number, tags"):
        LabelledSpelledWords("tag")
