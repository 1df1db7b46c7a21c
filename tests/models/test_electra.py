"""ELECTRA by hand: what is drawn, what is told from it, its two losses (Clark et al. 2020)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.electra import ELECTRA
from models.errors import ModelError
from models.heads import Classification
from models.layers.mlps import exact_gelu
from t5x_like.training.loss import scales, total
from tests.models.families import V, batch_for, drawn

electra = functools.partial(
    ELECTRA, vocab_size=V, embedding_dim=16, embed_dim=24, mlp_dim=40, num_heads=3, num_layers=2,
    max_length=32, generator_embed_dim=12, generator_mlp_dim=20, generator_num_heads=3,
)  # fmt: skip
MASKED, DETECTED = "masked_language_model", "replaced_token_detection"


@pytest.fixture(scope="module")
def model():
    return electra()


@pytest.fixture(scope="module")
def params(model):
    return drawn(model)


@functools.partial(jax.jit, static_argnums=0)
def loss_of(model, params, batch, key=None):
    return model.loss(params, batch, key)


@functools.partial(jax.jit, static_argnums=0)
def predictions_of(model, params, batch):
    return model.predict(params, batch)


@functools.partial(jax.jit, static_argnums=0)
def logits_of(model, params, batch):
    return model.apply({"params": params}, **batch)


def always(params, token):
    """A generator that draws one token whatever it reads."""
    head = params["generator"]["masked_head"]
    bias = np.zeros(V, np.float32)
    bias[token] = 1e4
    generator = {**params["generator"], "masked_head": {**head, "bias": bias}}
    return {**params, "generator": generator}


# -- The loss ---------------------------------------------------------------------------------


def test_the_total_is_the_generators_mean_and_fifty_times_the_discriminators():
    """(ln 2 + ln 4) / 2 + 50 * .861650 = 44.122203."""
    model = electra()
    assert model.loss_terms == {MASKED: 1.0, DETECTED: 50.0}
    sums = {MASKED: jnp.log(2.0) + jnp.log(4.0), DETECTED: 4 * 0.861650}
    weights = {MASKED: jnp.float32(2), DETECTED: jnp.float32(4)}
    assert total(sums, scales(model, weights)) == pytest.approx(44.122203, abs=1e-4)


@pytest.mark.slow
def test_drawn_tokens_are_put_at_hidden_places_and_are_original_where_they_are_right(model, params):
    """The generator always draws 7, which is what stood at one of the hidden places."""
    batch = batch_for(model)
    hidden = np.asarray(batch["encoder_loss_weights"]) == 1
    targets = np.array(batch["encoder_target_tokens"])
    targets[tuple(np.argwhere(hidden)[0])] = 7
    targets[0, 0] = 7
    assert not hidden[0, 0]
    batch |= {"encoder_target_tokens": jnp.asarray(targets)}
    params = always(params, 7)
    sums, metrics = loss_of(model, params, batch)
    shown = np.where(hidden, 7, targets)
    replaced = shown != targets
    assert replaced.sum() == hidden.sum() - (targets[hidden] == 7).sum() < hidden.sum()
    alone, its = model.network(params, "discriminator")
    scores = np.asarray(
        logits_of(
            alone, its, batch | {"encoder_input_tokens": jnp.asarray(shown)}
        ), np.float64,
    )  # fmt: skip
    by_hand = np.where(replaced, np.log1p(np.exp(-scores)), np.log1p(np.exp(scores)))
    assert sums[DETECTED] == pytest.approx(by_hand.sum(), rel=1e-4)
    assert metrics[DETECTED][1] == targets.size
    assert metrics[f"{DETECTED}_accuracy"][0] == ((scores > 0) == replaced).sum()
    assert metrics[f"{DETECTED}_recall"] == ((scores > 0)[replaced].sum(), replaced.sum())
    assert metrics["replaced_tokens"] == (replaced.sum(), targets.size)


def test_the_generator_restores_hidden_tokens_from_the_row_with_masks(model, params):
    batch = batch_for(model)
    sums, metrics = loss_of(model, params, batch)
    alone, its = model.network(params, "generator")
    log_p = jax.nn.log_softmax(logits_of(alone, its, batch))
    picked = jnp.take_along_axis(log_p, batch["encoder_target_tokens"][..., None], -1)[..., 0]
    hidden = np.asarray(batch["encoder_loss_weights"])
    assert sums[MASKED] == pytest.approx(-np.asarray(picked)[hidden].sum(), rel=1e-5)
    assert metrics[MASKED][1] == hidden.sum()


@pytest.mark.slow
def test_only_the_tables_hear_of_the_other_networks_loss(model, params):
    batch = batch_for(model)

    found = jax.jit(jax.jacrev(lambda params: model.loss(params, batch)[0]))(params)

    def largest(tree):
        return max(np.abs(x).max() for x in jax.tree.leaves(tree))

    shared = {"token_embedder", "token_type_embedder", "position_embedder"}
    own = {MASKED: {"generator"}}
    own[DETECTED] = {"embedding_norm", "embedding_projection", "encoder", "replaced_head"}
    for name, parts in found.items():
        moved = {part for part, tree in parts.items() if largest(tree) > 0}
        assert moved == shared | own[name]


def test_what_is_drawn_depends_on_the_key_alone(model, params):
    """And without a key, when it is measured, it is always the same."""
    batch = batch_for(model)

    def detected(key):
        return float(loss_of(model, params, batch, key)[0][DETECTED])

    assert detected(jax.random.key(3)) == detected(jax.random.key(3)) != detected(jax.random.key(4))
    assert detected(None) == detected(None)


@pytest.mark.slow
def test_logits_at_hidden_places_alone_change_nothing_but_the_count_of_flops(model, params):
    """Of 10 places at most 4 are hidden; the output of 16 by V then has 4 for each row."""
    few, batch = electra(masked_places=4), batch_for(model)
    assert batch["encoder_loss_weights"].sum(axis=1).max() == 4
    every = loss_of(model, params, batch)[0]
    for name, value in loss_of(few, params, batch)[0].items():
        assert value == pytest.approx(float(every[name]), rel=1e-5)
    shapes = {"encoder_input_tokens": (1, 10)}
    heads = [each.forward_flops(shapes)["head"].full for each in (model, few)]
    assert heads[0] - heads[1] == (10 - 4) * 2 * 16 * V


@pytest.mark.slow
def test_padding_counts_nothing(model, params):
    batch = batch_for(model)
    ones = jnp.ones((2, 10), jnp.int32)
    wide = {
        name: jnp.pad(x, ((0, 0), (0, 3)), constant_values=int(name == "encoder_input_tokens"))
        for name, x in (batch | {"encoder_segment_ids": ones}).items()
        if x.ndim == 2
    }
    narrow, padded = (
        loss_of(model, always(params, 5), b)[0] for b in (batch, wide)
    )  # fmt: skip
    for name in (MASKED, DETECTED):
        assert padded[name] == pytest.approx(float(narrow[name]), rel=1e-5)
    assert model.loss_weights(wide)[DETECTED] == 20
    # Without segments token 0 pads, and a 0 that was drawn pads nothing.
    with_zeros = batch | {"encoder_input_tokens": batch["encoder_input_tokens"].at[:, 8:].set(0)}
    assert model.loss_weights(with_zeros)[DETECTED] == 16
    segments = {"encoder_segment_ids": (with_zeros["encoder_input_tokens"] != 0).astype(jnp.int32)}
    zero = always(params, 0)
    by_token, by_segment = (
        float(loss_of(model, zero, b)[0][DETECTED]) for b in (with_zeros, with_zeros | segments)
    )
    assert by_token == pytest.approx(by_segment, rel=1e-6)


# -- What the paper compares with ----------------------------------------------------------------


@functools.partial(jax.jit, static_argnums=0)
def loss_and_gradient(model, params, batch):
    def total_of(params):
        sums, metrics = model.loss(params, batch)
        return total(sums, scales(model, model.loss_weights(batch))), (sums, metrics)

    return jax.grad(total_of, has_aux=True)(params)


@pytest.mark.slow
@pytest.mark.parametrize("heads", [("masked",), ("masked", "replaced"), ("replaced",)])
def test_replace_mlm_all_tokens_mlm_and_electra_15_percent(heads):
    """Section 3.4: of hidden tokens, of all with a gate that copies, and detection at hidden ones.

    p(x) is the gate where the token stands there already, and the rest of it times the softmax.
    """
    fields = {f"use_{head}_head": head in heads for head in ("masked", "replaced")}
    model = electra(**fields, detects_hidden_only=heads == ("replaced",), num_layers=1)
    params, batch = always(drawn(model), 7), batch_for(model)
    hidden = np.asarray(batch["encoder_loss_weights"]) == 1
    targets = np.array(batch["encoder_target_tokens"])
    targets[tuple(np.argwhere(hidden)[0])] = 7
    shown = np.where(hidden, 7, targets)
    batch |= {"encoder_target_tokens": jnp.asarray(targets)}
    seen = batch | {"encoder_input_tokens": jnp.asarray(shown)}
    gradient, (sums, metrics) = loss_and_gradient(model, params, batch)

    def of_head(head):
        others = {"generator", "masked_head", "replaced_head"} - {f"{head}_head"}
        own = {name: x for name, x in params.items() if name not in others}
        off = {f"use_{other}_head": other == head for other in ("masked", "replaced")}
        return np.asarray(logits_of(model.clone(use_generator=False, **off), own, seen), np.float64)

    p = np.ones(targets.shape)
    if "masked" in heads:
        scores = of_head("masked")
        picked = np.take_along_axis(scores, targets[..., None], -1)[..., 0]
        p = np.exp(picked) / np.exp(scores).sum(-1)
    same = shown == targets
    if "replaced" in heads:
        gate = 1 / (1 + np.exp(of_head("replaced")))
        p = gate * same + (1 - gate) * (p if "masked" in heads else ~same)
    name = "replaced_language_model" if "masked" in heads else DETECTED
    counted = np.ones_like(hidden) if len(heads) == 2 else hidden
    assert sums[name] == pytest.approx(-np.log(p[counted]).sum(), rel=1e-4)
    assert model.loss_weights(batch)[name] == metrics[name][1] == counted.sum()
    assert model.loss_terms.keys() == sums.keys() == {MASKED, name}
    assert all(np.isfinite(x).all() and np.abs(x).max() > 0 for x in jax.tree.leaves(gradient))
    alone, its = model.network(params, "discriminator")
    shapes = jax.eval_shape(alone.init, jax.random.key(0))["params"]
    assert its.keys() == shapes.keys() and alone.use_replaced_head == ("replaced" in heads)


# -- The two networks ----------------------------------------------------------------------------


def test_each_network_alone_computes_what_it_does_in_the_pair(model, params):
    batch = batch_for(model)
    scores = logits_of(model, params, batch)
    assert scores.shape == (2, 10)
    for name, expected in (("discriminator", scores), ("generator", None)):
        alone, its = model.network(params, name)
        shapes = jax.eval_shape(alone.init, jax.random.key(0))["params"]
        jax.tree.map(lambda x, y: x.shape == y.shape or pytest.fail(str(y)), its, shapes)
        if expected is not None:
            np.testing.assert_allclose(logits_of(alone, its, batch), expected, atol=1e-5)
    tokens = predictions_of(model, params, batch)["tokens"]
    np.testing.assert_array_equal(logits_of(alone, its, batch).argmax(-1), tokens)
    with pytest.raises(ModelError, match="no network 'teacher': there are 'discriminator' and"):
        model.network(params, "teacher")
    with pytest.raises(ModelError, match=r"ELECTRA.use_generator is False: it is one network"):
        alone.network(its, "generator")


def test_a_generator_as_wide_as_the_embeddings_has_no_projection():
    """As a discriminator of which the embeddings are as wide as the layers."""
    shapes = jax.eval_shape(electra(generator_embed_dim=16, generator_num_heads=2).init,
                            jax.random.key(0))["params"]  # fmt: skip
    assert "embedding_projection" in shapes and "embedding_projection" not in shapes["generator"]
    shapes = jax.eval_shape(electra(embedding_dim=None).init, jax.random.key(0))["params"]
    assert "embedding_projection" not in shapes and "embedding_projection" in shapes["generator"]
    assert shapes["generator"]["embedding_projection"]["kernel"].shape == (24, 12)


def test_predictions_are_of_the_tokens_as_they_stand(model, params):
    batch = batch_for(model)
    found = predictions_of(model, params, batch)
    assert {name: x.shape for name, x in found.items()} == {
        "hidden_states": (2, 10, 24), "replaced_probabilities": (2, 10), "tokens": (2, 10),
    }  # fmt: skip
    scores = logits_of(model, params, batch)
    np.testing.assert_allclose(found["replaced_probabilities"], jax.nn.sigmoid(scores), rtol=1e-4)


def test_flops_are_those_of_both_networks(model):
    """Layers and projections of each, the score of each token, the output of the generator."""
    t, rows = 16, 3

    def layers(e, f):
        return 2 * (2 * t * 4 * e * e + 4 * t * t * e + 2 * t * 2 * e * f)

    head = 2 * t * (24 * 24 + 24) + 2 * t * (12 * 16 + 16 * V)
    projections = 2 * t * 16 * (24 + 12)
    counted = model.forward_flops({"encoder_input_tokens": (rows, t)})
    in_full = sum(part.full for part in counted.values())
    assert in_full == rows * (layers(24, 40) + layers(12, 20) + head + projections)


def test_fine_tuning_is_of_the_discriminator_with_a_layer_of_gelu(model, params):
    """Dropout, a layer with the exact GELU, dropout, and the labels' scores."""
    classifier = electra(head=Classification(("no", "maybe", "yes")))
    assert not classifier.use_generator and not classifier.use_replaced_head
    own = drawn(classifier)
    assert own.keys() - params.keys() == {"pooler", "output_head"}
    batch = batch_for(classifier)
    found = predictions_of(classifier, own, batch)
    pooler = own["pooler"]
    pooled = exact_gelu(found["hidden_states"][:, 0] @ pooler["kernel"] + pooler["bias"])
    np.testing.assert_allclose(found["pooled"], pooled, atol=1e-5)
    assert found["label"].shape == (2,)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"use_replaced_head": False}, "use_replaced_head is False: without it a generator has"),
        (
            {"use_masked_head": True, "use_generator": False},
            "use_masked_head is True: without a generator it is that of one alone",
        ),
        ({"use_next_sentence_head": True, "use_pooler": True}, "there are no pairs"),
        ({"use_pooler": True}, "use_pooler is True: only a head for rows has one"),
        ({"discriminator_weight": -1.0}, "discriminator_weight is -1.0: it must be 0 or more"),
        ({"generator_num_layers": 0}, "generator_num_layers is 0"),
    ],
)
def test_what_it_cannot_be_built_with_is_said_in_one_line(fields, message):
    with pytest.raises(ModelError, match=message) as raised:
        electra(**fields)
    assert "\n" not in str(raised.value)


def test_a_discriminator_alone_has_no_loss(params):
    alone, its = electra().network(params, "discriminator")
    with pytest.raises(
        ModelError, match="ELECTRA without use_generator and use_masked_head has no"
    ):
        alone.loss(its, batch_for(alone))
