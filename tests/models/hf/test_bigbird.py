"""BigBird's random blocks, which `transformers` draws in training alone."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.bigbird import BigBird
from models.errors import ModelError
from models.hf import load_hf, save_hf

FIXTURE = Path(__file__).parent / "fixtures" / "bigbird_training"
FEATURES = ("encoder_input_tokens", "encoder_token_types", "encoder_segment_ids")


def logits_of(model, params, batch):
    return np.asarray(jax.jit(lambda p: model.apply({"params": p}, **batch))(params))


@pytest.mark.slow
def test_logits_in_training_are_those_of_transformers():
    """Its model in training, without dropout; each layer and head has blocks of its own."""
    model, params = load_hf(FIXTURE)
    expected = dict(np.load(FIXTURE / "expected.npz"))
    batch = {name: jnp.asarray(expected[name]) for name in FEATURES}
    real = expected["encoder_segment_ids"] != 0
    drawn = logits_of(model.clone(random_in_evaluation=True), params, batch)
    assert np.abs(drawn - expected["token_logits"])[real].max() <= 1e-4
    # Not those of evaluation, where every random block is the first.
    assert not model.random_in_evaluation
    evaluation = logits_of(model, params, batch)
    assert np.abs(evaluation - expected["token_logits"])[real].max() > 1e-2


@pytest.mark.interop
@pytest.mark.parametrize("length", [250, 1024])
def test_longer_rows_draw_the_same_blocks(length, tmp_path):
    """Of a length with a plan of its own, and of one that the paper's models have."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.BigBirdConfig(
        vocab_size=80, hidden_size=24, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=44, max_position_embeddings=1100, block_size=16, num_random_blocks=2,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, initializer_range=0.3,
    )  # fmt: skip
    theirs = transformers.BigBirdForMaskedLM(config).train()
    theirs.save_pretrained(tmp_path / "theirs")
    model, params = load_hf(tmp_path / "theirs")
    row = np.random.default_rng(1).integers(2, 80, (1, length))
    for training in (True, False):
        theirs.train(training)
        with torch.no_grad():
            expected = theirs(input_ids=torch.tensor(row)).logits.numpy()
        ours = model.clone(random_in_evaluation=training)
        found = logits_of(ours, params, {"encoder_input_tokens": jnp.asarray(row)})
        assert np.abs(found - expected).max() <= 1e-4


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, r"BigBird.random_in_evaluation = True cannot be expressed .*, which has False"),
        (
            {"num_random_blocks": 0, "num_global_tokens": 8, "random_in_evaluation": False},
            r"num_random_blocks 0 is not supported",
        ),
        (
            {"attention_type": "original_full", "random_in_evaluation": True, "num_layers": 1},
            r"the parameters lack",
        ),
    ],
)
def test_a_bigbird_that_computes_otherwise_there_is_refused_in_one_line(fields, said, tmp_path):
    with pytest.raises(ModelError, match=said):
        save_hf(BigBird(vocab_size=80, **fields), {}, tmp_path / "out")
    assert not (tmp_path / "out").exists()
