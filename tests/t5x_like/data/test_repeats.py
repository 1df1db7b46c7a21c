"""The first tokens of a corpus alone, and how often each task is gone through."""

import numpy as np
import pytest

from t5x_like import data
from t5x_like.errors import UserError


def opened(task, tmp_path, lengths, batch_format, **settings):
    settings = {"batch_size": 4, "prefetch": 0, **settings}
    config = data.DatasetConfig(task, lengths, tmp_path, **settings)
    return data.open_dataset(config, batch_format=batch_format)


def test_a_text_ends_after_its_first_tokens_and_is_read_again(kit, tmp_path):
    """As T5's study repeats 2^29 to 2^23 tokens of C4 (Raffel et al. 2020, section 3.4.2)."""
    task = kit.task("text", ("targets",), kit.causal())
    ids = (np.arange(100) + 3).astype(np.int32)
    kit.write(task, tmp_path, [{"targets": ids}], shards=1)
    batches = opened(
        task, tmp_path, {"targets": 8}, "causal_language_model", first_tokens=64, batch_size=8
    )
    for epoch in range(3):
        tokens = next(batches)["decoder_target_tokens"]
        assert sorted(tokens.ravel()) == list(range(3, 67))
        assert batches.epochs(batches.get_state()) == {"text": epoch + 1}
    # What is measured is not cut.
    config = data.DatasetConfig(task, {"targets": 8}, tmp_path, batch_size=8, first_tokens=64)
    measured = data.open_evaluation(config, batch_format="causal_language_model")
    assert measured.num_examples == 13  # of 101 tokens


def test_of_examples_those_that_have_so_many_tokens(kit, tmp_path):
    task = kit.task("pairs")
    each = [{"inputs": np.full(3, 9, np.int32), "targets": np.full(n, 9, np.int32)} for n in (2, 4)]
    kit.write(task, tmp_path, [each[0]] * 5 + [each[1]] * 5, shards=1)
    lengths = {"inputs": 8, "targets": 8}

    def examples(tokens):
        batches = opened(
            task, tmp_path, lengths, "encoder_decoder", pack=False, batch_size=1,
            first_tokens=tokens,
        )  # fmt: skip
        next(batches)
        return 1 / batches.epochs(batches.get_state())["pairs"]

    # 5 each, then 7 each: 25 are five, 31 five too, 32 six.
    assert [examples(tokens) for tokens in (25, 31, 32, 60)] == pytest.approx([5, 5, 6, 10])
    with pytest.raises(UserError, match=r"first_tokens is 61, but .* has 60 tokens, and 5 in its"):
        examples(61)
    with pytest.raises(UserError, match=r"first_tokens is 4, but"):
        examples(4)


def test_of_a_mixture_each_task_may_have_its_own(kit, tmp_path):
    tasks = []
    for name in ("web", "books"):
        task = kit.task(name, ("targets",), kit.causal())
        kit.write(task, tmp_path, [{"targets": np.full(160, 9, np.int32)}])
        tasks.append(task)
    both = kit.mixture("both", [(task, 1.0) for task in tasks])
    asked = both, tmp_path, {"targets": 8}, "causal_language_model"
    batches = opened(*asked, first_tokens={"books": 16}, mixing=data.GivenEpochs({"web": 0.5}))
    for _ in range(3):
        next(batches)
    # Of 12 rows half of web's 20 to all of books' 2, which is 5 to 1.
    assert batches.epochs(batches.get_state()) == {"web": 0.5, "books": 1.0}
    with pytest.raises(UserError, match=r"first_tokens has 'book', .*: web, books"):
        opened(*asked, first_tokens={"book": 16})
    with pytest.raises(UserError, match=r"first_tokens is 162, but split 'train' .* has 161"):
        opened(*asked, first_tokens=162)
    with pytest.raises(UserError, match=r"first_tokens is 0; it must be a whole number above 0"):
        opened(*asked, first_tokens=0)


def test_llamas_epochs_are_its_shares():
    """Touvron et al. 2023, table 1: 1.10, 1.06 and 2.45 epochs are 67, 15 and 4.5% of 1.4T."""
    epochs = {"common_crawl": 1.10, "c4": 1.06, "wikipedia": 2.45}
    tokens = [853e9, 198e9, 25.7e9]
    weights = data.GivenEpochs(epochs).weights(tuple(epochs), (1, 1, 1), tokens, list)
    assert np.multiply(weights, 67 + 15 + 4.5) == pytest.approx([67, 15, 4.5], abs=0.1)
    assert data.GivenEpochs({}).weights(("a", "b"), (1, 1), [10, 30], list) == [0.25, 0.75]
    with pytest.raises(UserError, match="epochs has 'c', which is none of the mixture's tasks"):
        data.GivenEpochs({"c": 1}).weights(("a", "b"), (1, 1), [10, 30], list)
