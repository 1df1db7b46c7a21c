"""Directories of Hugging Face that cannot be read, and what cannot be written as one."""

import json
import shutil
import struct
from pathlib import Path

import pytest

FIXTURES = Path(__file__).parent.parent / "models" / "hf" / "fixtures"
WEIGHTS = "model.safetensors"


@pytest.fixture
def source(tmp_path):
    """A copy of a small GPT-2, to be spoiled."""
    directory = tmp_path / "source"
    shutil.copytree(FIXTURES / "gpt2", directory)
    (directory / "expected.npz").unlink()
    return directory


@pytest.fixture
def import_hf(source, refused, tmp_path):
    """Imports it, which must be refused."""

    def run(*words):
        return refused(["import-hf", source, "--out", tmp_path / "run"], *words)

    return run


def edit_config(directory, **changes):
    path = directory / "config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: v for name, v in config.items() if v is not ...}))


def edit_header(directory, edit):
    """Passes the header of the safetensors file to `edit`; the data stay as they are."""
    path = directory / WEIGHTS
    octets = path.read_bytes()
    (length,) = struct.unpack("<Q", octets[:8])
    header = json.loads(octets[8 : 8 + length])
    edit(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + octets[8 + length :])


# -- config.json -----------------------------------------------------------------------------


def test_a_directory_that_is_not_there(refused, tmp_path):
    words = ["no directory", "nowhere", "with config.json and safetensors"]
    refused(["import-hf", tmp_path / "nowhere", "--out", tmp_path / "run"], *words)


def test_a_name_on_the_hub_is_not_fetched_and_the_line_says_how_to(refused, tmp_path):
    words = ["`hf download openai-community/gpt2 --local-dir DIR` and give DIR"]
    refused(["import-hf", "openai-community/gpt2", "--out", tmp_path / "run"], *words)


def test_a_directory_without_a_configuration(import_hf, source):
    (source / "config.json").unlink()
    import_hf("source/config.json", "No such file", "with config.json and safetensors")


@pytest.mark.parametrize("content", ["", "{", "[" * 100_000, "\x00"])
def test_a_configuration_that_is_not_json(import_hf, source, content):
    (source / "config.json").write_text(content)
    import_hf("config.json is not JSON")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "bloom"}, ["model_type must be one of", "'gpt2'", "not 'bloom'"]),
        ({"model_type": ...}, ["model_type must be one of", "not None"]),
        ({"model_type": ["gpt2"]}, ["model_type must be one of"]),
        ({"n_embd": ...}, ["config.json lacks the option 'n_embd'"]),
        ({"activation_function": "relu"}, ["activation_function 'relu' is not supported"]),
        ({"sliding_window": 5}, ["the option sliding_window 5", "is not supported"]),
        ({"n_layer": "two"}, ["n_layer 'two' is not supported: only int is"]),
        ({"n_head": 0}, ["num_heads is 0"]),
        ({"n_embd": -8}, ["embed_dim is -8"]),
        ({"n_head": 5}, ["num_heads 5"]),
        ({"layer_norm_epsilon": float("nan")}, ["layer_norm_epsilon of config.json", "finite"]),
    ],
)
def test_an_option_that_no_model_of_ours_has(import_hf, source, changes, words):
    edit_config(source, **changes)
    import_hf(*words)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "generation_config.json is not JSON"),
        ("[]", "generation_config.json holds no object"),
        ('{"eos_token_id": [2, "x"]}', "eos_token_id [2, 'x'] is neither a token's id nor a list"),
    ],
)
def test_ends_of_texts_that_are_none(import_hf, source, content, said):
    (source / "generation_config.json").write_text(content)
    import_hf(said)


# -- Tensors ---------------------------------------------------------------------------------


def test_a_missing_tensor(import_hf, source):
    edit_header(source, lambda header: header.pop("transformer.h.1.mlp.c_fc.weight"))
    import_hf("tensor 'transformer.h.1.mlp.c_fc.weight' is missing")


def test_an_extra_tensor(import_hf, source):
    entry = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    edit_header(source, lambda header: header.update({"transformer.extra": entry}))
    import_hf("tensor 'transformer.extra' has no place in this model")


def test_a_misshapen_tensor(import_hf, source):
    def flatten(header):
        entry = header["transformer.wpe.weight"]
        entry["shape"] = [entry["shape"][0] * entry["shape"][1]]

    edit_header(source, flatten)
    import_hf("tensor 'transformer.wpe.weight' has shape (", "where config.json asks for (")


@pytest.mark.parametrize("kept", [0, 5, 8, 100, 5_000])
def test_a_file_that_was_cut(import_hf, source, kept):
    path = source / WEIGHTS
    path.write_bytes(path.read_bytes()[:kept])
    import_hf(f"{path} is not a safetensors file")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"shape": [2**40, 2**40]}, "place and shape disagree"),
        ({"shape": [10**30, 0]}, "a tensor's size is no whole number, or beyond all measure"),
        ({"shape": [1] * 80}, "a tensor has 80 axes"),
        ({"dtype": "Q4"}, "the dtype 'Q4' of a tensor is not known"),
    ],
)
def test_a_tensor_that_cannot_be(import_hf, source, changes, said):
    edit_header(source, lambda header: header["transformer.wpe.weight"].update(changes))
    import_hf("is not a safetensors file", said)


def test_tensors_that_share_bytes(import_hf, source):
    def overlap(header):
        other = header["transformer.h.1.ln_1.bias"]
        header["transformer.h.0.ln_1.bias"]["data_offsets"] = other["data_offsets"]

    edit_header(source, overlap)
    import_hf("'transformer.h.0.ln_1.bias' and 'transformer.h.1.ln_1.bias' share bytes")


def test_a_name_that_stands_twice(import_hf, source):
    octets = (source / WEIGHTS).read_bytes()
    (length,) = struct.unpack("<Q", octets[:8])
    text = octets[8 : 8 + length].replace(
        b"transformer.h.1.ln_1.bias", b"transformer.h.0.ln_1.bias"
    )
    (source / WEIGHTS).write_bytes(octets[:8] + text + octets[8 + length :])
    import_hf("'transformer.h.0.ln_1.bias' stands in its header twice")


def test_a_tensor_in_two_files(import_hf, source):
    name = "model-00001-of-00002.safetensors"
    shutil.copyfile(source / WEIGHTS, source / name)
    (source / WEIGHTS).rename(source / "model-00002-of-00002.safetensors")
    index = {"weight_map": {"a": name, "b": "model-00002-of-00002.safetensors"}}
    (source / "model.safetensors.index.json").write_text(json.dumps(index))
    import_hf("is in two files", name)


@pytest.mark.parametrize("dtype", ["I32", "BOOL"])
def test_weights_that_are_no_real_numbers(import_hf, source, dtype):
    def change(header):
        entry = header["transformer.ln_f.weight"]
        first, last = entry["data_offsets"]
        size = (last - first) * (1 if dtype == "BOOL" else 4) // 4
        entry.update(dtype=dtype, data_offsets=[first, first + size])

    edit_header(source, change)
    import_hf(
        "tensor 'transformer.ln_f.weight' has the dtype", "weights are floating-point numbers"
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(import_hf, source, value):
    places = {}
    edit_header(source, lambda header: places.update(header["transformer.ln_f.weight"]))
    octets = bytearray((source / WEIGHTS).read_bytes())
    (length,) = struct.unpack("<Q", octets[:8])
    struct.pack_into("<f", octets, 8 + length + places["data_offsets"][0] + 4, value)
    (source / WEIGHTS).write_bytes(octets)
    import_hf("tensor 'transformer.ln_f.weight' has numbers that are not finite")


def test_no_tensors_at_all(import_hf, source):
    (source / WEIGHTS).unlink()
    import_hf("has neither model.safetensors nor model.safetensors.index.json")


def test_a_pickle_alone(import_hf, source):
    (source / WEIGHTS).rename(source / "pytorch_model.bin")
    import_hf("a pickle, which is never loaded", "save_pretrained")


@pytest.mark.parametrize(
    ("index", "said"),
    [
        ({}, "weight_map is needed"),
        ({"weight_map": {"a": "model-00001-of-00002.safetensors"}}, "which is not there"),
        ({"weight_map": {"a": "../model.safetensors"}}, "'../model.safetensors'"),
    ],
)
def test_an_index_that_cannot_be_followed(import_hf, source, index, said):
    (source / WEIGHTS).rename(source / "other.safetensors")
    (source / "model.safetensors.index.json").write_text(json.dumps(index))
    import_hf("model.safetensors.index.json", said)


# -- Around the model ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("spiece.model", b"no model", "is not a SentencePiece model"),
        ("tokenizer.json", b"{}", "is not a tokenizer"),
    ],
)
def test_a_tokenizer_that_is_none(import_hf, source, name, content, said):
    (source / name).write_bytes(content)
    import_hf(name, said)


def test_a_place_that_is_taken(source, refused, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine").write_text("mine")
    words = ["is there already", "give a new or an empty directory"]
    refused(["import-hf", source, "--out", tmp_path / "run"], *words)
