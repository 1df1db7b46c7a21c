"""Directories of Hugging Face: what is read, what is written, what is refused."""

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import linen as nn

from models.errors import ModelError
from models.gpt import GPT1, GPT2
from models.gpt_neox import GPTNeoX
from models.heads import Classification, Reward
from models.hf import FAMILIES, load_hf, mapping, save_hf
from models.hf.tensor_files import TensorFiles, write_tensors
from models.layers.experts.dispatch import Capacity
from models.layers.mlps import GatedMLP
from models.llama import LLaMA
from models.switch import Switch, SwitchC
from models.t5 import T5

HERE = Path(__file__).parent
FIXTURES = sorted(path.name for path in (HERE / "fixtures").iterdir())


def tensors(directory):
    """Every tensor's bytes, dtype and shape by name."""
    files = TensorFiles(directory)
    return {name: (files[name].tobytes(), files[name].dtype, files[name].shape) for name in files}


def copied(tmp_path, family="gpt2", **options):
    directory = HERE / "fixtures" / family
    config = json.loads((directory / "config.json").read_text()) | options
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes((directory / "model.safetensors").read_bytes())
    return tmp_path


def test_every_model_type_has_a_fixture():
    types = {
        json.loads((HERE / "fixtures" / name / "config.json").read_text())["model_type"]
        for name in FIXTURES
    }
    assert types == {family.model_type for family in FAMILIES}


# Version 4 of transformers also saved a table that follows from the sizes, and a parameter that all
# layers share once: tests/models/hf/test_transfo_xl.py.
WRITTEN_AS_READ = [name for name in FIXTURES if not name.startswith("transfo_xl")]


# -- Out -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WRITTEN_AS_READ)
def test_what_is_read_and_written_is_the_same_bit_for_bit(name, tmp_path):
    source = HERE / "fixtures" / name
    model, params = load_hf(source)
    save_hf(model, params, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "config.json", "model.safetensors",
    ]  # fmt: skip
    assert tensors(tmp_path / "out") == tensors(source)
    again, params_again = load_hf(tmp_path / "out")
    assert again == model
    jax.tree.map(np.testing.assert_array_equal, params_again, params)
    assert_shapes(model, params)
    written = json.loads((tmp_path / "out" / "config.json").read_text())
    original = json.loads((source / "config.json").read_text())
    # The ids of special tokens are those of the published vocabularies; the fixtures' label2id is
    # null, where ours is the inverse of id2label.
    named_anew = {key for key in original if "token_id" in key}
    named_anew |= {"label2id"} if original.get("label2id", {}) is None else set()
    computed = (written.keys() & original.keys()) - named_anew
    assert {key: written[key] for key in computed} == {key: original[key] for key in computed}


@pytest.mark.parametrize("name", sorted(set(FIXTURES) - set(WRITTEN_AS_READ)))
def test_every_parameter_is_read(name):
    assert_shapes(*load_hf(HERE / "fixtures" / name))


def assert_shapes(model, params):
    """Every parameter that the model makes is there, and no other."""
    shapes = nn.unbox(model.abstract_params())
    jax.tree.map(lambda x, shape: x.shape == shape.shape or pytest.fail(str(shape)), params, shapes)


def test_large_models_are_written_in_shards_with_an_index(tmp_path):
    model, params = load_hf(HERE / "fixtures" / "gpt2")
    save_hf(model, params, tmp_path / "out", max_file_bytes=40_000)
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    names = sorted(path.name for path in (tmp_path / "out").glob("*.safetensors"))
    assert names[0] == f"model-00001-of-{len(names):05}.safetensors"
    assert len(names) >= 4
    assert set(index["weight_map"].values()) == set(names)
    assert index["metadata"]["total_size"] == 4 * sum(x.size for x in jax.tree.leaves(params))
    for name in names:
        data = (tmp_path / "out" / name).read_bytes()
        (header,) = struct.unpack("<Q", data[:8])
        assert len(data) - 8 - header <= 40_000
    assert tensors(tmp_path / "out") == tensors(HERE / "fixtures" / "gpt2")


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITTEN_AS_READ)
def test_blocks_of_rows_make_the_same_tensors(name, tmp_path, monkeypatch):
    monkeypatch.setattr(mapping, "BLOCK", 100)
    model, params = load_hf(HERE / "fixtures" / name)
    save_hf(model, params, tmp_path / "out")
    assert tensors(tmp_path / "out") == tensors(HERE / "fixtures" / name)


def test_other_dtypes_round_to_the_nearest(tmp_path):
    model, params = load_hf(HERE / "fixtures" / "gpt2")
    save_hf(model, jax.tree.map(jnp.asarray, params), tmp_path / "out", dtype="bfloat16")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "bfloat16"
    _, read = load_hf(tmp_path / "out")
    jax.tree.map(
        lambda a, b: np.testing.assert_array_equal(a, b.astype(ml_dtypes.bfloat16)), read, params
    )


def test_options_and_files_of_a_tokenizer_go_along(tmp_path):
    model, params = load_hf(HERE / "fixtures" / "t5_1_0")
    (tmp_path / "some.model").write_bytes(b"pieces")
    save_hf(
        model, params, tmp_path / "out",
        options={"eos_token_id": 5}, files={"spiece.model": tmp_path / "some.model"},
    )  # fmt: skip
    assert json.loads((tmp_path / "out" / "config.json").read_text())["eos_token_id"] == 5
    assert (tmp_path / "out" / "spiece.model").read_bytes() == b"pieces"
    with pytest.raises(ModelError, match="the option d_model of"):
        save_hf(model, params, tmp_path / "other", options={"d_model": 5})


def test_bart_ends_with_the_eos_that_is_given(tmp_path):
    model, params = load_hf(HERE / "fixtures" / "bart")
    save_hf(model, params, tmp_path / "out", options={"eos_token_id": 1})
    written = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (written["eos_token_id"], written["forced_eos_token_id"]) == (1, 1)


def test_what_hugging_face_cannot_express_is_named(tmp_path):
    class Own(GPT2):
        pass

    sizes = dict(vocab_size=8, embed_dim=8, num_heads=2)
    gated = T5(mlp=GatedMLP, num_encoder_layers=1, num_decoder_layers=1, mlp_dim=8, **sizes)
    switch = Switch(dispatch=Capacity(), num_encoder_layers=2, num_decoder_layers=2, **sizes)
    for model, message in (
        (switch, r"Switch.(activation|dispatch|experts|mlp) = "),
        (SwitchC(num_encoder_layers=2, num_decoder_layers=2, **sizes), r"SwitchC.dispatch = Cap"),
        (Own(num_layers=1, **sizes), "Own has no model type of Hugging Face"),
        (gated, r"T5.mlp = GatedMLP cannot be expressed .* 't5', which has MLP"),
    ):
        with pytest.raises(ModelError, match=message):
            save_hf(model, {}, tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("cls", [GPT1, GPT2, LLaMA, GPTNeoX])
def test_a_decoder_with_a_head_is_refused_and_not_written_without_it(cls, tmp_path):
    for head in (Classification(("no", "yes")), Reward()):
        model = cls(vocab_size=8, embed_dim=8, num_heads=2, num_layers=1, head=head)
        with pytest.raises(ModelError) as refused:
            save_hf(model, {}, tmp_path / "out")
        line = str(refused.value)
        assert line.startswith(f"{cls.__name__}.head = {type(head).__name__}(")
        assert "cannot be expressed as Hugging Face's model type" in line
        assert line.endswith(", which has None.") and "\n" not in line
    assert not list(tmp_path.iterdir())


def test_an_error_leaves_nothing_behind(tmp_path):
    model, params = load_hf(HERE / "fixtures" / "gpt2")
    out = tmp_path / "out"
    with pytest.raises(ModelError, match="the parameters lack 'final_norm/bias', which GPT2 has"):
        save_hf(model, {**params, "final_norm": {"scale": np.zeros(28)}}, out)
    with pytest.raises(ModelError, match=r"'final_norm/bias' has shape \(3,\).* GPT2 has \(28,\)"):
        save_hf(model, {**params, "final_norm": {"scale": np.ones(28), "bias": np.ones(3)}}, out)
    with pytest.raises(ModelError, match="parameter 'more' is none of GPT2's"):
        save_hf(model, {**params, "more": np.ones(3)}, out)
    with pytest.raises(ModelError, match="dtype 'int8': one of float32"):
        save_hf(model, params, out, dtype="int8")
    with pytest.raises(FileNotFoundError):
        save_hf(model, params, out, files={"tokenizer.json": tmp_path / "nothing"})
    assert not list(tmp_path.iterdir())
    out.mkdir()
    (out / "mine").touch()
    with pytest.raises(ModelError, match="is there already: give a new or an empty directory"):
        save_hf(model, params, out)
    assert [path.name for path in out.iterdir()] == ["mine"]


# -- In --------------------------------------------------------------------------------------


def test_errors_name_the_tensor_or_the_option(tmp_path):
    directory = copied(tmp_path, n_layer=4)
    with pytest.raises(ModelError, match=r"h\.3\.\S+' is missing"):
        load_hf(directory)
    with pytest.raises(ModelError, match=r"h\.2\.\S+' has no place"):
        load_hf(copied(tmp_path, n_layer=2))
    with pytest.raises(ModelError, match=r"wte.weight' has shape \(80, 28\).*\(97, 28\)"):
        load_hf(copied(tmp_path, vocab_size=97))
    with pytest.raises(ModelError, match=r"model_type must be one of .*'gpt2'.* not 'bloom'"):
        load_hf(copied(tmp_path, model_type="bloom"))
    config = json.loads(copied(tmp_path).joinpath("config.json").read_text())
    del config["n_embd"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="lacks the option 'n_embd'"):
        load_hf(tmp_path)


@pytest.mark.parametrize(
    ("family", "option", "value"),
    [
        ("gpt2", "activation_function", "relu"),
        ("gpt2", "scale_attn_by_inverse_layer_idx", True),
        ("gpt2", "quantization_config", {"bits": 4}),
        ("t5_1_0", "feed_forward_proj", "gated-silu"),
        ("t5_1_1", "dense_act_fn", "gelu"),
        ("t5_1_0", "some_later_option", 0.5),
        ("openai_gpt", "afn", "relu"),
        ("bart", "activation_function", "gelu_new"),
        ("bart", "scale_embedding", True),
        ("bart", "decoder_ffn_dim", 20),
        ("bart", "normalize_before", True),
        ("bert_pretraining", "is_decoder", True),
        ("bert_pretraining", "add_cross_attention", True),
        ("bert_pretraining", "position_embedding_type", "relative_key"),
        ("bert_pretraining", "tie_word_embeddings", False),
        ("bert_pretraining", "hidden_act", "silu"),
        ("roberta_masked_lm", "is_decoder", True),
        ("roberta_masked_lm", "pad_token_id", 80),
        ("distilbert_masked_lm", "activation", "silu"),
        ("albert_pretraining", "inner_group_num", 2),
        ("albert_pretraining", "embedding_size", None),
        ("albert_pretraining", "gap_size", 1),
        ("albert_pretraining", "num_hidden_groups", 3),
        ("albert_pretraining", "hidden_act", "silu"),
        ("electra_masked_lm", "is_decoder", True),
        ("electra_masked_lm", "embedding_size", None),
        ("electra_masked_lm", "hidden_act", "silu"),
        ("deberta_masked_lm", "relative_attention", False),
        ("deberta_masked_lm", "pos_att_type", "p2p"),
        ("deberta_masked_lm", "talking_head", True),
        ("deberta_masked_lm", "z_steps", 2),
        ("bigbird_pretraining", "use_bias", False),
        ("bigbird_pretraining", "attention_type", "sliding"),
        ("bigbird_pretraining", "num_random_blocks", 0),
        ("switch", "num_sparse_encoder_layers", 3),
        ("switch", "num_sparse_decoder_layers", 2),
        ("switch", "dense_act_fn", "gelu_new"),
        ("switch", "router_bias", True),
        ("llama", "rope_scaling", {"type": "linear", "factor": 2.0}),
        ("llama", "rope_parameters", {"rope_type": "yarn", "rope_theta": 500.0, "factor": 2.0}),
        ("llama", "hidden_act", "gelu"),
        ("llama", "attention_bias", True),
        ("llama", "mlp_bias", True),
        ("llama", "head_dim", 16),
        ("llama", "sliding_window", 8),
        ("gpt_neox", "hidden_act", "relu"),
        ("gpt_neox", "rope_scaling", {"type": "linear", "factor": 2.0}),
        ("gpt_neox", "attention_bias", False),
    ],
)
def test_an_option_that_is_not_supported_is_named(tmp_path, family, option, value):
    with pytest.raises(ModelError) as raised:
        load_hf(copied(tmp_path, family, **{option: value}))
    assert option in str(raised.value)
    assert repr(value) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_options_that_change_nothing_are_left_aside(tmp_path):
    options = {"task_specific_params": {"text-generation": {"max_length": 50}}, "n_ctx": 40}
    model, _ = load_hf(copied(tmp_path, _num_labels=3, torch_dtype="float16", **options))
    assert model == load_hf(HERE / "fixtures" / "gpt2")[0]


def rewritten(directory, change):
    """The only file of a directory with its tensors, as arrays, changed."""
    files = TensorFiles(directory)
    changed = change({name: np.array(files[name]) for name in files})
    shapes = {name: x.shape for name, x in changed.items()}
    write_tensors(directory, shapes, lambda name: [changed[name]], "float32", 10**9)


def test_names_without_prefix_and_copies_are_read(tmp_path):
    _, expected = load_hf(HERE / "fixtures" / "gpt2")

    def older(found):
        found = {name.removeprefix("transformer."): x for name, x in found.items()}
        mask = np.tril(np.ones((1, 1, 40, 40), np.float32))
        return found | {"lm_head.weight": found["wte.weight"].copy(), "h.0.attn.bias": mask}

    directory = copied(tmp_path)
    rewritten(directory, older)
    jax.tree.map(np.testing.assert_array_equal, load_hf(directory)[1], expected)
    rewritten(directory, lambda found: found | {"lm_head.weight": found["lm_head.weight"] + 1})
    with pytest.raises(ModelError, match=r"'lm_head.weight' differs from 'transformer.wte.weight'"):
        load_hf(directory)


def test_masks_and_options_of_gpt_neoxs_older_files_are_read(tmp_path):
    """As Pythia's were published: a mask of booleans, and the rotation as options of their own."""
    source = HERE / "fixtures" / "gpt_neox"
    rotation = {"rotary_pct": 0.5, "rotary_emb_base": 500}
    directory = copied(tmp_path, "gpt_neox", rope_parameters=None, **rotation)
    whole = (directory / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", whole[:8])
    header, data = json.loads(whole[8 : 8 + length]), whole[8 + length :]
    for name, dtype in (("bias", "BOOL"), ("masked_bias", "U8")):
        place = [len(data), len(data) + 9]
        described = {"dtype": dtype, "shape": [1, 1, 3, 3], "data_offsets": place}
        header[f"gpt_neox.layers.0.attention.{name}"] = described
        data += bytes(9)
    text = json.dumps(header).encode()
    whole = struct.pack("<Q", len(text)) + text + data
    (directory / "model.safetensors").write_bytes(whole)
    model, params = load_hf(directory)
    expected_model, expected = load_hf(source)
    assert model == expected_model
    jax.tree.map(np.testing.assert_array_equal, params, expected)


def test_an_output_that_is_a_copy_may_be_left_out_and_is_not_scaled(tmp_path):
    directory = copied(tmp_path, "t5_1_1")
    rewritten(directory, lambda found: {n: x for n, x in found.items() if n != "lm_head.weight"})
    model, params = load_hf(directory)
    assert not model.tied_output
    np.testing.assert_array_equal(
        params["output"]["kernel"], params["token_embedder"]["embedding"].T
    )


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
    index = directory / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"wte.weight": "../elsewhere.safetensors"}}))
    with pytest.raises(ModelError, match="only plain file names"):
        load_hf(directory)
    index.write_text("[]")
    with pytest.raises(ModelError, match="weight_map is needed"):
        load_hf(directory)


# -- Memory ----------------------------------------------------------------------------------

# The peak of a process counts mapped files too. 110M parameters are 440 MB.
MEASURED = """
import resource, sys
import numpy as np
from models.gpt import GPT2
from models.hf import load_hf, save_hf
from models.hf.mapping import parameter_shapes

def peak():
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

model = GPT2(vocab_size=32_000, embed_dim=768, num_heads=12, num_layers=12, max_length=512)
shapes = parameter_shapes(model)
if sys.argv[1] == "save":
    params = {}
    for name, shape in shapes.items():
        *outer, last = name.split("/")
        inner = params
        for part in outer:
            inner = inner.setdefault(part, {})
        inner[last] = np.full(shape, 0.5, np.float32)
    before = peak()
    save_hf(model, params, sys.argv[2], max_file_bytes=200_000_000)
else:
    before = peak()
    model, params = load_hf(sys.argv[2])
print(peak() - before, 4 * sum(int(np.prod(shape)) for shape in shapes.values()))
"""


@pytest.mark.release
def test_memory_stays_below_1_3_models(tmp_path):
    root = Path(__file__).parents[3]
    added = {}
    for verb in ("save", "load"):
        done = subprocess.run(
            [sys.executable, "-c", MEASURED, verb, str(tmp_path / "model")],
            env={**os.environ, "PYTHONPATH": str(root), "JAX_PLATFORMS": "cpu"},
            capture_output=True, text=True, check=True, timeout=300,
        )  # fmt: skip
        added[verb], size = map(int, done.stdout.split())
    assert size > 300e6
    # Saving adds to the parameters, which are there already.
    assert size + added["save"] < 1.3 * size
    assert added["load"] < 1.3 * size
