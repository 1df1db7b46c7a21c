"""Random and spoiled config.json and safetensors headers of Hugging Face directories."""

import json
import shutil
import struct
from pathlib import Path

import pytest
from hypothesis import strategies as st

from models.errors import ModelError
from models.hf import load_hf
from models.hf.tensor_files import TensorFiles
from tests.reliability import mutations

FIXTURES = Path(__file__).parent.parent / "models" / "hf" / "fixtures"
FAMILIES = sorted(path.name for path in FIXTURES.iterdir())
WEIGHTS = "model.safetensors"
BYTES = [100, pytest.param(600, marks=pytest.mark.slow)]
# Each builds a model where the values make one.
VALUES = [20, pytest.param(60, marks=pytest.mark.slow)]


def split(family):
    """The header and the data of a family's tensors."""
    octets = (FIXTURES / family / WEIGHTS).read_bytes()
    (length,) = struct.unpack("<Q", octets[:8])
    return octets[8 : 8 + length], octets[8 + length :]


@pytest.fixture
def read_all(tmp_path):
    """Reads every tensor of a file."""

    def check(content):
        (tmp_path / WEIGHTS).write_bytes(content)
        for tensor in TensorFiles(tmp_path).values():
            tensor.sum()

    return check


@pytest.fixture
def load(tmp_path):
    """Loads a family's weights with another config.json."""

    def check(family):
        shutil.copyfile(FIXTURES / family / WEIGHTS, tmp_path / WEIGHTS)

        def with_config(content):
            (tmp_path / "config.json").write_bytes(content)
            load_hf(tmp_path)

        return with_config

    return check


@pytest.mark.parametrize("examples", BYTES)
def test_random_bytes_as_safetensors(fuzz, read_all, examples):
    fuzz(st.binary(max_size=100), read_all, examples)


@pytest.mark.parametrize("examples", BYTES)
def test_random_bytes_as_a_header(fuzz, read_all, examples):
    framed = st.binary(max_size=100).map(lambda text: struct.pack("<Q", len(text)) + text)
    fuzz(framed, read_all, examples)


@pytest.mark.parametrize("examples", BYTES)
def test_a_header_with_slips(fuzz, read_all, examples):
    header, data = split("gpt2")
    tokens = (b"[", b"]", b"{", b"0", b"9" * 30, b"-1", b"F64", b"null", b'"', b"\xff")
    spoiled = mutations.spoiled(header, tokens)
    fuzz(spoiled.map(lambda text: struct.pack("<Q", len(text)) + text + data), read_all, examples)


@pytest.mark.slow
@pytest.mark.parametrize("examples", BYTES)
def test_a_header_with_other_values(fuzz, read_all, examples):
    header, data = split("gpt2")
    valid = json.loads(header)
    entry = mutations.changed(valid["transformer.wte.weight"])
    inner = entry.map(lambda value: {**valid, "transformer.wte.weight": value})
    texts = (mutations.changed(valid) | inner).map(lambda value: json.dumps(value).encode())
    fuzz(texts.map(lambda text: struct.pack("<Q", len(text)) + text + data), read_all, examples)


@pytest.mark.parametrize("examples", BYTES)
def test_random_bytes_as_a_configuration(fuzz, load, examples):
    fuzz(st.binary(max_size=100), load("gpt2"), examples)


@pytest.mark.parametrize("examples", VALUES)
def test_a_configuration_with_other_values(fuzz, load, examples):
    def with_family(family):
        valid = json.loads((FIXTURES / family / "config.json").read_text())
        return st.tuples(st.just(family), mutations.changed(valid))

    drawn = st.sampled_from(FAMILIES).flatmap(with_family)
    fuzz(drawn, lambda pair: load(pair[0])(json.dumps(pair[1]).encode()), examples)


@pytest.mark.parametrize("option", ["n_layer", "n_head", "n_embd", "n_positions", "vocab_size"])
@pytest.mark.parametrize("value", [10**6, 10**10, 2**63, 10**40])
def test_a_size_beyond_all_measure_is_refused_at_once(load, tally, option, value):
    config = json.loads((FIXTURES / "gpt2" / "config.json").read_text()) | {option: value}
    with pytest.raises(ModelError) as refused:
        load("gpt2")(json.dumps(config).encode())
    assert "\n" not in str(refused.value)
    tally("bad inputs")
