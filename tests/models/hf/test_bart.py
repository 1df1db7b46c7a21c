"""BART with a head gives what `transformers` computes, and is written as it reads it.

Hermetic: against the fixture that `make_fixtures.py` wrote. Live: against what is installed.
"""

import dataclasses
import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.errors import ModelError
from models.heads import Classification, MultipleChoice
from models.hf import load_hf, save_hf
from models.hf.tensor_files import TensorFiles

FIXTURE = Path(__file__).parent / "fixtures" / "bart_classification"
LABELS = ("contradiction", "entailment", "neutral")
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def loaded():
    model, params = load_hf(FIXTURE)
    batch = {name: jnp.asarray(x) for name, x in np.load(FIXTURE / "expected.npz").items()}
    return model, params, batch, np.asarray(batch.pop("head_logits"))


@functools.partial(jax.jit, static_argnums=0)
def logits_of(model, params, batch):
    return model.apply({"params": params}, **batch)


@pytest.mark.slow
def test_the_state_of_the_decoders_last_token_says_what_transformers_says(loaded):
    model, params, batch, expected = loaded
    assert model.head == Classification(LABELS, dropout_rate=0.3)
    found = logits_of(model, params, batch)
    assert np.abs(np.asarray(found) - expected).max() <= TOLERANCE
    said = jax.jit(model.predict)(params, batch)
    np.testing.assert_array_equal(said["label"], expected.argmax(axis=1))


@pytest.mark.parametrize("part", ["output_head_dense", "output_head", "decoder", "encoder"])
def test_each_part_takes_part(loaded, part):
    model, params, batch, expected = loaded
    changed = params | {part: jax.tree.map(lambda x: 1.3 * x, params[part])}
    found = logits_of(model, changed, batch)
    assert np.abs(np.asarray(found) - expected).max() > 10 * TOLERANCE


def test_what_is_written_is_what_was_read(loaded, tmp_path):
    model, params, *_ = loaded
    save_hf(model, params, tmp_path)
    written, read = TensorFiles(tmp_path), TensorFiles(FIXTURE)
    assert set(written) == set(read)
    for name in read:
        np.testing.assert_array_equal(written[name], read[name], err_msg=name)
    options, theirs = (
        json.loads((place / "config.json").read_text()) for place in (tmp_path, FIXTURE)
    )
    for name in ("architectures", "classifier_dropout", "id2label", "d_model"):
        assert options[name] == theirs[name]


def test_a_head_that_it_cannot_have_is_refused(loaded):
    model, *_ = loaded
    with pytest.raises(ModelError, match=r"BART.head is .*: Classification or Regression is need"):
        model.clone(head=MultipleChoice())
    with pytest.raises(ModelError, match=r"language_model_coefficient is 0.5: it must be 0, since"):
        model.clone(language_model_coefficient=0.5)


def test_dropout_is_on_what_the_head_reads(loaded):
    model, params, batch, _ = loaded
    model = model.clone(head=dataclasses.replace(model.head, dropout_rate=0.5), dropout_rate=0.0)

    @jax.jit
    def drawn(seed):
        rngs = {"dropout": jax.random.key(seed)}
        return model.apply({"params": params}, **batch, enable_dropout=True, rngs=rngs)

    assert np.abs(drawn(0) - drawn(1)).max() > 0.1


@pytest.mark.interop
def test_transformers_reads_what_is_exported(loaded, tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model, params, batch, expected = loaded
    save_hf(model, params, tmp_path)
    kind = transformers.AutoModelForSequenceClassification
    theirs, report = kind.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values()), report
    with torch.no_grad():
        found = theirs.eval()(
            input_ids=torch.tensor(np.asarray(batch["encoder_input_tokens"])),
            attention_mask=torch.tensor(np.asarray(batch["encoder_segment_ids"])),
        )
    assert np.abs(found.logits.numpy() - expected).max() <= TOLERANCE
