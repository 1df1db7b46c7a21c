"""Low-rank factors of `peft`: read from its files, and written for it."""

import functools
import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import tuning
from models.errors import ModelError
from models.hf import load_hf, save_hf
from models.hf.peft import load_peft, save_peft
from models.hf.tensor_files import TensorFiles

HERE = Path(__file__).parent
# Directories of factors, and the fixtures of their base models.
BASES = {"llama": "llama", "llama_patterns": "llama", "gpt2": "gpt2"}


def joined(params, factors):
    return {
        name: joined(params.get(name, {}), factors.get(name, {}))
        if isinstance(params.get(name, factors.get(name)), dict)
        else factors.get(name, params.get(name))
        for name in params.keys() | factors.keys()
    }


@pytest.fixture(scope="module", params=BASES)
def read(request):
    """The tuned model, all its parameters, and what `peft` computes."""
    base, params = load_hf(HERE / "fixtures" / BASES[request.param])
    model, factors = load_peft(HERE / "peft_fixtures" / request.param, base)
    expected = np.load(HERE / "peft_fixtures" / request.param / "expected.npz")
    return model, joined(params, factors), expected


@functools.partial(jax.jit, static_argnums=0)
def logits_of(model, params, tokens):
    """Of texts without padding; what the decoder reads is shifted by one, as it is here."""
    return model.logits(params, {"decoder_input_tokens": tokens})


def test_factors_that_peft_wrote_give_its_logits(read):
    model, params, expected = read
    assert (model.tuning.rank, model.tuning.alpha) == (2, 3.0)
    found = logits_of(model, params, expected["tokens"])
    np.testing.assert_allclose(found, expected["logits"], atol=1e-4)


def test_factors_that_are_written_are_read_again_and_compute_the_same(read, tmp_path):
    model, params, expected = read
    save_peft(model, params, tmp_path / "out")
    base = model.clone(tuning=None)
    again, factors = load_peft(tmp_path / "out", base)
    untuned = {name: part for name, part in params.items()}
    found = logits_of(again, joined(untuned, factors), expected["tokens"])
    np.testing.assert_allclose(found, expected["logits"], atol=1e-4)


def test_a_tuned_model_is_exported_with_its_factors_merged(read, tmp_path):
    model, params, expected = read
    written = save_hf(model, params, tmp_path / "merged")
    assert written.tuning is None
    loaded, merged = load_hf(tmp_path / "merged")
    found = logits_of(loaded, merged, expected["tokens"])
    np.testing.assert_allclose(found, expected["logits"], atol=1e-4)


@pytest.mark.slow
def test_gpt2_queries_and_values_become_one_matrix_of_twice_the_rank(tmp_path):
    """c_attn has queries, keys and values side by side: rank 4, alpha 2 * 4, keys untouched."""
    base, params = load_hf(HERE / "fixtures" / "gpt2")
    model = base.clone(tuning=tuning.LoRA(rank=2, alpha=4.0))
    fresh = model.init(jax.random.key(0))["params"]
    params = jax.tree.map(lambda x: np.asarray(x) + 0.5, joined(fresh, params))
    save_peft(model, params, tmp_path / "out", base="gpt2")
    tensors = TensorFiles(tmp_path / "out" / "adapter_model.safetensors")
    name = "base_model.model.transformer.h.1.attn.c_attn"
    assert tensors.shape(f"{name}.lora_A.weight") == (4, 28)
    up = tensors[f"{name}.lora_B.weight"]
    assert up.shape == (84, 4)
    assert not up[28:56].any() and not up[:28, 2:].any() and not up[56:, :2].any()
    assert up[:28, :2].all() and up[56:, 2:].all()
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["rank_pattern"]["transformer.h.1.attn.c_attn"] == 4
    assert config["alpha_pattern"]["transformer.h.1.attn.c_attn"] == 8.0
    assert (config["r"], config["lora_alpha"], config["fan_in_fan_out"]) == (2, 4.0, True)
    tokens = jnp.arange(1, 11).reshape(2, 5)
    again, factors = load_peft(tmp_path / "out", base)
    found = logits_of(again, joined(params, factors), tokens)
    np.testing.assert_allclose(found, logits_of(model, params, tokens), atol=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"peft_type": "IA3"}, r"peft_type 'IA3': only 'LORA' is read"),
        ({"use_dora": True}, r"use_dora True is not supported"),
        ({"bias": "all"}, r"bias 'all': only 'none' is read"),
        ({"r": 3}, r"is of rank 2, where adapter_config.json has 3"),
        ({"rank_pattern": {"q_proj": 3}}, r"is of rank 2, where adapter_config.json has 3"),
        ({"r": 0}, r"the rank of 'r' is 0, not a whole number > 0"),
        ({"rank_pattern": {"q_proj": None}}, r"the rank of 'q_proj' is None"),
        ({"lora_alpha": 0}, r"'lora_alpha' is 0, not a number that can be used"),
        ({"alpha_pattern": {"q_proj": "8"}}, r"'q_proj' is '8', not a number"),
        ({"alpha_pattern": {"*.q_proj": 8}}, r"alpha_pattern has '\*.q_proj', no pattern of names"),
        ({"alpha_pattern": ["q_proj"]}, r"alpha_pattern \['q_proj'\] has no names of matrices"),
        ({"init_lora_weights": "pissa"}, r"'pissa' changes the base model's matrices too"),
        ({"init_lora_weights": "pissa_niter_16"}, r"'pissa_niter_16' changes the base"),
        ({"init_lora_weights": "olora"}, r"'olora' changes the base model's matrices too"),
        ({"init_lora_weights": "corda"}, r"'corda' changes the base model's matrices too"),
        ({"init_lora_weights": "loftq"}, r"'loftq' changes the base model's matrices too"),
        ({"use_bdlora": {"nblocks": 2}}, r"use_bdlora {'nblocks': 2} is not supported"),
        ({"kasa_config": {"alpha": 1}}, r"kasa_config {'alpha': 1} is not supported"),
        ({"an_option_of_tomorrow": True}, r"an_option_of_tomorrow True is not supported"),
    ],
)  # fmt: skip
def test_other_adapters_are_refused_in_one_line(change, message, tmp_path):
    shutil.copytree(HERE / "peft_fixtures" / "llama", tmp_path, dirs_exist_ok=True)
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    base, _ = load_hf(HERE / "fixtures" / "llama")
    with pytest.raises(ModelError, match=message):
        load_peft(tmp_path, base)


@pytest.mark.parametrize(
    ("pattern", "queries", "values"),
    [
        ({"q_proj": 6}, [2, 2, 2], [1, 1, 1]),
        ({r".*layers\.0\..*": 6, "q_proj": 9}, [2, 3, 3], [2, 1, 1]),
        ({"q_proj": 9, r".*layers\.0\..*": 6}, [3, 3, 3], [2, 1, 1]),
        ({"model.layers.1.self_attn.v_proj": 6}, [1, 1, 1], [1, 2, 1]),
        # Whole parts of names alone; a key that no matrix has changes nothing, as in `peft`.
        ({"_proj": 6, "k_proj": 6}, [1, 1, 1], [1, 1, 1]),
    ],
)
def test_a_key_of_alpha_pattern_is_the_end_of_a_name_or_a_regular_expression(
    pattern, queries, values, tmp_path
):
    """B is multiplied by the matrix's alpha over that of all others, 3, in each layer."""
    base, _ = load_hf(HERE / "fixtures" / "llama")
    _, plain = load_peft(HERE / "peft_fixtures" / "llama", base)
    shutil.copytree(HERE / "peft_fixtures" / "llama", tmp_path, dirs_exist_ok=True)
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"alpha_pattern": pattern}))
    _, scaled = load_peft(tmp_path, base)
    found, before = (tree["decoder"]["layers"]["self_attention"] for tree in (scaled, plain))
    for name, times in (("query", queries), ("value", values)):
        times_lro = np.asarray(times)[:, None, None]
        expected = before[name]["lora_b"] * times_lro
        np.testing.assert_allclose(found[name]["lora_b"], expected, rtol=1e-6)


def test_factors_of_another_model_are_refused():
    base, _ = load_hf(HERE / "fixtures" / "gpt2")
    with pytest.raises(ModelError, match=r"tensor 'base_model.model.model.layers.0.* has no place"):
        load_peft(HERE / "peft_fixtures" / "llama", base)
    with pytest.raises(ModelError, match=r"GPT2 has no LoRA: there are no factors"):
        save_peft(base, {}, "unused")
    adapted = base.clone(tuning=tuning.Adapters(width=2))
    with pytest.raises(ModelError, match=r"Adapters are parameters of their own"):
        save_hf(adapted, {}, "unused")
