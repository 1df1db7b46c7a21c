"""Weights of BERT and its relatives give what `transformers` computes, with any heads.

Hermetic: against fixtures that `make_fixtures.py` wrote. Live: against what is installed.
"""

import dataclasses
import functools
import json
import re
import struct
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.albert import ALBERT
from models.errors import ModelError
from models.heads import Classification, MultipleChoice, Regression, Tagging
from models.hf import heads, load_hf, save_hf
from models.hf.tensor_files import TensorFiles, write_tensors

FIXTURES = Path(__file__).parent / "fixtures"
HEADS = {
    "bert_pretraining": {"token_logits", "pair_logits"},
    "bert_masked_lm": {"token_logits"},
    "bert_model": {"hidden_states", "pooled"},
    "roberta_masked_lm": {"token_logits"},
    "roberta_model": {"hidden_states", "pooled"},
    "distilbert_masked_lm": {"token_logits"},
    "distilbert_model": {"hidden_states"},
    "albert_pretraining": {"token_logits", "pair_logits"},
    "albert_masked_lm": {"token_logits"},
    "albert_model": {"hidden_states", "pooled"},
    "bigbird_pretraining": {"token_logits", "pair_logits"},
    "bigbird_masked_lm": {"token_logits"},
    "bigbird_model": {"hidden_states", "pooled"},
    "bert_classification": {"head_logits"},
    "bert_regression": {"head_logits"},
    "roberta_classification": {"head_logits"},
    "distilbert_classification": {"head_logits"},
    "albert_classification": {"head_logits"},
    "bert_tagging": {"head_logits"},
    "roberta_tagging": {"head_logits"},
    "distilbert_tagging": {"head_logits"},
    "albert_tagging": {"head_logits"},
    "bert_choice": {"head_logits"},
    "roberta_choice": {"head_logits"},
    "distilbert_choice": {"head_logits"},
    "albert_choice": {"head_logits"},
    "electra_pretraining": {"replaced_logits"},
    "electra_masked_lm": {"token_logits"},
    "electra_model": {"hidden_states"},
    "electra_classification": {"head_logits"},
    "electra_tagging": {"head_logits"},
    "electra_choice": {"head_logits"},
    "deberta_masked_lm": {"token_logits"},
    "deberta_model": {"hidden_states"},
    "deberta_classification": {"head_logits"},
    "deberta_tagging": {"head_logits"},
    "bigbird_classification": {"head_logits"},
    "bigbird_tagging": {"head_logits"},
    "bigbird_choice": {"head_logits"},
}
# Each name of a tensor is in one of the others.
SLOW = ("albert_tagging", "bert_choice", "distilbert_choice", "electra_tagging")
FEATURES = ("encoder_input_tokens", "encoder_token_types", "encoder_segment_ids")
TOLERANCE = 1e-4


@functools.partial(jax.jit, static_argnums=0)
def outputs(model, params, batch):
    """By the names of the fixtures."""
    found = model.predict(params, batch)
    if model.use_masked_head:
        found["token_logits"] = model.apply({"params": params}, **batch)
    if model.head is not None:
        found["head_logits"] = model.apply({"params": params}, **batch)
    if getattr(model, "use_replaced_head", False):
        found["replaced_logits"] = model.apply({"params": params}, **batch)
    if model.use_next_sentence_head:
        scores = model.apply({"params": params}, **batch, method="next_sentence_logits")
        found["pair_logits"] = scores
    return found


def worst(found, expected, batch):
    """The largest difference of all outputs, where there is a token."""
    real = np.asarray(batch["encoder_segment_ids"]) != 0
    found = {name: np.asarray(found[name]).reshape(x.shape) for name, x in expected.items()}
    differences = [np.abs(found[name] - value) for name, value in expected.items()]
    return max((d[real] if d.shape[:2] == real.shape else d).max() for d in differences)


@functools.cache
def fixture(name):
    model, params = load_hf(FIXTURES / name)
    expected = dict(np.load(FIXTURES / name / "expected.npz"))
    batch = {feature: jnp.asarray(expected.pop(feature)) for feature in FEATURES}
    return model, params, batch, expected


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in HEADS]
)
def test_every_head_gives_what_transformers_gives(name):
    model, params, batch, expected = fixture(name)
    assert expected.keys() == HEADS[name]
    assert worst(outputs(model, params, batch), expected, batch) <= TOLERANCE


EMBEDDINGS = ("position_embedder", "embedding_norm")


@pytest.mark.parametrize(
    ("name", "part"),
    [
        *(("bert_pretraining", part) for part in (*EMBEDDINGS, "token_type_embedder")),
        *(("bert_pretraining", part) for part in ("masked_head", "pooler")),
        *(("roberta_masked_lm", part) for part in (*EMBEDDINGS, "token_type_embedder")),
        ("roberta_model", "pooler"),
        *(("albert_pretraining", part) for part in (*EMBEDDINGS, "token_type_embedder")),
        *(("albert_pretraining", part) for part in ("masked_head", "pooler")),
        ("albert_pretraining", "embedding_projection"),
        *(("distilbert_masked_lm", part) for part in (*EMBEDDINGS, "masked_head")),
        *(
            ("electra_pretraining", part)
            for part in (
                *EMBEDDINGS,
                "token_type_embedder",
                "embedding_projection",
                "replaced_head",
            )
        ),
        *(("electra_masked_lm", part) for part in ("masked_head", "embedding_projection")),
        ("electra_model", "embedding_norm"),
        *(("electra_classification", part) for part in ("pooler", "output_head")),
        *(("deberta_model", part) for part in (*EMBEDDINGS, "token_type_embedder")),
        *(("deberta_classification", part) for part in ("pooler", "output_head")),
        *(("bigbird_pretraining", part) for part in (*EMBEDDINGS, "token_type_embedder")),
        *(("bigbird_pretraining", part) for part in ("masked_head", "pooler")),
    ],
)
def test_no_part_could_be_missing_unnoticed(name, part):
    """The fixture's values are large enough that each of them moves an output by 100 tolerances."""
    model, params, batch, expected = fixture(name)
    without = params | {part: jax.tree.map(np.zeros_like, params[part])}
    assert worst(outputs(model, without, batch), expected, batch) > 100 * TOLERANCE


@pytest.mark.parametrize(
    ("name", "part"),
    [
        *(("bert_classification", part) for part in ("token_type_embedder", "pooler")),
        ("bert_classification", "output_head"),
        ("bert_tagging", "output_head"),
        ("roberta_choice", "pooler"),
        ("roberta_choice", "output_head"),
    ],
)
def test_no_part_of_a_head_could_be_missing_unnoticed(name, part):
    model, params, batch, expected = fixture(name)
    without = params | {part: jax.tree.map(np.zeros_like, params[part])}
    assert worst(outputs(model, without, batch), expected, batch) > 100 * TOLERANCE


@pytest.mark.slow
def test_neither_could_epsilon_nor_the_kind_of_gelu():
    for name, other in (
        ("bert_pretraining", {"norm_epsilon": 1e-12}),
        ("bert_pretraining", {"activation": "gelu_tanh"}),
        ("bert_masked_lm", {"activation": "gelu"}),
        ("roberta_masked_lm", {"activation": "gelu"}),
        ("roberta_masked_lm", {"norm_epsilon": 1e-12}),
        ("distilbert_model", {"activation": "gelu"}),
        ("albert_pretraining", {"norm_epsilon": 1e-12}),
        ("albert_pretraining", {"activation": "gelu"}),
        ("albert_masked_lm", {"activation": "gelu_tanh"}),
        ("electra_pretraining", {"activation": "gelu"}),
        ("electra_masked_lm", {"activation": "gelu"}),
        ("deberta_masked_lm", {"norm_epsilon": 1e-7}),
        ("deberta_model", {"activation": "gelu"}),
        ("deberta_masked_lm", {"mirrored_distance": True}),
        ("bigbird_pretraining", {"attention_type": "original_full"}),
        ("bigbird_pretraining", {"random_in_evaluation": True}),
        ("bigbird_model", {"rescale_embeddings": False}),
    ):
        model, params, batch, expected = fixture(name)
        assert worst(outputs(model.clone(**other), params, batch), expected, batch) > 3 * TOLERANCE


def test_robertas_padding_is_left_out_of_positions_wherever_it_stands():
    """Its ids say so without segments; transformers was given the rows with padding at the end."""
    model, params, batch, expected = fixture("roberta_masked_lm")
    tokens, real = batch["encoder_input_tokens"], np.asarray(batch["encoder_segment_ids"]) != 0
    assert (np.asarray(tokens) == 1).any() and ((np.asarray(tokens) == 1) == ~real).all()
    found = outputs(model, params, {"encoder_input_tokens": tokens})["token_logits"]
    assert np.abs(found - expected["token_logits"])[real].max() <= TOLERANCE
    before = jnp.stack([jnp.roll(row, 3 * i) for i, row in enumerate(tokens)])
    found = outputs(model, params, {"encoder_input_tokens": before})["token_logits"]
    found = np.stack([np.roll(row, -3 * i, axis=0) for i, row in enumerate(found)])
    assert np.abs(found - expected["token_logits"])[real].max() <= TOLERANCE


# -- Files as they were published ------------------------------------------------------------


def rewritten(tmp_path, name, change, **options):
    """A fixture's directory with its tensors, by name, and its options changed."""
    files = TensorFiles(FIXTURES / name)
    changed = change({tensor: np.array(files[tensor]) for tensor in files})
    shapes = {tensor: x.shape for tensor, x in changed.items()}
    write_tensors(tmp_path, shapes, lambda tensor: [changed[tensor]], "float32", 10**9)
    config = json.loads((FIXTURES / name / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | options))
    return tmp_path


def equal(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def with_buffer(directory, name):
    """Adds int64 numbers of the positions, as older files keep them."""
    path = directory / "model.safetensors"
    whole = path.read_bytes()
    (length,) = struct.unpack("<Q", whole[:8])
    header, data = json.loads(whole[8 : 8 + length]), whole[8 + length :]
    place = [len(data), len(data) + 8 * 40]
    header[name] = {"dtype": "I64", "shape": [1, 40], "data_offsets": place}
    text = json.dumps(header).encode()
    path.write_bytes(
        struct.pack("<Q", len(text)) + text + data + np.arange(40, dtype=np.int64).tobytes()
    )


def test_the_released_base_model_says_masked_lm_and_holds_both_heads_in_old_names(tmp_path):
    """Norms are gamma and beta, the output's copies are there, and a buffer of int64."""

    def older(found):
        found = {
            name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
                "LayerNorm.bias", "LayerNorm.beta"
            ): x
            for name, x in found.items()
        }
        return found | {
            "cls.predictions.decoder.weight": found["bert.embeddings.word_embeddings.weight"],
            "cls.predictions.decoder.bias": found["cls.predictions.bias"],
        }

    directory = rewritten(tmp_path, "bert_pretraining", older, architectures=["BertForMaskedLM"])
    with_buffer(directory, "bert.embeddings.position_ids")
    model, params = load_hf(directory)
    expected_model, expected = load_hf(FIXTURES / "bert_pretraining")
    assert model == expected_model and model.use_next_sentence_head
    equal(params, expected)


def test_a_copy_that_differs_is_refused(tmp_path):
    def change(found):
        return found | {"cls.predictions.decoder.bias": found["cls.predictions.bias"] + 1}

    directory = rewritten(tmp_path, "bert_masked_lm", change)
    with pytest.raises(ModelError, match=r"decoder.bias' differs from 'cls.predictions.bias'"):
        load_hf(directory)


def test_copies_of_the_output_in_files_of_distilbert_and_roberta_are_read(tmp_path):
    for name, table, copies in (
        ("distilbert_masked_lm", "distilbert", {"vocab_projector.weight": None}),
        ("roberta_masked_lm", "roberta", {"lm_head.decoder.weight": None,
                                          "lm_head.decoder.bias": "lm_head.bias"}),
    ):  # fmt: skip

        def change(found, table=table, copies=copies):
            words = f"{table}.embeddings.word_embeddings.weight"
            return found | {copy: found[of or words] for copy, of in copies.items()}

        (tmp_path / name).mkdir()
        directory = rewritten(tmp_path / name, name, change)
        with_buffer(directory, f"{table}.embeddings.position_ids")
        equal(load_hf(directory)[1], load_hf(FIXTURES / name)[1])


def test_what_tinybert_compares_with_its_teacher_is_left_aside(tmp_path):
    def with_dense(found):
        dense = {"fit_dense.weight": np.ones((9, 24)), "fit_dense.bias": np.ones(9)}
        return found | {name: x.astype(np.float32) for name, x in dense.items()}

    directory = rewritten(tmp_path, "bert_pretraining", with_dense, emb_size=24)
    equal(load_hf(directory)[1], load_hf(FIXTURES / "bert_pretraining")[1])


def test_the_encoder_of_a_file_with_the_prefix_is_read_and_written_without_it(tmp_path):
    prefixed = rewritten(
        tmp_path, "bert_model", lambda found: {f"bert.{name}": x for name, x in found.items()}
    )
    model, params = load_hf(prefixed)
    assert not model.use_masked_head and model.use_pooler
    equal(params, load_hf(FIXTURES / "bert_model")[1])
    save_hf(model, params, tmp_path / "out")
    assert json.loads((tmp_path / "out/config.json").read_text())["architectures"] == ["BertModel"]
    assert set(TensorFiles(tmp_path / "out")) == set(TensorFiles(FIXTURES / "bert_model"))


def test_a_head_that_the_class_must_have_and_heads_that_we_have_not_are_named(tmp_path):
    def without_pairs(found):
        return {name: x for name, x in found.items() if "seq_relationship" not in name}

    def classifier(found):
        return found | {"classifier.weight": np.ones((2, 24), np.float32)}

    with pytest.raises(ModelError, match=r"'cls.seq_relationship.\w+' is missing"):
        load_hf(rewritten(tmp_path, "bert_pretraining", without_pairs,
                          architectures=["BertForPreTraining"]))  # fmt: skip
    with pytest.raises(ModelError, match=r"'classifier.weight' has no place"):
        load_hf(rewritten(tmp_path, "bert_model", classifier))


# -- Heads for fine-tuning -------------------------------------------------------------------


def options(tmp_path, model, params):
    save_hf(model, params, tmp_path / "out")
    return json.loads((tmp_path / "out/config.json").read_text())


def test_the_labels_of_a_classifier_are_the_files_and_go_back_to_it(tmp_path):
    model, params = load_hf(FIXTURES / "bert_classification")
    assert model.head == Classification(("contradiction", "entailment", "neutral"), 0.3)
    found = options(tmp_path, model, params)
    assert found["architectures"] == ["BertForSequenceClassification"]
    assert found["id2label"] == {"0": "contradiction", "1": "entailment", "2": "neutral"}
    assert found["label2id"] == {"contradiction": 0, "entailment": 1, "neutral": 2}
    assert found["problem_type"] == "single_label_classification"
    assert found["classifier_dropout"] == 0.3
    again, same = load_hf(tmp_path / "out")
    assert again == model
    equal(same, params)


def test_one_label_is_a_regression(tmp_path):
    model, params = load_hf(FIXTURES / "bert_regression")
    assert model.head == Regression()
    found = options(tmp_path, model, params)
    assert found["problem_type"] == "regression" and found["id2label"] == {"0": "LABEL_0"}
    assert load_hf(tmp_path / "out")[0] == model


def test_the_tags_of_a_tagger_are_the_files_and_go_back_to_it(tmp_path):
    model, params = load_hf(FIXTURES / "bert_tagging")
    names = ("O", "B-person", "I-person", "B-place", "I-place")
    assert model.head == Tagging(names, 0.3) and not model.use_pooler
    found = options(tmp_path, model, params)
    assert found["architectures"] == ["BertForTokenClassification"]
    assert tuple(found["id2label"].values()) == names and "problem_type" not in found
    assert load_hf(tmp_path / "out")[0] == model


def test_heads_whose_rate_no_option_says_have_the_models(tmp_path):
    for name, head in (
        ("roberta_choice", MultipleChoice()),
        ("distilbert_tagging", Tagging([f"LABEL_{i}" for i in range(5)])),
    ):
        model, params = load_hf(FIXTURES / name)
        assert model.head == head
        found = options(tmp_path / name, model, params)
        assert found.get("classifier_dropout") is None and "seq_classif_dropout" not in found
        own = model.clone(head=dataclasses.replace(head, dropout_rate=0.4))
        with pytest.raises(ModelError, match=r"dropout_rate = 0.4 cannot be expressed.*None"):
            save_hf(own, params, tmp_path / "own")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"problem_type": "multi_label_classification"}, "problem_type 'multi_label"),
        ({"problem_type": "regression"}, "'regression' with 3 labels"),
        ({"id2label": {"0": "a", "2": "b"}}, "does not name the classes 0, 1, …"),
        ({"id2label": {"0": "a", "1": "a", "2": "b"}}, "two or more different names"),
        ({"id2label": None, "num_labels": 4}, "'classifier.weight' has shape (3, 24)"),
        ({"id2label": None, "num_labels": "3"}, "num_labels '3' is not supported"),
        ({"classifier_dropout": "0.1"}, "classifier_dropout '0.1' is not supported"),
        ({"architectures": "BertForSequenceClassification"}, "architectures 'Bert"),
    ],
)
def test_labels_that_cannot_be_read_are_refused(tmp_path, changed, said):
    directory = rewritten(tmp_path, "bert_classification", dict, **changed)
    with pytest.raises(ModelError, match=re.escape(said)):
        load_hf(directory)


# -- Live ------------------------------------------------------------------------------------


@pytest.mark.interop
@pytest.mark.parametrize("name", HEADS)
def test_transformers_loads_what_is_exported_and_writes_the_same(name, tmp_path):
    transformers = pytest.importorskip("transformers")
    model, params, batch, expected = fixture(name)
    save_hf(model, params, tmp_path / "out")
    kind = getattr(transformers, model_class(tmp_path / "out"))
    theirs, report = kind.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(report.values()), report
    found = theirs.eval()(**theirs_of(batch, theirs.config))
    values = {
        "pair_logits": "sop_logits" if name.startswith("albert") else "seq_relationship_logits",
        "pooled": "pooler_output",
        "hidden_states": "last_hidden_state",
        "head_logits": "logits",
        "replaced_logits": "logits",
    }
    for output, value in expected.items():
        if output in values:
            ours = {output: found[values[output]].detach().numpy()}
            assert worst(ours, {output: value}, batch) <= TOLERANCE
    theirs.save_pretrained(tmp_path / "again")
    ours, its = TensorFiles(tmp_path / "out"), TensorFiles(tmp_path / "again")
    assert set(ours) == set(its)
    for tensor in its:
        np.testing.assert_array_equal(ours[tensor], its[tensor], err_msg=tensor, strict=True)


def model_class(directory):
    return json.loads((directory / "config.json").read_text())["architectures"][0]


def theirs_of(batch, config):
    import torch

    names = dict(zip(FEATURES, ("input_ids", "token_type_ids", "attention_mask"), strict=True))
    if not hasattr(config, "type_vocab_size"):
        del names["encoder_token_types"]
    return {name: torch.tensor(np.asarray(batch[feature])) for feature, name in names.items()}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"embedding_dim": None}, "embedding_size None is not supported"),
        ({"shared": "attention"}, r"ALBERT.shared = 'attention' cannot be expressed"),
        ({"use_masked_head": False}, r"ALBERT.use_masked_head = False cannot be expressed"),
    ],
)
def test_an_albert_that_their_classes_do_not_have_is_refused_in_one_line(fields, said, tmp_path):
    with pytest.raises(ModelError, match=said):
        save_hf(ALBERT(vocab_size=80, **fields), {}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_head_of_which_a_family_has_no_class_is_refused_both_ways():
    """DeBERTa has none for choices."""
    with pytest.raises(ModelError, match="MultipleChoice cannot be expressed as a class of Deb"):
        heads.architecture_of(MultipleChoice(), "Deberta")
    assert heads.architecture_of(Tagging(("O", "I")), "Roberta") == "RobertaForTokenClassification"
    with pytest.raises(ModelError, match="the class DebertaForMultipleChoice is not supported"):
        heads.head_of({"architectures": ["DebertaForMultipleChoice"]}, "config.json")
