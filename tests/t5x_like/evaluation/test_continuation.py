"""LAMBADA's numbers: how often a word would be written, and its perplexity."""

import math

import numpy as np
import pytest

from t5x_like.data import DatasetConfig
from t5x_like.decoding.continuations import ContinuationScore
from t5x_like.decoding.options import Cut
from t5x_like.errors import UserError
from t5x_like.evaluation import Continuation, Shots
from t5x_like.evaluation import continuation as module
from t5x_like.evaluation.continuation import found_of
from t5x_like.evaluation.task import evaluate_params
from tasks import get_mixture_or_task
from tests.models.families import gpt2
from tests.t5x_like.evaluation.written_cache import write_cache


def score(*tokens, greedy):
    return ContinuationScore(sum(tokens), np.array(tokens), greedy)


SCORES = [score(-1.0, -0.5, greedy=True), score(-0.25, greedy=False), score(-1.25, greedy=True)]


def test_the_perplexity_is_of_words_and_not_of_tokens():
    """Words of 1.5, 0.25 and 1.25 nats: exp(1), 2 of 3 right, sqrt(2/3 * 1/3 / 2) = 1/3."""
    found = found_of(SCORES)
    assert found["perplexity"] == pytest.approx(math.e)
    assert found["accuracy"] == pytest.approx(200 / 3)
    assert found["accuracy_standard_error"] == pytest.approx(100 / 3)
    assert "accuracy_standard_error" not in found_of(SCORES[:1]) and not found_of([])


def test_a_last_word_is_scored_after_the_passage_and_its_examples(tmp_path, monkeypatch, capfd):
    folder = tmp_path / "lambada"
    folder.mkdir()
    (folder / "validation.jsonl").write_text('{"passage": "he saw the sea"}\n')
    rows = ("we ate a pie", "it was so", "I read on")
    (folder / "test.jsonl").write_text("".join(f'{{"passage": "{row}"}}\n' for row in rows))
    task = get_mixture_or_task("lambada", files_dir=str(tmp_path))
    write_cache(task, tmp_path / "cache")
    dataset = DatasetConfig(task, {"inputs": 64, "targets": 8}, str(tmp_path / "cache"), "test")
    given = {}

    def scored(model, params, codec, pairs, reading, **_):
        given["pairs"] = pairs
        return SCORES, Cut()

    monkeypatch.setattr(module, "score_pairs", scored)
    model = gpt2(vocab_size=384, max_length=48)
    measured = Continuation(shots=Shots(1))
    (result,) = evaluate_params(model, None, dataset, measurements=[measured])
    assert given["pairs"][0] == ("he saw the sea\n\nwe ate a", " pie")
    assert result.values["continuation_perplexity"] == pytest.approx(math.e)
    assert result.values["continuation_shots"] == 1
    told = "1 shot of 'validation' by seed 0, contexts read as text causally"
    assert result.settings["continuation"] == told
    first = result.predictions["continuation"][0]
    assert (first.targets, first.scores, first.tokens, first.greedy) == ("pie", -1.5, 2, True)
    # Of bytes no word is one token; the space before it is a token of its own.
    filtered = Continuation(stop_words=("the", "a"))
    (result,) = evaluate_params(model, None, dataset, measurements=[filtered])
    assert result.settings["continuation"].startswith("0 of 2 stop words never written, 0 shots")
    assert "none of the 2 stop words is one token" in capfd.readouterr().err
    with pytest.raises(UserError, match="stop_words is 'the': give a list of words"):
        Continuation(stop_words="the")
    with pytest.raises(UserError, match="contexts is 'prefix'"):
        Continuation("prefix")
