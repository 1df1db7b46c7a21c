"""What is measured of a model's loss, and how sure it is."""

import math

import numpy as np
import pytest

from t5x_like.evaluation.loss import mean_metrics, summary_of
from t5x_like.evaluation.standard_error import StandardError
from t5x_like.optimizers import adamw
from t5x_like.schedules import Constant
from t5x_like.training import state as train_state


def test_the_standard_error_of_equal_rows_is_that_of_a_mean():
    # Of 1, 2, 3, 6: variance (4 + 1 + 0 + 9) / 3, over 4 the square of the error.
    error = StandardError()
    for values in ((1, 2), (3, 6)):
        mean = sum(values) / 2
        rest = [value - mean for value in values]
        error.add(
            {"rows": 2, "mean": mean, "rest_rest": sum(r * r for r in rest),
             "rest_weight": sum(rest), "weight_weight": 2}
        )  # fmt: skip
    assert error.of(3, 4) == pytest.approx(math.sqrt(14 / 3 / 4))
    assert StandardError([{"rows": 1}]).of(3, 4) is None


@pytest.mark.slow
def test_the_standard_error_is_of_rows_and_not_of_batches(model, partitioner, batch):
    """Rows weigh as many tokens as they have: the linearized variance of a ratio, by hand."""
    params = train_state.create_state(model, adamw(Constant(1e-3)), partitioner, seed=0).params
    rows = [{name: value[i : i + 1] for name, value in batch.items()} for i in range(8)]
    means = np.array([mean_metrics(model, params, [row], partitioner)["loss"] for row in rows])
    weights = batch["decoder_loss_weights"].sum(1)
    mean = (means * weights).sum() / weights.sum()
    expected = math.sqrt(8 / 7 * (((means - mean) * weights) ** 2).sum()) / weights.sum()

    halves = [{k: v[:5] for k, v in batch.items()}, {k: v[5:] for k, v in batch.items()}]
    empty = {k: np.zeros_like(v) for k, v in halves[0].items()}
    for batches in ([batch], [*halves, empty]):
        found = mean_metrics(model, params, batches, partitioner)
        assert found["loss"] == pytest.approx(mean, rel=1e-5)
        assert found["loss_standard_error"] == pytest.approx(expected, rel=1e-3)


@pytest.mark.slow
def test_rows_are_measured_as_the_loss_that_is_trained(model, partitioner, batch):
    params = train_state.create_state(model, adamw(Constant(1e-3)), partitioner, seed=0).params
    _, expected = model.loss(params, batch)
    found, _ = model.clone(logit_chunks=3).row_metrics(params, batch)
    assert found.keys() == expected.keys()
    for name, (value, weight) in expected.items():
        assert found[name][0].shape == (8,)
        np.testing.assert_allclose(found[name][0].sum(), value, rtol=1e-5)
        np.testing.assert_allclose(found[name][1].sum(), weight)


def test_the_line_says_of_how_many_rows():
    values = {"loss": 1.33968, "rows": 640, "split_rows": 13_245}
    assert summary_of(values) == "loss 1.3397  (640 of 13,245 rows)"
    values |= {"bits_per_byte": 1.93277, "rows": 13_245}
    assert summary_of(values) == "loss 1.3397  1.933 bits/byte  (13,245 rows)"
