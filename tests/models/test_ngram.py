"""The counted model looks its table up as the smoothing says: in rows, segments and decoding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.errors import ModelError
from models.ngram import Counter, NGram
from models.ngrams.counts import count_ngrams
from models.ngrams.smoothing import AddK, MaximumLikelihood, ModifiedKneserNey, WittenBell
from models.ngrams.table import level_name
from t5x_like import protocols

V = 200
ORDER = 3


def texts_of(seed=0, texts=60):
    """Sentences in which some contexts have more than 128 continuations."""
    rng = np.random.default_rng(seed)
    weights = 1 / np.arange(1, V)
    draw = lambda n: rng.choice(np.arange(1, V), n, p=weights / weights.sum())  # noqa: E731
    return [np.concatenate([[0], draw(rng.integers(1, 60))]).astype(np.int32) for _ in range(texts)]


def counted(smoothing, order=ORDER):
    texts = [*texts_of(), *(np.array([0, 7, t], np.int32) for t in range(1, V - 20))]
    counts = count_ngrams(
        np.concatenate(texts), [text.size for text in texts], order=order, vocab_size=V
    )
    model, table, _ = Counter(order, smoothing).model_of(counts)
    return model, table


# Compiled, as the engine has them.
log_likelihoods = jax.jit(NGram.log_likelihoods, static_argnums=0)
logits_of = jax.jit(NGram.logits, static_argnums=0)
extend = jax.jit(NGram.extend, static_argnums=0)


@pytest.fixture(scope="module", params=[ModifiedKneserNey(), AddK(0.5)], ids=["backs_off", "add_k"])
def pair(request):
    return counted(request.param)


def by_hand(model, table, history, token):
    """P of a token from the table, in plain Python."""

    def place(gram):
        at = gram[0]
        for size, t in enumerate(gram[1:], 2):
            level = table[level_name(size)]
            own = level["token"][level["first"][at] : level["first"][at + 1]].tolist()
            if t not in own:
                return None
            at = int(level["first"][at]) + own.index(t)
        return at

    history = list(history)[max(0, len(history) - model.order + 1) :]
    found = place([*history, token])
    if found is not None:
        return float(table[level_name(len(history) + 1)]["probability"][found])
    context = place(history)
    weight = 1.0 if context is None else table[level_name(len(history))]["backoff"][context]
    if model.backs_off:
        return float(weight) * by_hand(model, table, history[1:], token)
    return float(weight) / (V - 1)


ROWS = np.array([[0, 1, 7, 199, 2, 1, 1, 3], [0, 7, 0, 1, 2, 9, 0, 0]], np.int32)
SEGMENTS = np.array([[1, 1, 1, 1, 1, 1, 1, 1], [1, 1, 2, 2, 2, 2, 0, 0]], np.int32)
TARGETS = np.array([[1, 7, 199, 2, 1, 1, 3, 5], [7, 9, 1, 2, 9, 4, 0, 0]], np.int32)
BATCH = {
    "decoder_input_tokens": ROWS,
    "decoder_target_tokens": TARGETS,
    "decoder_segment_ids": SEGMENTS,
    "decoder_loss_weights": (SEGMENTS > 0).astype(np.int32),
}


def histories(row):
    """The tokens of its segment up to each position."""
    return [
        [t for t, s in zip(ROWS[row, : i + 1], SEGMENTS[row, : i + 1], strict=True)
         if s == SEGMENTS[row, i]]
        for i in range(ROWS.shape[1])
    ]  # fmt: skip


def test_each_target_has_the_probability_of_the_table(pair):
    model, table = pair
    found = np.asarray(log_likelihoods(model, table, BATCH))
    for row in range(2):
        for i, history in enumerate(histories(row)):
            if SEGMENTS[row, i]:
                expected = np.log(by_hand(model, table, history, int(TARGETS[row, i])))
                np.testing.assert_allclose(found[row, i], expected, rtol=1e-5)
            else:
                assert found[row, i] == 0


def test_logits_are_log_probabilities_of_all_tokens(pair):
    model, table = pair
    logits = np.asarray(jax.jit(model.apply)({"params": table}, **BATCH), np.float64)
    assert logits.shape == (2, 8, V)
    np.testing.assert_allclose(np.exp(logits).sum(axis=-1), 1, rtol=1e-4)
    assert (logits[..., 0] == -np.inf).all()  # padding is never predicted
    chosen = np.take_along_axis(logits, TARGETS[..., None], axis=-1)[..., 0]
    expected = np.asarray(log_likelihoods(model, table, BATCH))
    np.testing.assert_allclose(chosen[SEGMENTS > 0], expected[SEGMENTS > 0], rtol=1e-5)
    # After 7 stand more tokens than are looked at together.
    for token in (1, 150, V - 1):
        expected = np.log(by_hand(model, table, [0, 7], token))
        np.testing.assert_allclose(logits[1, 1, token], expected, rtol=1e-5)


def test_decoding_reads_what_the_rows_read(pair):
    model, table = pair
    expected = np.asarray(logits_of(model, table, {"decoder_input_tokens": ROWS[:1]}))
    # A prompt of three tokens, padded on the left; then two tokens at once, then one by one.
    prompt = np.array([[0, 0, *ROWS[0, :3]]], np.int32)
    batch = {
        "decoder_input_tokens": prompt,
        "decoder_segment_ids": np.array([[0, 0, 1, 1, 1]], np.int32),
    }
    cache = model.init_cache(table, batch, 16)
    logits, cache = extend(model, table, cache, jnp.asarray(ROWS[:1, 3:5]))
    np.testing.assert_allclose(logits, expected[:, 3:5], rtol=1e-6)
    step = jax.jit(model.decode_step)
    for i in range(5, 8):
        logits, cache = step(table, cache, jnp.asarray(ROWS[:1, i]))
        np.testing.assert_allclose(logits, expected[:, i], rtol=1e-6)


def test_the_loss_is_summed_over_the_targets_that_count(pair):
    model, table = pair
    terms, metrics = jax.jit(model.loss)(table, BATCH)
    total = -np.asarray(log_likelihoods(model, table, BATCH)).sum()
    np.testing.assert_allclose(terms["loss"], total, rtol=1e-5)
    assert metrics["loss"][1] == 14 and model.loss_weights(BATCH)["loss"] == 14


def test_one_token_alone_is_a_model_too():
    model, table = counted(WittenBell(), order=1)
    logits = logits_of(model, table, BATCH)
    assert logits.shape == (2, 8, V)
    np.testing.assert_allclose(np.exp(logits[0, 0]).sum(), 1, rtol=1e-5)
    cache = model.init_cache(table, {"decoder_input_tokens": ROWS[:, :0]}, 4)
    found, _ = model.decode_step(table, cache, jnp.asarray([1, 2]))
    np.testing.assert_array_equal(found, logits[:, 0])


def test_what_never_occurred_has_an_infinite_loss_and_breaks_no_other_number():
    model, table = counted(MaximumLikelihood())
    found = np.asarray(log_likelihoods(model, table, BATCH))
    assert np.isneginf(found).any() and not np.isnan(found).any()
    assert not np.isnan(jax.nn.log_softmax(logits_of(model, table, BATCH))).any()


def test_it_is_a_model_that_decodes_and_measures_rows_and_has_its_ngrams_for_parameters(pair):
    model, table = pair
    assert isinstance(model, protocols.Decodes) and isinstance(model, protocols.Extends)
    assert protocols.measures_rows(model) and not protocols.carries(model)
    assert isinstance(Counter(), protocols.Counts)
    assert model.parameter_count() == sum(len(level["probability"]) for level in table.values())
    assert model.parameter_count(embeddings=False) == model.parameter_count() - V
    shapes = jax.tree.map(lambda box: box.value.shape, model.abstract_params(),
                          is_leaf=lambda box: hasattr(box, "names"))  # fmt: skip
    assert shapes == jax.tree.map(np.shape, table)


def test_it_is_not_trained(pair):
    with pytest.raises(ModelError, match="counted and not trained"):
        pair[0].init(jax.random.key(0))


def test_sizes_of_another_table_are_refused():
    with pytest.raises(ModelError, match="num_ngrams"):
        NGram(vocab_size=V, order=3, num_ngrams=(V, 10))
    with pytest.raises(ModelError, match="1 to 9"):
        NGram(vocab_size=V, order=10, num_ngrams=(V,) * 10)
    with pytest.raises(ModelError, match="smoothing"):
        Counter(3, "kneser_ney")
