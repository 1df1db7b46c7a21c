"""A small model of every family, its parameters and a batch, for tests of what all fulfil."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.albert import ALBERT
from models.attention_seq2seq import AttentionSeq2Seq
from models.bart import BART
from models.bert import BERT
from models.bigbird import BigBird
from models.char_transformer import CharTransformer
from models.cvt import CVT
from models.deberta import DeBERTa
from models.distilbert import DistilBERT
from models.electra import ELECTRA
from models.elmo import ELMo
from models.gopher import Gopher
from models.gpt import GPT2, GPT3
from models.gpt_neox import GPTNeoX
from models.heads import Classification, PairClassification, Regression, Tagging
from models.lamda import LaMDA
from models.layers.experts.dispatch import Capacity
from models.layers.recurrent.alignment import General
from models.layers.recurrent.cells import LSTM
from models.llama import LLaMA
from models.mt_dnn import MTDNN, task_number
from models.nnlm import NNLM
from models.palm import PaLM
from models.recurrent import RecurrentLM
from models.roberta import RoBERTa
from models.spanbert import SpanBERT
from models.sparse_transformer import SparseTransformer
from models.switch import Switch
from models.t5 import T5_1_1
from models.transformer import Transformer
from models.transformer_xl import TransformerXL
from models.unilm import UniLM
from models.xlnet import XLNet

V = 61


def t5(cls, **options):
    sizes = dict(
        vocab_size=V, embed_dim=24, mlp_dim=40, num_heads=3, head_dim=8, num_buckets=8,
        num_encoder_layers=2, num_decoder_layers=2, max_distance=9,
    )  # fmt: skip
    return cls(**(sizes | options))


def decoder(cls, **options):
    sizes = dict(vocab_size=V, embed_dim=24, num_heads=3, num_layers=2)
    return cls(**(sizes | options))


gpt2 = functools.partial(decoder, GPT2, max_length=32)


def encoder_decoder(cls, **options):
    sizes = dict(
        vocab_size=V, embed_dim=24, mlp_dim=40, num_heads=3, num_encoder_layers=2,
        num_decoder_layers=2,
    )  # fmt: skip
    return cls(**(sizes | options))


# Those that write text. T5 1.0 has the parts of 1.1 and a simpler MLP, GPT-1 those of BART's
# decoder and of GPT-2.
WRITERS = {
    "t5_1_1": functools.partial(t5, T5_1_1),
    "gpt2": gpt2,
    "gpt3": functools.partial(decoder, GPT3, max_length=32, num_layers=4, band=3),
    "gopher": functools.partial(decoder, Gopher, head_dim=8),
    "lamda": functools.partial(
        decoder, LaMDA, mlp_dim=40, head_dim=8, num_buckets=8, max_distance=9
    ),
    "palm": functools.partial(decoder, PaLM, head_dim=8, z_loss=0.0),
    "llama": functools.partial(decoder, LLaMA, num_heads=6, num_kv_heads=2, mlp_dim=40),
    "gpt_neox": functools.partial(decoder, GPTNeoX, rotary_pct=0.5),
    "transformer": functools.partial(encoder_decoder, Transformer, label_smoothing=0.0),
    "bart": functools.partial(encoder_decoder, BART, max_length=32),
    "sparse_transformer": functools.partial(
        decoder, SparseTransformer, max_length=32, stride=8, summary=2
    ),
    "lstm": functools.partial(RecurrentLM, vocab_size=V, embed_dim=24, hidden_dim=32),
    "char_transformer": functools.partial(
        decoder, CharTransformer, mlp_dim=40, max_length=32, num_layers=3
    ),
    "attention_seq2seq": functools.partial(
        AttentionSeq2Seq,
        vocab_size=V,
        embed_dim=24,
        encoder_dim=14,
        hidden_dim=32,
        maxout_dim=20,
    ),
    # As Luong et al. and GNMT are: the other query, layers above the bidirectional one.
    "attention_seq2seq_luong": functools.partial(
        AttentionSeq2Seq,
        vocab_size=V,
        cell=LSTM(),
        attention=General(),
        query="current",
        embed_dim=24,
        encoder_dim=14,
        hidden_dim=24,
        num_encoder_layers=3,
        num_decoder_layers=3,
        residual=True,
        maxout_dim=None,
        tied_output=True,
        share_embeddings=True,
    ),
    "nnlm": functools.partial(NNLM, vocab_size=V, order=4, embed_dim=24, hidden_dim=32),
    # A memory of more than a row of these tests, so that a prompt is read as one.
    "transformer_xl": functools.partial(
        decoder,
        TransformerXL,
        head_dim=10,
        mlp_dim=40,
        memory_length=16,
        cutoffs=(20, 40),
        divisor=2,
    ),
    # Nothing dropped, and no loss but that of the targets: what is Switch's own is tested apart.
    "switch": functools.partial(
        t5, Switch, num_experts=4, dispatch=Capacity(4.0, 4.0), load_balance=0.0
    ),
}


def encoder(cls, **options):
    sizes = dict(
        vocab_size=V, embed_dim=24, mlp_dim=40, num_heads=3, num_layers=2, max_length=32
    )  # fmt: skip
    return cls(**(sizes | options))


# StructBERT is BERT with other labels for pairs.
ENCODERS = {
    "bert": functools.partial(encoder, BERT),
    "bert_labels": functools.partial(encoder, BERT, head=Classification(("no", "maybe", "yes"))),
    "roberta": functools.partial(encoder, RoBERTa),
    "distilbert": functools.partial(encoder, DistilBERT),
    "albert": functools.partial(encoder, ALBERT, embedding_dim=16, num_layers=4, num_groups=2),
    "mt_dnn": functools.partial(
        encoder,
        MTDNN,
        heads={"pair": PairClassification(("no", "yes"), steps=2), "score": Regression()},
    ),
    "xlnet": functools.partial(
        XLNet,
        vocab_size=V,
        embed_dim=24,
        mlp_dim=40,
        num_heads=3,
        num_layers=2,
        memory_length=16,
        pad_id=0,
    ),
    "electra": functools.partial(
        encoder,
        ELECTRA,
        embedding_dim=16,
        generator_embed_dim=12,
        generator_mlp_dim=20,
        generator_num_heads=3,
        discriminator_weight=5.0,
    ),
    "spanbert": functools.partial(encoder, SpanBERT, max_span_targets=4, span_position_dim=10),
    # Rows are longer than distances are told apart.
    "deberta": functools.partial(encoder, DeBERTa, max_distance=5),
    "unilm": functools.partial(encoder, UniLM, mask_id=V - 1),
    "bigbird": functools.partial(encoder, BigBird, block_size=1, num_random_blocks=1),
    "elmo": functools.partial(
        ELMo, vocab_size=V, char_dim=4, filters=(5, 6, 7), hidden_dim=9, projection_dim=6
    ),
    "cvt": functools.partial(
        CVT,
        vocab_size=V,
        head=Tagging(("O", "B-x", "I-x")),
        char_dim=4,
        filters=(0, 5, 6),
        embed_dim=7,
        first_dim=9,
        second_dim=8,
        projection_dim=6,
        dropout_rate=0.0,
        unlabelled_dropout_rate=0.0,
    ),
}
FAMILIES = WRITERS | ENCODERS

# Of every kind of attention, of memory and of objective one.
KINDS = ("t5_1_1", "gpt2", "llama", "lstm", "transformer_xl", "bert", "electra", "xlnet")


def of_each_kind(families):
    """Parametrizes `family`: one of each kind in the fast suite, all in the slow one."""
    names = [pytest.param(x, marks=() if x in KINDS else pytest.mark.slow) for x in families]
    return pytest.mark.parametrize("family", names, indirect=True)


def drawn(model, seed=1):
    """Parameters drawn large enough for attention to matter; cheaper than initial ones."""
    rng = np.random.default_rng(seed)

    def draw(path, shape):
        mean = 1.0 if path[-1].key == "scale" else 0.0
        return jnp.asarray(mean + 0.3 * rng.standard_normal(shape.shape), shape.dtype)

    shapes = jax.eval_shape(model.init, jax.random.key(0))["params"]
    return jax.tree_util.tree_map_with_path(draw, shapes)


def batch_for(model, rows=2, length=10, seed=0):
    """Random tokens, in the model's format."""
    rng = np.random.default_rng(seed)
    if model.batch_format in (
        "masked_language_model",
        "masked_span_language_model",
        "multidirectional_language_model",
    ):
        batch = {
            "encoder_input_tokens": rng.integers(1, V, (rows, length)),
            "encoder_target_tokens": rng.integers(1, V, (rows, length)),
            "encoder_loss_weights": np.arange(rows * length).reshape(rows, length) % 3 == 1,
            "encoder_token_types": np.arange(length) // (length // 2) * np.ones((rows, 1), int),
            "pair_label": np.arange(rows) % 2,
            "pair_weight": np.ones(rows, int),
        }
        if model.batch_format == "masked_span_language_model":
            # Spans of five tokens, as if every token were in one.
            place = np.arange(length) * np.ones((rows, 1), int)
            batch["encoder_span_left"] = np.maximum(place // 5 * 5 - 1, 0)
            batch["encoder_span_right"] = np.minimum(place // 5 * 5 + 5, length - 1)
            batch["encoder_span_offset"] = 1 + place % 5
        if model.batch_format == "multidirectional_language_model":
            batch["row_mask_kind"] = np.arange(rows) % 4
            batch["row_prefix_length"] = np.full(rows, length // 2)
        return jax.tree.map(jnp.asarray, batch)
    if model.batch_format == "permutation_language_model":
        order = rng.permuted(np.tile(np.arange(length), (rows, 1)), axis=1)
        batch = {
            "encoder_input_tokens": (tokens := rng.integers(1, V, (rows, length))),
            "encoder_target_tokens": tokens,
            "encoder_loss_weights": (predicted := order >= length // 2),
            "encoder_token_types": np.arange(length) // (length // 2) * np.ones((rows, 1), int),
            "perm_key_rank": np.where(predicted, order, -1),
            "perm_own_rank": np.where(predicted, order, 0),
        }
        return jax.tree.map(jnp.asarray, batch)
    if model.batch_format in ("sequence_classification", "token_classification", "multiple_choice"):
        # Choices are rows of this one.
        batch = {
            "encoder_input_tokens": rng.integers(1, V, (rows, length)),
            "encoder_token_types": np.arange(length) // (length // 2) * np.ones((rows, 1), int),
        }
        if model.batch_format == "sequence_classification":
            batch |= {"label": np.arange(rows) % 3, "label_weight": np.ones(rows, int)}
        return jax.tree.map(jnp.asarray, batch)
    if model.batch_format == "spelled_words":
        batch = {
            "encoder_characters": rng.integers(1, 262, (rows, length, 50)),
            "encoder_input_tokens": rng.integers(1, V, (rows, length)),
            "encoder_loss_weights": np.ones((rows, length), int),
            "encoder_segment_ids": np.ones((rows, length), int),
        }
        return jax.tree.map(jnp.asarray, batch)
    if model.batch_format == "spelled_token_classification":
        # Every second row is without tags.
        tagged = (np.arange(rows) % 2 == 0)[:, None]
        batch = {
            "encoder_characters": rng.integers(1, 262, (rows, length, 50)),
            "encoder_input_tokens": rng.integers(1, V, (rows, length)),
            "encoder_segment_ids": np.ones((rows, length), int),
            "word_begins": np.ones((rows, length), int),
            "word_labels": rng.integers(0, 3, (rows, length)) * tagged,
            "word_weights": np.ones((rows, length), int) * tagged,
        }
        return jax.tree.map(jnp.asarray, batch)
    if model.batch_format == "labelled_tasks":
        names = list(model.heads)
        batch = {
            "encoder_input_tokens": rng.integers(1, V, (rows, length)),
            "encoder_token_types": np.arange(length) // (length // 2) * np.ones((rows, 1), int),
            "label": np.ones(rows, np.float32),
            "label_weight": np.ones(rows, int),
            "task": np.array([task_number(names[row % len(names)]) for row in range(rows)]),
        }
        return jax.tree.map(jnp.asarray, batch)
    batch = {
        "decoder_input_tokens": rng.integers(1, V, (rows, length)),
        "decoder_target_tokens": rng.integers(1, V, (rows, length)),
    }
    if model.batch_format == "encoder_decoder":
        batch["encoder_input_tokens"] = rng.integers(1, V, (rows, 7))
    return jax.tree.map(jnp.asarray, batch)
