"""Transformers as a Linen tutorial would write them: the plain peer of `train_step.py`.

No scan, no rematerialization, nothing tuned: standard layers, and attention that holds every
score. Biases, norms and sizes are those of GPT-2 and T5, so that the parameters are as many.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn


def buckets(queries: int, keys: int, bidirectional: bool) -> jax.Array:
    """T5's 32 buckets of relative distance up to 128, `[queries, keys]`."""
    behind = jnp.arange(queries)[:, None] - jnp.arange(keys)[None, :]
    half = 16 if bidirectional else 32
    first = jnp.where(behind < 0, half, 0) if bidirectional else 0
    behind = jnp.abs(behind) if bidirectional else jnp.maximum(behind, 0)
    exact = half // 2
    spread = jnp.log(jnp.maximum(behind, 1) / exact) / jnp.log(128 / exact) * (half - exact)
    return first + jnp.where(
        behind < exact, behind, jnp.minimum(exact + spread.astype(jnp.int32), half - 1)
    )


class Attention(nn.Module):
    """Multi-head attention that holds all scores."""

    heads: int
    bias: bool
    dtype: str

    @nn.compact
    def __call__(self, x: jax.Array, memory: jax.Array, allowed: Any, scores: Any) -> jax.Array:
        """What `x` finds in `memory`."""
        embed = x.shape[-1]
        size = (self.heads, embed // self.heads)
        make = lambda name: nn.DenseGeneral(  # noqa: E731
            size, use_bias=self.bias, dtype=self.dtype, name=name
        )
        q, k, v = make("query")(x), make("key")(memory), make("value")(memory)
        logits = jnp.einsum("bqhd,bkhd->bhqk", q * size[1] ** -0.5, k) + scores
        logits = jnp.where(allowed, logits, -1e9)
        y = jnp.einsum("bhqk,bkhd->bqhd", nn.softmax(logits), v)
        return nn.DenseGeneral(embed, (-2, -1), use_bias=self.bias, dtype=self.dtype)(y)


class Layer(nn.Module):
    """Pre-norm: self-attention, attention to a memory if there is one, MLP."""

    shape: Mapping[str, Any]
    dtype: str

    @nn.compact
    def __call__(self, x: jax.Array, allowed: Any, scores: Any, memory: Any) -> jax.Array:
        """The residual stream after the layer."""
        family = self.shape["family"]
        gpt2 = family == "gpt2"
        norm = lambda: (  # noqa: E731
            nn.LayerNorm(dtype=self.dtype) if gpt2 else nn.RMSNorm(dtype=self.dtype)
        )
        dense = lambda n: nn.Dense(n, use_bias=gpt2, dtype=self.dtype)  # noqa: E731
        attention = lambda: Attention(self.shape["heads"], gpt2, self.dtype)  # noqa: E731
        y = norm()(x)
        x += attention()(y, y, allowed, scores)
        if memory is not None:
            x += attention()(norm()(x), memory, True, 0.0)
        y = norm()(x)
        mlp = self.shape["mlp"]
        if family == "t5_1_1":
            y = nn.gelu(dense(mlp)(y)) * dense(mlp)(y)
        else:
            y = (nn.gelu if gpt2 else nn.relu)(dense(mlp)(y))
        return x + dense(x.shape[-1])(y)


class Model(nn.Module):
    """The mean loss of a batch: the decoder's inputs and targets, the encoder's inputs."""

    shape: Mapping[str, Any]
    dtype: str

    @nn.compact
    def __call__(self, inputs: jax.Array, targets: jax.Array, source: Any = None) -> jax.Array:
        """The loss."""
        embedding = nn.Embed(self.shape["vocabulary"], self.shape["embed"], dtype=self.dtype)
        memory = None
        if source is not None:
            memory = self.layers(embedding(source), None, causal=False)
        x = self.layers(embedding(inputs), memory, causal=True)
        if self.shape["family"] == "t5_1_1":
            logits = nn.Dense(self.shape["vocabulary"], use_bias=False, dtype=self.dtype)(x)
        else:
            logits = embedding.attend(x)
        logits = logits.astype(jnp.float32)
        return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()

    def layers(self, x: jax.Array, memory: Any, causal: bool) -> jax.Array:
        """Encoder or decoder, from embeddings to the last norm."""
        length, scores = x.shape[1], 0.0
        allowed = jnp.tril(jnp.ones((length, length), bool)) if causal else True
        if self.shape["family"] == "gpt2":
            table = nn.Embed(length, x.shape[-1], dtype=self.dtype)
            x += table(jnp.arange(length))
        else:
            table = nn.Embed(32, self.shape["heads"], dtype=self.dtype)
            scores = table(buckets(length, length, not causal)).transpose(2, 0, 1)
        for _ in range(self.shape["layers"]):
            x = Layer(self.shape, self.dtype)(x, allowed, scores, memory)
        gpt2 = self.shape["family"] == "gpt2"
        return (nn.LayerNorm if gpt2 else nn.RMSNorm)(dtype=self.dtype)(x)


def build(shape: Mapping[str, Any], dtype: str) -> Model:
    """The model of a shape of `train_step.py`."""
    return Model(shape, dtype)
