"""What `inspect` says that a device holds, beside what the compiled step takes."""

import pytest

from models.llama import LLaMA
from models.tuning import Parts
from t5x_like import aot, inspection
from t5x_like.errors import UserError
from t5x_like.optimizers import adamw
from t5x_like.schedules import Constant

SMALL = LLaMA(vocab_size=64, embed_dim=32, num_heads=4, num_layers=2, mlp_dim=64)
STEP = {"optimizer": adamw(schedule=Constant(1e-3, 1)), "task_feature_lengths": {"targets": 128}}


def device_memory(model=SMALL, **options):
    return inspection.inspect(model=model, **STEP, **options)["device_memory"]


@pytest.mark.parametrize(
    ("model", "pieces"),
    [(SMALL, 1), (SMALL, 8), (SMALL.clone(tuning=Parts(trained=["^output"])), 1)],
)
def test_a_device_holds_less_than_the_compiled_step_takes_and_not_far_less(model, pieces):
    options = {"batch_size": 16, "num_microbatches": pieces, "topology": "cpu:1"}
    least = device_memory(model, **options)["total_bytes"]
    found = aot.compile_step(model=model, **STEP, **options)["used_bytes"]
    assert least < found < 4 * least


def test_pieces_of_a_batch_are_stored_one_at_a_time():
    whole, piece = (device_memory(batch_size=16, num_microbatches=n) for n in (1, 4))
    assert piece["activation_bytes"] == whole["activation_bytes"] // 4
    with pytest.raises(UserError, match="NUM_MICROBATCHES 3 does not divide BATCH_SIZE 16"):
        device_memory(batch_size=16, num_microbatches=3)


def test_of_a_frozen_model_only_what_its_head_needs_is_stored():
    whole, head = device_memory(), device_memory(SMALL.clone(tuning=Parts(trained=["^output"])))
    assert head["activation_bytes"] < 0.5 * whole["activation_bytes"]


@pytest.mark.parametrize(
    ("lengths", "rows", "says"),
    [
        ({"targets": 8}, 0, "BATCH_SIZE is 0: it must be a whole number of 1 or more"),
        ({"targets": 8}, -4, "BATCH_SIZE is -4"),
        ({"targets": 0}, 1, "TASK_FEATURE_LENGTHS has targets 0: it must be a whole number of 1"),
        ({"targets": -5}, 1, "TASK_FEATURE_LENGTHS has targets -5"),
    ],
)
def test_rows_and_lengths_are_numbers_above_0(lengths, rows, says):
    with pytest.raises(UserError, match=says):
        inspection.inspect(model=SMALL, task_feature_lengths=lengths, batch_size=rows)
