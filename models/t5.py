"""T5 1.0 and 1.1 (Raffel et al. 2020; 1.1 after Shazeer 2020).

An encoder-decoder of pre-norm layers. Its own ways: a learned bias for each bucket of
relative distance, shared by all layers of a side; norms without mean and bias, and no bias
anywhere; no 1/sqrt(d) in attention, because the initial queries are that much smaller.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
from flax import linen as nn

from models.encoder_decoder import EncoderDecoder
from models.layers.attention.positions import (
    LayerRelativeBias,
    RelativePositionBias,
    check_buckets,
)
from models.layers.block import ModuleFactory, PreNormBlock
from models.layers.dropout import Dropout
from models.layers.embeddings import Embed, OutputKernel
from models.layers.linear import Initializer, normal
from models.layers.mlps import MLP, Activation, GatedMLP
from models.layers.norms import RMSNorm
from models.layers.stacks.builder import TransformerLayers
from models.layers.stacks.relative_bias_stack import RelativeBiasStack
from models.layers.stacks.sharing import with_copies, without_copies
from models.layers.stacks.stack import LAYERS

Array = jax.Array


class T5(EncoderDecoder):
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
      bias_per_layer: whether each layer has a relative bias of its own, as T5X's scalable_t5 and
        umT5 (Chung et al. 2023) have; else the layers of a side share one.
      share_encoder_decoder: whether the decoder's layers have the encoder's self-attention, MLPs
        and norms of these ("Enc-dec, shared", table 2). The paper says "parameters shared across
        the encoder and decoder", P of 2P, and counts no encoder-decoder attention (section 3.2.2);
        this stays the decoder's own, as do each side's relative bias, whose buckets mean other
        distances, and last norm. The parameters are stored once, as the encoder's.
      norm_epsilon: of every norm.
    """

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
    bias_per_layer: bool = False
    share_encoder_decoder: bool = False
    norm_epsilon: float = 1e-6

    def __post_init__(self) -> None:
        """Checks that distances have buckets, and that sides that share can.

        Raises:
          ModelError: as every model, the buckets cannot be divided, or sides share of which each
            has layers that the other has not.
        """
        super().__post_init__()
        if self.share_encoder_decoder and self.num_encoder_layers != self.num_decoder_layers:
            raise self.refused(
                "share_encoder_decoder",
                f"num_encoder_layers, {self.num_encoder_layers}, and num_decoder_layers, "
                f"{self.num_decoder_layers}, must be the same",
            )
        if self.share_encoder_decoder and self.bias_per_layer:
            raise self.refused(
                "share_encoder_decoder", "bias_per_layer must be False, as biases are not shared"
            )
        for bidirectional in (True, False):
            check_buckets(self.num_buckets, self.max_distance, bidirectional=bidirectional)

    @nn.nowrap
    def params_in_use(self, params: Any) -> Any:
        """See `Model`: with sides that share, the decoder's layers have the encoder's parameters.

        Those that `decoding_params` laid out for decoding have them already.
        """
        return self._with_decoder_layers(with_copies, params)

    @nn.nowrap
    def params_to_store(self, params: Any) -> Any:
        """See `Model`: with sides that share, the decoder's layers keep what is theirs alone."""
        return self._with_decoder_layers(without_copies, params)

    @nn.nowrap
    def _with_decoder_layers(
        self, change: Callable[[Mapping[str, Any], Mapping[str, Any]], dict[str, Any]], params: Any
    ) -> Any:
        if not self.share_encoder_decoder or LAYERS not in params["decoder"]["stack"]:
            return params
        decoder, encoder = (params[side]["stack"][LAYERS] for side in ("decoder", "encoder"))
        stack = {**params["decoder"]["stack"], LAYERS: change(decoder, encoder)}
        return {**params, "decoder": {**params["decoder"], "stack": stack}}

    def setup(self) -> None:
        """Makes embeddings, encoder and decoder."""
        layers = TransformerLayers.of(
            self, RMSNorm, head_dim=self.head_dim, dropout=self.embedding_dropout()
        )
        self.token_embedder = Embed(self.vocab_size, self.embed_dim, normal(1.0), self.dtype)
        self.encoder = self._side(layers, self.num_encoder_layers, is_decoder=False)
        self.decoder = self._side(layers, self.num_decoder_layers, is_decoder=True)
        if not self.tied_output:
            self.output = OutputKernel(
                self.vocab_size, self.embed_dim, self.matrix_init(self.embed_dim)
            )

    def _side(
        self, layers: TransformerLayers, num_layers: int, *, is_decoder: bool
    ) -> RelativeBiasStack:
        init = self.matrix_init(self.embed_dim)
        make_attention = functools.partial(
            layers.attention,
            init,
            self.matrix_init(self.num_heads * self.head_dim),
            query_init=self.matrix_init(self.embed_dim * self.head_dim),
            scale=1.0,
        )
        output_init = self.matrix_init(self.mlp_dim)
        mlp = layers.mlp(
            self.mlp, self.activation, self.mlp_dim, init, output_init, dropout=layers.dropout
        )
        bias_init = normal(self.embed_dim**-0.5)
        buckets = not is_decoder, bias_init, self.num_buckets, self.max_distance
        bias, attention = None, make_attention()
        if self.bias_per_layer:
            attention = make_attention(make_relative=_of_a_layer(*buckets))
        else:
            bias = functools.partial(RelativePositionBias, self.num_heads, *buckets)
        memory = make_attention() if is_decoder else None
        blocks = [
            layers.block(PreNormBlock, attention, mlp, cross_attention=memory)
            for mlp in self.mlps_in_turn(mlp, num_layers)
        ]
        stack = functools.partial(layers.stack, num_layers, *blocks)
        return RelativeBiasStack(bias, stack, layers.norm, layers.dropout)

    def mlps_in_turn(self, mlp: ModuleFactory, num_layers: int) -> tuple[ModuleFactory, ...]:
        """The MLPs of consecutive layers, which a side of `num_layers` repeats: one for all."""
        return (mlp,)

    def matrix_init(self, fan_in: int) -> Initializer:
        """Initial values of a matrix whose results are sums of `fan_in` products."""
        return normal(fan_in**-0.5)

    def embedding_dropout(self) -> Dropout:
        """Dropout with one draw for all positions of a row, as in Mesh TensorFlow."""
        return Dropout(self.dropout_rate, shared_axes=(-2,))

    def final_layers(self, x_bte: Array) -> Array:
        """Scales the hidden states for a tied output, since the embeddings' variance is 1."""
        return x_bte * self.embed_dim**-0.5 if self.tied_output else x_bte

    def output_kernel(self) -> Array:
        """The matrix from `hidden_states` to logits, `[e, v]`."""
        return self.token_embedder.output_kernel() if self.tied_output else self.output()


class T5_1_1(T5):
    """T5 1.1: GEGLU, and an output matrix of its own."""

    mlp: type[MLP] = GatedMLP
    activation: Activation = nn.gelu
    tied_output: bool = False


def _of_a_layer(*buckets: Any) -> Callable[..., nn.Module]:
    """Makes the bias of a layer from an attention's sizes."""

    def make(embed_dim: int, num_heads: int, head_dim: int, dtype: str) -> nn.Module:
        return LayerRelativeBias(num_heads, *buckets)

    return make
