"""A model of a few thousand parameters and a batch for it."""

import jax
import numpy as np
import pytest

from models import gpt
from t5x_like.partitioning import Partitioner


@pytest.fixture(scope="session")
def model():
    return gpt.GPT2(vocab_size=64, embed_dim=16, num_heads=2, num_layers=2, max_length=16)


@pytest.fixture(scope="session")
def partitioner():
    return Partitioner(devices=tuple(jax.devices()[:1]))


@pytest.fixture(scope="session")
def batch():
    """Eight rows of which some are shorter, so that their weights differ."""
    rng = np.random.default_rng(0)
    targets = rng.integers(3, 64, (8, 12)).astype(np.int32)
    weights = (np.arange(12) < rng.integers(3, 13, (8, 1))).astype(np.int32)
    targets *= weights
    inputs = np.pad(targets, ((0, 0), (1, 0)))[:, :-1]
    return {
        "decoder_input_tokens": inputs,
        "decoder_target_tokens": targets,
        "decoder_loss_weights": weights,
    }
