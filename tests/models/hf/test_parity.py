"""The same weights give the same logits and tokens as `transformers`.

Hermetic: against fixtures that `make_fixtures.py` wrote. Live: against what is installed.
"""

import functools
import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.hf import load_hf, save_hf
from models.hf.tensor_files import TensorFiles

HERE = Path(__file__).parent
# Those that write text.
FAMILIES = sorted(
    path.parent.name
    for path in (HERE / "fixtures").glob("*/expected.npz")
    if "tokens" in np.load(path)
)
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


@functools.partial(jax.jit, static_argnums=0)
def logits_of(model, params, batch):
    return model.logits(params, batch)


def greedy(model, params, batch, num_tokens):
    """Greedy decoding by the cache alone, for these tests."""
    prompt = batch["decoder_input_tokens"]
    if model.batch_format == "encoder_decoder":
        prompt = prompt[:, :1]
    before = {
        name: x[:, : prompt.shape[1] - 1] if name.startswith("decoder") else x
        for name, x in batch.items()
    }
    params = model.decoding_params(params)
    cache = jax.jit(model.init_cache, static_argnums=2)(
        params, before, prompt.shape[1] + num_tokens
    )
    token, tokens = prompt[:, -1], []
    step = jax.jit(model.decode_step)
    for _ in range(num_tokens):
        logits, cache = step(params, cache, token)
        token = logits.argmax(-1)
        tokens.append(token)
    return np.stack(tokens, axis=1)


def logits_error(model, params, batch, logits):
    """The largest difference, where there is a token."""
    ours = np.asarray(logits_of(model, params, batch))
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


@pytest.fixture(scope="module")
def fixtures():
    """`make_fixtures.py` as a module."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    spec = importlib.util.spec_from_file_location("make_fixtures", HERE / "make_fixtures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module", params=FAMILIES)
def live(request, fixtures, tmp_path_factory):
    """Random weights of `transformers`, and what is made of them here and there."""
    theirs = fixtures.FAMILIES[request.param]()
    source, out = (tmp_path_factory.mktemp(request.param) / name for name in ("source", "out"))
    fixtures.write(theirs, source)
    batch = fixtures.random_batch(theirs, rows=4, seed=7)
    expected = fixtures.reference(theirs, batch)
    batch = {name: jnp.asarray(x) for name, x in batch.items()}
    model, params = load_hf(source)
    save_hf(model, params, out)
    return SimpleNamespace(**locals())


@pytest.mark.interop
def test_live_transformers_agrees(live):
    error = logits_error(live.model, live.params, live.batch, live.expected["logits"])
    assert error <= TOLERANCE
    tokens = greedy(live.model, live.params, live.batch, live.expected["tokens"].shape[1])
    np.testing.assert_array_equal(tokens, live.expected["tokens"])


@pytest.mark.interop
def test_transformers_loads_what_is_exported(live, tmp_path):
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    decoder_only = live.model.batch_format != "encoder_decoder"
    kind = AutoModelForCausalLM if decoder_only else AutoModelForSeq2SeqLM
    theirs, report = kind.from_pretrained(live.out, output_loading_info=True)
    assert not any(report.values()), report
    assert type(theirs) is type(live.theirs)
    batch = {name: np.asarray(x) for name, x in live.batch.items()}
    found = live.fixtures.reference(theirs, batch)
    assert logits_error(live.model, live.params, live.batch, found["logits"]) <= TOLERANCE
    np.testing.assert_array_equal(found["tokens"], live.expected["tokens"])
    # What it would have written itself has the same names and the same bits.
    theirs.save_pretrained(tmp_path)
    ours, its = TensorFiles(live.out), TensorFiles(tmp_path)
    assert set(ours) == set(its)
    for name in its:
        np.testing.assert_array_equal(ours[name], its[name], err_msg=name, strict=True)


@pytest.mark.interop
@pytest.mark.parametrize("family", ["t5_1_0", "gpt2", "bart"])
def test_what_save_pretrained_writes_is_read(family, tmp_path):
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    directory = HERE / "fixtures" / family
    name = json.loads((directory / "config.json").read_text())["model_type"]
    causal = name == "gpt2"
    kind = transformers.AutoModelForCausalLM if causal else transformers.AutoModelForSeq2SeqLM
    theirs = kind.from_pretrained(directory)
    theirs.to(torch.bfloat16).save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    _, params = load_hf(tmp_path)
    _, original = load_hf(directory)
    # bfloat16 keeps eight bits.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2**-8), params, original)
