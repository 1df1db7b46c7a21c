"""A language model whose every probability the test sets: two tokens back, by table.

It has what a Transformer has for decoding, a cache that the prompt fills and each step
moves on, and yet all its continuations can be listed by hand.
"""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
import pytest


@dataclasses.dataclass(frozen=True)
class BigramModel:
    """`params` is a float32 `[v, v, v]` table: logits by (token before last, last token)."""

    vocab_size: int
    max_length = None
    batch_format: ClassVar[str] = "prefix_language_model"

    def logits(self, params, batch):
        tokens_bt = batch["decoder_input_tokens"]
        before_bt = jnp.pad(tokens_bt, ((0, 0), (1, 0)))[:, :-1]
        return params[before_bt, tokens_bt]

    def decoding_params(self, params):
        return params

    def init_cache(self, params, batch, max_decode_length):
        del params, max_decode_length
        tokens_bt = batch["decoder_input_tokens"]
        last_b = tokens_bt[:, -1] if tokens_bt.shape[1] else jnp.zeros_like(tokens_bt[:, 0])
        return {"last": last_b, "steps": jnp.int32(0)}

    def decode_step(self, params, cache, tokens):
        logits = params[cache["last"], tokens]
        return logits, {"last": tokens, "steps": cache["steps"] + 1}


@pytest.fixture
def bigram():
    """`bigram(seed, vocabulary, scale)` gives a model and a random table for it."""

    def make(seed: int, vocabulary: int, scale: float = 1.5):
        rng = np.random.default_rng(seed)
        table = (scale * rng.standard_normal((vocabulary,) * 3)).astype(np.float32)
        return BigramModel(vocabulary), table

    return make


@pytest.fixture
def log_probability():
    """Sum of log-probabilities of a continuation, in float64, by the definition."""

    def total(table: np.ndarray, prompt: list[int], continuation: list[int]) -> float:
        tokens = [0, 0, *prompt, *continuation]
        found = 0.0
        for i in range(len(tokens) - len(continuation), len(tokens)):
            logits = table[tokens[i - 2], tokens[i - 1]].astype(np.float64)
            found += logits[tokens[i]] - np.log(np.exp(logits).sum())
        return found

    return total
