"""DeBERTa's files: terms of attention that are missed, older names, the decoder's positions."""

import json

import jax
import numpy as np
import pytest

from models.deberta import DeBERTa
from models.errors import ModelError
from models.hf import load_hf, save_hf
from models.hf.tensor_files import TensorFiles
from tests.models.hf.test_bert import (
    TOLERANCE,
    equal,
    fixture,
    outputs,
    rewritten,
    theirs_of,
    worst,
)

NAME = "deberta_masked_lm"
TABLE = "deberta.embeddings.position_embeddings.weight"


def without(tree, path):
    """The parameters with those at a path, "/" between its parts, set to 0."""
    name, _, rest = path.partition("/")
    part = tree[name]
    return {**tree, name: without(part, rest) if rest else jax.tree.map(np.zeros_like, part)}


RELATIVE = "encoder/layers/self_attention"


@pytest.mark.parametrize(
    "path",
    [
        "encoder/relative_embedding",
        f"{RELATIVE}/relative/key/kernel",
        f"{RELATIVE}/relative/query/kernel",
        f"{RELATIVE}/relative/query/bias",
        f"{RELATIVE}/query/bias",
        f"{RELATIVE}/value/bias",
    ],
)
def test_no_term_of_attention_could_be_missing_unnoticed(path):
    model, params, batch, expected = fixture(NAME)
    found = outputs(model, without(params, path), batch)
    assert worst(found, expected, batch) > 100 * TOLERANCE


def legacy(found):
    """The masked head by the names of the class that is called legacy, with its tied copies."""
    old = {
        "lm_predictions.lm_head.dense.": "cls.predictions.transform.dense.",
        "lm_predictions.lm_head.LayerNorm.": "cls.predictions.transform.LayerNorm.",
        "lm_predictions.lm_head.bias": "cls.predictions.bias",
    }
    named = {}
    for name, x in found.items():
        begin = next((begin for begin in old if name.startswith(begin)), "")
        named[old.get(begin, "") + name.removeprefix(begin)] = x
    return named | {
        "cls.predictions.decoder.weight": found["deberta.embeddings.word_embeddings.weight"],
        "cls.predictions.decoder.bias": found["lm_predictions.lm_head.bias"],
    }


def test_the_heads_older_names_and_options_in_one_string_are_read(tmp_path):
    model, params = load_hf(
        rewritten(tmp_path, NAME, legacy, legacy=True, pos_att_type="C2P | p2c", padding_idx=0)
    )
    expected_model, expected = fixture(NAME)[:2]
    assert model == expected_model and model.decoder_turns == 0
    equal(params, expected)


def with_positions(found):
    return found | {TABLE: np.full((40, 24), 0.5, np.float32)}


def test_the_decoder_of_a_file_is_read_with_its_positions_and_written_with_them(tmp_path):
    """As the files were published; transformers leaves the positions aside."""
    for name in ("in", "none"):
        (tmp_path / name).mkdir()
    model, params = load_hf(rewritten(tmp_path / "in", NAME, with_positions))
    assert model.decoder_turns == 2
    plain_model, plain = fixture(NAME)[:2]
    assert model.clone(decoder_turns=0) == plain_model
    np.testing.assert_array_equal(params["position_embedder"]["embedding"], np.full((40, 24), 0.5))
    equal({name: x for name, x in params.items() if name != "position_embedder"}, plain)
    save_hf(model, params, tmp_path / "out")
    again, same = load_hf(tmp_path / "out")
    assert again == model and TABLE in TensorFiles(tmp_path / "out")
    equal(same, params)
    # What has no masked head has no use for them.
    encoder = rewritten(
        tmp_path / "none",
        NAME,
        lambda found: {n: x for n, x in with_positions(found).items() if "lm_pred" not in n},
        architectures=["DebertaModel"],
    )
    model, params = load_hf(encoder)
    assert not model.use_masked_head and "position_embedder" not in params


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"decoder_turns": 1}, "DeBERTa.decoder_turns = 1 cannot be expressed"),
        ({"mirrored_distance": True}, "DeBERTa.mirrored_distance = True cannot be expressed"),
        ({"use_pooler": True, "decoder_turns": 0}, "DeBERTa.use_pooler = True cannot be expressed"),
    ],
)
def test_what_their_classes_do_not_have_is_refused_in_one_line(fields, said, tmp_path):
    with pytest.raises(ModelError, match=said):
        save_hf(DeBERTa(vocab_size=80, **fields), {}, tmp_path / "out")


def test_a_pooler_of_another_kind_is_refused(tmp_path):
    directory = rewritten(tmp_path, "deberta_classification", dict, pooler_hidden_act="tanh")
    with pytest.raises(ModelError, match="pooler_hidden_act 'tanh' is not supported"):
        load_hf(directory)


@pytest.mark.interop
def test_transformers_reads_the_encoder_of_a_model_with_a_decoder(tmp_path):
    """Its class for hidden tokens has no decoder; the states of the last layer are the same."""
    transformers = pytest.importorskip("transformers")
    (tmp_path / "in").mkdir()
    model, params = load_hf(rewritten(tmp_path / "in", NAME, with_positions))
    save_hf(model, params, tmp_path / "out")
    theirs, report = transformers.DebertaForMaskedLM.from_pretrained(
        tmp_path / "out", output_loading_info=True
    )
    assert not any(report.values()), report
    batch = fixture(NAME)[2]
    found = theirs.eval().deberta(**theirs_of(batch, theirs.config)).last_hidden_state
    expected = {"hidden_states": found.detach().numpy()}
    assert worst(model.predict(params, batch), expected, batch) <= TOLERANCE
    assert json.loads((tmp_path / "out/config.json").read_text())["legacy"] is False
