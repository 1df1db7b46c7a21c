"""Decoding with real models' caches, against forward passes without one."""

import jax
import numpy as np
import pytest

from models.bart import BART
from models.errors import ModelError
from models.gpt import GPT2
from models.t5 import T5_1_1
from t5x_like.data.formats.prompts import DecoderPrompts, EncoderPrompts, bucket_length
from t5x_like.decoding import BeamSearch, Greedy, Sampling, generate
from t5x_like.decoding.constraints import StopStrings, token_texts
from t5x_like.decoding.generate import decoding_program
from t5x_like.decoding.scoring import score
from t5x_like.errors import UserError
from tests.models.families import WRITERS, drawn

EOS = 1
VOCABULARY = 31


def sharpened(model):
    """Random parameters, so large that the likeliest token depends on all that is read."""
    params = jax.jit(model.init)(jax.random.key(0))["params"]
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: (
            (0.4 * rng.standard_normal(leaf.shape)).astype(np.float32) if leaf.ndim > 1 else leaf
        ),
        params,
    )


@pytest.fixture(scope="module")
def gpt():
    model = GPT2(vocab_size=VOCABULARY, embed_dim=32, num_heads=2, num_layers=3, max_length=64)
    return model, sharpened(model)


@pytest.fixture(scope="module")
def t5():
    model = T5_1_1(
        vocab_size=VOCABULARY, embed_dim=24, mlp_dim=40, num_heads=2, head_dim=16,
        num_encoder_layers=2, num_decoder_layers=2, num_buckets=8, max_distance=16,
    )  # fmt: skip
    return model, sharpened(model)


def some_prompts(*lengths):
    rng = np.random.default_rng(0)
    return [rng.integers(2, VOCABULARY, size=n).tolist() for n in lengths]


def decoder_batch(prompt, new, bidirectional):
    """One row as in training: the targets shifted right, no padding."""
    batch = {"decoder_input_tokens": np.array([[0, *prompt, *new]], np.int32)}
    if bidirectional:
        batch["decoder_causal_attention"] = np.array(
            [[1] * (1 + len(prompt)) + [0] * len(new)], np.int32
        )
    return batch


def encoder_decoder_batch(prompt, new, bidirectional):
    del bidirectional
    return {
        "encoder_input_tokens": np.array([prompt], np.int32),
        "decoder_input_tokens": np.array([[0, *new]], np.int32),
    }


def assert_each_token_is_the_argmax(model, params, prompt, generation, limit, row, bidirectional):
    """One forward pass over prompt and answer, without a cache, gives every choice."""
    tokens = [*generation.tokens, EOS] if generation.finished else generation.tokens
    assert generation.finished or len(tokens) == limit
    logits = jax.jit(model.logits)(params, row(prompt, tokens[:-1], bidirectional))
    logits_tv = np.asarray(logits)[0]
    answers_tv = logits_tv[-len(tokens) :]
    assert np.argmax(answers_tv, axis=-1).tolist() == tokens
    log_probs_tv = np.asarray(jax.nn.log_softmax(answers_tv))
    total = log_probs_tv[np.arange(len(tokens)), tokens].sum()
    assert generation.score == pytest.approx(total, abs=1e-3)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_greedy_decoding_of_prompts_equals_teacher_forcing(gpt, bidirectional):
    model, params = gpt
    prompts = some_prompts(5, 1, 11, 0, 3)
    found = generate(
        model, params, prompts, max_new_tokens=12, bidirectional_prompt=bidirectional, batch_size=5
    )
    assert len({token for one in found for token in one.tokens}) >= 4  # no trivial loop
    for prompt, one in zip(prompts, found, strict=True):
        assert_each_token_is_the_argmax(
            model, params, prompt, one, 12, decoder_batch, bidirectional
        )


def test_a_bidirectional_prompt_changes_what_is_computed(gpt):
    model, params = gpt
    (prompt,) = some_prompts(11)
    causal, both = (
        generate(model, params, [prompt], max_new_tokens=12, bidirectional_prompt=way)[0]
        for way in (False, True)
    )
    assert abs(causal.score - both.score) > 0.1


def test_greedy_decoding_of_encoder_inputs_equals_teacher_forcing(t5):
    model, params = t5
    prompts = some_prompts(6, 1, 15, 9)
    found = generate(model, params, prompts, max_new_tokens=12, batch_size=3)
    assert len({token for one in found for token in one.tokens}) >= 4  # no trivial loop
    for prompt, one in zip(prompts, found, strict=True):
        assert_each_token_is_the_argmax(
            model, params, prompt, one, 12, encoder_decoder_batch, False
        )


@pytest.mark.parametrize("strategy", [BeamSearch(3, 0.6), Sampling()], ids=["beam", "sampling"])
@pytest.mark.parametrize("family", ["gpt", "t5"])
def test_rows_of_a_batch_come_out_as_each_alone(family, strategy, request):
    model, params = request.getfixturevalue(family)
    prompts = some_prompts(5, 2, 7)
    arguments = dict(max_new_tokens=8, strategy=strategy, seed=3)
    together = generate(model, params, prompts, batch_size=3, **arguments)
    alone = [
        generate(model, params, [prompt], batch_size=1, first_row=i, **arguments)[0]
        for i, prompt in enumerate(prompts)
    ]
    assert [one.tokens for one in together] == [one.tokens for one in alone]
    np.testing.assert_allclose(
        [one.score for one in together], [one.score for one in alone], atol=1e-4
    )


@pytest.mark.parametrize("family", ["gpt", "t5"])
def test_a_generations_score_is_what_scoring_gives_it(family, request):
    model, params = request.getfixturevalue(family)
    prompts = some_prompts(5, 2, 7, 4)
    found = generate(model, params, prompts, max_new_tokens=9, strategy=Sampling())
    targets = [[*one.tokens, EOS] if one.finished else one.tokens for one in found]
    scores = score(model, params, inputs=prompts, targets=targets, batch_size=3)
    np.testing.assert_allclose(
        [one.total for one in scores], [one.score for one in found], atol=1e-3
    )
    for one, target in zip(scores, targets, strict=True):
        assert one.tokens.shape == (len(target),)
        assert one.total == pytest.approx(one.tokens.sum(), abs=1e-4)


def test_a_batch_of_nothing_is_refused():
    with pytest.raises(UserError, match="batch_size is 0; it must be at least 1"):
        score(None, None, targets=[[3]], batch_size=0)


def test_beam_search_scores_are_likelihoods_over_the_penalty(t5):
    model, params = t5
    prompts = some_prompts(5, 2)
    found = generate(model, params, prompts, max_new_tokens=9, strategy=BeamSearch(4, 0.8))
    targets = [[*one.tokens, EOS] if one.finished else one.tokens for one in found]
    scores = score(model, params, inputs=prompts, targets=targets)
    for one, whole, target in zip(found, scores, targets, strict=True):
        assert one.score == pytest.approx(whole.total / ((5 + len(target)) / 6) ** 0.8, abs=1e-3)


@pytest.mark.slow
def test_prompts_and_targets_may_be_as_long_as_the_model():
    sizes = dict(vocab_size=50, embed_dim=8, num_heads=2, max_length=71)
    bart = BART(mlp_dim=8, num_encoder_layers=1, num_decoder_layers=1, **sizes)
    params = bart.init(jax.random.key(0))["params"]
    (found,) = generate(bart, params, [[5] * 65], max_new_tokens=2, batch_size=1, eos_id=None)
    assert len(found.tokens) == 2
    (scored,) = score(bart, params, inputs=[[5] * 71], targets=[[3] * 71], batch_size=1)
    assert len(scored.tokens) == 71
    with pytest.raises(ModelError, match="72 tokens in a row, but the model's max_length is 71"):
        generate(bart, params, [[5] * 72], max_new_tokens=2, batch_size=1)


@pytest.mark.parametrize(
    ("length", "longest", "padded"),
    [(7, None, 8), (65, None, 128), (65, 71, 71), (65, 200, 128), (3, 5, 5), (72, 71, 72)],
)
def test_a_bucket_is_no_longer_than_the_model(length, longest, padded):
    assert bucket_length(length, longest) == padded


def test_no_side_of_a_batch_is_padded_beyond_the_models_length():
    prompt, target = [5] * 65, [3] * 66
    shapes = {
        name: rows.shape
        for layout in (EncoderPrompts(), DecoderPrompts(prefix=False))
        for batch in (
            layout.decoding_batch([prompt], max_length=71),
            layout.scoring_batch([(prompt[:5], target)], max_length=71),
        )
        for name, rows in batch.items()
        if rows.shape[1] > 8
    }
    assert set(shapes.values()) == {(1, 71)}


def test_compilations_are_shared_by_prompts_of_a_bucket(gpt):
    model, params = gpt
    arguments = dict(max_new_tokens=5, batch_size=2)
    generate(model, params, some_prompts(2, 3), **arguments)
    before = decoding_program()._cache_size()
    generate(model, params, some_prompts(4, 7, 1, 6, 2), **arguments)
    assert decoding_program()._cache_size() == before


@pytest.mark.parametrize("strategy", [Greedy(), BeamSearch(beams=2)])
def test_a_row_ends_where_the_model_has_no_more_positions(gpt, strategy):
    model, params = gpt
    # 64 positions: 0 and a prompt of 50 take 51; 13 new tokens are read, and a 14th is not.
    prompts = some_prompts(50, 60)
    together = generate(
        model, params, prompts, strategy=strategy, max_new_tokens=30, eos_id=None, batch_size=2
    )
    assert [len(generation.tokens) for generation in together] == [14, 4]
    for prompt, room, generation in zip(prompts, [14, 4], together, strict=True):
        (alone,) = generate(
            model,
            params,
            [prompt],
            strategy=strategy,
            max_new_tokens=room,
            eos_id=None,
            batch_size=2,
        )
        assert alone.tokens == generation.tokens
        np.testing.assert_allclose(alone.score, generation.score, rtol=1e-4)
    with pytest.raises(UserError, match=r"prompt 2 of 2: it takes 65 .* max_length is 64"):
        generate(model, params, some_prompts(3, 64), max_new_tokens=1)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["gpt2", "t5_1_1", "lstm"])
def test_samples_share_the_cache_of_a_prompt_that_is_read_once(family):
    model = WRITERS[family]()
    params = drawn(model)
    rng = np.random.default_rng(0)
    prompts = [rng.integers(2, model.vocab_size, size=n).tolist() for n in (5, 2, 7)]
    words = [f"w{i}. " if i % 5 == 2 else f"w{i} " for i in range(model.vocab_size)]

    def decode(ids):
        return "".join(words[i] for i in ids)

    stop = StopStrings((". w",), decode, token_texts(decode, model.vocab_size))
    found = generate(
        model, params, prompts, max_new_tokens=8, strategy=Sampling(), samples=3, batch_size=6,
        repetition_penalty=1.5, min_new_tokens=4, stop=stop, eos_id=(EOS, 3),
    )  # fmt: skip
    assert len({tuple(one.tokens) for one in found}) > 5
    stopped = [stop.kept(one.tokens) for one in found]
    assert any(stopped)
    for kept, one in zip(stopped, found, strict=True):
        assert kept in (None, len(one.tokens))
    # Those that ended with an end token, whichever it was, are scored without it.
    whole = [(i // 3, one) for i, one in enumerate(found) if one.length == len(one.tokens)]
    assert all(one.length > 4 for one in found if one.length > len(one.tokens))
    scores = score(
        model, params, inputs=[prompts[i] for i, _ in whole],
        targets=[one.tokens for _, one in whole], batch_size=6,
    )  # fmt: skip
    np.testing.assert_allclose(
        [one.total for one in scores], [one.score for _, one in whole], atol=1e-3
    )
