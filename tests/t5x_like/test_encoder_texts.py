"""Texts at hand are read by an encoder without a head in rows like those that it was trained on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tasks
from models.bert import BERT
from models.bigbird import BigBird
from models.spanbert import SpanBERT
from models.xlnet import XLNet
from t5x_like.decoding import TextCodec
from t5x_like.errors import UserError
from t5x_like.interpretability.reading import read
from t5x_like.runs import at_hand
from tasks import objectives, sources
from tasks.vocabularies import ByteVocabulary

CLS, SEP = 382, 381
SIZES = dict(vocab_size=384, embed_dim=8, mlp_dim=8, num_heads=1, num_layers=1)
BERT_ = BERT(**SIZES, max_length=32)
XLNET = XLNet(**SIZES)
ETC = BigBird(**SIZES, num_random_blocks=0, num_global_tokens=2, reads_sentences=True)


def task_of(objective):
    return tasks.unsupervised("texts", sources.StandardLibraryModules(), objective=objective)


def encoded(text):
    return ByteVocabulary().encode(text)


NUMBERED = objectives.NumberedSentences(objectives.MaskedLM())
SPANS = objectives.MaskedSpans(whole_words=False)


@pytest.mark.parametrize(
    ("objective", "model", "row"),
    [
        *(
            (objective, BERT_, [CLS, *encoded("A. B"), SEP])
            for objective in (
                objectives.MaskedLM(),
                objectives.PackedSentences(),
                objectives.SentencePairs(),
                objectives.SentenceOrder(),
                objectives.SentenceStructure(),
            )
        ),
        (SPANS, SpanBERT(**SIZES), [CLS, *encoded("A. B"), SEP]),
        (objectives.PermutationLM(), XLNET, [*encoded("A. B"), SEP, CLS]),
        (objectives.PermutationLM(two_segments=False), XLNET, encoded("A. B")),
        (NUMBERED, ETC, [CLS, *encoded("A. B"), SEP]),
    ],
    ids=lambda x: type(x).__name__,
)
def test_a_row_has_what_stands_around_a_text(objective, model, row):
    codec = TextCodec.for_task(task_of(objective), model)
    rows, batch = read(model, codec, ["A. B", "long. er"], None)
    assert rows["encoder"][0] == row
    size, places = len(row), range(batch["encoder_input_tokens"].shape[1])
    assert batch["encoder_input_tokens"][0, :size].tolist() == row
    assert batch["encoder_segment_ids"][0].tolist() == [int(x < size) for x in places]
    types = batch["encoder_token_types"][0].tolist()
    assert types == [2 * (x == size - 1 and row[-1] == CLS) for x in places]
    if model is ETC:
        assert batch["encoder_sentence_ids"][0].tolist() == [0, 1, 1, 2, 2, *[0] * 11]
    else:
        assert "encoder_sentence_ids" not in batch


@pytest.mark.slow
def test_a_text_is_embedded_as_its_row_is():
    """The first vector is that of [CLS], and the mean is that of the row."""
    params = jax.jit(BERT_.init)(jax.random.key(0))["params"]
    codec = TextCodec.for_task(task_of(objectives.MaskedLM()), BERT_)
    row = jnp.array([[CLS, *encoded("ab"), SEP, *[0] * 12]])
    batch = {"encoder_input_tokens": row, "encoder_segment_ids": (row > 0).astype(int)}
    states = np.asarray(jax.jit(BERT_.predict)(params, batch)["hidden_states"][0])
    found = at_hand.outputs(BERT_, params, codec, None, ["ab", "cde"], ("hidden_states", "pooled"))
    assert found["lengths"].tolist() == [4, 5]
    first = at_hand.pooled(found["hidden_states"], found["lengths"], "first")[0]
    mean = at_hand.pooled(found["hidden_states"], found["lengths"], "mean")[0]
    np.testing.assert_allclose(first, states[0], atol=1e-5)
    np.testing.assert_allclose(mean, states[:4].mean(axis=0), atol=1e-5)


def test_what_stands_around_a_text_counts_in_its_length():
    codec = TextCodec.for_task(task_of(objectives.MaskedLM()), BERT_)
    read(BERT_, codec, ["a" * 30], None)
    with pytest.raises(UserError, match="a text of 33 tokens, where the model has 32 positions"):
        read(BERT_, codec, ["a" * 31], None)
