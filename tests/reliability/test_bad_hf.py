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
    words = ["nowhere/config.json", "No such file or directory", "with config.json and safetensors"]
    refused(["import-hf", tmp_path / "nowhere", "--out", tmp_path / "run"], *words)


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
    ],
)
def test_an_option_that_no_model_of_ours_has(import_hf, source, changes, words):
    edit_config(source, **changes)
    import_hf(*words)


# -- Tensors ---------------------------------------------------------------------------------


def test_a_missing_tensor(import_hf, source):
    edit_header(source, lambda header: header.pop("transformer.h.1.mlp.c_fc.weight"))
    import_hf("tensor 'transformer.h.1.mlp.c_fc.weight' is missing")


def test_an_extra_tensor(import_hf, source):
    entry = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
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
