"""Answers drawn to prompts: how rows are laid out, and that they are what the policy says."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.actor_critic import ActorCritic
from models.gpt import GPT2
from t5x_like.alignment.learning import token_log_probs
from t5x_like.alignment.rollouts import rollout_program, with_answers
from t5x_like.data.formats import TaskFacts, bound

gpt2 = functools.partial(
    GPT2, vocab_size=8, embed_dim=8, num_heads=2, num_layers=1, max_length=16,
    input_attention="causal",
)  # fmt: skip


def prompts(*texts, length=3):
    laid_out = bound("prompts", TaskFacts(("inputs", "targets"), start_id=2))
    rows = [[laid_out.item({"inputs": np.array(text, np.int32)})] for text in texts]
    return laid_out.batch(rows, {"inputs": length, "targets": 1}, False)


def test_prompts_end_in_the_same_column_after_what_a_decoder_reads_first():
    batch = prompts([5, 6], [], [3, 4, 7])
    assert batch["decoder_input_tokens"].tolist() == [[0, 2, 5, 6], [0, 0, 0, 2], [2, 3, 4, 7]]
    assert batch["decoder_positions"].tolist() == [[0, 0, 1, 2], [0, 0, 0, 0], [0, 1, 2, 3]]
    assert batch["decoder_segment_ids"].tolist() == [[0, 1, 1, 1], [0, 0, 0, 1], [1, 1, 1, 1]]


def test_answers_follow_their_prompts_and_padding_follows_answers():
    mask = jnp.array([[True, True], [True, False]])
    rows = with_answers(prompts([5, 6], [3]), jnp.array([[7, 1], [1, 0]]), mask)
    assert rows["decoder_input_tokens"].tolist() == [[0, 2, 5, 6, 7, 1], [0, 0, 2, 3, 1, 0]]
    assert rows["decoder_positions"].tolist() == [[0, 0, 1, 2, 3, 4], [0, 0, 0, 1, 2, 0]]
    assert rows["decoder_segment_ids"].tolist() == [[0, 1, 1, 1, 1, 1], [0, 0, 1, 1, 1, 0]]


@pytest.fixture(scope="module")
def case(partitioner):
    model = ActorCritic(policy=gpt2())
    params = jax.tree.map(lambda x: 5 * x, model.init(jax.random.key(0))["params"])
    draw = rollout_program(model, partitioner, max_new_tokens=4, eos_id=(1,), seed=3)
    batch = prompts(*[[5, 6]] * 6, [4, 4, 4], [])
    return model, params, functools.partial(draw, params, {}, batch)


@pytest.mark.slow
def test_what_is_drawn_is_a_function_of_step_and_row(case):
    _, _, draw = case
    first, again, next_one = draw(jnp.int32(0)), draw(jnp.int32(0)), draw(jnp.int32(1))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert (first.answer_bn != next_one.answer_bn).any()
    assert len({tuple(row) for row in np.asarray(first.answer_bn[:6]).tolist()}) > 1


def test_answers_end_with_the_end_token_or_for_want_of_room(case):
    _, _, draw = case
    for step in range(3):
        found = draw(jnp.int32(step))
        for row, mask, ended in zip(found.answer_bn, found.mask_bn, found.ended_b, strict=True):
            kept = np.asarray(row)[np.asarray(mask) > 0]
            assert len(kept) and (1 not in kept[:-1])
            assert bool(ended) == (kept[-1] == 1)
            assert ended or len(kept) == 4


@pytest.mark.slow
def test_the_rows_have_the_likelihood_that_they_were_drawn_with(case, partitioner):
    """Drawing goes through the cache, and learning does not: the ratio of the two begins as 1."""
    model, params, draw = case
    counts = np.zeros(8)
    found = [draw(jnp.int32(step)) for step in range(100)]
    logits, _ = model.logits_and_values(params, found[0].rows, 4)
    log_probs = token_log_probs(logits, found[0].rows)
    assert log_probs.shape == (8, 4) and (log_probs <= 0).all()
    for one in found:
        counts += np.bincount(np.asarray(one.answer_bn[:6, 0]), minlength=8)
    # 600 draws of the first token: four standard deviations of a share.
    expected = jax.nn.softmax(logits[0, 0])
    spread = 4 * np.sqrt(expected * (1 - expected) / 600)
    assert (abs(counts / 600 - expected) <= spread + 1e-3).all()
