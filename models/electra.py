"""ELECTRA (Clark et al. 2020): an encoder that tells tokens from those that a generator put there.

A small generator restores hidden tokens; what it draws for them is put into the row, and the
discriminator, which is kept, says of each token whether it was replaced.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from models import losses
from models.bert import BERT, INITIAL_VALUES, MASKED_LANGUAGE_MODEL
from models.encoder_only import LOOKED_UP, first_token
from models.errors import ModelError
from models.layers import embeddings, parts
from models.layers.block import Context
from models.layers.dropout import Dropout
from models.layers.linear import Initializer, Linear
from models.layers.mlps import ACTIVATIONS, Activation, exact_gelu
from models.model import Array, Batch, Params
from models.output_places import output_log_probabilities, output_samples

REPLACED_TOKEN_DETECTION = "replaced_token_detection"
REPLACED_LANGUAGE_MODEL = "replaced_language_model"
DISCRIMINATOR, GENERATOR = "discriminator", "generator"


class ReplacedTokenOutput(nn.Module):
    """A layer, and a score for each token.

    Attributes:
      activation: of the layer.
      kernel_init: initial values of the matrices.
      dtype: of the layer.
    """

    part: ClassVar[str] = parts.HEAD

    activation: Activation
    kernel_init: Initializer
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x_bse: jax.Array) -> jax.Array:
        """Hidden states `[b, s, e]` to scores, float32 `[b, s]`, above 0 for a replaced token."""
        axes, init = ("embed", "mlp"), self.kernel_init
        transform = Linear(x_bse.shape[-1], axes, init, True, self.dtype, name="transform")
        output = Linear(1, ("embed", None), init, True, name="output")
        return output(self.activation(transform(x_bse)).astype(jnp.float32))[..., 0]


class Generator(BERT):
    """A BERT whose tables are another network's: it is given the sums of their vectors."""

    def setup(self) -> None:
        """Makes all but the tables."""
        self.make_encoder()

    @property
    def head_activation(self) -> str:
        """The exact GELU, whichever the layers have."""
        return "gelu"

    def restored(self, x_bse: Array, context: Context) -> tuple[Array, Array]:
        """What the output reads, `[b, s, e]`, and its bias, `[v]`.

        Args:
          x_bse: sums of the vectors of token, type and position.
          context: what all layers read.
        """
        x_bse = self.dropped_and_widened(self.embedding_norm(x_bse), context.enable_dropout)
        found: tuple[Array, Array] = self.masked_head(self.encoder(x_bse, context))
        return found


class ELECTRA(BERT):
    """ELECTRA's two networks, or one of them; each is a BERT, whose fields are here as well.

    The loss has two terms (section 2): `masked_language_model`, the generator's, the mean over
    hidden tokens; and `replaced_token_detection`, the discriminator's, the mean over all tokens.
    The second counts `discriminator_weight` times. Tokens are drawn from the generator's softmax
    within the loss, from its key; one that is drawn as it was counts as original. No gradient
    passes from the discriminator to the generator but by their tables.

    Both read the same tables of tokens, types and positions, which are as wide as the
    discriminator's embeddings, and the generator's output is the table of tokens. The norm of
    their sum is each network's own, where the released code has one.

    The fields of BERT are the discriminator's. Without `use_generator` it is one network: the
    discriminator, by `use_replaced_head`; the generator, by `use_masked_head`; or neither head.

    What the paper compares with (section 3.4) has the term `replaced_language_model`: with
    `use_masked_head` in place of `use_replaced_head` the second network restores the hidden tokens
    of the row with drawn ones ("Replace MLM"), with both it restores all, which it may copy: the
    score is that of not copying ("All-Tokens MLM"). `detects_hidden_only` is "ELECTRA 15%".

    Attributes:
      use_masked_head: off; of a generator that is alone, or see above.
      use_pooler: off; only a `head` for rows has a layer before it.
      use_next_sentence_head: off; there are no pairs.
      use_replaced_head: whether there is a score for each token of having been replaced.
      use_generator: whether there is a generator to learn with.
      generator_embed_dim: the width of its layers.
      generator_mlp_dim: hidden units of its MLP.
      generator_num_heads: its attention heads.
      generator_num_layers: its layers; None is as many as of the discriminator.
      discriminator_weight: lambda, how much the second network's term counts; the paper's is for
        detection.
      detects_hidden_only: whether only hidden tokens count in detection.
    """

    use_masked_head: bool = False
    use_pooler: bool = False
    use_next_sentence_head: bool = False
    use_replaced_head: bool = True
    use_generator: bool = True
    generator_embed_dim: int = 256
    generator_mlp_dim: int = 1024
    generator_num_heads: int = 4
    generator_num_layers: int | None = None
    discriminator_weight: float = 50.0
    detects_hidden_only: bool = False

    trained_with: ClassVar[tuple[str, ...]] = ("use_generator", "use_masked_head")

    def __post_init__(self) -> None:
        """Checks what ELECTRA cannot be built with.

        Raises:
          ModelError: heads that do not go together, a negative weight; and as BERT.
        """
        if self.head is not None:
            self.use_replaced_head = self.use_generator = False
        super().__post_init__()
        heads = self.use_replaced_head + self.use_masked_head
        if self.use_generator and not heads:
            raise self.refused("use_replaced_head", "without it a generator has nobody to teach")
        if heads == 2 and not self.use_generator:
            raise self.refused("use_masked_head", "without a generator it is that of one alone")
        if self.use_next_sentence_head:
            raise self.refused("use_next_sentence_head", "there are no pairs")
        if self.use_pooler and self.head is None:
            raise self.refused("use_pooler", "only a head for rows has one")
        if self.discriminator_weight < 0:
            raise self.refused("discriminator_weight", "it must be 0 or more")

    def setup(self) -> None:
        """Makes the discriminator, with the tables of both, and the generator."""
        super().setup()
        if self.use_replaced_head:
            activation = ACTIVATIONS[self.activation]
            self.replaced_head = ReplacedTokenOutput(activation, INITIAL_VALUES, self.dtype)
        if self.use_generator:
            names = {field.name for field in dataclasses.fields(BERT)} - {"parent", "name"}
            fields = {name: getattr(self, name) for name in names} | self.generator_fields
            self.generator = Generator(**fields)

    @property
    def generator_fields(self) -> dict[str, Any]:
        """In what the generator differs from the discriminator."""
        width = self.embedding_width
        return {
            "embedding_dim": None if width == self.generator_embed_dim else width,
            "embed_dim": self.generator_embed_dim,
            "mlp_dim": self.generator_mlp_dim,
            "num_heads": self.generator_num_heads,
            "num_layers": self.generator_num_layers or self.num_layers,
            "use_masked_head": True,
        }

    @property
    def head_activation(self) -> str:
        """The exact GELU, whichever the layers have."""
        return "gelu"

    # What runs inside `apply`.

    @parts.part(parts.HEAD)
    def pooled(self, x_bse: Array, enable_dropout: bool = False) -> Array:
        """The first token's vector, after dropout, through a layer with the exact GELU."""
        rate = self.head_dropout_rate
        key = self.make_rng("dropout") if enable_dropout and rate else None
        return exact_gelu(self.pooler(Dropout(rate)(first_token(x_bse), key)))

    def __call__(self, **features: Any) -> Array:
        """Of each token, as it stands, a score of having been replaced, float32 `[b, s]`.

        Of one network what it has: logits of a generator, `[b, s, v]`, what the task's head gives,
        or hidden states.

        Raises:
          ModelError: a feature is missing.
        """
        return self._scores(None, **features)

    def trained_outputs(self, **features: Any) -> Array:
        """As `__call__`, with a generator's logits at as many places as training has them at."""
        return self._scores(self.masked_places, **features)

    def _scores(self, places: int | None, **features: Any) -> Array:
        self.check_features(features)
        # Not all is read here: for `init` and `forward_flops`, as in `BERT`.
        if self.use_generator:
            self._generator_logits(places, **features)
        if not self.use_replaced_head:
            kind = super().__call__ if places is None else super().trained_outputs
            return kind(**features)
        x_bse = self.hidden_states(**features)
        if self.use_masked_head:
            self._token_logits(x_bse)
        found: Array = self.replaced_head(x_bse)
        return found

    def _restored(self, **features: Any) -> tuple[Array, Array]:
        """The generator's `restored`, of the hidden tokens of a batch."""
        ids: list[Any] = [features.get(name) for name in LOOKED_UP]
        x_bse = self.looked_up(*ids)
        found: tuple[Array, Array] = self.generator.restored(x_bse, self.context_of(**features))
        return found

    def _generator_logits(self, places: int | None, **features: Any) -> Array:
        h_bse, bias_v = self._restored(**features)
        return embeddings.logits(h_bse[:, :places], self.token_embedder.output_kernel(), bias_v)

    def _loss_terms(
        self, batch: Batch, enable_dropout: bool
    ) -> tuple[dict[str, Array], losses.Metrics]:
        if not self.use_generator:
            return super()._loss_terms(batch, enable_dropout)
        self.check_features(batch)
        targets_bs, weights_bs = batch["encoder_target_tokens"], batch["encoder_loss_weights"]
        h_bse, bias_v = self._restored(**batch, enable_dropout=enable_dropout)
        masked, of_masked = self.token_loss(h_bse, bias_v, batch, weights_bs)
        drawn_bs = output_samples(
            h_bse,
            self.token_embedder.output_kernel(),
            self.make_rng("sample"),
            weights_bs,
            most=self.masked_places,
            bias_v=bias_v,
            num_chunks=self.logit_chunks,
        )
        tokens_bs = jnp.where(weights_bs != 0, drawn_bs, targets_bs)
        real_bs = self.tokens_in(batch)
        # Padding is told by segments: a token that pads may be drawn.
        shown = {"encoder_segment_ids": real_bs.astype(jnp.int32), **batch}
        shown["encoder_input_tokens"] = tokens_bs
        x_bse = self.hidden_states(**shown, enable_dropout=enable_dropout)
        loss, metrics = self._second_loss(x_bse, tokens_bs, batch)
        metrics |= {
            MASKED_LANGUAGE_MODEL: of_masked["loss"],
            f"{MASKED_LANGUAGE_MODEL}_accuracy": of_masked["token_accuracy"],
            "replaced_tokens": _share((tokens_bs != targets_bs) & real_bs, real_bs.sum()),
        }
        return {MASKED_LANGUAGE_MODEL: masked, self._second_term: loss}, metrics

    def _second_loss(
        self, x_bse: Array, tokens_bs: Array, batch: Batch
    ) -> tuple[Array, losses.Metrics]:
        """The loss of the second network, from its hidden states of the row with drawn tokens."""
        targets_bs, counted_bs = batch["encoder_target_tokens"], self._counted(batch)
        if not self.use_replaced_head:
            loss, found = self.token_loss(*self.masked_head(x_bse), batch, counted_bs)
            accuracy = {f"{REPLACED_LANGUAGE_MODEL}_accuracy": found["token_accuracy"]}
            return loss, {REPLACED_LANGUAGE_MODEL: found["loss"], **accuracy}
        replaced_bs = tokens_bs != targets_bs
        scores_bs = self.replaced_head(x_bse)
        loss, found = losses.summed_binary_cross_entropy(scores_bs, replaced_bs, counted_bs)
        metrics = {self._second_term: found["loss"]}
        metrics[f"{REPLACED_TOKEN_DETECTION}_accuracy"] = found["accuracy"]
        replaced_bs &= counted_bs != 0
        right_bs = (scores_bs > 0) & replaced_bs
        metrics[f"{REPLACED_TOKEN_DETECTION}_recall"] = _share(right_bs, replaced_bs.sum())
        if self.use_masked_head:
            h_bse, bias_v = self.masked_head(x_bse)
            log_p_bs = jax.nn.log_sigmoid(scores_bs) + output_log_probabilities(
                h_bse,
                self.token_embedder.output_kernel(),
                targets_bs,
                bias_v=bias_v,
                num_chunks=self.logit_chunks,
            )
            copied_bs = jnp.where(tokens_bs == targets_bs, jax.nn.log_sigmoid(-scores_bs), -jnp.inf)
            loss = -(jnp.logaddexp(log_p_bs, copied_bs) * counted_bs).sum()
            metrics[self._second_term] = (loss, found["loss"][1])
        return loss, metrics

    @property
    def _second_term(self) -> str:
        return REPLACED_LANGUAGE_MODEL if self.use_masked_head else REPLACED_TOKEN_DETECTION

    @nn.nowrap
    def _counted(self, batch: Batch) -> Array:
        """The weight of each token in the second network's loss."""
        only_hidden = self.detects_hidden_only or not self.use_replaced_head
        found = batch["encoder_loss_weights"] if only_hidden else self.tokens_in(batch)
        return found.astype(jnp.float32)

    def _predictions(self, **features: Any) -> dict[str, Array]:
        if not self.use_replaced_head:
            return super()._predictions(**features)
        self.check_features(features)
        x_bse = self.hidden_states(**features)
        found = {
            "hidden_states": x_bse.astype(jnp.float32),
            "replaced_probabilities": jax.nn.sigmoid(self.replaced_head(x_bse)),
        }
        if self.use_generator:
            logits_bsv = self._generator_logits(None, **features)
            found["tokens"] = logits_bsv.argmax(axis=-1).astype(jnp.int32)
        return found

    # What a user calls.

    @property
    def loss_terms(self) -> Mapping[str, float]:
        """The generator's, which counts once, and the discriminator's."""
        if not self.use_generator:
            return super().loss_terms
        return {MASKED_LANGUAGE_MODEL: 1.0, self._second_term: self.discriminator_weight}

    @nn.nowrap
    def loss_weights(self, batch: Batch) -> dict[str, Array]:
        """How many hidden tokens there are, and how many tokens in all."""
        if not self.use_generator:
            return super().loss_weights(batch)
        return {
            MASKED_LANGUAGE_MODEL: batch["encoder_loss_weights"].astype(jnp.float32).sum(),
            self._second_term: self._counted(batch).sum(),
        }

    @nn.nowrap
    def loss_keys(self, rng: Array | None) -> dict[str, Array]:
        """Those of dropout, and of the tokens that are drawn: without `rng` always the same."""
        dropout, sample = jax.random.split(jax.random.key(0) if rng is None else rng)
        return {**super().loss_keys(None if rng is None else dropout), "sample": sample}

    @nn.nowrap
    def predict(self, params: Params, batch: Batch) -> dict[str, Array]:
        """What the networks say of the tokens as they stand, without dropout.

        Args:
          params: as `init` makes them.
          batch: as for `__call__`.

        Returns:
          `replaced_probabilities`, float32 `[b, s]`, of each token's having been replaced,
          `hidden_states`, float32 `[b, s, e]`, and of a generator `tokens`, the likeliest, int32
          `[b, s]`; with a `head`, its `predictions`.
        """
        return super().predict(params, batch)

    @nn.nowrap
    def axis_blocks(self) -> dict[str, int]:
        """See `Model`; whole heads of either network."""
        blocks = super().axis_blocks()
        if self.use_generator:
            own = self.generator_embed_dim // self.generator_num_heads
            blocks["joined_kv"] = math.lcm(blocks["joined_kv"], own)
        return blocks

    @nn.nowrap
    def network(self, params: Params, name: str) -> tuple["ELECTRA", Params]:
        """One of the two networks as a model of its own, with tables of its own.

        Args:
          params: of both.
          name: `DISCRIMINATOR` or `GENERATOR`.

        Raises:
          ModelError: an unknown name, or there is only one network.
        """
        if not self.use_generator:
            raise self.refused("use_generator", "it is one network, of which there are no parts")
        if name == DISCRIMINATOR:
            # Of both heads the one that others have not.
            masked = self.use_masked_head and not self.use_replaced_head
            left_out = (GENERATOR, *(() if masked else ("masked_head",)))
            kept = {key: value for key, value in params.items() if key not in left_out}
            return self.clone(use_generator=False, use_masked_head=masked), kept
        if name != GENERATOR:
            raise ModelError(f"no network {name!r}: there are {DISCRIMINATOR!r} and {GENERATOR!r}.")
        tables = {key: value for key, value in params.items() if key.endswith("_embedder")}
        alone = self.clone(use_generator=False, use_replaced_head=False, **self.generator_fields)
        return alone, {**tables, **params.get(GENERATOR, {})}


def _share(some_bs: Array, of_all: Array) -> tuple[Array, Array]:
    return some_bs.sum().astype(jnp.float32), of_all.astype(jnp.float32)
