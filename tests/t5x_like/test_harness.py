"""A run as a model of lm-evaluation-harness; `cli/test_eval_harness.py` has lm_eval itself."""

from types import SimpleNamespace

import numpy as np
import pytest
from etils import epath

from models.bert import BERT
from t5x_like.decoding import continuations
from t5x_like.decoding.generate import generate
from t5x_like.decoding.scoring import score
from t5x_like.decoding.text import TextCodec
from t5x_like.errors import UserError
from t5x_like.runs import harness
from t5x_like.runs.harness import HarnessModel
from tests.models.families import T5_1_1, V, drawn, gpt2, t5
from tests.t5x_like.letters import Feature, Letters


class Known(Letters):
    """Letters, as many ids as the models have."""

    vocab_size = V


CODEC = TextCodec(None, Feature(Known()), False)


def run_of(model, codec=CODEC, params=None):
    params = drawn(model) if params is None else params
    return SimpleNamespace(model=model, params=params, codec=codec, model_dir="runs/a", step=7)


@pytest.fixture(scope="module")
def run():
    return run_of(gpt2(max_length=16))


def asked(*arguments):
    """Requests as lm_eval makes them."""
    return [SimpleNamespace(args=each) for each in arguments]


@pytest.mark.slow
def test_continuations_are_scored_and_told_whether_they_are_what_the_model_would_write(run):
    encode = Letters().encode
    (written,) = generate(run.model, run.params, [encode("abcd")], max_new_tokens=3, eos_id=None)
    likeliest = Letters().decode(written.tokens)
    assert len(likeliest) == 3  # no token that is no letter
    other = "z" + likeliest[1:]
    pairs = [("abcd", likeliest), ("abcd", other), ("", "xy")]
    found = HarnessModel(run).loglikelihood(asked(*pairs))
    inputs, targets = ([encode(text) for text in texts] for texts in zip(*pairs, strict=True))
    expected = score(run.model, run.params, inputs=inputs, targets=targets)
    assert [total for total, _ in found] == pytest.approx([one.total for one in expected], abs=1e-5)
    assert [greedy for _, greedy in found] == [True, False, False]


def test_whole_texts_are_read_by_windows_of_the_models_length(run):
    """20 letters: 16 after the start token; then the last 4, of which 12 more are read before."""
    text = "abcdefghijklmnopqrst"
    ids = Letters().encode(text)
    found = HarnessModel(run).loglikelihood_rolling(asked(("abc",), (text,), ("",)))
    (short, first) = score(run.model, run.params, targets=[Letters().encode("abc"), ids[:16]])
    (last,) = score(run.model, run.params, inputs=[ids[3:16]], targets=[ids[16:]], bos_id=None)
    assert found == pytest.approx([short.total, first.total + last.total, 0.0], abs=1e-4)


@pytest.mark.slow
def test_a_text_is_written_up_to_the_first_string_that_ends_it(run):
    (whole,) = generate(
        run.model, run.params, [Letters().encode("abcd")], max_new_tokens=8, eos_id=(1,)
    )
    text = Letters().decode(whole.tokens)
    end = text[3:5]
    assert text.find(end) == 3
    ways = [
        {"until": [end], "max_gen_toks": 8},
        {"until": ["", end, "zzzz"], "max_gen_toks": 8, "temperature": 0.0, "do_sample": False},
        {"until": text[0], "max_gen_toks": 8},
        {"max_gen_toks": 2},
    ]
    found = HarnessModel(run).generate_until(asked(*(("abcd", way) for way in ways)))
    assert found == [text[:3], text[:3], "", text[:2]]


@pytest.mark.slow
def test_a_context_leaves_room_for_what_is_written(run):
    """Of 16 positions 6 are for new tokens: the last 10 letters are read."""
    context = "abcdefghijklmnop"
    model = HarnessModel(run)
    (found,) = model.generate_until(asked((context, {"max_gen_toks": 6})))
    (expected,) = generate(
        run.model, run.params, [Letters().encode(context[-10:])], max_new_tokens=6, bos_id=None
    )
    assert found == Letters().decode(expected.tokens)
    with pytest.raises(UserError, match="wants 16 new tokens, but the model's max_length is 16"):
        model.generate_until(asked(("a", {"max_gen_toks": 16})))


class EndsBefore(Letters):
    """A text is read after the end of the one before, as GPT-2's."""

    start_id = 1


def test_a_start_token_that_is_the_end_token_is_left_out_as_transformers_does(run):
    codec = TextCodec(None, Feature(EndsBefore()), False)
    one = run_of(run.model, codec, run.params)
    assert HarnessModel(run).reading.start_token
    assert not HarnessModel(one).reading.start_token
    encode = Letters().encode
    (found,) = HarnessModel(one).loglikelihood(asked(("ab", "c")))
    (expected,) = score(
        run.model, run.params, inputs=[encode("ab")], targets=[encode("c")], bos_id=None
    )
    assert found[0] == pytest.approx(expected.total, abs=1e-5)
    (found,) = HarnessModel(one, start_token=True).loglikelihood(asked(("ab", "c")))
    (expected,) = score(
        run.model, run.params, inputs=[encode("ab")], targets=[encode("c")], bos_id=1
    )
    assert found[0] == pytest.approx(expected.total, abs=1e-5)


@pytest.fixture(scope="module")
def encoder_run():
    return run_of(t5(T5_1_1), TextCodec(Feature(), Feature(), False, 8))


@pytest.mark.slow
def test_an_encoder_reads_contexts_with_their_end_token(encoder_run):
    encode = Letters().encode
    model = HarnessModel(encoder_run)
    assert model.get_model_info()["model_reading"] == "contexts read as inputs by the encoder"
    ((found, _),) = model.loglikelihood(asked(("abc", "de")))
    (expected,) = score(
        encoder_run.model, encoder_run.params, inputs=[[*encode("abc"), 1]], targets=[encode("de")]
    )
    assert found == pytest.approx(expected.total, abs=1e-5)


@pytest.mark.parametrize(
    ("way", "said"),
    [
        ({"repetition_penalty": 2}, "generation_kwargs have 'repetition_penalty', which is not"),
        ({"do_sample": True, "temperature": 0.0, "top_k": 3}, "top_k is 3, but at temperature 0"),
    ],
)
def test_a_way_of_generating_that_is_not_known_is_said_in_one_line(run, way, said):
    with pytest.raises(UserError, match=said):
        HarnessModel(run).generate_until(asked(("a", way)))


def test_what_cannot_be_asked_is_said_in_one_line(run, encoder_run):
    with pytest.raises(UserError, match=r"has an encoder: a task of whole texts"):
        HarnessModel(encoder_run).loglikelihood_rolling(asked(("abc",)))
    with pytest.raises(UserError, match="contexts is 'inputs', but the run's task has none"):
        HarnessModel(run, contexts="inputs")
    with pytest.raises(UserError, match="batch_size is 0"):
        HarnessModel(run, batch_size=0)
    bert = BERT(vocab_size=V, embed_dim=8, mlp_dim=8, num_heads=1, num_layers=1, max_length=8)
    with pytest.raises(UserError, match="BERT does not generate or score text"):
        HarnessModel(run_of(bert, params={}))


def test_an_evaluation_that_was_interrupted_goes_on_from_its_batches(run, tmp_path, monkeypatch):
    monkeypatch.setattr(harness, "identity_of", lambda *_: "abc")
    folder = epath.Path(tmp_path / "eval")
    model = HarnessModel(run, batch_size=1)
    requests = asked(("ab", "c"), ("fghij", "gh"))
    expected = model.loglikelihood(requests)
    with pytest.raises(KeyboardInterrupt), model.remembering(folder):
        model.loglikelihood(requests[:1])
        raise KeyboardInterrupt
    (file,) = folder.iterdir()
    assert file.name == "7.abc.partial.jsonl"
    computed = []
    of_batch = continuations._log_likelihoods
    monkeypatch.setattr(
        continuations, "_log_likelihoods", lambda *args: computed.append(1) or of_batch(*args)
    )
    with model.remembering(folder):
        assert model.loglikelihood(requests) == expected
    assert len(computed) == 1
    assert not list(folder.iterdir())


def test_results_say_which_model_they_are_of(run):
    info = HarnessModel(run).get_model_info()
    assert info["model_step"] == 7 and info["model_class"] == "GPT2"
    assert info["model_num_parameters"] == run.model.parameter_count()
    assert info["model_reading"] == "contexts read as text causally"
    assert np.isfinite(info["model_num_parameters"])
