"""Weights of Transformer-XL give what version 4 of `transformers` computed, with memory.

Against fixtures that `make_version_4_fixtures.py` wrote; version 5 has no such model.
"""

import functools
import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.errors import ModelError
from models.hf import load_hf, save_hf
from models.hf.tensor_files import TensorFiles, write_tensors

FIXTURES = Path(__file__).parent / "fixtures"
NAMES = ("transfo_xl", "transfo_xl_shared")
BIASES = ("r_w_bias", "r_r_bias")
TOLERANCE = 1e-4


@functools.partial(jax.jit, static_argnums=0)
def with_carry(model, params, tokens, carry):
    """Log-probabilities, and the memory after them."""
    output, carry = model.apply(
        {"params": params}, decoder_input_tokens=tokens, carry=carry, method="_output_and_carry"
    )
    return output[1].log_probabilities(output[0]), carry


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_both_segments_are_what_version_4_gives(name):
    """The first one sees a memory of zeros, the second what entered the layers of the first."""
    model, params = load_hf(FIXTURES / name)
    assert model.zero_memory and model.carries
    expected = np.load(FIXTURES / name / "version_4.npz")
    first, second = (jnp.asarray(expected[f"{x}_tokens"]) for x in ("first", "second"))
    found, carry = with_carry(model, params, first, model.initial_carry(3))
    np.testing.assert_allclose(found, expected["first"], atol=TOLERANCE)
    found, _ = with_carry(model, params, second, carry)
    np.testing.assert_allclose(found, expected["second"], atol=TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_greedy_decoding_agrees_token_for_token_beyond_the_memory(name):
    model, params = load_hf(FIXTURES / name)
    expected = np.load(FIXTURES / name / "version_4.npz")
    prompt, tokens = (jnp.asarray(expected[x]) for x in ("first_tokens", "tokens"))
    assert tokens.shape[1] > model.memory_length
    laid_out = jax.jit(model.decoding_params)(params)
    # What comes after the prompt is known from its last place; each token is then fed.
    cache = jax.jit(model.init_cache, static_argnums=2)(
        laid_out, {"decoder_input_tokens": prompt}, prompt.shape[1] + tokens.shape[1]
    )
    step, found = jax.jit(model.decode_step), [tokens[:, 0]]
    for _ in range(tokens.shape[1] - 1):
        logits, cache = step(laid_out, cache, found[-1])
        found.append(logits.argmax(-1))
    np.testing.assert_array_equal(np.stack(found, axis=1), tokens)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_written_has_the_same_names_and_bits(name, tmp_path):
    model, params = load_hf(FIXTURES / name)
    save_hf(model, params, tmp_path / "out")
    again, same = load_hf(tmp_path / "out")
    assert again == model
    jax.tree.map(np.testing.assert_array_equal, same, params)
    source, written = TensorFiles(FIXTURES / name), TensorFiles(tmp_path / "out")
    shared = {f"transformer.{x}": f"transformer.layers.0.dec_attn.{x}" for x in BIASES}
    names = {shared.get(x, x) for x in source} - {"transformer.pos_emb.inv_freq"}
    assert {x for x in names if "dec_attn.r_" not in x} == {
        x for x in written if "dec_attn.r_" not in x
    }
    for tensor in set(source) & set(written):
        np.testing.assert_array_equal(source[tensor], written[tensor], strict=True)


def rewritten(tmp_path, name, change):
    """A fixture with its tensors changed."""
    tensors = TensorFiles(FIXTURES / name)
    found = change({x: np.array(tensors[x]) for x in tensors})
    shapes = {x: a.shape for x, a in found.items()}
    shutil.copy(FIXTURES / name / "config.json", tmp_path)
    write_tensors(tmp_path, shapes, lambda x: iter([found[x]]), "float32", 10**9)
    return tmp_path


def with_copies(found):
    """As a file in which nothing that is shared was left out."""
    embeddings, output = "transformer.word_emb.emb_layers", "crit.out_layers"
    copies = {f"{output}.{i}.weight": found[f"{embeddings}.{i}.weight"] for i in range(3)}
    copies |= {f"crit.out_projs.{i}": found[f"transformer.word_emb.emb_projs.{i}"] for i in (1, 2)}
    return found | copies


def test_tables_and_projections_that_are_written_twice_are_read_where_they_are_equal(tmp_path):
    directory = rewritten(tmp_path, "transfo_xl", with_copies)
    expected = load_hf(FIXTURES / "transfo_xl")[1]
    jax.tree.map(np.testing.assert_array_equal, load_hf(directory)[1], expected)


def test_copies_that_differ_are_refused(tmp_path):
    def change(found):
        found = with_copies(found)
        return found | {"crit.out_projs.2": found["crit.out_projs.2"] + 1}

    with pytest.raises(ModelError, match=r"out_projs.2' differs from 'transformer.word_emb"):
        load_hf(rewritten(tmp_path, "transfo_xl", change))


def test_a_file_without_an_output_is_named(tmp_path):
    def change(found):
        return {x: a for x, a in found.items() if not x.startswith("crit.")}

    with pytest.raises(ModelError, match=r"no tensors of an output.*TransfoXLLMHeadModel"):
        load_hf(rewritten(tmp_path, "transfo_xl", change))


def test_what_the_type_does_not_have_is_named(tmp_path):
    model, params = load_hf(FIXTURES / "transfo_xl")
    with pytest.raises(ModelError, match=r"TransformerXL.zero_memory = False cannot be expressed"):
        save_hf(model.clone(zero_memory=False), params, tmp_path / "out")
    assert json.loads((FIXTURES / "transfo_xl" / "config.json").read_text())["untie_r"]
