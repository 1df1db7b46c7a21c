"""ARPA files: written and read again, and read as KenLM's lmplz writes them."""

import gzip

import numpy as np
import pytest

from models.errors import ModelError
from models.ngram import ARPAFile
from models.ngrams.arpa import read_arpa, write_arpa
from models.ngrams.counts import count_ngrams, predictable_tokens
from models.ngrams.smoothing import KneserNey
from models.ngrams.table import estimated_table

TEXTS = [[0, 5, 6, 7, 1], [0, 5, 6, 6, 1], [0, 7, 1]]
# Some of what `lmplz -o 2 --discount_fallback` writes of numbers: <unk> and what it lacks.
LMPLZ = """\\data\\
ngram 1=5
ngram 2=4

\\1-grams:
-0.60206\t<unk>\t0
0\t<s>\t-0.30103
-0.60206\t</s>\t0
-0.60206\t5\t-0.30103
-0.60206\t6\t0

\\2-grams:
-0.20412\t<s> 5
-0.20412\t5 6
-0.7\t5 5
-0.9\t5 </s>

\\end\\
"""


def read(path, vocab_size=9):
    predictable = predictable_tokens(vocab_size, zero_is_token=False)
    return read_arpa(path, predictable, start_id=0, end_id=1)


@pytest.mark.parametrize("name", ["model.arpa", "model.arpa.gz"])
def test_what_is_written_is_read_again(tmp_path, name):
    tokens = np.concatenate([np.array(text, np.int32) for text in TEXTS])
    counts = count_ngrams(tokens, [len(t) for t in TEXTS], order=3, vocab_size=9)
    table, _ = estimated_table(counts, KneserNey(0.5))
    write_arpa(tmp_path / name, table, start_id=0, end_id=1)
    found = read(tmp_path / name)
    assert {order: set(level) for order, level in found.items()} == {
        order: set(level) for order, level in table.items()
    }
    for order, level in table.items():
        for array, values in level.items():
            np.testing.assert_allclose(found[order][array], values, rtol=1e-6)


def test_what_kenlm_writes_is_read(tmp_path):
    path = tmp_path / "kenlm.arpa"
    path.write_text(LMPLZ)
    table = read(path)
    p = table["order_1"]["probability"]
    assert p[0] == 0  # the start has log10 0 there, and is never predicted
    np.testing.assert_allclose(p[[1, 5, 6]], 0.25, rtol=1e-5)
    # The five tokens that the file lacks share what <unk> has.
    np.testing.assert_allclose(p[[2, 3, 4, 7, 8]], 0.05, rtol=1e-5)
    np.testing.assert_allclose(p.sum(), 1, rtol=1e-5)
    np.testing.assert_allclose(table["order_1"]["backoff"][[0, 5, 6]], [0.5, 0.5, 1], rtol=1e-5)
    second = table["order_2"]
    assert second["token"].tolist() == [5, 1, 5, 6]
    assert second["first"].tolist() == [0, 1, 1, 1, 1, 1, 4, 4, 4, 4]
    np.testing.assert_allclose(np.log10(second["probability"][1]), -0.9, rtol=1e-5)
    model, params, _ = ARPAFile(str(path)).count(
        [], vocab_size=9, zero_is_token=False, start_id=0, end_id=1
    )
    assert (model.order, model.num_ngrams) == (2, (9, 4)) and params.keys() == table.keys()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hello\n", "is no ARPA file"),
        (LMPLZ.replace("\t6\t0", "\tsix\t0"), "line 10 is no n-gram of 1 tokens, numbers below 9"),
        (LMPLZ.replace("5 6\n", "5 9\n"), "line 14 is no n-gram of 2 tokens"),
        (LMPLZ.replace("-0.7\t", "x\t"), "line 15 is no n-gram"),
        (LMPLZ.replace("5 5\n", "\n"), "line 15 is no n-gram"),
        (LMPLZ.split("-0.20412")[0], "has 0 n-grams of order 2, where its head says 4: it is not"),
        (LMPLZ.split("\\2-grams")[0], "has 0 n-grams of order 2, where its head says 4"),
        (LMPLZ.replace("-0.7\t5 5\n", ""), "has 3 n-grams of order 2, where its head says 4"),
        (LMPLZ.replace("ngram 2=4\n", ""), "has 4 n-grams of order 2, where its head says nothing"),
        (LMPLZ.replace("\\end\\", ""), r"does not end with \\end\\: it is not whole"),
        (LMPLZ.replace("\\2-grams", "\\3-grams"), r"'\\\\3-grams:', where \\2-grams: is next"),
        (LMPLZ.replace("-0.7\t", "nan\t"), "line 15 is no n-gram"),
        (LMPLZ.replace("-0.7\t", "0.5\t"), "line 15 is no n-gram .* of a probability 0 at most"),
        (LMPLZ.replace("5\t-0.30103", "5\tinf"), "line 9 is no n-gram"),
        (LMPLZ.replace("5 5\n", "5 6\n"), "line 15 has an n-gram for the second time"),
        (
            LMPLZ.replace("2=4\n", "2=4\nngram 3=1\n").replace(
                "\\end\\", "\\3-grams:\n-1\t6 6 5\n\\end\\"
            ),
            "'6 6 5', but not the one without its last",
        ),
    ],
)
def test_what_is_no_such_file_is_told_in_one_line(tmp_path, text, said):
    path = tmp_path / "wrong.arpa"
    path.write_text(text)
    with pytest.raises(ModelError, match=said) as error:
        read(path)
    assert "\n" not in str(error.value)


def test_one_token_that_begins_and_ends_texts_is_refused(tmp_path):
    path = tmp_path / "model.arpa"
    path.write_text(LMPLZ)
    with pytest.raises(ModelError, match="the vocabulary has one, 5, that begins a text and ends"):
        read_arpa(path, np.ones(9, bool), start_id=5, end_id=5)


def test_a_token_that_only_stands_before_others_keeps_its_weight(tmp_path):
    """Of inputs, say: by maximum likelihood it is never predicted, and others are after it."""
    tokens = np.array([0, 8, 5, 6, 1, 0, 8, 6, 1], np.int32)
    counts = count_ngrams(tokens, [5, 4], order=2, vocab_size=9)
    table, _ = estimated_table(counts, KneserNey(0.5))
    table["order_1"]["probability"] = np.where(
        np.arange(9) == 8, 0, table["order_1"]["probability"]
    ).astype(np.float32)
    write_arpa(tmp_path / "model.arpa", table, start_id=0, end_id=1)
    found = read(tmp_path / "model.arpa")
    assert found["order_1"]["probability"][8] == 0 and found["order_1"]["backoff"][8] < 1
    np.testing.assert_allclose(found["order_1"]["backoff"], table["order_1"]["backoff"], rtol=1e-6)


def test_a_file_that_cannot_be_read_is_told(tmp_path):
    with pytest.raises(ModelError, match=r"none\.arpa' not found"):
        read(tmp_path / "none.arpa")
    path = tmp_path / "cut.arpa.gz"
    packed = gzip.compress(LMPLZ.encode())
    for content in (packed[:60], packed[:30] + b"\xff\xff\xff\xff" + packed[34:]):
        path.write_bytes(content)
        with pytest.raises(ModelError, match="cannot be read"):
            read(path)
