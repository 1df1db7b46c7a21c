"""The deep character Transformer with its auxiliary losses (Al-Rfou et al. 2018)."""

import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from models import losses
from models.decoder_only import DecoderOnly
from models.layers import auxiliary_losses
from models.layers.attention.positions import LearnedPositions
from models.layers.block import Context, LayerCache, PostNormBlock
from models.layers.embeddings import Embed
from models.layers.linear import Initializer, axis_names, normal
from models.layers.mlps import MLP
from models.layers.norms import LayerNorm
from models.layers.stacks.builder import TransformerLayers
from models.model import Array, Batch, Params

_TARGETS = 2  # of a position: the next character, and the one after it


class CharTransformer(DecoderOnly, kw_only=True):
    """A decoder of characters whose every layer predicts, each with positions of its own.

    Layers are those of Vaswani et al. 2017, norms after the branches, and each begins by adding a
    learned vector of the position (section 2, "Positional Embeddings"). In training three losses
    make a deep stack learn (section 2, "Auxiliary Losses"): at every position of the row; from
    every layer, the l-th of n until l / (2 n) of the training is over; and of two targets at a
    position, the second of which, the character after the next, counts half. Each layer has a
    matrix to logits for each target. Evaluation measures the last layer's next character alone.

    Attributes:
      embed_dim: d_model.
      mlp_dim: hidden units of the MLP.
      num_heads: attention heads.
      num_layers: n.
      max_length: longest row.
      total_steps: of the training, by which layers' losses end; None: none ends.
      layer_losses: whether layers before the last have a loss.
      second_target_weight: of the loss of the character after the next; 0 for none.
      norm_epsilon: of every norm.
    """

    # The engine adds `row_step` to the batches of training, see `UsesStep` of its protocols.
    uses_step: ClassVar[bool] = True
    # Its losses are of every layer's states, at each of which a prompt would have a target.
    reads_prompts: ClassVar[bool] = False

    embed_dim: int = 512
    mlp_dim: int = 2048
    num_heads: int = 2
    num_layers: int = 64
    max_length: int = 512
    total_steps: int | None = None
    layer_losses: bool = True
    second_target_weight: float = 0.5
    norm_epsilon: float = 1e-6

    def __post_init__(self) -> None:
        """Checks what no model can be built with.

        Raises:
          ModelError: a negative weight; and as every model.
        """
        super().__post_init__()
        if self.second_target_weight < 0:
            raise self.refused("second_target_weight", "it must be 0 or more")

    def setup(self) -> None:
        """Makes embeddings, layers, and the matrices to logits."""
        glorot = nn.initializers.glorot_uniform()
        table = normal(self.embed_dim**-0.5)
        self.token_embedder = Embed(self.vocab_size, self.embed_dim, table, self.dtype)
        layers = TransformerLayers.of(self, LayerNorm)
        attention = layers.attention(glorot, glorot, use_bias=True)
        mlp = layers.mlp(MLP, nn.relu, self.mlp_dim, glorot, glorot, use_bias=True)
        block = functools.partial(
            layers.block(PositionedBlock, attention, mlp), max_length=self.max_length
        )
        self.decoder = layers.stack(self.num_layers, block)
        self.output = LayerOutputs(self.num_layers, _TARGETS, self.embed_dim, self.vocab_size)

    def final_layers(self, x_bte: Array) -> Array:
        """Nothing: the last layer ends with its norm."""
        return x_bte

    def output_kernel(self) -> Array:
        """The last layer's matrix for the next character, `[e, v]`."""
        return self.output()[-1, 0]

    def _all_layers(self, **features: Any) -> tuple[Array, Array]:
        """The output of every layer, `[l, b, t, e]`, and the matrices, `[l, 2, e, v]`."""
        self.check_features(features)
        x_bte, context = self.stack_inputs(**features)
        rows, _, width = x_bte.shape
        none_before = jnp.zeros((self.num_layers, rows, 0, width), x_bte.dtype)
        x_bte, entered_lbte = self.decoder.recur(x_bte, context, none_before)
        return jnp.concatenate([entered_lbte[1:], x_bte[None]]), self.output()

    @nn.nowrap
    def loss(
        self, params: Params, batch: Batch, rng: Array | None = None
    ) -> tuple[dict[str, Array], losses.Metrics]:
        """The loss of the next character and, in a batch with `row_step`, the auxiliary ones.

        Args:
          params: as `init` makes them.
          batch: see `LanguageModel.loss`; `row_step`, int `[b]`, is the number of the training
            step, counted from 0.
          rng: for dropout, of which there is none without it.

        Returns:
          See `LanguageModel.loss`; `layer_loss` and `second_target_loss` are what is added to the
          mean.
        """
        if "row_step" not in batch or self.head is not None:
            return super().loss(params, batch, rng)
        applied: Any = self.apply(
            {"params": params},
            **batch,
            enable_dropout=rng is not None,
            rngs={} if rng is None else {"dropout": rng},
            mutable=[auxiliary_losses.AUXILIARY],
            method="_all_layers",
        )
        (x_lbte, kernels_lkev), reported = applied
        output = x_lbte[-1], kernels_lkev[-1, 0], None
        sums, metrics = self.loss_of(output, batch, reported)
        shares_lk = self._shares(batch["row_step"][0])
        means = self._auxiliary(x_lbte, kernels_lkev, shares_lk, batch, metrics["loss"][1])
        loss, metrics = losses.with_auxiliary(sums["loss"], metrics, means, {})
        return {"loss": loss}, metrics

    @nn.nowrap
    def _shares(self, step: Array) -> Array:
        """How much each layer's loss of each target counts, float32 `[l, 2]`."""
        n = self.num_layers
        ends_l = jnp.arange(1, n + 1) / (2 * n)
        progress = 0.0 if self.total_steps is None else step / self.total_steps
        counts_l = (progress < ends_l) & self.layer_losses
        counts_l = counts_l.at[-1].set(True)
        targets_k = jnp.array([1.0, self.second_target_weight], jnp.float32)
        return counts_l[:, None] * targets_k

    @nn.nowrap
    def _auxiliary(
        self, x_lbte: Array, kernels_lkev: Array, shares_lk: Array, batch: Batch, weight: Array
    ) -> dict[str, Array]:
        """What the other layers and the second target add to the mean loss."""
        targets_kbt, weights_kbt = _two_targets(batch)

        def of_layer(total_k: Array, layer: tuple[Array, Array, Array]) -> tuple[Array, None]:
            x_bte, kernel_kev, shares_k = layer
            for k in range(_TARGETS):

                def summed(x_bte: Array, kernel_ev: Array, k: int = k) -> Array:
                    return losses.output_cross_entropy(
                        x_bte, kernel_ev, targets_kbt[k], weights_kbt[k],
                        num_chunks=self.logit_chunks,
                    )[0]  # fmt: skip

                # A loss that has ended, or is another's, is not computed.
                loss = jax.lax.cond(
                    shares_k[k] > 0, summed, lambda *_: jnp.float32(0), x_bte, kernel_kev[k]
                )
                total_k = total_k.at[k].add(shares_k[k] * loss)
            return total_k, None

        # That of the last layer's next character is in the loss already.
        others_lk = shares_lk.at[-1, 0].set(0.0)
        summed_k, _ = jax.lax.scan(
            jax.checkpoint(of_layer), jnp.zeros(_TARGETS), (x_lbte, kernels_lkev, others_lk)
        )
        means_k = summed_k / jnp.maximum(weight, 1.0)
        return {"layer_loss": means_k[0], "second_target_loss": means_k[1]}


def _two_targets(batch: Batch) -> tuple[Array, Array]:
    """The next characters and those after them, int `[2, b, t]`, and their weights."""
    targets_bt = batch["decoder_target_tokens"]
    weights_bt = batch.get("decoder_loss_weights")
    weights_bt = (targets_bt != 0) if weights_bt is None else weights_bt
    weights_bt = weights_bt.astype(jnp.float32)
    segments_bt = batch.get("decoder_segment_ids")
    if segments_bt is None:
        segments_bt = jnp.ones_like(targets_bt)

    def following(a_bt: Array) -> Array:
        return jnp.pad(a_bt[:, 1:], ((0, 0), (0, 1)))

    same_bt = following(segments_bt) == segments_bt
    second_bt = weights_bt * following(weights_bt) * same_bt
    return jnp.stack([targets_bt, following(targets_bt)]), jnp.stack([weights_bt, second_bt])


class PositionedBlock(PostNormBlock):
    """A layer that adds learned positions to what it reads.

    Attributes:
      max_length: how many positions have a vector.
      position_init: their initial values.
    """

    max_length: int = 512
    position_init: Initializer = normal(0.02)

    def setup(self) -> None:
        """Makes the positions beside the branches."""
        super().setup()
        self.positions = LearnedPositions(self.max_length, self.position_init)

    def __call__(
        self, x_bte: Array, context: Context, cache: LayerCache | None = None
    ) -> tuple[Array, LayerCache | None]:
        """The residual stream after this layer, and its cache if one was given."""
        x_bte = self.positions(x_bte, context.positions_bt).astype(x_bte.dtype)
        return super().__call__(x_bte, context, cache)


class LayerOutputs(nn.Module):
    """A matrix to logits for each layer and target.

    Attributes:
      num_layers: how many layers.
      num_targets: of each.
      embed_dim: size of the residual stream.
      vocab_size: how many tokens.
    """

    num_layers: int
    num_targets: int
    embed_dim: int
    vocab_size: int

    @nn.compact
    def __call__(self) -> Array:
        """The matrices, float32 `[l, k, e, v]`."""
        return self.param(
            "kernel",
            axis_names(("layers", None, "embed", "vocab"), normal(self.embed_dim**-0.5)),
            (self.num_layers, self.num_targets, self.embed_dim, self.vocab_size),
        )
