"""T5 1.0 and 1.1 (Raffel et al. 2020; 1.1 after Shazeer 2020).

An encoder-decoder of pre-norm layers. Its own ways: a learned bias for each bucket of
relative distance, shared by all layers of a side; norms without mean and bias, and no bias
anywhere; no 1/sqrt(d) in attention, because the initial queries are that much smaller.
"""

import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from models.language_model import Batch, Cache, LanguageModel
from models.layers.attention import Attention
from models.layers.block import Context, ModuleFactory, PreNormBlock
from models.layers.dropout import Dropout
from models.layers.embeddings import Embed, OutputKernel
from models.layers.linear import normal
from models.layers.masks import Mask
from models.layers.mlps import MLP, Activation, GatedMLP
from models.layers.norms import RMSNorm
from models.layers.positions import RelativePositionBias
from models.layers.stack import Stack

Array = jax.Array


class T5Side(nn.Module):
    """The encoder or the decoder: relative bias, layers, last norm.

    Attributes:
      relative_bias: makes the bias of this side.
      layers: makes its stack.
      norm: makes its last norm.
      dropout: on what comes in and what goes out.
    """

    relative_bias: ModuleFactory
    layers: ModuleFactory
    norm: ModuleFactory
    dropout: Dropout

    def setup(self) -> None:
        """Makes the three parts."""
        self.relative_position_bias = self.relative_bias()
        self.stack = self.layers()
        self.final_norm = self.norm()

    def __call__(self, x_bte: Array, context: Context) -> Array:
        """From embeddings to the last norm, `[b, t, e]`."""
        length = x_bte.shape[1]
        context = context.replace(bias_bhts=self.relative_position_bias(length, length))
        x_bte = self._drop(x_bte, context)
        return self._drop(self.final_norm(self.stack(x_bte, context)), context)

    def empty_cache(self, memory_bse: Array, max_length: int) -> list[Any]:
        """The layers' caches before the first token."""
        return self.stack.empty_cache(memory_bse.shape[0], max_length, memory_bse)

    def extend(self, x_bte: Array, context: Context, caches: list[Any]) -> tuple[Array, list[Any]]:
        """The same as a call, for tokens that follow those in the caches."""
        slots = caches[0].own.keys_bgsd.shape[2]
        bias_bhts = self.relative_position_bias(x_bte.shape[1], slots, context.first_slot)
        x_bte, caches = self.stack.extend(x_bte, context.replace(bias_bhts=bias_bhts), caches)
        return self.final_norm(x_bte), caches

    def _drop(self, x_bte: Array, context: Context) -> Array:
        draw = context.enable_dropout and self.dropout.rate
        return self.dropout(x_bte, self.make_rng("dropout") if draw else None)


class T5(LanguageModel):
    """T5 1.0: ReLU, and an output tied to the embeddings.

    Initial values are Mesh TensorFlow's, in which the paper's models were made.

    Attributes:
      embed_dim: d_model.
      mlp_dim: d_ff.
      num_heads: attention heads.
      head_dim: d_kv.
      num_encoder_layers: layers of the encoder.
      num_decoder_layers: layers of the decoder.
      num_buckets: of relative distance.
      max_distance: from which on all distances share a bucket.
      mlp: `MLP` or `GatedMLP`.
      activation: inside the MLP.
      tied_output: whether the output matrix is the embeddings'.
      norm_epsilon: of every norm.
    """

    architecture: ClassVar = "encoder_decoder"

    embed_dim: int = 512
    mlp_dim: int = 2048
    num_heads: int = 8
    head_dim: int = 64
    num_encoder_layers: int = 6
    num_decoder_layers: int = 6
    num_buckets: int = 32
    max_distance: int = 128
    mlp: type[MLP] = MLP
    activation: Activation = nn.relu
    tied_output: bool = True
    norm_epsilon: float = 1e-6

    def setup(self) -> None:
        """Makes embeddings, encoder and decoder."""
        self.token_embedder = Embed(self.vocab_size, self.embed_dim, normal(1.0), self.dtype)
        self.encoder = self._side(self.num_encoder_layers, is_decoder=False)
        self.decoder = self._side(self.num_decoder_layers, is_decoder=True)
        if not self.tied_output:
            self.output = OutputKernel(
                self.vocab_size, self.embed_dim, normal(self.embed_dim**-0.5)
            )

    def _side(self, num_layers: int, *, is_decoder: bool) -> T5Side:
        inner_dim = self.num_heads * self.head_dim
        # One draw for all positions of a row, as Mesh TensorFlow's noise_shape had it.
        dropout = Dropout(self.dropout_rate, shared_axes=(-2,))
        norm = functools.partial(RMSNorm, epsilon=self.norm_epsilon, dtype=self.dtype)
        attention = functools.partial(
            Attention,
            self.embed_dim,
            self.num_heads,
            self.head_dim,
            query_init=normal((self.embed_dim * self.head_dim) ** -0.5),
            key_value_init=normal(self.embed_dim**-0.5),
            output_init=normal(inner_dim**-0.5),
            dropout=dropout,
            dtype=self.dtype,
        )
        mlp = functools.partial(
            self.mlp,
            self.mlp_dim,
            self.activation,
            input_init=normal(self.embed_dim**-0.5),
            output_init=normal(self.mlp_dim**-0.5),
            dropout=dropout,
            dtype=self.dtype,
        )
        block = functools.partial(
            PreNormBlock, norm, attention, mlp, attention if is_decoder else None, dropout
        )
        return T5Side(
            relative_bias=functools.partial(
                RelativePositionBias,
                self.num_heads,
                bidirectional=not is_decoder,
                embedding_init=normal(self.embed_dim**-0.5),
                num_buckets=self.num_buckets,
                max_distance=self.max_distance,
            ),
            layers=functools.partial(Stack, block, num_layers, self.remat_policy, self.scan_unroll),
            norm=norm,
            dropout=dropout,
        )

    def hidden(
        self,
        *,
        encoder_input_tokens: Array,
        decoder_input_tokens: Array,
        encoder_segment_ids: Array | None = None,
        decoder_segment_ids: Array | None = None,
        enable_dropout: bool = False,
        **_: Array,
    ) -> Array:
        """The decoder's residual stream, `[b, t, e]`."""
        memory_bse = self._encode(encoder_input_tokens, encoder_segment_ids, enable_dropout)
        context = Context(
            mask=Mask(
                causal=True,
                query_segments_bt=decoder_segment_ids,
                key_segments_bs=decoder_segment_ids,
            ),
            memory_bse=memory_bse,
            memory_mask=_memory_mask(
                encoder_input_tokens, encoder_segment_ids, decoder_segment_ids
            ),
            enable_dropout=enable_dropout,
        )
        return self._scaled(self.decoder(self.token_embedder(decoder_input_tokens), context))

    def output_kernel(self) -> Array:
        """The matrix from `hidden` to logits, `[e, v]`."""
        return self.token_embedder.output_kernel() if self.tied_output else self.output()

    def start(self, batch: Batch, max_decode_length: int) -> Cache:
        """Reads the encoder's input and the prompt, if there is one."""
        tokens_bs = batch["encoder_input_tokens"]
        memory_bse = self._encode(tokens_bs, batch.get("encoder_segment_ids"), False)
        cache = {
            "layers": self.decoder.empty_cache(memory_bse, max_decode_length),
            "next_slot": jnp.zeros((), jnp.int32),
            "memory_valid": _valid(tokens_bs, batch.get("encoder_segment_ids")),
            "valid": None,
        }
        prompt_bp = batch.get("decoder_input_tokens")
        if prompt_bp is None or not prompt_bp.shape[1]:
            return cache
        segments_bp = batch.get("decoder_segment_ids")
        if segments_bp is not None:
            new = ((0, 0), (0, max_decode_length - prompt_bp.shape[1]))
            cache["valid"] = jnp.pad(segments_bp != 0, new, constant_values=True)
        return self.extend(cache, prompt_bp)[1]

    def extend(self, cache: Cache, tokens_bt: Array) -> tuple[Array, Cache]:
        """The decoder's residual stream of the next tokens, and the cache with them."""
        slot = cache["next_slot"]
        context = Context(
            mask=Mask(causal=True, key_valid_bs=cache["valid"], first_query=slot),
            memory_mask=Mask(key_valid_bs=cache["memory_valid"]),
            first_slot=slot,
        )
        x_bte = self.token_embedder(tokens_bt)
        x_bte, layers = self.decoder.extend(x_bte, context, cache["layers"])
        return self._scaled(x_bte), cache | {
            "layers": layers,
            "next_slot": slot + tokens_bt.shape[1],
        }

    def _encode(self, tokens_bs: Array, segments_bs: Array | None, enable_dropout: bool) -> Array:
        if segments_bs is None:
            mask = Mask(key_valid_bs=_valid(tokens_bs, None))
        else:
            mask = Mask(query_segments_bt=segments_bs, key_segments_bs=segments_bs)
        context = Context(mask=mask, enable_dropout=enable_dropout)
        return self.encoder(self.token_embedder(tokens_bs), context)

    def _scaled(self, x_bte: Array) -> Array:
        # The embeddings' variance is 1; a tied output must bring the logits back to it.
        return x_bte * self.embed_dim**-0.5 if self.tied_output else x_bte


class T5_1_1(T5):
    """T5 1.1: GEGLU, and an output matrix of its own."""

    mlp: type[MLP] = GatedMLP
    activation: Activation = nn.gelu
    tied_output: bool = False


def _valid(tokens_bs: Array, segments_bs: Array | None) -> Array:
    return (tokens_bs if segments_bs is None else segments_bs) != 0


def _memory_mask(
    tokens_bs: Array, encoder_segments_bs: Array | None, decoder_segments_bt: Array | None
) -> Mask:
    if encoder_segments_bs is None or decoder_segments_bt is None:
        return Mask(key_valid_bs=_valid(tokens_bs, encoder_segments_bs))
    return Mask(query_segments_bt=decoder_segments_bt, key_segments_bs=encoder_segments_bs)
