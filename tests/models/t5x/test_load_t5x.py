"""Checkpoints of T5X give the logits that T5X's own networks compute."""

import jax
import numpy as np
import pytest

from models.errors import ModelError
from models.lamda import LaMDA
from models.t5 import T5, T5_1_1
from models.t5x import load_t5x
from tests.models.t5x import checkpoints

KINDS = {"t5_1_0": T5, "t5_1_1": T5_1_1, "scanned": T5_1_1, "decoder_only": LaMDA}


@pytest.mark.parametrize("name", KINDS)
def test_a_checkpoint_of_t5x_gives_the_logits_of_t5x(name, tmp_path):
    params, batch, logits = checkpoints.fixture(name)
    checkpoints.write(tmp_path, params, step=1000)
    found = load_t5x(tmp_path)
    assert type(found.model) is KINDS[name]
    assert (found.step, found.left_out) == (1000, True)
    tokens = {k: v for k, v in batch.items() if k != "decoder_target_tokens"}
    # T5X sees where the target ends; so do we, by segments.
    tokens["decoder_segment_ids"] = (batch["decoder_target_tokens"] > 0).astype(np.int32)
    if "encoder_input_tokens" in batch:
        tokens["encoder_segment_ids"] = (batch["encoder_input_tokens"] > 0).astype(np.int32)
    ours = jax.jit(found.model.apply)({"params": found.params}, **tokens)
    text = batch["decoder_target_tokens"] > 0
    np.testing.assert_allclose(np.asarray(ours)[text], logits[text], rtol=2e-4, atol=2e-4)


def t5_1_1():
    return checkpoints.fixture("t5_1_1")[0]


def test_sizes_are_those_of_the_arrays(tmp_path):
    checkpoints.write(tmp_path, t5_1_1())
    model = load_t5x(tmp_path).model
    assert (model.vocab_size, model.embed_dim, model.mlp_dim) == (24, 12, 20)
    assert (model.num_heads, model.head_dim, model.num_buckets) == (2, 4, 32)
    assert (model.num_encoder_layers, model.num_decoder_layers) == (2, 3)
    assert (model.tied_output, model.bias_per_layer) == (False, False)


def test_layers_scanned_along_the_first_axis_are_those_along_the_second(tmp_path):
    params = checkpoints.fixture("scanned")[0]
    checkpoints.write(tmp_path / "second", params)
    stacked = {
        name: np.moveaxis(value, 1, 0) if name.count("coder/") == 2 else value
        for name, value in params.items()
    }
    checkpoints.write(tmp_path / "first", stacked)
    first, second = (load_t5x(tmp_path / name) for name in ("first", "second"))
    assert first.model == second.model and first.model.bias_per_layer
    jax.tree.map(np.testing.assert_array_equal, first.params, second.params)


@pytest.mark.slow
def test_the_newest_checkpoint_of_a_run_is_read_or_the_one_that_is_asked_for(tmp_path):
    for step in (900, 10_000):
        checkpoints.write(tmp_path, t5_1_1(), step)
    assert load_t5x(tmp_path).step == 10_000
    assert load_t5x(tmp_path, 900).step == 900
    assert load_t5x(tmp_path / "checkpoint_900").step == 900
    with pytest.raises(ModelError, match="no checkpoint of step 7; there: 900, 10000"):
        load_t5x(tmp_path, 7)


@pytest.mark.parametrize(
    "options",
    [
        {"driver": "gcs"},
        {"driver": "gfile"},
        {"dtype": "bfloat16"},
        {"inline": ("encoder/encoder_norm/scale", "token_embedder/embedding")},
    ],
    ids=["from a bucket", "from T5X's own file system", "bfloat16", "arrays in the index"],
)
def test_what_t5x_may_write_otherwise_is_read_too(options, tmp_path):
    params = t5_1_1()
    checkpoints.write(tmp_path, params, **options)
    found = load_t5x(tmp_path).params["token_embedder"]["embedding"]
    assert found.dtype == np.float32
    # bfloat16 keeps 8 bits.
    np.testing.assert_allclose(found, params["token_embedder/embedding"], rtol=2**-8)


def test_a_config_gin_beside_it_says_what_no_array_says(tmp_path):
    checkpoints.write(tmp_path, t5_1_1())
    assert "gelu" in load_t5x(tmp_path).supposed
    config = tmp_path / "config.gin"
    config.write_text("network.T5Config.mlp_activations = \\\n    ('gelu', 'linear')\n")
    assert load_t5x(tmp_path).supposed == ""
    config.write_text("network.T5Config:\n  mlp_activations = ('silu', 'linear')\n")
    with pytest.raises(ModelError, match=r"mlp_activations \('silu', 'linear'\)"):
        load_t5x(tmp_path)


SILU = r"mlp_activations \('silu', 'linear'\)"
READ = "network.T5Config.mlp_activations = ('gelu', 'linear')\n"


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        (READ, 0.1),
        ("DROPOUT_RATE = 0.0\nnetwork.T5Config.dropout_rate = %DROPOUT_RATE\n" + READ, 0.0),
        (
            "network.T5Config:\n  dropout_rate = %RATE  # a comment\nRATE = %R\nR = 0.2\n" + READ,
            0.2,
        ),
        (READ + "# once mlp_activations = ('silu', 'linear')\n", 0.1),
        (READ + "layers.Other.dropout_rate = 0.5\nA = '# no comment, mlp_activations = 1'\n", 0.1),
        ("A = ['gelu',  # the first\n     'linear']\nnetwork.T5Config.mlp_activations = %A\n", 0.1),
        ("network.T5Config.mlp_activations = ('silu', 'linear')\n" + READ, 0.1),  # the later counts
    ],
)
def test_a_config_gin_is_read_through_its_macros_and_without_comments(text, rate, tmp_path):
    checkpoints.write(tmp_path, t5_1_1())
    (tmp_path / "config.gin").write_text(text)
    found = load_t5x(tmp_path)
    assert (found.model.dropout_rate, found.supposed) == (rate, "")


@pytest.mark.parametrize(
    ("text", "prefix"),
    [
        ("", False),
        ("models.DecoderOnlyModel.inputs_bidirectional_attention = True\n", True),
        ("B = True\nmodels.DecoderOnlyModel:\n  inputs_bidirectional_attention = %B\n", True),
        (
            "models.DecoderOnlyModel.inputs_bidirectional_attention = False\n"
            "# models.DecoderOnlyModel.inputs_bidirectional_attention = True\n",
            False,
        ),
    ],
)
def test_how_a_decoder_reads_its_inputs_is_read_so_too(text, prefix, tmp_path):
    checkpoints.write(tmp_path, checkpoints.fixture("decoder_only")[0])
    assert "inputs read from left to right, as no config.gin" in load_t5x(tmp_path).supposed
    (tmp_path / "config.gin").write_text(text)
    found = load_t5x(tmp_path)
    assert found.model.input_attention == ("prefix" if prefix else "causal")
    assert found.supposed == "gelu in its layers, which config.gin does not say"


def test_the_farthest_distance_is_read(tmp_path):
    checkpoints.write(tmp_path, t5_1_1())
    (tmp_path / "config.gin").write_text(READ + "network.T5Config.max_distance = 256\n")
    assert load_t5x(tmp_path).model.max_distance == 256


# -- What is wrong -------------------------------------------------------------------------------


def refused(place):
    with pytest.raises(ModelError) as error:
        load_t5x(place)
    return str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A = ('silu', 'linear')\nnetwork.T5Config.mlp_activations = %A\n", SILU),
        ("network.T5Config.mlp_activations = ('silu', 'linear')  # ('gelu', 'linear')\n", SILU),
        ("network.T5Config.mlp_activations = [['gelu']]\n", r"mlp_activations \[\['gelu'\]\]"),
        ("network.T5Config.mlp_activations = @mine()\n", r"is @mine\(\), and a value is needed"),
        ("network.T5Config.dropout_rate = %A\nA = %gin.REQUIRED\n", "is %gin.REQUIRED, and a val"),
        ("network.T5Config.dropout_rate = %A\nA = %A\n", "is %A, and a value is needed"),
        ("network.T5Config.dropout_rate = True\n", "dropout_rate True, of another type"),
        (
            "a/network.T5Config.dropout_rate = 0.1\nnetwork.T5Config.dropout_rate = 0.2\n",
            r"binds a/network.T5Config.dropout_rate and network.T5Config.dropout_rate to several",
        ),
        ("include 'base.gin'\n", r"includes 'base.gin', which is not read"),
        ("network.T5Config.dropout_rate = (0.1\n", "cannot be read as gin"),
    ],
)  # fmt: skip
def test_a_config_gin_that_is_not_understood_is_refused_in_one_line(text, message, tmp_path):
    checkpoints.write(tmp_path, t5_1_1())
    (tmp_path / "config.gin").write_text(text)
    with pytest.raises(ModelError, match=message) as error:
        load_t5x(tmp_path)
    assert "\n" not in str(error.value)


def test_an_array_that_was_not_copied_whole_is_refused_and_not_read_as_zeros(tmp_path):
    directory = checkpoints.write(tmp_path, t5_1_1())
    array = directory / "target.decoder.logits_dense.kernel"
    (array / "1.0").unlink()
    assert "1 of 2 pieces of 'decoder/logits_dense/kernel' are there" in refused(tmp_path)
    for piece in (*array.glob("[0-9]*"), array / ".zarray"):
        piece.unlink()
    assert "array 'decoder/logits_dense/kernel' cannot be read" in refused(tmp_path)
    array.rmdir()
    assert "'target.decoder.logits_dense.kernel' is missing" in refused(tmp_path)


def test_damaged_pieces_are_refused(tmp_path):
    directory = checkpoints.write(tmp_path, t5_1_1())
    (directory / "target.token_embedder.embedding" / "0.0").write_bytes(b"no gzip")
    assert "array 'token_embedder/embedding' cannot be read" in refused(tmp_path)


def test_an_index_may_not_lead_elsewhere(tmp_path):
    from flax import serialization

    directory = checkpoints.write(tmp_path, t5_1_1())
    tree = serialization.msgpack_restore((directory / "checkpoint").read_bytes())
    tree["optimizer"]["target"]["token_embedder"]["embedding"]["kvstore"]["path"] = "../other"
    (directory / "checkpoint").write_bytes(serialization.msgpack_serialize(tree))
    assert "'token_embedder/embedding' is not described as a zarr array" in refused(tmp_path)


def test_other_networks_are_refused_by_what_they_have(tmp_path):
    params = t5_1_1()
    params["decoder/layers_1/mlp/router/kernel"] = np.ones((12, 2), np.float32)
    checkpoints.write(tmp_path / "more", params)
    assert "'decoder/layers_1/mlp/router/kernel' has no place" in refused(tmp_path / "more")
    params = t5_1_1()
    params["decoder/logits_dense/kernel"] = np.ones((12, 25), np.float32)
    checkpoints.write(tmp_path / "other", params)
    wrong = refused(tmp_path / "other")
    assert "has shape (12, 25), where the model of its arrays asks for (12, 24)" in wrong


def test_what_is_no_checkpoint_of_t5x_is_refused(tmp_path):
    assert "there is no directory" in refused(tmp_path / "none")
    assert "is no checkpoint of T5X" in refused(tmp_path)
    directory = tmp_path / "checkpoint_5"
    directory.mkdir()
    (directory / "checkpoint").write_bytes(b"\xc1 no msgpack")
    assert "is not T5X's index" in refused(tmp_path)
    checkpoints.write(tmp_path / "old", {"a/b": np.ones((2, 2))}, version=1)
    assert "is of version 1" in refused(tmp_path / "old")
    orbax = tmp_path / "orbax" / "checkpoint_10"
    orbax.mkdir(parents=True)
    (orbax / "_METADATA").write_text("{}")
    assert "was written by Orbax" in refused(tmp_path / "orbax")
