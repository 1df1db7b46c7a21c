"""CCNet's filter by the perplexity of an n-gram model, by hand and against our own n-gram model."""

import gzip
from collections import Counter

import pytest

from tasks import filters
from tasks.errors import TaskError
from tasks.filters.perplexity import read_arpa
from tasks.vocabularies import ByteVocabulary

# Probabilities 1/2, 1/4, 1/8 and so on would do; log10 as they are keeps the sums plain.
ARPA = """\\data\\
ngram 1=4
ngram 2=2

\\1-grams:
-99\t<s>\t-0.5
-1\ta\t-0.25
-2\t<unk>
-1.5\t</s>

\\2-grams:
-0.5\t<s> a
-0.75\ta a

\\end\\
"""


@pytest.fixture
def model(tmp_path):
    (tmp_path / "model.arpa").write_text(ARPA)
    return str(tmp_path / "model.arpa")


@pytest.mark.parametrize(
    ("text", "log10", "words"),
    [
        ("a a", -0.5 - 0.75 + (-0.25 - 1.5), 3),  # "a </s>" was not seen: the weight of "a"
        ("b", (-0.5 - 2) - 1.5, 2),  # "<unk>" has no weight
        ("", -0.5 - 1.5, 1),
    ],
)
def test_shorter_contexts_are_weighed(model, text, log10, words):
    keep = filters.Perplexity(model, 100.0)
    assert keep.perplexity(text) == pytest.approx(10 ** (-log10 / words))


def test_of_joined_texts_the_end_of_one_begins_the_next(tmp_path):
    """Nothing but texts that begin with "a" is joined; rows begin in their middle."""
    joined = ARPA.replace("2=2", "2=3").replace("-1.5\t</s>", "-1.5\t</s>\t-0.5")
    (tmp_path / "joined.arpa").write_text(joined.replace("-0.75\t", "-0.125\t</s> a\n-0.75\t"))
    keep = filters.Perplexity(str(tmp_path / "joined.arpa"), 100.0)
    assert keep.perplexity("a a") == pytest.approx(10 ** ((0.125 + 0.75 + 0.25 + 1.5) / 3))
    assert keep.perplexity("b a") == pytest.approx(10 ** ((0.5 + 2 + 1 + 0.25 + 1.5) / 3))


def test_unlikely_and_too_likely_documents_are_dropped(model):
    reasons = Counter()
    between = filters.Perplexity(model, max_perplexity=50.0, min_perplexity=9.0)
    assert between("a a", reasons) == "a a"  # 10^1
    assert between("a a a a a", reasons) is None  # 10^((0.5 + 4 * 0.75 + 1.75) / 6) = 7.5
    assert between("b", reasons) is None  # 10^2
    assert reasons == {"document: too likely": 1, "document: too unlikely": 1}


def test_lines_can_be_texts_of_their_own(model):
    keep = filters.Perplexity(model, 100.0, lines=True)
    assert keep.perplexity("a a\n\nb") == pytest.approx(10 ** ((3.0 + 4.0) / 5))


def test_tokens_are_known_by_their_numbers(tmp_path):
    """The model that `t5x-like ngram --arpa` writes: here of bytes, and gzipped."""
    vocabulary = ByteVocabulary()
    (one,) = vocabulary.encode("x")
    text = ARPA.replace("\ta\t", f"\t{one}\t").replace("<s> a", f"<s> {one}")
    path = tmp_path / "model.arpa.gz"
    path.write_bytes(gzip.compress(text.replace("a a\n", f"{one} {one}\n").encode()))
    keep = filters.Perplexity(str(path), 100.0, vocabulary)
    assert keep.perplexity("xx") == pytest.approx(10 ** (3 / 3))
    assert repr(keep) != repr(filters.Perplexity(str(path), 100.0))


@pytest.mark.slow
def test_the_model_that_is_counted_here_has_the_same_perplexity(tmp_path):
    import jax
    import numpy as np

    from models.ngram import Counter as NGramCounter
    from models.ngrams.arpa import write_arpa

    draw = np.random.default_rng(0)
    rows = draw.integers(2, 8, (20, 12))
    rows[:, -1] = 1  # the end
    batch = {
        "decoder_target_tokens": rows,
        "decoder_input_tokens": np.pad(rows, ((0, 0), (1, 0)))[:, :-1],
        "decoder_loss_weights": np.ones(rows.shape, np.float32),
    }
    made = NGramCounter(order=3).count(
        [batch], zero_is_token=False, vocab_size=8, start_id=0, end_id=1
    )
    model, table, _ = made
    params = jax.tree.map(jax.numpy.asarray, table)
    write_arpa(tmp_path / "m.arpa", table, start_id=0, end_id=1)
    other = draw.integers(2, 8, (1, 12))
    other[:, -1] = 1
    one = {
        "decoder_target_tokens": other,
        "decoder_input_tokens": np.pad(other, ((0, 0), (1, 0)))[:, :-1],
        "decoder_loss_weights": np.ones(other.shape, np.float32),
    }
    nats = float(np.asarray(model.log_likelihoods(params, one)).mean())
    found = read_arpa(str(tmp_path / "m.arpa")).perplexity([str(x) for x in other[0, :-1]])
    assert found == pytest.approx(np.exp(-nats), rel=1e-4)


def test_what_is_no_model_is_one_line(tmp_path):
    for content, said in (
        ("\\1-grams:\nword\n", "has the line 'word'"),
        ("", "has no n-grams"),
        (ARPA.partition("-0.75")[0], "does not end with"),
        (ARPA.replace("-0.75\ta a\n", ""), "has 1 n-grams of order 2, where its head says 2"),
        (ARPA.replace("-0.75\ta", "nan\ta"), "has the line 'nan"),
        (ARPA.replace("-0.75\ta", "0.75\ta"), "has the line '0.75"),
        (ARPA.replace("\t-0.25", "\tinf"), "has the line '-1"),
        (ARPA.replace("<s> a", "a a"), "has 'a a' twice"),
        (ARPA.replace("<s> a", "<s> a a"), "has the line '-0.5"),
    ):
        path = tmp_path / f"{said}.arpa"
        path.write_text(content)
        with pytest.raises(TaskError, match=said):
            filters.Perplexity(str(path), 10.0)("text", Counter())


@pytest.mark.parametrize("place", [0, 30, -1])
def test_a_damaged_gzip_file_is_one_line(tmp_path, place):
    content = bytearray(gzip.compress(ARPA.encode()))
    content[place] ^= 255
    (tmp_path / "model.arpa.gz").write_bytes(content)
    with pytest.raises(TaskError, match=r"model\.arpa\.gz' is no n-gram model in ARPA's format"):
        filters.Perplexity(str(tmp_path / "model.arpa.gz"), 10.0)("text", Counter())
