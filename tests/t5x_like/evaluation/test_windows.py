"""Documents longer than the model, by windows in which each token counts once."""

import math

import numpy as np
import pytest

from t5x_like.data import DatasetConfig
from t5x_like.data.cache import layout
from t5x_like.data.examples import sample_of
from t5x_like.data.records import open_records
from t5x_like.decoding.scoring import score
from t5x_like.errors import UserError
from t5x_like.evaluation import Loss, Overlap
from t5x_like.evaluation.clean_parts import example_text
from t5x_like.evaluation.loss import of_text
from t5x_like.evaluation.task import evaluate_params
from t5x_like.evaluation.windows import rolling_windows
from t5x_like.overlap import flags
from t5x_like.overlap.rules import Found
from tests.models.families import T5_1_1, drawn, gpt2, t5


def read_and_scored(length, window, stride):
    """What is read, B for the start token, and what counts, by number."""
    tokens = ["B", *range(length)]
    found = rolling_windows(length, window, stride)
    return [(tokens[each.first : each.end], list(range(each.scored, each.end))) for each in found]


def test_windows_are_those_of_lm_evaluation_harness():
    """`get_rolling_token_windows` of tokens 0 to 9, length 4, context 1 (lm_eval 0.4.13)."""
    assert read_and_scored(10, 4, 4) == [
        (["B", 0, 1, 2], [0, 1, 2, 3]),
        ([3, 4, 5, 6], [4, 5, 6, 7]),
        ([5, 6, 7, 8], [8, 9]),
    ]
    # With a context of 3, the stride is 2.
    assert read_and_scored(7, 4, 2) == [
        (["B", 0, 1, 2], [0, 1, 2, 3]),
        ([1, 2, 3, 4], [4, 5]),
        ([2, 3, 4, 5], [6]),
    ]
    assert read_and_scored(2, 4, 4) == [(["B", 0], [0, 1])]
    assert read_and_scored(0, 4, 4) == []


@pytest.mark.parametrize("stride", [1, 3, 8])
def test_each_token_counts_once(stride):
    for length in range(40):
        counted = [i for _, scored in read_and_scored(length, 8, stride) for i in scored]
        assert counted == list(range(length))


def test_a_total_in_nats_is_told_per_word_and_per_byte():
    """100 nats of 20 words and 110 bytes; and the README's 1.3397 nats a byte."""
    for tokens in (25, 110):  # whatever the vocabulary
        values = of_text(100 / tokens, 110 / tokens, 20 / tokens)
        assert values["word_perplexity"] == pytest.approx(148.4132, abs=1e-4)
        assert values["bits_per_byte"] == pytest.approx(1.311541, abs=1e-6)
        assert 2 ** values["bits_per_byte"] == pytest.approx(2.482065, abs=1e-6)
        assert values["perplexity"] == pytest.approx(math.exp(100 / tokens))
    assert of_text(1.3397, 1.0, None)["bits_per_byte"] == pytest.approx(1.932779, abs=1e-6)
    assert of_text(1.3397, None, None) == {}
    assert of_text(1e4, 1.0, 0.2)["word_perplexity"] == math.inf  # of a loss that diverged


@pytest.fixture(scope="module")
def gpt():
    model = gpt2(max_length=8)
    return model, drawn(model)


TEXTS = [list(range(3, 3 + size)) for size in (5, 19, 8, 1)]


@pytest.fixture
def dataset(proverbs, write_cache, tmp_path):
    """Documents of so many tokens; EOS ends each, which is a token more."""
    task, _ = proverbs
    decoded = [task.output_features["targets"].vocabulary.decode(ids) for ids in TEXTS]
    write_cache(task, tmp_path, {"validation": decoded})
    folder = layout.cache_path(tmp_path, task.cache_name)
    stats = {"examples": 4, "targets_tokens": 33, "targets_bytes": 33, "targets_words": 11}
    layout.write_json(layout.stats_path(folder, "validation"), stats)
    return DatasetConfig(task, {"targets": 8}, str(tmp_path), "validation", batch_size=3)


def test_the_loss_of_documents_is_that_of_their_tokens_with_full_context(gpt, dataset):
    (result,) = evaluate_params(*gpt, dataset, measurements=[Loss(window=8, stride=2)])
    rows = result.predictions["loss"]
    assert [row.tokens for row in rows] == [6, 20, 9, 2]
    for row, text in zip(rows, TEXTS, strict=True):
        document = [*text, 1]
        expected = 0.0
        for end in range(1, len(document) + 1):
            # As many tokens before it as an even place of its window leaves.
            places = min(8, len(document)) if end <= 8 else 8
            last = end if end > 8 and (end - 8) % 2 == 0 else end + 1
            begin = 0 if end <= 8 else min(last, len(document)) - places
            read = document[begin : end - 1] if begin else document[: end - 1]
            before = [0] if not begin else [document[begin - 1]]
            (one,) = score(
                *gpt, inputs=[[*before, *read]], targets=[[document[end - 1]]], bos_id=None
            )
            expected += one.total
        assert row.log_likelihood == pytest.approx(expected, abs=1e-3)
    total = -sum(row.log_likelihood for row in rows)
    values = result.values
    assert values["loss"] == pytest.approx(total / 37)
    assert values["bits_per_byte"] == pytest.approx(total / 33 / math.log(2))
    assert values["word_perplexity"] == pytest.approx(math.exp(total / 11))
    assert values["perplexity"] == pytest.approx(math.exp(total / 37))
    assert (values["rows"], values["split_rows"]) == (4, 4)
    assert result.settings == {"windows": "documents by window 8, stride 2"}


def test_a_window_of_all_that_is_read_equals_the_plain_loss_of_short_documents(gpt, dataset):
    (result,) = evaluate_params(*gpt, dataset, measurements=[Loss(window=8)], max_rows=2)
    texts = [[*TEXTS[i], 1] for i in sample_of(2, 4)]
    tokens = np.array([len(text) for text in texts])
    assert [row.tokens for row in result.predictions["loss"]] == tokens.tolist()
    scores = score(*gpt, targets=texts)
    total = -sum(one.total for one in scores)
    assert result.values["loss"] == pytest.approx(total / tokens.sum(), rel=1e-5)
    losses = -np.array([one.total for one in scores])
    rest = losses - total / tokens.sum() * tokens  # Cochran 1977, equation 6.13
    error = math.sqrt((rest**2).sum() * 2) / tokens.sum()
    assert result.values["loss_standard_error"] == pytest.approx(error, rel=1e-4)


def test_clean_documents_have_a_loss_of_their_own(gpt, dataset, tmp_path):
    """The first document is in the training text, and the others are not."""
    records = open_records(dataset, ())
    texts = [example_text(record, dataset.task.output_features) for record in records]
    first = np.arange(4) == 0
    found = Found(8, np.ones(4, int), gpt3=first, gpt2=first * 1.0, palm=first, gpt2_of_all=0.5)
    settings = {"train": ["itself"], "max_documents": None}
    flags.write(str(tmp_path), dataset.task.name, "validation", texts, found, settings)
    (result,) = evaluate_params(
        *gpt, dataset, measurements=[Loss(window=8)], overlap=Overlap(str(tmp_path))
    )
    rows, values = result.predictions["loss"], result.values
    assert (values["clean/rows"], values["dirty/rows"]) == (3, 1)
    assert values["dirty/loss"] == pytest.approx(-rows[0].log_likelihood / 6)
    clean = sum(row.log_likelihood for row in rows[1:])
    assert values["clean/loss"] == pytest.approx(-clean / (20 + 9 + 2))
    assert "dirty/loss_standard_error" not in values


def test_windows_that_cannot_be_read_are_refused(gpt, dataset):
    for wrong, said in [
        (Loss(window=9), "window is 9: the model reads 1 to 8 tokens at once"),
        (Loss(window=8, stride=9), "stride is 9: give 1 to 8"),
    ]:
        with pytest.raises(UserError, match=said):
            evaluate_params(*gpt, dataset, measurements=[wrong])
    with pytest.raises(UserError, match="stride is 4, but there is no window"):
        Loss(stride=4)
    with pytest.raises(UserError, match="T5_1_1 has an encoder"):
        evaluate_params(t5(T5_1_1), None, dataset, measurements=[Loss(window=8)])
