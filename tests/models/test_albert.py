"""ALBERT by hand: its counts, what its layers share, its second loss (Lan et al. 2020)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.albert import ALBERT
from models.errors import ModelError
from tests.models.families import V, batch_for, drawn

albert = functools.partial(
    ALBERT, vocab_size=V, embedding_dim=16, embed_dim=24, mlp_dim=40, num_heads=3, num_layers=4,
    max_length=32,
)  # fmt: skip

# Base with the pooler: all, attention, feed-forward, nothing shared, computed from the shapes
# (the paper's table 4 prints E = 128 as 12M, 64M, 38M and 89M).
COUNTS = {
    64: (9_681_408, 61_645_056, 35_684_352, 87_648_000),
    128: (11_683_584, 63_647_232, 37_686_528, 89_650_176),
    256: (15_687_936, 67_651_584, 41_690_880, 93_654_528),
    None: (31_114_752, 83_078_400, 57_117_696, 109_081_344),
}


@pytest.mark.parametrize(("width", "counts"), COUNTS.items())
def test_counts_of_each_width_of_the_embeddings_and_each_kind_of_sharing(width, counts):
    base = ALBERT(embedding_dim=width, use_masked_head=False, use_next_sentence_head=False)
    shared = ("all", "attention", "feed_forward", "none")
    found = tuple(base.clone(shared=each).parameter_count() for each in shared)
    assert found == counts


def test_the_table_is_factorized():
    """Section 3.1: V times H becomes V times E and E times H, which has a bias here."""
    shapes = jax.eval_shape(ALBERT().init, jax.random.key(0))["params"]
    assert shapes["token_embedder"]["embedding"].shape == (30_000, 128)
    assert shapes["embedding_projection"]["kernel"].shape == (128, 768)
    sizes = [leaf.size for leaf in jax.tree.leaves(shapes["embedding_projection"])]
    assert 30_000 * 128 + sum(sizes) - 768 == 3_938_304


# What of a layer there is once.
PARTS = {
    "all": ("self_attention", "self_attention_norm", "mlp", "mlp_norm"),
    "attention": ("self_attention", "self_attention_norm"),
    "feed_forward": ("mlp", "mlp_norm"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("shared", "groups"), [("all", 2), ("attention", 1), ("feed_forward", 1)])
def test_sharing_is_copies_whose_gradients_are_summed(shared, groups):
    """The loss is that of four layers with equal parameters; a gradient is the sum of theirs."""
    ours = albert(shared=shared, num_groups=groups)
    apart = albert(shared="none")
    params, batch = drawn(ours), batch_for(ours)
    stored = params["encoder"]["layers"]
    stored = stored.get("block", stored)

    def copied(name, part):
        turns = 4 // groups if name in PARTS[shared] else 1
        return jax.tree.map(lambda x: jnp.repeat(x, turns, axis=0), part)

    copies = {"layers": {name: copied(name, part) for name, part in stored.items()}}

    @functools.partial(jax.jit, static_argnums=0)
    def gradients(model, params):
        def loss(params):
            terms, _ = model.loss(params, batch)
            return sum(jnp.asarray(term).sum() for term in terms.values())

        return jax.value_and_grad(loss)(params)

    one, found = gradients(ours, params)
    other, expected = gradients(apart, params | {"encoder": copies})
    np.testing.assert_allclose(one, other, rtol=1e-5)
    found = found["encoder"]["layers"]
    found = found.get("block", found)
    for name, part in expected["encoder"]["layers"].items():
        if name in PARTS[shared]:
            part = jax.tree.map(lambda x: x.reshape(groups, -1, *x.shape[1:]).sum(1), part)
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=2e-3, atol=2e-4), found[name], part
        )


@pytest.mark.slow
def test_the_second_loss_is_of_the_order_of_the_segments():
    model = albert(num_layers=1)
    assert model.loss_terms == {"masked_language_model": 1.0, "sentence_order": 1.0}
    params, batch = drawn(model), batch_for(model)
    terms, metrics = jax.jit(model.loss)(params, batch)
    pairs = jax.jit(functools.partial(model.apply, method="next_sentence_logits"))
    scores = pairs({"params": params}, **batch)
    by_hand = -sum(jax.nn.log_softmax(scores)[i, label] for i, label in enumerate((0, 1)))
    assert batch["pair_label"].tolist() == [0, 1]
    np.testing.assert_allclose(jnp.asarray(metrics["sentence_order"])[0], by_hand, rtol=1e-5)
    assert terms.keys() == model.loss_weights(batch).keys()
    found = jax.jit(model.predict)(params, batch)
    np.testing.assert_allclose(
        found["sentence_order_probabilities"], jax.nn.softmax(scores), rtol=1e-5
    )


@pytest.mark.slow
def test_attention_of_every_turn_can_be_seen():
    for options in ({"num_groups": 2}, {"shared": "attention"}):
        model = albert(**options)
        batch = batch_for(model)
        (weights,) = jax.jit(model.attention_weights)(drawn(model), batch).values()
        assert weights.shape == (4, 2, 3, 10, 10)
        np.testing.assert_allclose(weights.sum(-1), np.ones((4, 2, 3, 10)), atol=1e-5)
        assert np.abs(weights[0] - weights[1]).max() > 1e-3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"shared": "norms"}, "ALBERT.shared is 'norms': it must be one of all, attention"),
        ({"num_groups": 3}, "ALBERT.num_groups is 3: it must divide num_layers, 4"),
        ({"num_groups": 2, "shared": "none"}, "ALBERT.num_groups is 2: only layers that share all"),
        ({"embedding_dim": 0}, "ALBERT.embedding_dim is 0"),
    ],
)
def test_what_it_cannot_be_built_with_is_said_in_one_line(fields, message):
    with pytest.raises(ModelError, match=message):
        albert(**fields)
