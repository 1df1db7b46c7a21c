"""What is bound, looked up one value at a time."""

import pytest

from t5x_like import config, train
from t5x_like.data import DatasetConfig


@pytest.fixture
def parsed():
    """Parses packaged files with bindings more."""
    files = ["models/t5_1_1/tiny.gin", "tasks/stdlib_span_corruption.gin", "runs/pretrain.gin"]
    with config.isolated():
        yield lambda *bindings: config.parse(files, bindings)


def test_an_argument_of_a_program_is_built(parsed):
    parsed(("TRAIN_STEPS", "7"), ("BATCH_SIZE", "5"), ("CACHE_DIR", "there"))
    assert config.argument(train.train, "train_steps") == 7
    dataset = config.argument(train.train, "dataset")
    assert isinstance(dataset, DatasetConfig)
    assert (dataset.batch_size, dataset.cache_dir, dataset.split) == (5, "there", "train")
    assert config.argument(train.train, "frozen") is None


@pytest.mark.parametrize("scope", ["", "train/"])
def test_a_binding_is_found_in_any_scope_and_behind_a_macro(scope, parsed):
    parsed()
    assert not config.is_bound_to("DatasetConfig", "verify_source", False)
    parsed((f"{scope}data.DatasetConfig.verify_source", "%MINE"), ("MINE", "False"))
    assert config.is_bound_to("DatasetConfig", "verify_source", False)
    assert not config.is_bound_to("DatasetConfig", "verify_source", True)
