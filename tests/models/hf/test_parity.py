"""The same weights give the same logits and tokens as `transformers`.

Hermetic: against fixtures that `make_fixtures.py` wrote. Live: against what is installed.
"""

import importlib.util
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.errors import ModelError
from models.hf import load_hf

HERE = Path(__file__).parent
FAMILIES = ["t5_1_0", "t5_1_1", "gpt2"]
TOLERANCE = 1e-4
COMPARED = ["logits", "tokens"]


@pytest.fixture(scope="module", params=FAMILIES)
def fixture(request):
    directory = HERE / "fixtures" / request.param
    model, params = load_hf(directory)
    expected = dict(np.load(directory / "expected.npz"))
    batch = {
        name: jnp.asarray(expected.pop(name)) for name in list(expected) if name not in COMPARED
    }
    return model, params, batch, expected


def greedy(model, params, batch, num_tokens):
    """Greedy decoding by the cache alone, for these tests."""
    prompt = batch["decoder_input_tokens"]
    if model.architecture == "encoder_decoder":
        prompt = prompt[:, :1]
    before = {
        name: x[:, : prompt.shape[1] - 1] if name.startswith("decoder") else x
        for name, x in batch.items()
    }
    params = model.decoding_params(params)
    cache = model.init_cache(params, before, prompt.shape[1] + num_tokens)
    token, tokens = prompt[:, -1], []
    step = jax.jit(model.decode_step)
    for _ in range(num_tokens):
        logits, cache = step(params, cache, token)
        token = logits.argmax(-1)
        tokens.append(token)
    return np.stack(tokens, axis=1)


def logits_error(model, params, batch, logits):
    """The largest difference, where there is a token."""
    ours = np.asarray(model.logits(params, batch))
    real = batch.get("decoder_segment_ids", jnp.ones(ours.shape[:2])) != 0
    return np.abs(ours - logits)[np.asarray(real)].max()


def test_logits_equal_those_of_transformers(fixture):
    model, params, batch, expected = fixture
    assert np.abs(expected["logits"]).max() > 1
    assert logits_error(model, params, batch, expected["logits"]) <= TOLERANCE


def test_greedy_decoding_agrees_token_for_token(fixture):
    model, params, batch, expected = fixture
    tokens = greedy(model, params, batch, expected["tokens"].shape[1])
    np.testing.assert_array_equal(tokens, expected["tokens"])


@pytest.mark.interop
@pytest.mark.parametrize("family", FAMILIES)
def test_live_transformers_agrees(family, tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    spec = importlib.util.spec_from_file_location("make_fixtures", HERE / "make_fixtures.py")
    fixtures = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fixtures)
    theirs = fixtures.FAMILIES[family]()
    fixtures.write(theirs, tmp_path)
    batch = fixtures.random_batch(theirs, rows=4, seed=7)
    expected = fixtures.reference(theirs, batch)
    batch = {name: jnp.asarray(x) for name, x in batch.items()}
    model, params = load_hf(tmp_path)
    assert logits_error(model, params, batch, expected["logits"]) <= TOLERANCE
    tokens = greedy(model, params, batch, fixtures.NEW_TOKENS)
    np.testing.assert_array_equal(tokens, expected["tokens"])


@pytest.mark.interop
@pytest.mark.parametrize("family", ["t5_1_0", "gpt2"])
def test_what_save_pretrained_writes_is_read(family, tmp_path):
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    directory = HERE / "fixtures" / family
    kind = {"t5_1_0": "T5ForConditionalGeneration", "gpt2": "GPT2LMHeadModel"}[family]
    theirs = getattr(transformers, kind).from_pretrained(directory)
    theirs.to(torch.bfloat16).save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    _, params = load_hf(tmp_path)
    _, original = load_hf(directory)
    # bfloat16 keeps eight bits.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2**-8), params, original)


def copied(tmp_path, family="gpt2", **options):
    directory = HERE / "fixtures" / family
    config = json.loads((directory / "config.json").read_text()) | options
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes((directory / "model.safetensors").read_bytes())
    return tmp_path


def test_errors_name_the_tensor_or_the_option(tmp_path):
    directory = copied(tmp_path, n_layer=4)
    with pytest.raises(ModelError, match=r"h\.3\.\S+' is missing"):
        load_hf(directory)
    with pytest.raises(ModelError, match=r"h\.2\.\S+' has no place"):
        load_hf(copied(tmp_path, n_layer=2))
    with pytest.raises(ModelError, match=r"wte.weight' has shape \(80, 28\).*\(97, 28\)"):
        load_hf(copied(tmp_path, vocab_size=97))
    with pytest.raises(ModelError, match="activation_function 'relu'"):
        load_hf(copied(tmp_path, activation_function="relu"))
    with pytest.raises(ModelError, match="model_type must be one of 'gpt2', 't5'"):
        load_hf(copied(tmp_path, model_type="bert"))
    with pytest.raises(ModelError, match="feed_forward_proj 'gated-silu'"):
        load_hf(copied(tmp_path, "t5_1_0", feed_forward_proj="gated-silu"))


def test_pickles_are_refused_and_damage_is_noticed(tmp_path):
    directory = copied(tmp_path)
    whole = (directory / "model.safetensors").read_bytes()
    for damaged in (b"", whole[:20], whole[:-4], b"\xff" * 64):
        (directory / "model.safetensors").write_bytes(damaged)
        with pytest.raises(ModelError, match="not a safetensors file"):
            load_hf(directory)
    (directory / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="neither"):
        load_hf(directory)
    (directory / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ModelError, match="pickle"):
        load_hf(directory)
    index = {"weight_map": {"wte.weight": "../elsewhere.safetensors"}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match="only plain file names"):
        load_hf(directory)
