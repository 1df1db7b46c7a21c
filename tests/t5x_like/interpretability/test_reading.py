"""What is shown of a model with a head is of the rows that its head reads, cut as they are."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tasks
from models.bert import BERT
from models.gpt import GPT2
from models.heads import Classification, MultipleChoice, Spans
from models.t5 import T5_1_1
from t5x_like.decoding import TextCodec
from t5x_like.errors import UserError
from t5x_like.interpretability.reading import read
from t5x_like.runs import Run
from tasks import objectives, sources
from tasks.vocabularies import ByteVocabulary
from tests.models.families import drawn

CLS, SEP = 382, 381
SIZES = dict(vocab_size=384, embed_dim=8, num_heads=1)
ENCODER = SIZES | dict(mlp_dim=8, num_layers=1)
TWO = Classification(("odd", "even"))
BERT_ = BERT(**ENCODER, max_length=32, head=TWO)


def source(*columns):
    return sources.TabSeparated(files={"train": "rows.tsv"}, columns=columns)


PAIRS = tasks.labelled("pairs", source("a", "b", "label"), ["a", "b"], labels=["odd", "even"])
ALONE = tasks.labelled("alone", source("a", "label"), ["a"], labels=["odd", "even"])


def run_of(model, task, length=8):
    """A run whose parameters and task are put in place of files'."""
    run = Run("run", model, {"inputs": length, "choices": 3})
    run.__dict__["_restored"] = (drawn(model), 0)
    run.__dict__["task"] = task
    return run


def rows_of(model, task, texts, length=8):
    run = run_of(model, task, length)
    _, reader = run._reading(None)
    return read(model, TextCodec.for_task(task, model), texts, None, reader)


def encoded(text):
    return ByteVocabulary().encode(text)


def test_attention_is_that_of_the_row_which_the_head_reads():
    run = run_of(BERT_, PAIRS)
    long, short = run.attention([("a", "b"), "c\td"])
    row = jnp.array([[CLS, *encoded("a"), SEP, *encoded("b"), SEP]])
    types = jnp.array([[0, 0, 0, 1, 1]])
    weights = jax.jit(BERT_.attention_weights)(
        run.params, {"encoder_input_tokens": row, "encoder_token_types": types}
    )
    assert long.encoder_tokens == [f"<{CLS}>", "a", f"<{SEP}>", "b", f"<{SEP}>"]
    np.testing.assert_allclose(long.encoder, weights["encoder"][:, 0], atol=1e-6)
    assert short.encoder_tokens == [f"<{CLS}>", "c", f"<{SEP}>", "d", f"<{SEP}>"]
    assert short.decoder is None and short.cross is None


def test_a_row_is_cut_as_it_is_predicted_and_it_is_said():
    run = run_of(BERT_, ALONE)
    said = r"1 of 2 texts lose their end: .* longer than 8 tokens, which TASK_FEATURE_LENGTHS says"
    for ask in (run.attention, run.predict, run.embed):
        with pytest.warns(UserWarning, match=said) as warned:
            found = ask(["abcdefg", "abcdef"])
        assert [one.filename for one in warned] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(*run.embed(["abcdef", "abcdef"]))
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)  # of the same six letters
    rows, batch = rows_of(BERT_, ALONE, ["abcdefg"])
    assert rows == {"encoder": [[CLS, *encoded("abcdef"), SEP]]}
    assert batch["encoder_input_tokens"][0, :8].tolist() == rows["encoder"][0]


def test_a_text_with_choices_has_a_row_for_each_that_it_has():
    task = tasks.multiple_choice("choices", source("t", "a", "b", "c", "label"), "{t}", ["a", "b"])
    model = BERT(**ENCODER, max_length=32, head=MultipleChoice())
    rows, batch = rows_of(model, task, [("t", "a", "b", "c"), "u\ta\tb"], 16)
    assert rows["encoder"] == [
        [CLS, *encoded(text), SEP, *encoded(choice), SEP]
        for text, choice in ("ta", "tb", "tc", "ua", "ub")
    ]
    assert batch["encoder_segment_ids"].sum(axis=1).tolist() == [5] * 5


def test_a_question_has_a_row_for_each_window_and_no_vector():
    windows = objectives.SpanWindows(stride=2, question_length=2)
    task = tasks.spans("spans", source("question", "context", "answers"), windows=windows)
    model = BERT(**ENCODER, max_length=32, head=Spans())
    rows, _ = rows_of(model, task, [("q", "abcdef")])
    assert rows["encoder"] == [
        [CLS, *encoded("q"), SEP, *encoded(window), SEP] for window in ("abcd", "cdef")
    ]
    run = run_of(model, task)
    with pytest.raises(UserError, match="BERT of this run marks answers in windows of texts, and"):
        run.embed([("q", "abcdef")])
    with pytest.warns(UserWarning, match="1 of 1 questions lose their end: they have more tokens"):
        run.predict([("why", "abc")])


def test_decoders_with_a_head_read_their_rows_too():
    gpt = GPT2(**SIZES, num_layers=1, max_length=16, head=TWO)
    row = [CLS, *encoded("ab"), SEP]
    assert rows_of(gpt, ALONE, ["ab"])[0] == {"decoder": [row]}
    t5 = T5_1_1(
        **SIZES, mlp_dim=8, head_dim=8, num_encoder_layers=1, num_decoder_layers=1, head=TWO
    )
    rows, _ = rows_of(t5, ALONE, ["ab"])
    assert rows["encoder"] == [row] and rows["decoder"][0][1:] == row[:-1]
    (maps,) = run_of(t5, ALONE).attention(["ab"])
    assert maps.cross.shape == (1, 1, 4, 4)


@pytest.mark.parametrize(
    ("model", "texts", "targets", "said"),
    [
        (BERT_, ["a"], ["b"], "targets are given, but BERT writes none: leave it out"),
        (GPT2(**SIZES, num_layers=1, max_length=8), [("a", "b")], None, r"texts\[0\] has several"),
    ],
)
def test_what_is_not_read_is_refused(model, texts, targets, said):
    task = ALONE if model is BERT_ else tasks.unsupervised("plain", source("text"))
    with pytest.raises(UserError, match=said):
        read(model, TextCodec.for_task(task, model), texts, targets)
