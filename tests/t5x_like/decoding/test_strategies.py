"""Greedy decoding and drawing, against probabilities that the test sets."""

import jax
import numpy as np
import pytest

from t5x_like.decoding import (
    Greedy,
    Sampling,
    Temperature,
    TopK,
    TopP,
    generate,
    sampling_strategy,
)
from t5x_like.errors import UserError

EOS = 1


def follow_argmax(table, prompt, limit):
    """Greedy decoding without a cache, by the definition."""
    tokens = [0, 0, *prompt]
    new = []
    while len(new) < limit and (not new or new[-1] != EOS):
        new.append(int(np.argmax(table[tokens[-2], tokens[-1]])))
        tokens.append(new[-1])
    return new


def test_greedy_follows_the_argmax_and_stops_at_the_end_token(bigram, log_probability):
    model, table = bigram(0, 7)
    rng = np.random.default_rng(1)
    prompts = [rng.integers(2, 7, size=n).tolist() for n in (0, 1, 2, 5, 9, 3, 4, 11, 6, 8)]
    found = generate(model, table, prompts, max_new_tokens=12, batch_size=4)
    ends = [follow_argmax(table, prompt, 12) for prompt in prompts]
    for prompt, expected, generation in zip(prompts, ends, found, strict=True):
        finished = expected[-1] == EOS
        assert generation.tokens == (expected[:-1] if finished else expected)
        assert generation.finished == finished
        assert generation.score == pytest.approx(log_probability(table, prompt, expected), abs=1e-4)
    # The case would show nothing if no row, or every row, ended early.
    assert 0 < sum(generation.finished for generation in found) < len(found)


def test_without_an_end_token_every_row_runs_to_the_limit(bigram):
    model, table = bigram(0, 7)
    for generation in generate(model, table, [[2], [3, 4]], max_new_tokens=9, eos_id=None):
        assert len(generation.tokens) == 9
        assert not generation.finished


def test_the_loop_stops_when_all_rows_have_ended(bigram):
    plain, table = bigram(0, 7)
    table[:, :, EOS] = -50.0
    table[:, 3, EOS] = 50.0  # token 3 is followed by the end
    table[2, 4, 3] = 40.0  # after 2 4 comes 3
    steps = []

    class Counting(type(plain)):
        def decode_step(self, params, cache, tokens):
            jax.debug.callback(lambda: steps.append(1))
            return super().decode_step(params, cache, tokens)

    found = generate(Counting(7), table, [[4, 3], [2, 4]], max_new_tokens=50, batch_size=8)
    jax.effects_barrier()
    assert [generation.tokens for generation in found] == [[], [3]]
    assert len(steps) == 2  # the six rows that fill the batch do not count


def test_draws_follow_the_filtered_distribution(bigram):
    model, table = bigram(3, 6, scale=1.0)
    strategy = Sampling((Temperature(0.8), TopK(5), TopP(0.9)))
    found = generate(
        model, table, [[2, 3]] * 4096, max_new_tokens=1, strategy=strategy, batch_size=4096,
        eos_id=None,
    )  # fmt: skip
    counts = np.bincount([generation.tokens[0] for generation in found], minlength=6)

    scaled = np.exp(table[2, 3].astype(np.float64) / 0.8)
    order = np.argsort(-scaled)[:5]
    probabilities = scaled[order] / scaled[order].sum()
    kept = np.cumsum(probabilities) - probabilities < 0.9
    expected = np.zeros(6)
    expected[order[kept]] = probabilities[kept] / probabilities[kept].sum()

    assert np.all(counts[expected == 0] == 0)
    # Four standard deviations of a binomial count.
    deviation = np.sqrt(4096 * expected * (1 - expected))
    assert np.all(np.abs(counts - 4096 * expected) <= 4 * deviation + 1e-9)


def test_a_row_draws_from_its_own_stream_whatever_the_batch(bigram):
    model, table = bigram(4, 11)
    prompts = [[2], [2], [3, 4, 5], [2], [6]]
    arguments = dict(max_new_tokens=8, strategy=Sampling(), eos_id=None, seed=7)
    together = generate(model, table, prompts, batch_size=5, **arguments)
    assert together[0].tokens != together[1].tokens  # same prompt, other row
    by_two = generate(model, table, prompts, batch_size=2, **arguments)
    later = generate(model, table, prompts[2:], batch_size=3, first_row=2, **arguments)
    assert [g.tokens for g in by_two] == [g.tokens for g in together]
    assert [g.tokens for g in later] == [g.tokens for g in together[2:]]
    other_seed = generate(model, table, prompts, batch_size=5, **{**arguments, "seed": 8})
    assert [g.tokens for g in other_seed] != [g.tokens for g in together]


def test_a_drawn_rows_score_is_the_models_own_likelihood(bigram, log_probability):
    model, table = bigram(5, 9)
    strategy = Sampling((Temperature(2.0), TopK(3)))
    (found,) = generate(
        model, table, [[4, 2]], max_new_tokens=6, strategy=strategy, eos_id=None, batch_size=1
    )
    expected = log_probability(table, [4, 2], found.tokens)
    assert found.score == pytest.approx(expected, abs=1e-4)


def test_the_three_knobs_make_a_strategy():
    assert sampling_strategy(temperature=0.0) == Greedy()
    assert sampling_strategy() == Sampling(())
    assert sampling_strategy(0.7, top_k=5, top_p=0.9) == Sampling(
        (Temperature(0.7), TopK(5), TopP(0.9))
    )


@pytest.mark.parametrize("knob", [{"top_k": 5}, {"top_p": 0.9}])
def test_a_filter_of_draws_is_refused_where_nothing_is_drawn(knob):
    with pytest.raises(UserError, match=r"top_[kp] is .* give a temperature too \(TEMPERATURE\)"):
        sampling_strategy(0.0, **knob)


def test_a_list_of_filters_from_a_configuration_file_is_hashable():
    assert hash(Sampling([TopK(3)])) == hash(Sampling((TopK(3),)))


def test_a_prompt_with_nothing_to_start_from_is_refused(bigram):
    model, table = bigram(0, 7)
    with pytest.raises(UserError, match="empty prompt"):
        generate(model, table, [[2], []], max_new_tokens=2, bos_id=None)


def test_no_room_for_new_tokens_is_refused(bigram):
    model, table = bigram(0, 7)
    with pytest.raises(UserError, match="max_new_tokens is 0"):
        generate(model, table, [[2]], max_new_tokens=0)
