"""GPT-2 (Radford et al. 2019): a decoder of pre-norm layers with learned positions."""

import functools
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from models.errors import ModelError
from models.language_model import Batch, Cache, LanguageModel
from models.layers.attention import Attention
from models.layers.block import Context, PreNormBlock
from models.layers.dropout import Dropout
from models.layers.embeddings import Embed
from models.layers.linear import normal
from models.layers.masks import Mask
from models.layers.mlps import MLP
from models.layers.norms import LayerNorm
from models.layers.positions import LearnedPositions
from models.layers.stack import Stack

Array = jax.Array


class GPT2(LanguageModel):
    """GPT-2: a norm before each branch and one at the end, GELU, biases, a tied output.

    "We scale the weights of residual layers at initialization by a factor of 1/sqrt(N) where
    N is the number of residual layers" (section 2.3): two in each of our layers. The other
    initial values are the released code's.

    Attributes:
      embed_dim: d_model.
      num_heads: attention heads; they divide `embed_dim` among them.
      num_layers: layers.
      max_length: longest row, the number of learned positions.
      mlp_dim: hidden units of the MLP; None is four times `embed_dim`.
      norm_epsilon: of every norm.
    """

    architecture: ClassVar = "decoder_only"

    embed_dim: int = 768
    num_heads: int = 12
    num_layers: int = 12
    max_length: int = 1024
    mlp_dim: int | None = None
    norm_epsilon: float = 1e-5

    def setup(self) -> None:
        """Makes embeddings, positions, layers and the last norm."""
        if self.embed_dim % self.num_heads:
            raise ModelError(
                f"embed_dim {self.embed_dim} is not a multiple of num_heads {self.num_heads}: "
                "the heads divide it evenly among them."
            )
        residual_init = normal(0.02 * (2 * self.num_layers) ** -0.5)
        dropout = Dropout(self.dropout_rate)
        norm = functools.partial(LayerNorm, epsilon=self.norm_epsilon, dtype=self.dtype)
        head_dim = self.embed_dim // self.num_heads
        attention = functools.partial(
            Attention,
            self.embed_dim,
            self.num_heads,
            head_dim,
            query_init=normal(0.02),
            key_value_init=normal(0.02),
            output_init=residual_init,
            scale=head_dim**-0.5,
            use_bias=True,
            dropout=dropout,
            dtype=self.dtype,
        )
        mlp = functools.partial(
            MLP,
            self.mlp_dim or 4 * self.embed_dim,
            nn.gelu,
            input_init=normal(0.02),
            output_init=residual_init,
            use_bias=True,
            dtype=self.dtype,
        )
        block = functools.partial(PreNormBlock, norm, attention, mlp, dropout=dropout)
        self.token_embedder = Embed(self.vocab_size, self.embed_dim, normal(0.02), self.dtype)
        self.position_embedder = LearnedPositions(self.max_length, normal(0.01), self.dtype)
        self.decoder = Stack(block, self.num_layers, self.remat_policy, self.scan_unroll)
        self.final_norm = norm()
        self.embedding_dropout = dropout

    def hidden(
        self,
        *,
        decoder_input_tokens: Array,
        decoder_segment_ids: Array | None = None,
        decoder_positions: Array | None = None,
        decoder_causal_attention: Array | None = None,
        enable_dropout: bool = False,
        **_: Array,
    ) -> Array:
        """The residual stream after the last norm, `[b, t, e]`."""
        x_bte = self.position_embedder(self.token_embedder(decoder_input_tokens), decoder_positions)
        if enable_dropout and self.dropout_rate:
            x_bte = self.embedding_dropout(x_bte, self.make_rng("dropout"))
        mask = Mask(
            causal=True,
            query_segments_bt=decoder_segment_ids,
            key_segments_bs=decoder_segment_ids,
            prefix_bt=_prefix(decoder_causal_attention),
        )
        context = Context(mask, positions_bt=decoder_positions, enable_dropout=enable_dropout)
        return self.final_norm(self.decoder(x_bte, context))

    def output_kernel(self) -> Array:
        """The matrix from `hidden` to logits, `[e, v]`."""
        return self.token_embedder.output_kernel()

    def start(self, batch: Batch, max_decode_length: int) -> Cache:
        """Reads the prompt."""
        prompt_bp = batch["decoder_input_tokens"]
        b, p = prompt_bp.shape
        segments_bp = batch.get("decoder_segment_ids")
        positions_bp = batch.get("decoder_positions")
        valid_bp = jnp.ones((b, p), bool) if segments_bp is None else segments_bp != 0
        if positions_bp is None:
            positions_bp = jnp.maximum(jnp.cumsum(valid_bp, axis=1) - 1, 0)
        new = ((0, 0), (0, max_decode_length - p))
        prefix_bp = _prefix(batch.get("decoder_causal_attention"))
        cache = {
            "layers": self.decoder.empty_cache(b, max_decode_length),
            "next_slot": jnp.zeros((), jnp.int32),
            "next_position": jnp.zeros((b,), jnp.int32),
            "valid": jnp.pad(valid_bp, new, constant_values=True),
        }
        if not p:
            return cache
        prefix_bs = None if prefix_bp is None else jnp.pad(prefix_bp, new)
        cache = self._extend(cache, prompt_bp, positions_bp, prefix_bs)[1]
        return cache | {"next_position": jnp.where(valid_bp[:, -1], positions_bp[:, -1] + 1, 0)}

    def extend(self, cache: Cache, tokens_bt: Array) -> tuple[Array, Cache]:
        """The residual stream of the next tokens, and the cache with them."""
        positions_bt = cache["next_position"][:, None] + jnp.arange(tokens_bt.shape[1])
        return self._extend(cache, tokens_bt, positions_bt, None)

    def _extend(
        self, cache: Cache, tokens_bt: Array, positions_bt: Array, prefix_bs: Array | None
    ) -> tuple[Array, Cache]:
        slot = cache["next_slot"]
        mask = Mask(causal=True, key_valid_bs=cache["valid"], prefix_bt=prefix_bs, first_query=slot)
        context = Context(mask, positions_bt=positions_bt, first_slot=slot)
        x_bte = self.position_embedder(self.token_embedder(tokens_bt), positions_bt)
        x_bte, layers = self.decoder.extend(x_bte, context, cache["layers"])
        return self.final_norm(x_bte), cache | {
            "layers": layers,
            "next_slot": slot + tokens_bt.shape[1],
            "next_position": positions_bt[:, -1] + 1,
        }


def _prefix(causal_attention_bt: Array | None) -> Array | None:
    return None if causal_attention_bt is None else causal_attention_bt != 0
