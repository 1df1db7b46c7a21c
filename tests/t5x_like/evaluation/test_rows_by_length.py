"""The loss of rows that are put together by their length, and of rows longer than the model."""

import dataclasses

import numpy as np
import pytest

from t5x_like.data import DatasetConfig, open_evaluation
from t5x_like.decoding.scoring import score
from t5x_like.errors import UserError
from t5x_like.evaluation import Loss
from t5x_like.evaluation.task import evaluate_params
from tests.models.families import T5_1_1, drawn, gpt2, t5
from tests.t5x_like.test_evaluate import Copying, Letters, cached

TEXTS = ["ab", "abcdefgh", "c", "bcdefg", "dcb", "abcdefg", "gh", "defgh", "a", "fgh"]


def dataset(folder, texts=TEXTS, batch_size=1):
    task = cached(dataclasses.replace(Copying("copying"), metric_fns=()), folder, texts)
    return DatasetConfig(task, {"inputs": 9, "targets": 9}, str(folder), "validation", batch_size)


def shapes(config, batch_format, longest=None):
    rooms = []
    split = open_evaluation(config, batch_format=batch_format)
    batches = list(split.by_length(longest, lambda *seen: rooms.append(seen)))
    return [batch["decoder_target_tokens"].shape for batch in batches], batches, rooms


def test_rows_of_similar_length_share_batches_of_few_lengths(tmp_path):
    """Inputs and targets of n + 1 tokens each: rows of 4 to 18, of quarters of 9 + 9."""
    config = dataset(tmp_path, batch_size=3)
    found, batches, _ = shapes(config, "prefix_language_model")
    assert found == [(3, 6), (3, 10), (3, 18), (3, 18)]
    whole = [each.batch for each in open_evaluation(config, batch_format="prefix_language_model")]

    def rows(batches):
        return sorted(
            row[row != 0].tolist() for batch in batches for row in batch["decoder_target_tokens"]
        )

    assert rows(batches) == rows(whole)
    found, batches, _ = shapes(config, "encoder_decoder")
    assert found == [(3, 3), (3, 5), (3, 9), (3, 9)]
    assert [batch["encoder_input_tokens"].shape for batch in batches] == found


@pytest.mark.slow
@pytest.mark.parametrize("make", [gpt2, lambda: t5(T5_1_1)])
def test_the_loss_is_that_of_each_row_alone(make, tmp_path):
    model = make()
    params = drawn(model)
    encode = Letters().encode
    expected = score(
        model,
        params,
        inputs=[[*encode(text), 1] for text in TEXTS],
        targets=[[*encode(text[::-1]), 1] for text in TEXTS],
        bidirectional_prompt=model.batch_format == "prefix_language_model",
    )
    (result,) = evaluate_params(model, params, dataset(tmp_path), measurements=[Loss()])
    tokens = sum(len(text) + 1 for text in TEXTS)
    total = sum(one.total for one in expected)
    assert result.values["loss"] == pytest.approx(-total / tokens, rel=1e-5)
    assert result.values["rows"] == 10


def test_inputs_without_room_lose_their_beginning_as_contexts_do(tmp_path, capsys):
    """9 + 9 tokens are read by a model of 12: the last 3 of the inputs and all targets."""
    model = gpt2(max_length=12, input_attention="causal")
    params = drawn(model)
    texts = ["abcdefgh", "ab"]
    (result,) = evaluate_params(model, params, dataset(tmp_path, texts), measurements=[Loss()])
    encode = Letters().encode
    expected = score(
        model,
        params,
        inputs=[[*encode("gh"), 1], [*encode("ab"), 1]],
        targets=[[*encode(text[::-1]), 1] for text in texts],
    )
    assert result.values["loss"] == pytest.approx(
        -sum(one.total for one in expected) / 12, rel=1e-5
    )
    assert "1 of 2 contexts lose their beginning" in capsys.readouterr().err


def test_targets_longer_than_the_model_are_said_in_one_line(tmp_path):
    model = gpt2(max_length=6)
    with pytest.raises(
        Exception, match=r"tokens in a row, but the model's max_length is 6"
    ) as told:
        evaluate_params(model, drawn(model), dataset(tmp_path), measurements=[Loss()])
    assert told.value.exit_code == UserError.exit_code
    assert np.all([len(text) < 9 for text in TEXTS])
