"""Which examples are dirty, by each paper's rule, and their flags on disk."""

import json

import numpy as np
import pytest

from t5x_like.errors import UserError
from t5x_like.overlap import flags, scan
from t5x_like.overlap.index import Index
from t5x_like.overlap.rules import ExampleGrams, gpt3_length

SENTENCE = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"


def compared(tests, documents, n=None, max_documents=None, **settings):
    tested = ExampleGrams(tests, n)
    index = Index.of(tested.grams)
    counts = scan.documents_with(index, documents, **settings)
    return tested.found(index, counts, max_documents)


@pytest.mark.parametrize(("n", "dirty"), [(3, True), (4, False)])
def test_the_cat_sat_is_three_words(n, dirty):
    found = compared(["The cat sat on a mat."], ["today, the cat sat quietly"], n)
    assert (found.n, found.gpt3.tolist()) == (n, [dirty])


def test_gpt3_takes_the_fifth_percentile_of_words_between_8_and_13():
    assert gpt3_length(np.array([20] * 100)) == 13
    assert gpt3_length(np.array([3] * 10 + [20] * 90)) == 8
    assert gpt3_length(np.array([10] * 10 + [20] * 90)) == 10
    assert gpt3_length(np.zeros(0, np.int64)) == 8


def test_an_example_shorter_than_n_is_dirty_where_all_of_it_occurs():
    """Brown et al. 2020, section 4: or that overlap with the whole example when it is shorter."""
    tests = ["Paris is big", "Rome is big", "", SENTENCE]
    found = compared(tests, ["they say paris is big", "rome is not so big"], n=13)
    assert found.gpt3.tolist() == [True, False, False, False]
    assert found.palm.tolist() == [True, False, False, False]


def test_palm_counts_an_example_of_which_seventy_percent_of_the_8_grams_occur():
    """Of 17 words there are ten 8-grams: 14 words of them in a row are seven, 13 are six."""
    letters = [chr(ord("a") + i) for i in range(17)]
    for words, share, palm in ((14, 0.7, True), (13, 0.6, False), (7, 0.0, False)):
        found = compared([" ".join(letters)], [" ".join(letters[:words])])
        assert found.gpt2.tolist() == [share] == [found.gpt2_of_all]
        assert found.palm.tolist() == [palm]
    assert compared([" ".join(letters)], [" ".join(letters[:14])], n=8).gpt3.tolist() == [True]


def test_an_ngram_does_not_go_from_one_document_to_the_next():
    halves = SENTENCE.split()
    documents = [" ".join(halves[:7]), " ".join(halves[7:])]
    assert not compared([SENTENCE], documents, n=8).gpt3.any()
    assert compared([SENTENCE], [SENTENCE], n=8).gpt3.all()


def test_common_phrases_can_be_passed_over():
    """GPT-3's filter passed over n-grams in more than ten documents."""
    for count, dirty in ((10, True), (11, False)):
        found = compared([SENTENCE], [SENTENCE] * count, max_documents=10)
        assert found.gpt3.tolist() == [dirty]


@pytest.mark.slow
def test_processes_find_what_one_finds(monkeypatch):
    monkeypatch.setattr(scan, "_BLOCK", 100)
    documents = [f"{SENTENCE} {i}" for i in range(7)] + ["nothing of it"] * 20
    seen = []
    tests = [SENTENCE, "nothing of it", "something else"]
    alone = compared(tests, documents, progress=seen.append)
    shared = compared(tests, documents, num_workers=2)
    assert alone.gpt3.tolist() == shared.gpt3.tolist() == [True, True, False]
    assert sum(seen) == sum(map(len, documents)) and len(seen) > 5


def test_flags_are_read_as_they_were_written(tmp_path):
    tests = [SENTENCE, "something else"]
    found = compared(tests, [SENTENCE])
    settings = {"train": ["corpus train"], "max_documents": None}
    path = flags.write(str(tmp_path), "squad:v2", "validation", tests, found, settings)
    assert path == f"{tmp_path}/squad/v2/validation.jsonl"
    read = flags.read(str(tmp_path), "squad:v2", "validation", "gpt3")
    assert [read.is_dirty(text) for text in tests] == [True, False]
    assert read.described == "gpt3, n 8, of corpus train"
    with pytest.raises(UserError, match=r"no flag of the example 'another…': its task has changed"):
        read.is_dirty("another")


@pytest.mark.parametrize("damage", ["cut", "other", "flag"])
def test_damaged_flags_are_said_in_one_line(tmp_path, damage):
    tests = [SENTENCE, "something else"]
    settings = {"train": ["corpus train"], "max_documents": None}
    flags.write(str(tmp_path), "task", "test", tests, compared(tests, [SENTENCE]), settings)
    path = tmp_path / "task/test.jsonl"
    lines = path.read_text().splitlines()
    if damage == "flag":
        lines[1] = json.dumps({**json.loads(lines[1]), "palm": "yes"})
    path.write_text("[]" if damage == "other" else "\n".join(lines[: 2 if damage == "cut" else 3]))
    with pytest.raises(UserError, match="is damaged: run `t5x-like overlap` again"):
        flags.read(str(tmp_path), "task", "test", "palm")


def test_what_is_not_there_is_said_in_one_line(tmp_path):
    with pytest.raises(UserError, match=r"no flags of task 'task', split 'test'.*_split=test"):
        flags.read(str(tmp_path), "task", "test", "gpt3")
    with pytest.raises(UserError, match=r"Overlap.rule is 'gpt2': give one of gpt3, palm"):
        flags.read(str(tmp_path), "task", "test", "gpt2")
    with pytest.raises(UserError, match="n-grams of 0 words: give 1 or more"):
        ExampleGrams(["a"], 0)
