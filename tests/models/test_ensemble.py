"""Ensembles: the mean of several models' predictions, in scoring as in decoding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from models import ensemble, gpt, llama
from models.errors import ModelError
from models.heads import Classification, Reward
from models.recurrent import RecurrentLM
from tests.models import families

V = 32
GPT = gpt.GPT2(vocab_size=V, embed_dim=8, num_heads=2, num_layers=1, max_length=16)
LLAMA = llama.LLaMA(
    vocab_size=V, embed_dim=16, num_heads=4, num_layers=1, mlp_dim=12, max_length=12
)  # fmt: skip
CARRIES = RecurrentLM(vocab_size=V, embed_dim=4, hidden_dim=4, carries=True)
TOKENS = np.random.default_rng(0).integers(3, V, (2, 6)).astype(np.int32)


@pytest.fixture(scope="module")
def params():
    """Large ones, so that predictions differ."""
    made = jax.jit(both().init)(jax.random.key(0))["params"]
    return jax.tree.map(lambda x: 4 * x, made)


def both(**options):
    return ensemble.LanguageModelEnsemble(members=(GPT, LLAMA), **options)


@pytest.fixture(scope="module")
def logits(params):
    """Each member's own."""
    batch = {"decoder_input_tokens": TOKENS}
    members = {"member_0": GPT, "member_1": LLAMA}
    return [jax.jit(one.logits)(params[name], batch) for name, one in members.items()]


def by_hand(logits, mean):
    """NumPy and SciPy."""
    log_probs = [scipy.special.log_softmax(np.asarray(x, np.float64), axis=-1) for x in logits]
    if mean == "probabilities":
        return np.log((np.exp(log_probs[0]) + np.exp(log_probs[1])) / 2)
    # Renormalized, the mean of logits is the same.
    return scipy.special.log_softmax((np.asarray(logits[0]) + np.asarray(logits[1])) / 2, axis=-1)


@pytest.mark.slow
@pytest.mark.parametrize("mean", ensemble.MEANS)
def test_what_is_predicted_is_the_mean_of_the_members(mean, params, logits):
    model, expected = both(mean=mean), by_hand(logits, mean)
    found = jax.jit(model.logits)(params, {"decoder_input_tokens": TOKENS})
    np.testing.assert_allclose(scipy.special.log_softmax(found, axis=-1), expected, atol=1e-5)

    batch = {"decoder_input_tokens": TOKENS[:, :-1], "decoder_target_tokens": TOKENS[:, 1:]}
    sums, metrics = jax.jit(model.loss)(params, batch)
    nats = -np.take_along_axis(expected[:, :-1], TOKENS[:, 1:, None], axis=-1)[..., 0]
    np.testing.assert_allclose(sums["loss"], nats.sum(), rtol=1e-5)
    rows, _ = jax.jit(model.row_metrics)(params, batch)
    np.testing.assert_allclose(rows["loss"][0], nats.sum(axis=1), rtol=1e-5)
    assert float(metrics["loss"][1]) == nats.size == float(model.loss_weights(batch)["loss"])


def test_decoding_gives_the_logits_of_the_whole_row(params, logits):
    model, expected = both(), by_hand(logits, "probabilities")

    @jax.jit
    def decoded(params):
        given = model.decoding_params(params)
        cache = model.init_cache(given, {"decoder_input_tokens": TOKENS[:, :3]}, 6)
        one, cache = model.decode_step(given, cache, TOKENS[:, 3])
        return one[:, None], model.extend(given, cache, TOKENS[:, 4:])[0]

    found = np.concatenate(decoded(params), axis=1)
    np.testing.assert_allclose(
        scipy.special.log_softmax(found, axis=-1), expected[:, 3:], atol=2e-5
    )


@pytest.mark.slow
def test_classifiers_are_asked_together():
    """A head's logits are averaged, as the probabilities that it gives then show."""
    head = Classification(("no", "yes"))
    one = GPT.clone(head=head)
    model = ensemble.ensemble_of([one, one])
    made = jax.jit(model.init)(jax.random.key(1))["params"]
    batch = {"decoder_input_tokens": jnp.asarray(TOKENS)}
    own = jax.jit(one.logits)
    logits = [own(made[f"member_{number}"], batch) for number in (0, 1)]
    expected = head.predictions((logits[0] + logits[1]) / 2)
    found = jax.jit(model.predict)(made, batch)
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-6)
    assert model.label_names == one.label_names


def test_sizes_and_lengths_are_those_of_all():
    model = both()
    assert model.parameter_count() == GPT.parameter_count() + LLAMA.parameter_count()
    assert (model.max_length, model.vocab_size) == (12, V)
    assert model.batch_format == GPT.batch_format
    four, eight = GPT, GPT.clone(num_heads=1)
    assert ensemble.ensemble_of([four, eight]).axis_blocks() == {
        "joined_kv": 8,
        "joined_shared_kv": 8,
    }


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([GPT], r"an ensemble of 1: two or more"),
        ([GPT, GPT.clone(vocab_size=33)], r"members 0 and 1 .* vocab_size 32 and 33"),
        ([GPT, GPT.clone(head=Reward())], r"members 0 and 1 .* (batch_format|head)"),
        ([GPT, families.WRITERS["t5_1_1"](vocab_size=V)], r"have batch_format"),
        ([CARRIES] * 2, r"member 0 .* hands a state"),
    ],
)  # fmt: skip
def test_members_that_differ_are_refused_in_one_line(members, message):
    with pytest.raises(ModelError, match=message) as error:
        ensemble.ensemble_of(members)
    assert "\n" not in str(error.value)


def test_it_is_not_trained(params):
    batch = {"decoder_input_tokens": TOKENS[:, :-1], "decoder_target_tokens": TOKENS[:, 1:]}
    with pytest.raises(ModelError, match=r"LanguageModelEnsemble is not trained: train its memb"):
        both().loss(params, batch, jax.random.key(0))
    with pytest.raises(ModelError, match=r"mean is 'median': it must be one of probabilities"):
        both(mean="median")
