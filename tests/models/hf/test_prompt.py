"""A prompt against `transformers`, whose models read embeddings that are put together by hand."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from models import tuning
from models.hf import load_hf

FIXTURES = Path(__file__).parent / "fixtures"
LENGTH = 4


def prompted(name):
    """A model with a prompt that has been trained, and the embeddings of its rows' beginning."""
    base, params = load_hf(FIXTURES / name)
    model = base.clone(tuning=tuning.Prompt(length=LENGTH))
    embedder = params["token_embedder"]
    width = embedder["embedding"].shape[1]
    offsets = np.random.default_rng(0).normal(size=(LENGTH, width)).astype(np.float32)
    vectors = embedder["embedding"][model.tuning.tokens(model.vocab_size)] + offsets
    return model, {**params, "token_embedder": {**embedder, "prompt_offsets": offsets}}, vectors


def embedded(torch, theirs, vectors, ids):
    with torch.no_grad():
        own = theirs.get_input_embeddings()(torch.tensor(ids))
    before = torch.tensor(np.broadcast_to(vectors, (len(ids), *vectors.shape)).copy())
    return torch.cat([before, own], dim=1)


@pytest.mark.interop
def test_a_decoder_reads_the_vectors_before_the_text():
    torch = pytest.importorskip("torch")
    from transformers import GPT2LMHeadModel

    model, params, vectors = prompted("gpt2")
    theirs = GPT2LMHeadModel.from_pretrained(FIXTURES / "gpt2").eval()
    ids = np.random.default_rng(1).integers(3, model.vocab_size, (2, 5))
    with torch.no_grad():
        expected = theirs(inputs_embeds=embedded(torch, theirs, vectors, ids)).logits
    found = model.logits(params, {"decoder_input_tokens": jnp.asarray(ids)})
    width = expected.shape[-1]
    np.testing.assert_allclose(found[..., :width], expected[:, LENGTH:].numpy(), atol=1e-4)


@pytest.mark.interop
def test_an_encoder_reads_the_vectors_before_the_inputs():
    torch = pytest.importorskip("torch")
    from transformers import T5ForConditionalGeneration

    model, params, vectors = prompted("t5_1_1")
    theirs = T5ForConditionalGeneration.from_pretrained(FIXTURES / "t5_1_1").eval()
    drawn = np.random.default_rng(1)
    ids, answer = (drawn.integers(3, theirs.config.vocab_size, (2, n)) for n in (6, 4))
    with torch.no_grad():
        expected = theirs(
            inputs_embeds=embedded(torch, theirs, vectors, ids),
            decoder_input_ids=torch.tensor(answer),
        ).logits
    batch = {
        "encoder_input_tokens": jnp.asarray(ids), "decoder_input_tokens": jnp.asarray(answer)
    }  # fmt: skip
    found = model.logits(params, batch)
    width = expected.shape[-1]
    np.testing.assert_allclose(found[..., :width], expected.numpy(), atol=1e-4)
