"""Weights of XLNet give what `transformers` computes: streams, segments, memory, head.

Hermetic: against fixtures that `make_fixtures.py` wrote. Live: against what is installed.
"""

import dataclasses
import functools
import importlib.util
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.errors import ModelError
from models.heads import Classification
from models.hf import load_hf, save_hf
from models.hf.tensor_files import TensorFiles

HERE = Path(__file__).parent
FIXTURES = HERE / "fixtures"
NAMES = (
    "xlnet_lm",
    "xlnet_model",
    "xlnet_classification",
    "xlnet_tagging",
    "xlnet_choice",
    "xlnet_spans",
)
FEATURES = ("encoder_input_tokens", "encoder_token_types", "encoder_segment_ids")
RANKS = ("perm_key_rank", "perm_own_rank")
TOLERANCE = 1e-4


@functools.partial(jax.jit, static_argnums=(0, 1))
def output(model, name, params, batch, earlier):
    """One output, by the name of the fixtures."""
    apply = functools.partial(model.apply, {"params": params})
    if name == "content_logits":
        batch = {feature: x for feature, x in batch.items() if feature not in RANKS}
    if name != "logits_with_memory":
        return apply(**batch)
    carry = model.initial_carry(len(earlier))
    run = functools.partial(apply, method="hidden_states_and_carry")
    _, carry = run(encoder_input_tokens=earlier, carry=carry)
    x, _ = run(**batch, carry=carry)
    return apply(x, method="_token_logits")


def errors(model, params, batch, earlier, expected):
    """The largest difference of each output, where there is a token."""
    real = np.asarray(batch["encoder_segment_ids"]) != 0
    found = {}
    for name, value in expected.items():
        # Of choices transformers leaves the last axis, of one, out.
        ours = np.asarray(output(model, name, params, batch, earlier)).reshape(value.shape)
        difference = np.abs(ours - value)
        of_tokens = difference.shape[:-1] == real.shape
        found[name] = (difference[real] if of_tokens else difference).max()
    return found


def divided(expected):
    """What a fixture is given, earlier tokens apart, and what comes out."""
    names = [name for name in (*FEATURES, *RANKS) if name in expected]
    batch = {name: jnp.asarray(expected.pop(name)) for name in names}
    return batch, expected.pop("earlier", None), expected


def fixture(name):
    model, params = load_hf(FIXTURES / name)
    return model, params, *divided(dict(np.load(FIXTURES / name / "expected.npz")))


@pytest.mark.parametrize("name", NAMES)
def test_every_output_is_what_transformers_gives(name):
    """With padding, three segments, an order of prediction, and a memory of a part of a row."""
    model, params, batch, earlier, expected = fixture(name)
    assert len(expected) == (3 if name == "xlnet_lm" else 1)
    assert max(errors(model, params, batch, earlier, expected).values()) <= TOLERANCE


ATTENTION = "encoder/layers/self_attention"
TERMS = {
    "content bias": f"{ATTENTION}/relative/content_bias",
    "distance bias": f"{ATTENTION}/relative/distance_bias",
    "distances": f"{ATTENTION}/relative/kernel",
    "segment bias": f"{ATTENTION}/segments/bias",
    "segments": f"{ATTENTION}/segments/embedding",
    "feed-forward bias": "encoder/layers/mlp/wi/bias",
    "query stream": "mask_embedding",
    "output bias": "logit_bias/bias",
}


@pytest.mark.parametrize("term", TERMS)
def test_no_term_can_be_left_out_unnoticed(term):
    model, params, batch, earlier, expected = fixture("xlnet_lm")
    *path, last = TERMS[term].split("/")
    tree = functools.reduce(lambda tree, name: tree[name], path, params)
    tree[last] = np.zeros_like(tree[last])
    of_streams = {"token_logits": expected["token_logits"]}
    assert errors(model, params, batch, earlier, of_streams)["token_logits"] > 1e-2


def test_neither_types_nor_order_nor_memory_nor_clamping_can_be_left_out_unnoticed():
    model, params, batch, earlier, expected = fixture("xlnet_lm")
    assert model.clamp_length == 5 and model.reuse_length == 5 and model.memory_length == 4

    def changed(model, batch, name="token_logits"):
        return errors(model, params, batch, earlier, {name: expected[name]})[name]

    one_type = batch | {"encoder_token_types": batch["encoder_token_types"] * 0}
    assert changed(model, one_type) > 1e-2
    as_written = {name: jnp.arange(17) + jnp.zeros((3, 1), int) for name in RANKS}
    assert changed(model, batch | as_written) > 1e-2
    assert changed(model.clone(clamp_length=None), batch) > 1e-2
    assert changed(model.clone(reuse_length=None), batch, "logits_with_memory") > 1e-2


def test_what_is_written_has_the_same_options_and_bits(tmp_path):
    for name in NAMES:
        model, params = load_hf(FIXTURES / name)
        save_hf(model, params, tmp_path / name)
        again, same = load_hf(tmp_path / name)
        assert again == model
        jax.tree.map(np.testing.assert_array_equal, same, params)
        source, written = TensorFiles(FIXTURES / name), TensorFiles(tmp_path / name)
        assert set(source) == set(written)
        for tensor in source:
            np.testing.assert_array_equal(source[tensor], written[tensor], strict=True)
        options = json.loads((tmp_path / name / "config.json").read_text())
        theirs = json.loads((FIXTURES / name / "config.json").read_text())
        for option in ("architectures", "d_head", "clamp_len", "attn_type", "ff_activation"):
            assert options[option] == theirs.get(option, options[option]), option


def test_the_head_is_that_of_the_class_and_reads_the_last_token():
    model, params, batch, _, expected = fixture("xlnet_classification")
    assert model.head == Classification(("LABEL_0", "LABEL_1", "LABEL_2"), 0.1)
    # Padding may stand after a row too: distances are all that positions are.
    shifted = {name: jnp.roll(x[1:2], -3, axis=1) for name, x in batch.items()}
    assert shifted["encoder_segment_ids"][0, -3:].tolist() == [0, 0, 0]
    found = output(model, "head_logits", params, shifted, None)
    np.testing.assert_allclose(found, expected["head_logits"][1:2], atol=TOLERANCE)


def test_options_of_a_head_that_are_not_supported_are_named(tmp_path):
    for option, value in (("summary_type", "mean"), ("summary_use_proj", False)):
        directory = tmp_path / option
        directory.mkdir()
        config = json.loads((FIXTURES / "xlnet_classification" / "config.json").read_text())
        (directory / "config.json").write_text(json.dumps(config | {option: value}))
        tensors = (FIXTURES / "xlnet_classification" / "model.safetensors").read_bytes()
        (directory / "model.safetensors").write_bytes(tensors)
        with pytest.raises(ModelError, match=f"{option} .* is not supported"):
            load_hf(directory)


def test_dropout_of_tags_that_the_class_does_not_have_is_named(tmp_path):
    model, params = load_hf(FIXTURES / "xlnet_tagging")
    assert model.head.dropout_rate == 0.0
    assert load_hf(FIXTURES / "xlnet_choice")[0].head.dropout_rate == 0.3
    other = model.clone(head=dataclasses.replace(model.head, dropout_rate=0.2))
    with pytest.raises(ModelError, match=r"Tagging.dropout_rate = 0.2 .* set it to 0.0"):
        save_hf(other, params, tmp_path / "out")


@pytest.mark.interop
@pytest.mark.parametrize("name", NAMES)
def test_live_transformers_agrees_and_loads_what_is_exported(name, tmp_path):
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    spec = importlib.util.spec_from_file_location("make_fixtures", HERE / "make_fixtures.py")
    fixtures = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fixtures)
    made = fixtures.FAMILIES[name]()
    fixtures.write(made, tmp_path / "source")
    given = fixtures.random_batch(made, rows=4, seed=7)
    batch, earlier, expected = divided(given | fixtures.reference(made, given))
    model, params = load_hf(tmp_path / "source")
    assert max(errors(model, params, batch, earlier, expected).values()) <= TOLERANCE
    save_hf(model, params, tmp_path / "out")
    kind = getattr(transformers, type(made).__name__)
    theirs, report = kind.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(report.values()), report
    *_, found = divided(given | fixtures.reference(theirs, given))
    assert max(errors(model, params, batch, earlier, found).values()) <= TOLERANCE
    theirs.save_pretrained(tmp_path / "again")
    ours, its = TensorFiles(tmp_path / "out"), TensorFiles(tmp_path / "again")
    assert set(ours) == set(its)
    for tensor in its:
        np.testing.assert_array_equal(ours[tensor], its[tensor], err_msg=tensor, strict=True)
