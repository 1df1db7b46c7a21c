"""BERT (Devlin et al. 2019): an encoder that restores hidden tokens and pairs sentences.

Post-norm layers with learned positions, exact GELU and biases everywhere. What the paper leaves
open is the released code's: the transform before the output, the pooler, initial values.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from models import losses
from models.encoder_only import EncoderOnly, first_token
from models.errors import ModelError
from models.layers import embeddings, parts
from models.layers.attention.positions import LearnedPositions
from models.layers.block import Block, ModuleFactory, PostNormBlock
from models.layers.dropout import Dropout
from models.layers.embeddings import Embed, MaskedOutput
from models.layers.linear import Linear
from models.layers.mlps import ACTIVATIONS, MLP
from models.layers.norms import LayerNorm
from models.layers.stacks.builder import TransformerLayers
from models.layers.stacks.stack import Stack
from models.model import Array, Batch, Params

MASKED_LANGUAGE_MODEL, NEXT_SENTENCE = "masked_language_model", "next_sentence"

# Of all matrices and tables: the released code cuts the normal distribution off at two standard
# deviations.
INITIAL_VALUES = nn.initializers.truncated_normal(0.02)


class BERT(EncoderOnly):
    """BERT, with both of its heads or fewer.

    The loss has a term for each head: `masked_language_model`, the mean over hidden tokens, and
    `next_sentence`, the mean over pairs; the total is their sum (appendix A.2).

    Attributes:
      embed_dim: H.
      embedding_dim: of the tables, their norm and the output, which are projected to `embed_dim`;
        None is `embed_dim`, and nothing is projected.
      mlp_dim: hidden units of the MLP, 4H.
      num_heads: A; they divide `embed_dim` among them.
      num_layers: L.
      max_length: longest row.
      num_token_types: segments that are told apart.
      norm_epsilon: of every norm.
      activation: of the MLP and of the masked head, one of `ACTIVATIONS`.
      attention_dropout_rate: on attention weights; None is `dropout_rate`.
      use_masked_head: whether there is an output for hidden tokens.
      use_pooler: whether the first token's vector passes a layer with tanh.
      use_next_sentence_head: whether there is an output for pairs, which reads the pooler.
      logit_chunks: see `losses.output_cross_entropy`.
      masked_places: most hidden tokens of a row, which alone then have logits in training (20 of
        128 and 77 of 512 in the released code); a batch that hides more is computed whole, as
        with None.
    """

    embed_dim: int = 768
    embedding_dim: int | None = None
    mlp_dim: int = 3072
    num_heads: int = 12
    num_layers: int = 12
    max_length: int = 512
    num_token_types: int = 2
    norm_epsilon: float = 1e-12
    activation: str = "gelu"
    attention_dropout_rate: float | None = None
    use_masked_head: bool = True
    use_pooler: bool = True
    use_next_sentence_head: bool = True
    logit_chunks: int | None = None
    masked_places: int | None = None

    trained: ClassVar[str] = "trained_outputs"
    # The name of the term of pairs, and so of its metrics, and how many labels pairs have.
    pair_term: ClassVar[str] = NEXT_SENTENCE
    pair_classes: ClassVar[int] = 2
    # Fields of which one must be on for there to be a loss.
    trained_with: ClassVar[tuple[str, ...]] = ("use_masked_head", "use_next_sentence_head")
    # How a layer is wired.
    block: ClassVar[type[Block]] = PostNormBlock

    def __post_init__(self) -> None:
        """Checks what BERT cannot be built with.

        Raises:
          ModelError: an unknown activation, a rate outside of [0, 1), a next-sentence head
            without a pooler; and as every model.
        """
        if self.head is not None:
            # What pre-training alone needs.
            self.use_masked_head = self.use_next_sentence_head = False
            self.use_pooler = self.head.reads_row
        super().__post_init__()
        if self.activation not in ACTIVATIONS:
            raise self.refused("activation", f"it must be one of {', '.join(ACTIVATIONS)}")
        if self.use_next_sentence_head and not self.use_pooler:
            raise self.refused("use_pooler", "the next-sentence head reads the pooler's output")

    def setup(self) -> None:
        """Makes embeddings, encoder and heads."""
        self.make_tables()
        self.make_encoder()
        init = INITIAL_VALUES
        if self.use_pooler:
            self.pooler = Linear(self.embed_dim, ("embed", "mlp"), init, True, self.dtype)
        if self.use_next_sentence_head:
            self.next_sentence_head = Linear(self.pair_classes, ("embed", None), init, True)
        self.make_head(init)

    def make_tables(self) -> None:
        """Makes the tables of tokens, types and positions."""
        width, init = self.embedding_width, INITIAL_VALUES
        self.token_embedder = Embed(self.vocab_size, width, init, self.dtype)
        if self.num_token_types:
            self.token_type_embedder = Embed(
                self.num_token_types, width, init, self.dtype, axis="token_types"
            )
        self.position_embedder = LearnedPositions(
            self.max_length, init, self.dtype, self.position_offset
        )

    def make_encoder(self) -> None:
        """Makes what reads the tables' sums, and the head for hidden tokens."""
        init = INITIAL_VALUES
        self.embedding_norm = LayerNorm(self.norm_epsilon, dtype=self.dtype)
        if self.embedding_dim is not None:
            self.embedding_projection = Linear(
                self.embed_dim, ("embed", "mlp"), init, True, self.dtype
            )
        layers = TransformerLayers.of(self, LayerNorm)
        activation = ACTIVATIONS[self.activation]
        mlp = layers.mlp(MLP, activation, self.mlp_dim, init, init, use_bias=True)
        block = layers.block(self.block, self.attention_of(layers), mlp)
        self.encoder = self.stack_of(layers, block)
        if self.use_masked_head:
            of_head, width = ACTIVATIONS[self.head_activation], self.embedding_width
            self.masked_head = MaskedOutput(
                self.vocab_size, width, of_head, init, self.norm_epsilon, self.dtype
            )

    @property
    def position_offset(self) -> int:
        """The row of the first position in the table of positions."""
        return 0

    @property
    def head_activation(self) -> str:
        """That of the masked head, one of `ACTIVATIONS`."""
        return self.activation

    @property
    def embedding_width(self) -> int:
        """The width of the embeddings and of the output."""
        return self.embed_dim if self.embedding_dim is None else self.embedding_dim

    def attention_of(self, layers: TransformerLayers, **options: Any) -> ModuleFactory:
        """Self-attention; a family whose own differs adds fields of `Attention`."""
        rate = self.attention_dropout_rate
        own = {} if rate is None else {"dropout": Dropout(rate)}
        return layers.attention(INITIAL_VALUES, INITIAL_VALUES, use_bias=True, **own | options)

    def stack_of(self, layers: TransformerLayers, block: ModuleFactory) -> Stack:
        """All layers, of which `block` makes one."""
        return layers.stack(self.num_layers, block)

    # What runs inside `apply`.

    def embed(
        self, tokens_bs: Array, token_types_bs: Array | None, positions_bs: Array | None
    ) -> Array:
        """The norm of the sum of the vectors of token, type and position (figure 2)."""
        return self.embedding_norm(self.looked_up(tokens_bs, token_types_bs, positions_bs))

    def looked_up(
        self, tokens_bs: Array, token_types_bs: Array | None, positions_bs: Array | None
    ) -> Array:
        """The sum of the vectors of token, type and position, `[b, s, e]`; see `embed`."""
        return self.position_embedder(
            self.without_positions(tokens_bs, token_types_bs), positions_bs
        )

    def without_positions(self, tokens_bs: Array, token_types_bs: Array | None) -> Array:
        """The sum of the vectors of token and type, `[b, s, e]`."""
        x_bse = self.token_embedder(tokens_bs)
        if self.num_token_types:
            # A single type is added to all, whatever segments the batch tells apart.
            if token_types_bs is None or self.num_token_types == 1:
                token_types_bs = jnp.zeros_like(tokens_bs)
            x_bse += self.token_type_embedder(token_types_bs)
        return x_bse

    def widened(self, x_bse: Array) -> Array:
        """From the width of the embeddings to that of the layers."""
        if self.embedding_dim is None:
            return x_bse
        x_bse = self.embedding_projection(x_bse)
        return nn.with_logical_constraint(x_bse, ("batch", "length", "embed"))

    def __call__(self, **features: Any) -> Array:
        """Logits of the token at each place, float32 `[b, s, v]`, or what the task's head gives.

        Hidden states of a model without either.

        Raises:
          ModelError: a feature is missing.
        """
        if self.head is not None:
            return self.head_logits(**features)
        # All heads are called, so that `init` makes them and `forward_flops` counts them; a
        # compiled program leaves out what nobody reads.
        x_bse = self._outputs(**features)[0]
        return self._token_logits(x_bse) if self.use_masked_head else x_bse

    def next_sentence_logits(self, **features: Any) -> Array:
        """Scores of each label of a pair, float32 `[b, labels]`.

        Raises:
          ModelError: the model has no such head.
        """
        logits_b2 = self._outputs(**features)[2]
        if logits_b2 is None:
            raise self.refused("use_next_sentence_head", "only with this head are pairs scored")
        return logits_b2

    def _outputs(self, **features: Any) -> tuple[Any, ...]:
        """Hidden states, the pooled vector, and scores of the pair."""
        self.check_features(features)
        x_bse = self.hidden_states(**features)
        return x_bse, *self._of_row(x_bse)

    @parts.part(parts.HEAD)
    def pooled(self, x_bse: Array, enable_dropout: bool = False) -> Array:
        """The first token's vector through a layer with tanh."""
        return jnp.tanh(self.pooler(first_token(x_bse)))

    @parts.part(parts.HEAD)
    def _of_row(self, x_bse: Array) -> tuple[Array | None, Array | None]:
        if not self.use_pooler:
            return None, None
        pooled_be = self.pooled(x_bse)
        if not self.use_next_sentence_head:
            return pooled_be, None
        return pooled_be, self.next_sentence_head(pooled_be.astype(jnp.float32))

    def _loss_terms(
        self, batch: Batch, enable_dropout: bool
    ) -> tuple[dict[str, Array], losses.Metrics]:
        return self._terms_of(self._outputs(**batch, enable_dropout=enable_dropout), batch)

    def token_loss(
        self, h_bse: Array, bias_v: Array, batch: Batch, weights_bs: Array
    ) -> tuple[Array, losses.Metrics]:
        """The loss of restored tokens, by the table of tokens; see `losses.chosen_cross_entropy`.

        Args:
          h_bse: what the output reads.
          bias_v: its bias.
          batch: with `encoder_target_tokens`.
          weights_bs: 0 leaves a token out.
        """
        return losses.chosen_cross_entropy(
            h_bse,
            self.token_embedder.output_kernel(),
            batch["encoder_target_tokens"],
            weights_bs,
            most=self.masked_places,
            bias_v=bias_v,
            num_chunks=self.logit_chunks,
        )

    def _terms_of(
        self, outputs: tuple[Any, ...], batch: Batch
    ) -> tuple[dict[str, Array], losses.Metrics]:
        """The loss's terms and metrics, of what `_outputs` gives."""
        x_bse, _, pair_logits_b2 = outputs
        terms: dict[str, Array] = {}
        metrics: losses.Metrics = {}
        if self.use_masked_head:
            loss, found = self.token_loss(
                *self.masked_head(x_bse), batch, batch["encoder_loss_weights"]
            )
            terms[MASKED_LANGUAGE_MODEL] = loss
            metrics[MASKED_LANGUAGE_MODEL] = found["loss"]
            metrics[f"{MASKED_LANGUAGE_MODEL}_accuracy"] = found["token_accuracy"]
        if pair_logits_b2 is not None:
            loss, found = losses.summed_cross_entropy(
                pair_logits_b2[:, None], batch["pair_label"][:, None], batch["pair_weight"][:, None]
            )
            terms[self.pair_term] = loss
            metrics[self.pair_term] = found["loss"]
            metrics[f"{self.pair_term}_accuracy"] = found["token_accuracy"]
        return terms, metrics

    def trained_outputs(self, **features: Any) -> Array:
        """As `__call__`, with logits at as many places as training has them at."""
        if self.head is not None or not self.use_masked_head or self.masked_places is None:
            return self(**features)
        h_bse, bias_v = self.masked_head(self._outputs(**features)[0])
        kernel_ev = self.token_embedder.output_kernel()
        return embeddings.logits(h_bse[:, : self.masked_places], kernel_ev, bias_v)

    def _predictions(self, **features: Any) -> dict[str, Array]:
        x_bse, pooled_be, pair_logits_b2 = self._outputs(**features)
        found = {"hidden_states": x_bse.astype(jnp.float32)}
        if self.use_masked_head:
            found["tokens"] = self._token_logits(x_bse).argmax(axis=-1).astype(jnp.int32)
        if pooled_be is not None:
            found["pooled"] = pooled_be.astype(jnp.float32)
        if pair_logits_b2 is not None:
            found[f"{self.pair_term}_probabilities"] = jax.nn.softmax(pair_logits_b2)
        return found

    def _token_logits(self, x_bse: Array) -> Array:
        h_bse, bias_v = self.masked_head(x_bse)
        logits_bsv = embeddings.logits(h_bse, self.token_embedder.output_kernel(), bias_v)
        return nn.with_logical_constraint(logits_bsv, ("batch", "length", "vocab"))

    # What a user calls.

    @property
    def feature_values(self) -> Mapping[str, int]:
        """Of types, of which a single one is every token's whatever a batch has, and of pairs."""
        types = {"encoder_token_types": self.num_token_types} if self.num_token_types > 1 else {}
        return types | ({"pair_label": self.pair_classes} if self.use_next_sentence_head else {})

    @property
    def loss_terms(self) -> Mapping[str, float]:
        """A term for each head, each counted once."""
        if self.head is not None:
            return super().loss_terms
        heads = {
            MASKED_LANGUAGE_MODEL: self.use_masked_head,
            self.pair_term: self.use_next_sentence_head,
        }
        return {name: 1.0 for name, there in heads.items() if there}

    @nn.nowrap
    def loss_weights(self, batch: Batch) -> dict[str, Array]:
        """How many hidden tokens there are, and how many pairs; or what the task's head counts."""
        if self.head is not None:
            return super().loss_weights(batch)
        features = {MASKED_LANGUAGE_MODEL: "encoder_loss_weights", self.pair_term: "pair_weight"}
        return {name: batch[features[name]].astype(jnp.float32).sum() for name in self.loss_terms}

    @nn.nowrap
    def loss(
        self, params: Params, batch: Batch, rng: Array | None = None
    ) -> tuple[dict[str, Array], losses.Metrics]:
        """Each head's loss summed over the batch, and the accuracy of each.

        Args:
          params: as `init` makes them.
          batch: with `encoder_target_tokens` and `encoder_loss_weights` `[b, s]`, `pair_label`
            (0: the second sentence is next) and `pair_weight` `[b]`, as the heads need them.
          rng: for dropout, of which there is none without it.

        Raises:
          ModelError: the model has no head.
        """
        if self.head is not None:
            return super().loss(params, batch, rng)
        if not self.loss_terms:
            raise ModelError(
                f"{type(self).__name__} without {' and '.join(self.trained_with)} has no loss: set "
                "one of them to train."
            )
        keys, drops = self.loss_keys(rng), rng is not None
        made: Any = self.apply({"params": params}, batch, drops, rngs=keys, method="_loss_terms")
        return made

    @nn.nowrap
    def loss_keys(self, rng: Array | None) -> dict[str, Array]:
        """The keys of what the loss draws, by name; without `rng` there is no dropout."""
        return {} if rng is None else {"dropout": rng}

    @nn.nowrap
    def predict(self, params: Params, batch: Batch) -> dict[str, Array]:
        """What each head says, without dropout; of a head that is not there, nothing.

        Args:
          params: as `init` makes them.
          batch: as for `__call__`.

        Returns:
          `tokens`, the likeliest at each place, int32 `[b, s]`; float32 `hidden_states`
          `[b, s, e]`, `pooled` `[b, e]`, and `next_sentence_probabilities` `[b, 2]`, of "is next"
          and of "is not"; with a `head`, its `predictions`.
        """
        if self.head is not None:
            return super().predict(params, batch)
        found: Any = self.apply({"params": params}, **batch, method="_predictions")
        return found
