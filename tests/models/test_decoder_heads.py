"""GPT-1's heads for fine-tuning, for any decoder (Radford et al. 2018, section 3.2)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.errors import ModelError
from models.gpt import GPT1
from models.headed import concat_pooled
from models.heads import Classification, MultipleChoice, Regression, Spans
from models.hf import load_hf
from models.llama import LLaMA
from models.recurrent import RecurrentLM
from tests.models.families import drawn

V = 40
TWO = Classification(("no", "yes"))
gpt = functools.partial(GPT1, vocab_size=V, embed_dim=24, num_heads=3, num_layers=2, max_length=16)
FAMILIES = {
    "GPT-1": gpt,
    "LLaMA": functools.partial(LLaMA, vocab_size=V, embed_dim=24, num_heads=3, num_layers=2),
    "LSTM": functools.partial(RecurrentLM, vocab_size=V, embed_dim=24),
}


def batch_of(*rows, label=(1, 0), length=8):
    """Rows of tokens as a decoder with a head reads them."""
    tokens = np.array([[*row, *[0] * (length - len(row))] for row in rows], np.int32)
    segments = np.array([[1] * len(row) + [0] * (length - len(row)) for row in rows], np.int32)

    def left(x):
        return np.pad(x[:, 1:], ((0, 0), (0, 1)))

    return {
        "decoder_input_tokens": tokens,
        "decoder_segment_ids": segments,
        "decoder_target_tokens": left(tokens),
        "decoder_loss_weights": left(segments),
        "label": np.array(label, np.int32),
        "label_weight": np.ones(len(label), np.int32),
    }


def of_examples(batch, rows):
    """The rows of a batch as several of each example."""
    return {
        name: x.reshape(-1, rows, x.shape[-1]) if name.startswith("decoder_") else x
        for name, x in batch.items()
    }


TEXTS = batch_of([38, 5, 6, 7, 36], [38, 9, 8, 36])


@functools.partial(jax.jit, static_argnums=0)
def predictions_of(model, params, batch):
    return model.predict(params, batch)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["GPT-1", "LSTM"])
def test_the_head_reads_the_vector_of_the_last_token(family):
    model = FAMILIES[family](head=TWO)
    params = drawn(model)
    found = predictions_of(model, params, TEXTS)
    plain = model.clone(head=None)
    rest = {name: x for name, x in params.items() if name != "output_head"}
    hidden = predictions_of(plain, rest, TEXTS)["hidden_states"]
    np.testing.assert_allclose(found["pooled"][0], hidden[0, 4], atol=1e-5)
    np.testing.assert_allclose(found["pooled"][1], hidden[1, 3], atol=1e-5)
    kernel, bias = (params["output_head"]["output"][name] for name in ("kernel", "bias"))
    expected = jax.nn.softmax(found["pooled"] @ kernel + bias)
    np.testing.assert_allclose(found["probabilities"], expected, atol=1e-5)


def test_what_stands_behind_the_last_token_changes_nothing():
    model = gpt(head=TWO)
    params = drawn(model)
    junk = TEXTS["decoder_input_tokens"] + 3 * (TEXTS["decoder_segment_ids"] == 0)
    found = predictions_of(model, params, TEXTS | {"decoder_input_tokens": junk})
    expected = predictions_of(model, params, TEXTS)
    np.testing.assert_allclose(found["pooled"], expected["pooled"], atol=1e-6)


def test_the_loss_is_the_heads_and_half_of_the_language_models():
    """Scores (2, 0) of label 0 have 0.126928 nats; with 3.0 of language and λ 0.5 1.626928."""
    model = gpt(head=TWO, language_model_coefficient=0.5)
    assert model.loss_terms == {"head_loss": 1.0, "language_model_loss": 0.5}
    batch = {"label": jnp.array([0]), "label_weight": jnp.array([1])}
    given = {"head_loss": TWO.loss(jnp.array([[2.0, 0.0]]), batch)[0], "language_model_loss": 3.0}
    total = sum(model.loss_terms[name] * value for name, value in given.items())
    assert float(total) == pytest.approx(1.626928, abs=1e-6)


@pytest.mark.slow
def test_the_language_models_loss_is_that_of_the_model_without_a_head():
    model = gpt(head=TWO, language_model_coefficient=0.5)
    params = drawn(model)
    terms, metrics = jax.jit(model.loss)(params, TEXTS)
    weights = model.loss_weights(TEXTS)
    assert weights == {"head_loss": 2, "language_model_loss": 4 + 3}
    plain = {name: x for name, x in params.items() if name != "output_head"}
    alone = jax.jit(model.clone(head=None).loss)(plain, TEXTS)[0]["loss"]
    assert float(terms["language_model_loss"]) == pytest.approx(float(alone), rel=1e-5)
    probabilities = predictions_of(model, params, TEXTS)["probabilities"]
    own = -np.log(probabilities[0, 1]) - np.log(probabilities[1, 0])
    assert float(terms["head_loss"]) == pytest.approx(float(own), rel=1e-4)
    rows, _ = jax.jit(model.row_metrics)(params, TEXTS)
    for name, (value, weight) in rows.items():
        np.testing.assert_allclose(value.sum(), metrics[name][0], rtol=1e-5)
        np.testing.assert_allclose(weight.sum(), metrics[name][1])


def test_the_order_of_a_similar_pair_changes_nothing():
    """W (h_AB + h_BA) (figure 1): swapping the sentences swaps the rows."""
    model = gpt(head=Regression())
    params = drawn(model)
    first, second = [38, 5, 6, 37, 9, 36], [38, 9, 37, 5, 6, 36]
    both = of_examples(batch_of(first, second), 2)
    swapped = of_examples(batch_of(second, first), 2)
    ours, other = (predictions_of(model, params, batch) for batch in (both, swapped))
    for name in ("pooled", "score"):
        np.testing.assert_allclose(ours[name], other[name], atol=1e-5)
    apart = predictions_of(model, params, batch_of(first, second))["pooled"]
    np.testing.assert_allclose(ours["pooled"][0], apart.sum(axis=0), atol=1e-5)


def test_a_choice_that_is_not_there_has_no_probability():
    model = gpt(head=MultipleChoice())
    batch = of_examples(batch_of([38, 5, 36], [38, 6, 36], [], label=(1,)), 3)
    found = predictions_of(model, drawn(model), batch)
    assert found["probabilities"].shape == (1, 3)
    assert found["probabilities"][0, 2] == 0
    assert found["probabilities"].sum() == pytest.approx(1)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_checkpoint_of_the_model_without_a_head_has_all_but_the_head(family):
    make = FAMILIES[family]
    with_head, without = (set(model.abstract_params()) for model in (make(head=TWO), make()))
    assert with_head == without | {"output_head"}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"head": Spans()}, r"head.*Classification, Regression, MultipleChoice or Reward"),
        ({"head": gpt()}, r"^GPT1.head is a GPT1: Classification, Regression"),
        ({"head": TWO, "language_model_coefficient": -1.0}, "language_model_coefficient.*0 or"),
    ],
)
def test_what_cannot_be_is_refused(fields, said):
    with pytest.raises(ModelError, match=said):
        gpt(**fields)
    with pytest.raises(ModelError, match=r"carries.*whole texts"):
        RecurrentLM(vocab_size=V, head=TWO, carries=True)


def test_concat_pooling_is_the_last_vector_the_largest_and_the_mean():
    """Howard and Ruder 2018, section 3.3: over a row's tokens, and not its padding."""
    x = jnp.array([[[1.0, -5], [4, -2], [2, -8], [9, 9]]])
    found = concat_pooled(x, jnp.array([[True, True, True, False]]))
    np.testing.assert_allclose(found, [[2, -8, 4, -2, 7 / 3, -5]], rtol=1e-6)


def test_a_recurrent_models_head_reads_concat_pooling_through_a_layer():
    """Three layers of 24 units are pooled to 72, a layer of ReLU makes 5 of them."""
    model = FAMILIES["LSTM"](head=TWO, pooling="concat", pooler_dim=5)
    params = drawn(model)
    found = predictions_of(model, params, TEXTS)
    pooled = concat_pooled(found["hidden_states"], TEXTS["decoder_segment_ids"] != 0)
    assert pooled.shape == (2, 72)
    kernel, bias = (params["pooler"][name] for name in ("kernel", "bias"))
    np.testing.assert_allclose(found["pooled"], jax.nn.relu(pooled @ kernel + bias), atol=1e-5)
    with pytest.raises(ModelError, match=r"pooling is 'mean'.*one of last, concat"):
        FAMILIES["LSTM"](pooling="mean")


# -- transformers ------------------------------------------------------------------------------


def torch_pair(tmp_path):
    """A random language model of `transformers`, and the same here."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config = transformers.OpenAIGPTConfig(
        vocab_size=V, n_positions=16, n_embd=24, n_layer=2, n_head=3, pad_token_id=0,
        summary_first_dropout=0.0,
    )  # fmt: skip
    torch.manual_seed(0)
    theirs = transformers.OpenAIGPTLMHeadModel(config).eval()
    with torch.no_grad():
        for weight in theirs.parameters():
            weight.normal_(0, 0.3)
    theirs.save_pretrained(tmp_path)
    return torch, transformers, config, theirs, load_hf(tmp_path)


@pytest.mark.interop
def test_a_text_is_classified_as_by_open_ai_gpt_for_sequence_classification(tmp_path):
    torch, transformers, config, language_model, (model, params) = torch_pair(tmp_path)
    theirs = transformers.OpenAIGPTForSequenceClassification(config).eval()
    theirs.transformer = language_model.transformer
    ours = model.clone(head=TWO)
    kernel = theirs.score.weight.detach().numpy().T
    params = {**params, "output_head": {"output": {"kernel": kernel, "bias": np.zeros(2)}}}
    with torch.no_grad():
        found = theirs(
            torch.tensor(TEXTS["decoder_input_tokens"]).long(),
            attention_mask=torch.tensor(TEXTS["decoder_segment_ids"]),
            labels=torch.tensor(TEXTS["label"]).long(),
        )
    logits = ours.apply({"params": params}, **TEXTS)
    np.testing.assert_allclose(logits, found.logits, atol=1e-4)
    assert ours.loss(params, TEXTS)[0]["loss"] / 2 == pytest.approx(found.loss.item(), rel=1e-4)


@pytest.mark.interop
def test_choices_and_language_have_the_losses_of_the_double_heads_model(tmp_path):
    torch, transformers, config, language_model, (model, params) = torch_pair(tmp_path)
    theirs = transformers.OpenAIGPTDoubleHeadsModel(config).eval()
    theirs.transformer = language_model.transformer
    theirs.lm_head.weight = language_model.transformer.tokens_embed.weight
    ours = model.clone(head=MultipleChoice(), language_model_coefficient=0.5)
    summary = theirs.multiple_choice_head.summary
    head = {"kernel": summary.weight.detach().numpy().T, "bias": summary.bias.detach().numpy()}
    params = {**params, "output_head": {"output": head}}
    rows = [38, 5, 6, 37, 7, 36], [38, 5, 6, 37, 8, 9, 36], [38, 3, 37, 7, 36], [38, 3, 37, 2, 36]
    batch = of_examples(batch_of(*rows), 2)
    real = torch.tensor(batch["decoder_segment_ids"]) != 0
    tokens = torch.tensor(batch["decoder_input_tokens"]).long()
    with torch.no_grad():
        found = theirs(
            tokens,
            # Here the mask is not laid out by choice.
            attention_mask=real.reshape(4, -1).long(),
            mc_token_ids=real.sum(-1) - 1,
            labels=tokens.masked_fill(~real, -100),
            mc_labels=torch.tensor(batch["label"]).long(),
        )
    logits = ours.apply({"params": params}, **batch)
    np.testing.assert_allclose(logits[..., 0], found.mc_logits, atol=1e-4)
    terms, weights = ours.loss(params, batch)[0], ours.loss_weights(batch)
    for name, expected in (("head_loss", found.mc_loss), ("language_model_loss", found.loss)):
        assert terms[name] / weights[name] == pytest.approx(expected.item(), rel=1e-4)
