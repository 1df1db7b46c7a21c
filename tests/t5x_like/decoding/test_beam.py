"""Beam search against the list of all continuations."""

import functools
import itertools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.hf import load_hf
from t5x_like.data.formats.prompts import DecoderPrompts
from t5x_like.decoding import BeamSearch, generate, length_penalty
from t5x_like.decoding.prefill import begin
from t5x_like.errors import UserError

EOS = 1


def all_finished(vocabulary, limit):
    """Every continuation of at most `limit` tokens that ends with the end token."""
    others = [token for token in range(vocabulary) if token != EOS]
    for length in range(1, limit + 1):
        for body in itertools.product(others, repeat=length - 1):
            yield [*body, EOS]


@pytest.mark.parametrize("alpha", [0.0, 0.6, 2.0])
def test_a_beam_as_wide_as_the_tree_finds_the_best_of_all(bigram, log_probability, alpha):
    vocabulary, limit = 3, 4
    # 2 tokens that go on, 4 steps: no more than 2 ** 4 hypotheses run at a time.
    search = BeamSearch(beams=16, alpha=alpha)
    prompt = [2, 0, 2]
    batch = DecoderPrompts(prefix=False).decoding_batch([prompt])
    model, _ = bigram(0, vocabulary)  # of each seed the same, with another table

    @jax.jit
    def searched(table):
        return search.search(
            functools.partial(model.decode_step, table),
            begin(model, table, table, batch, limit),
            limits_b=jnp.full((1,), limit),
            max_new_tokens=limit,
            eos_id=EOS,
        )

    for seed in range(8):
        _, table = bigram(seed, vocabulary)
        scores = {
            tuple(tokens): log_probability(table, prompt, tokens) / ((5 + len(tokens)) / 6) ** alpha
            for tokens in all_finished(vocabulary, limit)
        }
        ranked = sorted(scores, key=scores.__getitem__, reverse=True)
        tokens, found, lengths = searched(table)
        assert len(ranked) == 15  # 1 + 2 + 4 + 8
        listed = [tuple(np.asarray(tokens[0, i, : lengths[0, i]]).tolist()) for i in range(15)]
        # The search may stop once the 16 best are certain; here there are only 15.
        assert listed == ranked
        np.testing.assert_allclose(found[0, :15], [scores[r] for r in ranked], atol=1e-4)


def test_a_finished_hypothesis_is_ranked_with_what_it_covered_of_the_source(
    bigram, log_probability
):
    """By a model whose coverage is that of its last token: -1 of token 0, -3 of token 2."""
    model, table = bigram(3, 3)
    prompt, limit, strength = [2, 0, 2], 4, 0.2

    def log_coverage(cache):
        return -1.0 - cache["last"]

    def score(tokens):
        last = [*prompt, *tokens][-2]
        plain = log_probability(table, prompt, tokens) / ((5 + len(tokens)) / 6) ** 0.6
        return plain + strength * (-1.0 - last)

    ranked = sorted(map(tuple, all_finished(3, limit)), key=score, reverse=True)
    tokens, found, lengths = BeamSearch(beams=16, coverage=strength).search(
        functools.partial(model.decode_step, jnp.asarray(table)),
        begin(model, table, table, DecoderPrompts(prefix=False).decoding_batch([prompt]), limit),
        limits_b=jnp.full((1,), limit),
        max_new_tokens=limit,
        eos_id=EOS,
        log_coverage=log_coverage,
    )
    listed = [tuple(np.asarray(tokens[0, i, : lengths[0, i]]).tolist()) for i in range(15)]
    assert listed == ranked
    np.testing.assert_allclose(found[0, :15], [score(r) for r in ranked], atol=1e-4)


def test_coverage_is_asked_of_a_model_that_tells_it(bigram):
    model, table = bigram(3, 3)
    with pytest.raises(UserError, match=r"BigramModel does not tell .* set BeamSearch.coverage"):
        generate(model, table, [[2]], max_new_tokens=2, strategy=BeamSearch(coverage=0.2))


def test_one_beam_is_greedy_also_where_the_end_token_is_second_best(bigram):
    model, table = bigram(0, 5)
    # After every token: 3 with .6, the end with .4. The end at once would have the best score.
    table[:] = np.log([1e-9, 0.4, 1e-9, 0.6, 1e-9])
    (greedy,) = generate(model, table, [[2]], max_new_tokens=6)
    (found,) = generate(model, table, [[2]], max_new_tokens=6, strategy=BeamSearch(beams=1))
    assert found.tokens == greedy.tokens == [3] * 6
    # The score is over the length penalty, ((5 + 6) / 6) ** .6.
    assert found.score == pytest.approx(6 * np.log(0.6) / (11 / 6) ** 0.6, rel=1e-5)
    # By the rule of transformers the divisor is the length: the mean of six times log .6.
    strategy = BeamSearch(1, 1.0, "transformers")
    (found,) = generate(model, table, [[2]], max_new_tokens=6, strategy=strategy)
    assert found.score == pytest.approx(np.log(0.6), rel=1e-5)


def reference_beam_search(step_log_probs, beams, alpha, limit):
    """Plain Python: 2k candidates a step, the k best running, the k best finished."""
    running, done = [(0.0, [])], []
    for _ in range(limit):
        candidates = []
        for total, tokens in running:
            for token, log_prob in enumerate(step_log_probs(tokens)):
                candidates.append((total + log_prob, [*tokens, token]))
        candidates = sorted(candidates, key=lambda c: -c[0])[: 2 * beams]
        done += [
            (total / ((5 + len(tokens)) / 6) ** alpha, tokens)
            for total, tokens in candidates
            if tokens[-1] == EOS
        ]
        done = sorted(done, key=lambda c: -c[0])[:beams]
        running = [c for c in candidates if c[1][-1] != EOS][:beams]
    best = max(running, key=lambda c: c[0])
    return done[0] if done else (best[0] / ((5 + limit) / 6) ** alpha, best[1])


@pytest.mark.parametrize("end_bias", [-0.5, -30.0])  # most hypotheses end; none does
def test_rows_of_a_batch_are_searched_as_each_alone(bigram, log_probability, end_bias):
    model, table = bigram(11, 9)
    table[:, :, EOS] += end_bias
    prompts = [[2, 3], [4], [5, 6, 7, 8], [8, 8, 2]]
    found = generate(
        model, table, prompts, max_new_tokens=6, strategy=BeamSearch(3, 0.6), batch_size=8
    )
    for prompt, generation in zip(prompts, found, strict=True):

        def step_log_probs(tokens, prompt=prompt):
            return [log_probability(table, prompt + tokens, [v]) for v in range(9)]

        score, tokens = reference_beam_search(step_log_probs, 3, 0.6, 6)
        assert generation.finished == (tokens[-1] == EOS)
        assert generation.tokens == [token for token in tokens if token != EOS]
        assert generation.score == pytest.approx(score, abs=1e-4)


def test_one_beam_is_greedy_where_the_end_token_cannot_come(bigram):
    model, table = bigram(12, 9)
    arguments = dict(max_new_tokens=10, eos_id=None)
    greedy = generate(model, table, [[2], [3, 4]], **arguments)
    beam = generate(model, table, [[2], [3, 4]], strategy=BeamSearch(1, 0.0), **arguments)
    assert [g.tokens for g in beam] == [g.tokens for g in greedy]
    np.testing.assert_allclose([g.score for g in beam], [g.score for g in greedy], rtol=1e-5)


def test_the_length_penalty_is_that_of_wu_et_al():
    # Equation 14: ((5 + 1) / 6)^a = 1 for one token; (15 / 6)^0.6 = 2.5^0.6 for ten.
    assert length_penalty(1, 0.6) == 1.0
    assert length_penalty(10, 0.6) == pytest.approx(2.5**0.6)


def reference_of_transformers(step_log_probs, beams, alpha, limit):
    """Plain Python: what ends among the best k, or at the limit, counts; the rest runs."""
    running, done, is_open = [(0.0, [])], [], True
    for length in range(1, limit + 1):
        candidates = [
            (total + log_prob, [*tokens, token])
            for total, tokens in running
            for token, log_prob in enumerate(step_log_probs(tokens))
        ]
        candidates = sorted(candidates, key=lambda c: -c[0])[: 2 * beams]
        ended = [c[1][-1] == EOS or length == limit for c in candidates]
        if is_open:
            counted = [c for c, end in zip(candidates[:beams], ended, strict=False) if end]
            done += [(total / length**alpha, tokens) for total, tokens in counted]
        done = sorted(done, key=lambda c: -c[0])[:beams]
        running = [c for c, end in zip(candidates, ended, strict=True) if not end][:beams]
        full = len(done) == beams and running
        is_open = is_open and not (full and running[0][0] / length**alpha <= done[-1][0])
    return done[0]


@pytest.mark.parametrize(("alpha", "end_bias"), [(1.0, 0.0), (2.0, -3.0)])
def test_the_other_rule_is_that_of_transformers(bigram, log_probability, alpha, end_bias):
    model, table = bigram(13, 9)
    table[:, :, EOS] += end_bias
    prompts = [[2, 3], [4], [5, 6, 7, 8], [8, 8, 2]]
    strategy = BeamSearch(3, alpha, "transformers")
    found = generate(model, table, prompts, max_new_tokens=6, strategy=strategy, batch_size=4)
    for prompt, generation in zip(prompts, found, strict=True):

        def step_log_probs(tokens, prompt=prompt):
            return [log_probability(table, prompt + tokens, [v]) for v in range(9)]

        score, tokens = reference_of_transformers(step_log_probs, 3, alpha, 6)
        assert generation.tokens == [token for token in tokens if token != EOS]
        assert generation.score == pytest.approx(score, abs=1e-4)


@pytest.mark.slow
@pytest.mark.interop
@pytest.mark.parametrize("alpha", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("ends", [(5,), (5, 19)])
def test_transformers_finds_the_same_beams(alpha, ends):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    directory = Path(__file__).parents[2] / "models" / "hf" / "fixtures" / "gpt2"
    model, params = load_hf(directory)
    theirs = transformers.GPT2LMHeadModel.from_pretrained(directory)
    prompts = [[7, 8], [30], [40, 41, 42]]
    strategy = BeamSearch(3, alpha, "transformers")
    found = generate(
        model, params, prompts, max_new_tokens=12, strategy=strategy, eos_id=ends, bos_id=None
    )
    for prompt, generation in zip(prompts, found, strict=True):
        (expected,) = theirs.generate(
            torch.tensor([prompt]), num_beams=3, length_penalty=alpha, max_new_tokens=12,
            do_sample=False, eos_token_id=list(ends), pad_token_id=0,
        ).tolist()  # fmt: skip
        expected = expected[len(prompt) :]
        ended = next((i for i, token in enumerate(expected) if token in ends), None)
        assert generation.tokens == expected[:ended]
        assert generation.finished == (ended is not None)


@pytest.mark.parametrize(
    "arguments",
    [
        {"beams": 0},
        {"alpha": -0.1},
        {"rule": "best"},
        {"coverage": -0.1},
        {"coverage": 0.2, "beams": 1},
        {"coverage": 0.2, "rule": "transformers"},
    ],
)
def test_a_search_that_means_nothing_is_refused(arguments):
    with pytest.raises(UserError, match=next(iter(arguments))):
        BeamSearch(**arguments)


@pytest.mark.parametrize("name", ["alpha", "coverage"])
@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
def test_a_strength_that_compares_nothing_is_refused(name, value):
    with pytest.raises(UserError, match=f"BeamSearch.{name} is {value}"):
        BeamSearch(beams=2, **{name: value})
