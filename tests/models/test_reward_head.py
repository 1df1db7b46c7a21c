"""Rewards of answers, learned of preferences: by hand, on decoders and on encoders."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.bert import BERT
from models.errors import ModelError
from models.gpt import GPT2
from models.heads import Classification, Reward, Tagging
from tests.models.families import V, drawn

HEAD = Reward()
gpt2 = functools.partial(GPT2, vocab_size=V, embed_dim=8, num_heads=2, num_layers=1, max_length=16)


@functools.partial(jax.jit, static_argnums=0)
def rewards_of(model, params, batch):
    return model.predict(params, batch)["reward"]


def ranked(ranks, there=None):
    ranks = jnp.array(ranks)
    there = jnp.ones_like(ranks) if there is None else jnp.array(there)
    return {"ranks": ranks, "answer_weight": there}


@pytest.mark.slow
def test_a_prompt_is_the_mean_of_its_pairs_by_hand():
    """r = (2, 1, 0.5), ranked so: the terms are 0.313262, 0.201413 and 0.474077."""
    rewards = jnp.array([[[2.0], [1.0], [0.5]]])
    batch = ranked([[0, 1, 2]])
    loss, gradient = jax.value_and_grad(lambda r: HEAD.loss(r, batch)[0])(rewards)
    np.testing.assert_allclose(loss, 0.329584, atol=1e-6)
    np.testing.assert_allclose(gradient[0, :, 0], [-0.150456, -0.036200, 0.186655], atol=1e-6)


@pytest.mark.slow
def test_prompts_count_alike_however_many_answers_they_have():
    rewards = jnp.array([[[2.0], [1.0], [0.5]], [[0.0], [1.0], [-1e9]]])
    batch = ranked([[0, 1, 2], [0, 1, 0]], [[1, 1, 1], [1, 1, 0]])
    loss, metrics = HEAD.loss(rewards, batch)
    assert HEAD.weight(batch) == 2
    np.testing.assert_allclose(loss, 0.329584 + 1.313262, atol=1e-6)
    np.testing.assert_allclose(metrics["pairwise_accuracy"], (3.0, 4.0))


def test_answers_of_equal_rank_are_no_pair():
    batch = ranked([[1, 1, 0], [3, 3, 3]])
    loss, _ = HEAD.loss(jnp.array([[[9.0], [1.0], [2.0]], [[1.0], [2.0], [3.0]]]), batch)
    np.testing.assert_allclose(loss, (np.log1p(np.exp(7)) + np.log1p(np.exp(-1))) / 2, rtol=1e-6)
    assert HEAD.weight(batch) == 1


def batch_of(rows, length, reader="decoder"):
    tokens = np.zeros((1, len(rows), length), np.int32)
    there = np.zeros_like(tokens)
    for i, row in enumerate(rows):
        tokens[0, i, : len(row)], there[0, i, : len(row)] = row, 1
    return {
        f"{reader}_input_tokens": jnp.array(tokens),
        f"{reader}_segment_ids": jnp.array(there),
        **ranked([list(range(len(rows)))], [[int(bool(row)) for row in rows]]),
    }


@pytest.mark.slow
def test_a_decoder_reads_the_last_token_of_each_row():
    model = gpt2(head=HEAD)
    params = drawn(model)
    assert "output_head" in params and model.batch_format == "causal_comparisons"
    rows = [[5, 6, 7], [5, 6, 7, 8, 9], []]
    found = rewards_of(model, params, batch_of(rows, 6))
    states = jax.jit(functools.partial(gpt2().apply, method="hidden_states"))
    text = {name: value for name, value in params.items() if name != "output_head"}
    for i, row in enumerate(rows[:2]):
        x = states({"params": text}, decoder_input_tokens=jnp.array([row]))
        head = params["output_head"]["output"]
        expected = x[0, -1] @ head["kernel"][:, 0] + head["bias"][0]
        np.testing.assert_allclose(found[0, i], expected, rtol=2e-5)
    # How far a batch is padded changes nothing.
    wider = rewards_of(model, params, batch_of(rows, 9))
    np.testing.assert_allclose(found[0, :2], wider[0, :2], rtol=2e-5)


@pytest.mark.slow
def test_the_rows_of_a_batch_are_measured_apart():
    model = gpt2(head=HEAD)
    params = drawn(model)
    one, two = batch_of([[5, 6], [7]], 4), batch_of([[3], [9, 9]], 4)
    both = {name: jnp.concatenate([one[name], two[name]]) for name in one}
    sums, weights = jax.jit(model.row_metrics)(params, both)[0]["loss"]
    for i, batch in enumerate((one, two)):
        loss, _ = jax.jit(model.loss)(params, batch)
        np.testing.assert_allclose(sums[i], loss["loss"], rtol=1e-5)
    assert weights.tolist() == [1, 1]


def test_an_encoder_has_the_same_head():
    model = BERT(
        vocab_size=V, embed_dim=8, mlp_dim=8, num_heads=2, num_layers=1, max_length=8, head=HEAD
    )
    params = drawn(model)
    batch = batch_of([[1, 5, 2, 6, 2], [1, 5, 2, 7, 2], []], 6, reader="encoder")
    assert rewards_of(model, params, batch).shape == (1, 3)
    assert np.isfinite(jax.jit(model.loss)(params, batch)[0]["loss"])


def test_what_a_decoder_cannot_read_with_is_refused():
    with pytest.raises(ModelError, match=r"GPT2\.head is .*MultipleChoice or Reward is needed"):
        gpt2(head=Tagging(("a", "b")))
    assert gpt2(head=Classification(("a", "b"))).label_names == {"label": ("a", "b")}
