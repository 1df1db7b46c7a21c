"""A table of tokens that is read from a file of words' vectors."""

import dataclasses

import jax
import numpy as np
import pytest

from models.attention_seq2seq import AttentionSeq2Seq
from models.recurrent import RecurrentLM
from models.tuning import Parts
from models.xlnet import XLNet
from t5x_like.checkpoints import CheckpointPolicy, load_params
from t5x_like.data import DatasetConfig
from t5x_like.errors import UserError
from t5x_like.optimizers import adamw
from t5x_like.schedules import Constant
from t5x_like.train import train_plan
from t5x_like.training.plan import TrainingPlan
from t5x_like.vectors import InitialVectors, WordVectors, initial_table, write_vectors

TABLE = "source_embedder/embedding"


class Words:
    """Four words, and what is not known."""

    vocab_size, extra_ids, eos_id, unk_id = 7, 0, 1, 2

    def decode(self, ids):
        words = {2: "<unk>", 3: "cat", 4: "dog", 5: "Cat", 6: "Lion"}
        return " ".join(words.get(i, "") for i in ids)


class Feature:
    vocabulary, add_eos = Words(), True


class Task:
    name = "translation"
    output_features = dict.fromkeys(("inputs", "targets"), Feature())

    @property
    def tasks(self):
        return ((self, 1.0),)


def model(**options):
    sizes = dict(vocab_size=8, embed_dim=2, encoder_dim=2, hidden_dim=4, maxout_dim=2)
    return AttentionSeq2Seq(**(sizes | options))


@pytest.fixture
def path(tmp_path):
    written = WordVectors(("dog", "lion", "cat"), np.array([(1, 2), (3, 4), (5, 6)]))
    write_vectors(written, tmp_path / "v.txt", "glove")
    return str(tmp_path / "v.txt")


def test_tokens_have_the_vectors_of_their_words_and_others_zeros(path):
    table = initial_table(InitialVectors(path, TABLE, "inputs"), model(), Task())
    assert table.values.tolist() == [[0, 0]] * 3 + [[5, 6], [1, 2]] + [[0, 0]] * 3
    assert table.values.dtype == np.float32
    assert table.origin == f"{path}, which has 2 of 7 tokens"


def test_words_may_have_the_vectors_of_their_lower_cased_forms(tmp_path):
    """A word that the file has as it is keeps its own."""
    written = WordVectors(("dog", "lion", "cat", "Cat"), np.array([(1, 2), (3, 4), (5, 6), (7, 8)]))
    write_vectors(written, tmp_path / "v.txt", "glove")
    source = InitialVectors(str(tmp_path / "v.txt"), TABLE, "inputs", lower_case=True)
    table = initial_table(source, model(), Task())
    assert table.values.tolist() == [[0, 0]] * 3 + [[5, 6], [1, 2], [7, 8], [3, 4]] + [[0, 0]]
    assert table.origin.endswith("which has 4 of 7 tokens")


@pytest.mark.parametrize(
    ("change", "options", "said"),
    [
        ({"parameter": "x"}, {}, f"are {TABLE}, token_embedder/embedding"),
        ({"feature": "text"}, {}, "task 'translation' has inputs, targets"),
        ({}, {"embed_dim": 3}, "2 numbers, where 'source_embedder/embedding' has 3"),
        ({"path": "/no/file"}, {}, "'/no/file' is not there"),
        ({}, {"vocab_size": 3}, "no vector of any token of 'inputs'"),
    ],
)
def test_what_does_not_fit_is_told_in_a_line(path, change, options, said):
    source = InitialVectors(**({"path": path, "parameter": TABLE} | change))
    with pytest.raises(UserError, match=said):
        initial_table(source, model(**options), Task())


def test_a_model_says_which_tables_it_has(path):
    xlnet = XLNet(vocab_size=8, embed_dim=2, num_heads=1, num_layers=1, mlp_dim=2, pad_id=0)
    with pytest.raises(UserError, match="tables of tokens of XLNet are token_embedder/embedding"):
        initial_table(InitialVectors(path, TABLE), xlnet, Task())


@pytest.mark.slow
def test_a_table_that_is_not_trained_stays_as_the_file_has_it_over_a_stop(
    proverbs, partitioner, tmp_path
):
    """Letters of a file, read by a recurrent model of bytes: in two halves as in one."""
    task, cache_dir = proverbs
    letters = np.random.default_rng(0).standard_normal((2, 8)).astype(np.float32)
    write_vectors(WordVectors(("a", "e"), letters), tmp_path / "v.txt")
    plan = TrainingPlan(
        model=RecurrentLM(vocab_size=384, embed_dim=8, tuning=Parts(["^(?!token_embedder/)"])),
        model_dir=str(tmp_path / "whole"),
        dataset=DatasetConfig(task, {"targets": 24}, str(cache_dir), "train", 4, prefetch=0),
        train_steps=4,
        optimizer=adamw(Constant(1e-2)),
        initial_checkpoint=InitialVectors(str(tmp_path / "v.txt"), "token_embedder/embedding"),
        partitioner=partitioner,
        checkpoint_policy=CheckpointPolicy(period=2),
        tensorboard=False,
    )
    whole = train_plan(plan).params
    table = np.asarray(whole["token_embedder"]["embedding"])
    a, e = 3 + ord("a"), 3 + ord("e")
    np.testing.assert_array_equal(table[[a, e]], letters)
    assert not np.delete(table, [a, e], axis=0).any()
    parts = dataclasses.replace(plan, model_dir=str(tmp_path / "parts"))
    train_plan(dataclasses.replace(parts, train_steps=2))
    jax.tree.map(np.testing.assert_array_equal, train_plan(parts).params, whole)
    # A checkpoint has all of it: nothing else does.
    read, _ = load_params(str(tmp_path / "parts"), plan.model, partitioner)
    jax.tree.map(np.testing.assert_array_equal, read, whole)
