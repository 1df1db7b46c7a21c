"""What generated tokens keep to: penalties, a minimum of tokens, several end tokens."""

from pathlib import Path

import numpy as np
import pytest

from models.hf import load_hf
from t5x_like.decoding import BeamSearch, Greedy, Sampling, generate
from t5x_like.decoding.constraints import Constraints, Written, constraints_of
from t5x_like.errors import UserError

EOS = 1


def follow(table, prompt, limit, *, penalty=1.0, minimum=0, ends=(EOS,)):
    """Greedy decoding by the definition, with everything that it keeps to."""
    tokens, new = [0, 0, *prompt], []
    while len(new) < limit and (not new or new[-1] not in ends):
        logits = table[tokens[-2], tokens[-1]].astype(np.float64).copy()
        for token in set(tokens[1:]):  # the start token has been read too
            logits[token] = (
                logits[token] * penalty if logits[token] < 0 else logits[token] / penalty
            )
        if len(new) < minimum:
            logits[list(ends)] = -np.inf
        new.append(int(np.argmax(logits)))
        tokens.append(new[-1])
    return new


def test_a_penalty_divides_what_is_above_0_and_multiplies_what_is_below():
    seen = np.array([[True, True, False, False, True]])
    logits = np.array([[3.0, -1.0, 0.5, -3.0, 0.0]], np.float32)
    found = constraints_of(0, 1.5).applied(logits, Written(seen), 0, (EOS,))
    np.testing.assert_allclose(found, [[2.0, -1.5, 0.5, -3.0, 0.0]])


def test_a_row_has_its_allowed_tokens_alone_with_beams_or_without():
    allowed = np.array([[True, False, True], [False, True, False]])
    keeps = Constraints(allowed_bv=allowed)
    expected = np.where(allowed, 0.5, -np.inf)
    scores = np.full((2, 3), 0.5, np.float32)
    np.testing.assert_array_equal(keeps.applied(scores, Written(), 0, (EOS,)), expected)
    beams = np.broadcast_to(scores[:, None], (2, 4, 3))
    found = keeps.applied(beams, Written(), 0, (EOS,))
    np.testing.assert_array_equal(found, np.broadcast_to(expected[:, None], (2, 4, 3)))


def test_before_the_minimum_no_end_token_is_possible():
    logits = np.zeros((1, 5), np.float32)
    limited = constraints_of(3)
    for new, possible in [(0, [0, 2, 3]), (2, [0, 2, 3]), (3, [0, 1, 2, 3, 4])]:
        found = np.asarray(limited.applied(logits, Written(), np.int32(new), (EOS, 4)))[0]
        assert np.flatnonzero(np.isfinite(found)).tolist() == possible


@pytest.mark.parametrize(
    "settings",
    [
        {"penalty": 0.6},
        {"penalty": 1.3, "minimum": 4, "ends": (EOS, 4, 6)},
    ],
)
def test_greedy_decoding_keeps_to_all_of_it(bigram, log_probability, settings):
    model, table = bigram(0, 9)
    rng = np.random.default_rng(1)
    prompts = [rng.integers(2, 9, size=n).tolist() for n in (1, 5, 9, 3, 7, 0)]
    found = generate(
        model, table, prompts, max_new_tokens=10, batch_size=4,
        repetition_penalty=settings.get("penalty", 1.0),
        min_new_tokens=settings.get("minimum", 0), eos_id=settings.get("ends", EOS),
    )  # fmt: skip
    plain = [follow(table, prompt, 10, ends=settings.get("ends", (EOS,))) for prompt in prompts]
    expected = [follow(table, prompt, 10, **settings) for prompt in prompts]
    assert expected != plain  # or nothing was shown
    for prompt, wanted, one in zip(prompts, expected, found, strict=True):
        finished = wanted[-1] in settings.get("ends", (EOS,))
        assert one.tokens == (wanted[:-1] if finished else wanted)
        assert (one.finished, one.length) == (finished, len(wanted))
        # Whatever was chosen, its probability is the model's own.
        assert one.score == pytest.approx(log_probability(table, prompt, wanted), abs=1e-4)


def test_beams_keep_to_it_each_by_its_own_tokens(bigram):
    """Two beams, against plain Python: log-probabilities are penalized, as in transformers."""
    model, table = bigram(3, 6)
    penalty, minimum, limit, prompt = 1.5, 3, 6, [2, 3]

    def log_probs(tokens):
        logits = table[tokens[-2], tokens[-1]].astype(np.float64)
        found = logits - np.log(np.exp(logits).sum())
        for token in set(tokens[1:]):
            found[token] *= penalty
        if len(tokens) - 2 - len(prompt) < minimum:
            found[EOS] = -1e9
        return found

    running, done = [(0.0, [0, 0, *prompt])], []
    for _ in range(limit):
        candidates = [
            (total + value, [*tokens, token])
            for total, tokens in running
            for token, value in enumerate(log_probs(tokens))
        ]
        candidates = sorted(candidates, key=lambda one: -one[0])[:4]
        done += [
            (total / ((5 + len(t) - 4) / 6) ** 0.6, t) for total, t in candidates if t[-1] == EOS
        ]
        running = [one for one in candidates if one[1][-1] != EOS][:2]
    total, tokens = max(done) if done else running[0]
    (found,) = generate(
        model, table, [prompt], max_new_tokens=limit, strategy=BeamSearch(2, 0.6),
        repetition_penalty=penalty, min_new_tokens=minimum, batch_size=1,
    )  # fmt: skip
    assert done and len(tokens) - 4 > minimum
    assert found.tokens == tokens[4:-1]
    assert found.score == pytest.approx(total, abs=1e-4)


def test_samples_of_a_prompt_differ_and_the_first_are_those_of_fewer(bigram):
    model, table = bigram(4, 11)
    prompts = [[2], [3, 4, 5], [6]]
    arguments = dict(max_new_tokens=8, strategy=Sampling(), eos_id=None, seed=7)

    def drawn(samples, batch_size, prompts=prompts, first_row=0):
        found = generate(
            model, table, prompts, samples=samples, batch_size=batch_size, first_row=first_row,
            **arguments,
        )  # fmt: skip
        texts = [one.tokens for one in found]
        return [texts[i : i + samples] for i in range(0, len(texts), samples)]

    five = drawn(5, 12)  # two prompts in a batch
    assert [len(own) for own in five] == [5, 5, 5]
    assert len({tuple(tokens) for own in five for tokens in own}) == 15
    assert drawn(1, 3) == [own[:1] for own in five]  # as without samples
    assert drawn(5, 3) == five  # fewer rows than samples
    assert drawn(2, 3, prompts[1:], first_row=1) == [own[:2] for own in five[1:]]


def test_a_number_of_samples_below_1_is_refused(bigram):
    model, table = bigram(0, 7)
    with pytest.raises(UserError, match="samples 0; all must be at least 1"):
        generate(model, table, [[2]], max_new_tokens=2, samples=0, strategy=Greedy())


FIXTURES = Path(__file__).parents[2] / "models" / "hf" / "fixtures"


@pytest.mark.interop
def test_scores_are_those_of_the_processors_of_transformers():
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    rng = np.random.default_rng(0)
    scores = rng.standard_normal((4, 30)).astype(np.float32) * 3
    tokens = rng.integers(0, 30, (4, 9))
    seen = np.zeros((4, 30), bool)
    np.put_along_axis(seen, tokens, True, axis=1)
    penalize = transformers.RepetitionPenaltyLogitsProcessor(1.3)
    for new, minimum in [(2, 3), (3, 3)]:
        found = constraints_of(minimum, 1.3).applied(scores, Written(seen), np.int32(new), (5, 7))
        forbid = transformers.MinNewTokensLengthLogitsProcessor(9 - new, minimum, [5, 7])
        given = torch.tensor(tokens)
        expected = forbid(given, penalize(given, torch.tensor(scores)))
        np.testing.assert_allclose(found, expected.numpy(), rtol=1e-6)


@pytest.mark.slow
@pytest.mark.interop
@pytest.mark.parametrize(
    ("name", "kind", "beams"),
    [("gpt2", "GPT2LMHeadModel", 1), ("t5_1_1", "T5ForConditionalGeneration", 3)],
)
def test_transformers_generates_the_same(name, kind, beams):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    directory = FIXTURES / name
    model, params = load_hf(directory)
    theirs = getattr(transformers, kind).from_pretrained(directory)
    prompts, ends = [[7, 8], [30], [40, 41, 42]], [5, 19]
    start = None if name == "gpt2" else 0
    found = generate(
        model, params, prompts, max_new_tokens=12, min_new_tokens=3, repetition_penalty=1.4,
        strategy=BeamSearch(beams, 1.0, "transformers"), eos_id=tuple(ends), bos_id=start,
    )  # fmt: skip
    for prompt, one in zip(prompts, found, strict=True):
        (expected,) = theirs.generate(
            torch.tensor([prompt]), num_beams=beams, max_new_tokens=12, min_new_tokens=3,
            repetition_penalty=1.4, do_sample=False, eos_token_id=ends, pad_token_id=0,
        ).tolist()  # fmt: skip
        expected = expected[len(prompt) :] if start is None else expected[1:]
        ended = next((i for i, token in enumerate(expected) if token in ends), None)
        assert one.tokens == expected[:ended]
        assert one.finished == (ended is not None)
