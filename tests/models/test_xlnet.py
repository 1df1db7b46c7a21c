"""XLNet: what each stream sees, the objective on the device, the memory, and heads."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.errors import ModelError
from models.heads import Classification
from models.layers.attention.distances import align_distances
from models.layers.attention.masks import Mask
from models.xlnet import XLNet
from t5x_like import protocols
from tests.models.families import ENCODERS, V, batch_for, drawn

small = ENCODERS["xlnet"]


@functools.partial(jax.jit, static_argnums=0)
def logits_of(model, params, batch):
    return model.apply({"params": params}, **batch)


@functools.partial(jax.jit, static_argnums=0)
def content_of(model, params, batch):
    return model.apply({"params": params}, **batch, method="hidden_states")


@functools.partial(jax.jit, static_argnums=0)
def loss_and_carry(model, params, batch, carry):
    return model.loss_and_carry(params, batch, carry)


# -- What is seen ----------------------------------------------------------------------------------

KEYS, OWN = [-1, -1, 5, -1, 4, 2], [0, 0, 5, 0, 4, 3]


@pytest.mark.parametrize(
    ("itself", "forbidden"),
    [
        (False, "001011 001011 001000 001011 001010 001010"),
        (True, "001011 001011 000000 001011 001000 001010"),
    ],
)
def test_ranks_are_the_released_codes_masks_block_by_block(itself, forbidden):
    mask = Mask(query_ranks_bt=jnp.array([OWN]), key_ranks_bs=jnp.array([KEYS]), sees_itself=itself)
    whole = mask.dense((0, 6), (0, 6))[0, 0]
    assert ["".join(str(int(not x)) for x in row) for row in whole] == forbidden.split()
    np.testing.assert_array_equal(mask.dense((2, 3), (1, 4))[0, 0], whole[2:5, 1:5])


def test_a_left_shift_gives_distances_in_both_directions():
    """Three queries and a key before them: distances 4 to -2, of which each query has four."""
    distances = jnp.broadcast_to(jnp.arange(3, -3, -1), (3, 6))
    assert align_distances(distances, 4).tolist() == [[1, 0, -1, -2], [2, 1, 0, -1], [3, 2, 1, 0]]


def test_a_prediction_depends_on_the_tokens_before_it_in_the_order_alone():
    """Not on the token itself, nor on those after it; on where it stands, and on all others."""
    model = small()
    params, batch = drawn(model), batch_for(model, rows=1)
    logits = logits_of(model, params, batch)[0]
    keys, own = (np.asarray(batch[name][0]) for name in ("perm_key_rank", "perm_own_rank"))
    for place in range(10):
        tokens = batch["encoder_input_tokens"]
        other = batch | {
            "encoder_input_tokens": tokens.at[0, place].set(tokens[0, place] % (V - 1) + 1)
        }
        moved = np.abs(logits_of(model, params, other)[0] - logits).max(axis=-1)
        # What is not predicted sees its kind, and so passes on nothing of what is predicted.
        seen = keys[place] < own
        assert (moved[seen] > 1e-4).all(), place
        assert (moved[~seen] == 0).all(), place


def test_two_predictions_from_the_same_tokens_differ_by_their_places():
    """Appendix A.1: without the place both would have one distribution."""
    model = small()
    params, batch = drawn(model), batch_for(model, rows=1)
    batch["perm_key_rank"] = jnp.array([[-1] * 8 + [0, 0]])
    batch["perm_own_rank"] = jnp.zeros((1, 10), int)
    logits = logits_of(model, params, batch)[0]
    assert np.abs(logits[8] - logits[9]).max() > 1e-2


@pytest.mark.slow
def test_the_content_stream_does_not_know_the_query_stream():
    model = small()
    params, batch = drawn(model), batch_for(model)
    content = content_of(model, params, batch)
    plain = {name: x for name, x in batch.items() if not name.startswith("perm_")}
    np.testing.assert_array_equal(content, content_of(model, params, plain))
    assert np.abs(content - logits_of(model.clone(use_output=False), params, batch)).max() > 1e-2


@pytest.mark.slow
def test_padding_changes_nothing_wherever_it_stands_and_packed_texts_do_not_see_each_other():
    model = small()
    params = drawn(model)
    one, two = (batch_for(model, rows=1, length=6, seed=n) for n in (1, 2))
    expected = [logits_of(model, params, batch)[0] for batch in (one, two)]
    packed = {name: jnp.concatenate([one[name], two[name]], 1) for name in one}
    packed = {name: jnp.pad(x, ((0, 0), (2, 1))) for name, x in packed.items()}
    packed["encoder_segment_ids"] = jnp.array([[0] * 2 + [1] * 6 + [2] * 6 + [0]])
    logits = logits_of(model, params, packed)[0]
    assert np.isfinite(logits).all()
    np.testing.assert_allclose(logits[2:8], expected[0], atol=2e-5)
    np.testing.assert_allclose(logits[8:14], expected[1], atol=2e-5)
    # Without segments the token of padding says where it is.
    del packed["encoder_segment_ids"]
    alone = {name: jnp.pad(x, ((0, 0), (0, 3))) for name, x in two.items()}
    np.testing.assert_allclose(logits_of(model, params, alone)[0, :6], expected[1], atol=2e-5)


# -- The loss and the memory -----------------------------------------------------------------------


@pytest.mark.slow
def test_the_loss_is_of_the_query_stream_at_what_is_predicted():
    model = small()
    params, batch = drawn(model), batch_for(model)
    loss, metrics = jax.jit(model.loss)(params, batch)
    log_p = jax.nn.log_softmax(logits_of(model, params, batch))
    targets, weights = batch["encoder_target_tokens"], batch["encoder_loss_weights"]
    picked = jnp.take_along_axis(log_p, targets[..., None], -1)[..., 0]
    assert loss["loss"] == pytest.approx(float(-(picked * weights).sum()), rel=1e-5)
    assert metrics["loss"][1] == weights.sum() == model.loss_weights(batch)["loss"]
    # At the five places of a row that are predicted alone; of fewer the whole row is computed.
    for places in (5, 4):
        few, _ = jax.jit(model.clone(masked_places=places).loss)(params, batch)
        assert few["loss"] == pytest.approx(float(loss["loss"]), rel=1e-6)
    shapes = {name: x.shape for name, x in batch.items()}
    head = [m.forward_flops(shapes)["head"].full for m in (model, model.clone(masked_places=5))]
    assert head == [2 * 2 * n * 24 * V for n in (10, 5)]


def rows_of(length, rows=2):
    return batch_for(small(), rows=rows, length=length)


@pytest.mark.slow
def test_a_row_sees_the_memory_of_the_row_before_and_no_gradient_flows_into_it():
    model = small(carries=True)
    assert model.batch_format == "contiguous_permutation_language_model"
    assert protocols.carries(model) and not protocols.carries(small())
    params, batch = drawn(model), rows_of(6)
    empty = model.initial_carry(2)
    first, _, carry = loss_and_carry(model, params, batch, empty)
    plain, _ = jax.jit(model.loss)(params, batch)
    assert first["loss"] == pytest.approx(float(plain["loss"]), rel=1e-6)
    assert carry["length"].tolist() == [6, 6]
    np.testing.assert_allclose(
        carry["states"][:, 0, -6:],
        params["token_embedder"]["embedding"][batch["encoder_input_tokens"]],
    )
    second, *_ = loss_and_carry(model, params, batch, carry)
    assert abs(second["loss"] - first["loss"]) > 1e-2

    def loss(states):
        return loss_and_carry(model, params, batch, carry | {"states": states})[0]["loss"]

    assert not jax.jit(jax.grad(loss))(carry["states"]).any()


def test_a_row_that_does_not_go_on_has_no_memory():
    model = small(carries=True)
    params, batch = drawn(model), rows_of(6)
    empty = model.initial_carry(2)
    states = jnp.asarray(np.random.default_rng(0).normal(size=empty["states"].shape), "float32")
    full = {"states": states, "length": jnp.full(2, 16, jnp.int32)}

    @jax.jit
    def hidden(carry, row_continues):
        given = batch | {"carry": carry, "row_continues": row_continues}
        return model.apply({"params": params}, **given, method="hidden_states_and_carry")[0]

    mixed, plain, continued = (
        hidden(carry, jnp.array(rows))
        for carry, rows in ((full, [0, 1]), (empty, [1, 1]), (full, [1, 1]))
    )
    np.testing.assert_allclose(mixed[0], plain[0], atol=1e-5)
    np.testing.assert_allclose(mixed[1], continued[1], atol=1e-5)
    assert np.abs(plain - continued).max() > 1e-2


def test_the_memory_keeps_the_beginning_of_a_row_where_the_rest_is_read_again():
    model = small(carries=True, reuse_length=4, memory_length=5)
    params, batch = drawn(model), rows_of(6)
    _, _, carry = loss_and_carry(model, params, batch, model.initial_carry(2))
    assert carry["length"].tolist() == [4, 4]
    embedded = params["token_embedder"]["embedding"][batch["encoder_input_tokens"]]
    np.testing.assert_allclose(carry["states"][:, 0, 1:], embedded[:, :4])


# -- Heads and mistakes ----------------------------------------------------------------------------


def test_a_head_reads_the_last_token_through_a_layer_with_tanh():
    model = small(head=Classification(("no", "maybe", "yes")))
    params = drawn(model)
    assert "logit_bias" not in params and "pooler" in params
    batch = batch_for(model)
    batch = {name: x for name, x in batch.items() if not name.startswith("label")}
    batch["encoder_segment_ids"] = jnp.array([[1] * 7 + [0] * 3, [1] * 10])
    hidden = content_of(model, params, batch)
    last = jnp.stack([hidden[0, 6], hidden[1, 9]])
    pooled = jnp.tanh(last @ params["pooler"]["kernel"] + params["pooler"]["bias"])
    output = params["output_head"]["output"]
    expected = pooled @ output["kernel"] + output["bias"]
    np.testing.assert_allclose(logits_of(model, params, batch), expected, atol=1e-5)


def test_it_predicts_and_writes_no_text():
    model = small()
    assert isinstance(model, protocols.Predicts) and not isinstance(model, protocols.Decodes)
    batch = batch_for(model)
    params = drawn(model)
    found = jax.jit(model.predict)(params, batch)
    np.testing.assert_array_equal(found["tokens"], logits_of(model, params, batch).argmax(axis=-1))
    assert found["hidden_states"].shape == (2, 10, 24)


def test_mistakes_are_told_in_one_line():
    model = small()
    with pytest.raises(ModelError, match=r"perm_key_rank.*'permutation_language_model'"):
        model.loss(drawn(model), {"encoder_input_tokens": jnp.ones((1, 3), int)})
    for options, said in (
        ({"activation": "silu"}, "activation is 'silu'"),
        ({"embed_dim": 27}, "embed_dim is 27.*even"),
        ({"pad_id": V}, f"pad_id is {V}.*below vocab_size"),
        ({"carries": True, "head": Classification(("a", "b"))}, "carries is True"),
    ):
        with pytest.raises(ModelError, match=said):
            small(**options)
    with pytest.raises(ModelError, match="use_output has no loss"):
        small(use_output=False).loss({}, batch_for(model))
    assert XLNet(vocab_size=V).max_length is None
