"""BigBird (Zaheer et al. 2020): BERT whose tokens see windows, global tokens and random blocks."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from models.bert import BERT, INITIAL_VALUES
from models.encoder_only import first_token
from models.heads import Classification, Regression, Spans, Tagging
from models.layers import intermediates, parts
from models.layers.attention.attention import Attention
from models.layers.attention.distances import Bias
from models.layers.attention.masks import Mask, SentencesMask
from models.layers.attention.softmax_attention import KeysValues, attention_weights
from models.layers.attention.sparse_attention import SparseAttention
from models.layers.attention.window_patterns import (
    RandomBlocksMask,
    WindowsAndGlobals,
    random_blocks_of_layers,
)
from models.layers.block import Block, Context, LayerCache, ModuleFactory, PostNormBlock
from models.layers.dropout import Dropout
from models.layers.embeddings import Embed
from models.layers.linear import Initializer, axis_names
from models.layers.mlps import ACTIVATIONS, MLP
from models.layers.norms import LayerNorm
from models.layers.stacks.builder import TransformerLayers
from models.model import Array, Batch, Params

BLOCK_SPARSE, FULL = "block_sparse", "original_full"
SENTENCES = "encoder_sentence_ids"
# What the released code takes from the scores of a question's tokens.
IN_QUESTION = 1e6


class BigBirdAttention(SparseAttention):
    """Attention to random blocks, windows and global tokens where the mask says which are random.

    To everything elsewhere: rows that are too short for the pattern.

    Attributes:
      label_init: initial values of the vectors of the labels that the pattern has for pairs, which
        are added to keys (Shaw et al. 2018, section 3.2); None has none.
    """

    label_init: Initializer | None = None

    def setup(self) -> None:
        """Makes the projections, and the vectors of labels."""
        super().setup()
        if self.label_init is not None:
            pattern: Any = self.patterns[0]
            self.labels = self.param(
                "labels",
                axis_names((None, "heads", "kv"), self.label_init),
                (pattern.num_labels, self.num_heads, self.head_dim),
            )

    def attend(
        self,
        q_bhtd: jax.Array,
        keys_values: KeysValues,
        mask: Mask,
        bias: Bias | None,
        *,
        enable_dropout: bool,
    ) -> jax.Array:
        """As `Attention`; without dropout of the weights where it is sparse, as the released code.

        Raises:
          ModelError: scores that have a bias.
        """
        if isinstance(mask, RandomBlocksMask):
            if self.label_init is not None:
                of_labels = jnp.einsum("bhtd,nhd->bhtn", q_bhtd, self.labels.astype(q_bhtd.dtype))
                q_bhtd = jnp.concatenate([q_bhtd, of_labels], axis=-1)
            return super().attend(q_bhtd, keys_values, mask, bias, enable_dropout=False)
        return self.attend_fully(q_bhtd, keys_values, mask, bias, enable_dropout=enable_dropout)

    @intermediates.recorded(intermediates.ATTENTION, attention_weights)
    def attend_fully(
        self,
        q_bhtd: jax.Array,
        keys_values: KeysValues,
        mask: Mask,
        bias: Bias | None,
        *,
        enable_dropout: bool,
    ) -> jax.Array:
        """Attention to every key."""
        return Attention.attend(
            self, q_bhtd, keys_values, mask, bias, enable_dropout=enable_dropout
        )


class BigBirdBlock(PostNormBlock):
    """A layer whose `Context.of_layer` are the random blocks of its attention."""

    def attend_self(
        self, x_bte: jax.Array, context: Context, cache: LayerCache | None
    ) -> tuple[jax.Array, LayerCache | None]:
        """Self-attention with a mask that says which blocks are random."""
        if context.of_layer is not None:
            mask = RandomBlocksMask(**vars(context.mask), random_gnr=context.of_layer)
            context = dataclasses.replace(context, mask=mask)
        return super().attend_self(x_bte, context, cache)


class BigBird(BERT):
    """BERT for long rows, with both of its heads or fewer.

    Rows of up to `5 + 2 num_random_blocks` blocks are read by full attention, as in the released
    code; longer ones are filled up to whole blocks. In a row that holds several texts, tokens see
    those of their own text alone, and only the first and the last text has global ones: better not
    to pack texts.

    Attributes:
      attention_type: "block_sparse", or "original_full" for full attention in rows of any length.
      block_size: tokens of a block.
      num_random_blocks: r.
      num_global_tokens: g vectors that stand before the text, see all and are seen by all (ETC); 0
        makes the first and the last block global (ITC).
      max_distance: of ETC, positions that are relative: a key has a vector for its distance from
        the query, cut at so many tokens, in place of a learned position; None has learned ones.
      reads_sentences: of ETC, whether each global token stands for a sentence, the first for the
        first of the row and so on, and the last for all that are left. Batches then say which
        sentence each token is of, `encoder_sentence_ids`, int32 `[b, s]`, counted from 1 through
        the row, 0 of a token that is of none, such as [CLS]. Global tokens without a sentence are
        not there, and each is of the text that its sentence is of. Relative positions have vectors
        of their own for a global token and the tokens of its sentence.
      hard_global_to_long: whether a global token sees, of the text, its own sentence and what is of
        none alone (Ainslie et al. 2020, section 3.2).
      hard_long_to_global: whether a token of a sentence sees the global token of that alone.
      random_in_evaluation: whether the random blocks are the same without dropout. `transformers`
        draws them in training alone, and shows block 0 in the place of each in evaluation: off,
        logits are the same as there.
      rescale_embeddings: whether the tokens' vectors are multiplied by the root of their size.
    """

    offsets: ClassVar[tuple[str, ...]] = (
        *BERT.offsets,
        "num_random_blocks",
        "num_global_tokens",
    )
    block: ClassVar[type[Block]] = BigBirdBlock

    vocab_size: int = 50_358
    activation: str = "gelu_tanh"
    max_length: int = 4096
    attention_type: str = BLOCK_SPARSE
    block_size: int = 64
    num_random_blocks: int = 3
    num_global_tokens: int = 0
    max_distance: int | None = None
    reads_sentences: bool = False
    hard_global_to_long: bool = False
    hard_long_to_global: bool = False
    random_in_evaluation: bool = True
    rescale_embeddings: bool = False

    def __post_init__(self) -> None:
        """Checks what BigBird cannot be built with.

        Raises:
          ModelError: an unknown kind of attention, or random blocks beside global tokens of their
            own; and as BERT.
        """
        super().__post_init__()
        if self.attention_type not in (BLOCK_SPARSE, FULL):
            raise self.refused("attention_type", f"it must be {BLOCK_SPARSE} or {FULL}")
        if self.num_global_tokens and self.num_random_blocks:
            raise self.refused("num_random_blocks", "with num_global_tokens (ETC) there are none")
        if self.max_distance is not None and not self.num_global_tokens:
            raise self.refused("max_distance", "only with num_global_tokens (ETC) is there one")
        if self.num_global_tokens and self.attention_type == FULL:
            raise self.refused("num_global_tokens", f"{FULL} attention has none")
        if self.reads_sentences and not self.num_global_tokens:
            raise self.refused("reads_sentences", "only with num_global_tokens (ETC) is it read")
        read = isinstance(self.head, Classification | Regression | Spans | Tagging | None)
        if self.reads_sentences and not read:
            raise self.refused("reads_sentences", "the head's rows do not say their sentences")
        for name in ("hard_global_to_long", "hard_long_to_global"):
            if getattr(self, name) and not self.reads_sentences:
                raise self.refused(name, "it needs sentences, reads_sentences = True")

    @property
    def input_features(self) -> tuple[str, ...]:  # type: ignore[override]  # by its fields
        """The tokens, and their sentences where it reads them."""
        return (*super().input_features, *((SENTENCES,) if self.reads_sentences else ()))

    @property
    def batch_format(self) -> str:
        """BERT's, or the head's; with the sentences of tokens where it reads them."""
        name = super().batch_format
        return f"{name}_with_sentences" if self.reads_sentences else name

    def setup(self) -> None:
        """Makes the global tokens, and what BERT has."""
        super().setup()
        if self.num_global_tokens:
            self.global_embedder = Embed(
                self.num_global_tokens,
                self.embedding_width,
                INITIAL_VALUES,
                self.dtype,
                axis="positions",
            )

    def make_head(self, kernel_init: Initializer) -> None:
        """Makes the head; that of spans reads an MLP with a norm, as in the released code."""
        super().make_head(kernel_init)
        if isinstance(self.head, Spans):
            self.span_mlp = MLP(
                self.mlp_dim,
                ACTIVATIONS[self.activation],
                kernel_init,
                kernel_init,
                use_bias=True,
                dtype=self.dtype,
            )
            self.span_norm = LayerNorm(self.norm_epsilon, dtype=self.dtype)

    def attention_of(self, layers: TransformerLayers, **options: Any) -> ModuleFactory:
        """Self-attention by the pattern."""
        relative = self.max_distance is not None
        pattern = WindowsAndGlobals(
            self.block_size,
            self.num_global_tokens,
            self.max_distance or 0,
            self.reads_sentences,
            self.hard_global_to_long,
            self.hard_long_to_global,
        )
        return super().attention_of(
            layers,
            kind=BigBirdAttention,
            patterns=(pattern,),
            label_init=INITIAL_VALUES if relative else None,
            **options,
        )

    def looked_up(
        self, tokens_bs: Array, token_types_bs: Array | None, positions_bs: Array | None
    ) -> Array:
        """As BERT, without positions where they are relative."""
        if self.max_distance is None:
            return super().looked_up(tokens_bs, token_types_bs, positions_bs)
        return self.without_positions(tokens_bs, token_types_bs)

    def embed(
        self, tokens_bs: Array, token_types_bs: Array | None, positions_bs: Array | None
    ) -> Array:
        """The sum of the vectors of token, type and position; their norm comes after dropout."""
        x_bse = self.looked_up(tokens_bs, token_types_bs, positions_bs)
        if self.rescale_embeddings:
            # The sum has each token's vector once.
            x_bse += (self.embedding_width**0.5 - 1) * self.token_embedder(tokens_bs)
        return x_bse

    def widened(self, x_bse: Array) -> Array:
        """The norm, of the global tokens too, which stand before the text from here on."""
        if self.num_global_tokens:
            x_ge = self.global_embedder(jnp.arange(self.num_global_tokens)[None])
            x_bge = jnp.broadcast_to(x_ge, (x_bse.shape[0], *x_ge.shape[1:]))
            x_bse = jnp.concatenate([x_bge, x_bse], axis=1)
        return super().widened(self.embedding_norm(x_bse))

    def encode(self, x_bse: Array, context: Context) -> Array:
        """What the layers make of a row, without the global tokens."""
        g = self.num_global_tokens
        if g:
            context = dataclasses.replace(context, mask=self._with_globals(context.mask))
        context = dataclasses.replace(
            context, of_layer=self._random_blocks(x_bse.shape[1], context.enable_dropout)
        )
        return super().encode(x_bse, context)[:, g:]

    def context_of(self, **features: Any) -> Context:
        """As every encoder; the mask says which sentence tokens are of."""
        context = super().context_of(**features)
        if not self.reads_sentences:
            return context
        self.check_features(features)
        mask = SentencesMask(**vars(context.mask), sentences_bs=features[SENTENCES])
        return dataclasses.replace(context, mask=mask)

    def _with_globals(self, mask: Mask) -> Mask:
        """The mask of the text, with that of the global tokens before it."""
        g = self.num_global_tokens
        if not isinstance(mask, SentencesMask):
            # They are of the first text of the row: no other is seen through them.
            return jax.tree.map(lambda x: jnp.pad(x, ((0, 0), (g, 0)), mode="edge"), mask)
        texts: Any = mask.key_valid_bs if mask.key_segments_bs is None else mask.key_segments_bs
        sentences: Any = mask.sentences_bs
        texts_bs, sentences_bs = texts.astype(jnp.int32), jnp.minimum(sentences, g)

        def of_globals(sentences_s: Array, texts_s: Array) -> Array:
            """Each is of its sentence's text: the largest number, as a place that pads has 0."""
            return jnp.zeros(g + 1, jnp.int32).at[sentences_s].max(texts_s)[1:]

        texts_bg = jax.vmap(of_globals)(sentences_bs, texts_bs)
        texts_bs = jnp.concatenate([texts_bg, texts_bs], axis=1)
        numbers_bg = jnp.broadcast_to(jnp.arange(1, g + 1), texts_bg.shape)
        return SentencesMask(
            query_segments_bt=texts_bs,
            key_segments_bs=texts_bs,
            sentences_bs=jnp.concatenate([numbers_bg, sentences_bs], axis=1).astype(jnp.int32),
        )

    @nn.nowrap
    def attention_weights(self, params: Params, batch: Batch) -> dict[str, Array]:
        """As every encoder's, among the tokens of the text: of ETC the rest is global tokens'."""
        g, found = self.num_global_tokens, super().attention_weights(params, batch)
        return {name: weights[..., g:, g:] for name, weights in found.items()}

    def _random_blocks(self, length: int, training: bool) -> Array | None:
        """Of all layers, `[layers, heads, blocks that are not global, r]`; None is full attention.

        `length` is that of the row with its global tokens.
        """
        r, b = self.num_random_blocks, self.block_size
        pattern = WindowsAndGlobals(b, self.num_global_tokens)
        count = pattern.blocks(length)
        short = length <= (5 + 2 * r) * b and not self.num_global_tokens
        if self.attention_type == FULL or short:
            return None
        drawn = r and (training or self.random_in_evaluation)
        if not drawn:
            shape = (
                self.num_layers,
                self.num_heads,
                count if self.num_global_tokens else count - 2,
            )
            return jnp.zeros((*shape, r), jnp.int32)
        table = random_blocks_of_layers(
            self.num_layers, self.num_heads, pattern.padded(length), b, r, self.max_length
        )
        return jnp.asarray(np.asarray(table))

    @parts.part(parts.HEAD)
    def pooled(self, x_bse: Array, enable_dropout: bool = False) -> Array:
        """As BERT; labels of a row have a layer with dropout and the layers' activation."""
        if not isinstance(self.head, Classification | Regression):
            return super().pooled(x_bse, enable_dropout)
        rate = self.head_dropout_rate
        key = self.make_rng("dropout") if enable_dropout and rate else None
        x_be = Dropout(rate)(first_token(x_bse), key)
        return ACTIVATIONS[self.activation](self.pooler(x_be))

    @parts.part(parts.HEAD)
    def scored(self, x: Array, features: Mapping[str, Any], enable_dropout: bool) -> Array:
        """As every encoder; an answer stands in no question, whose tokens but [CLS] are of type 0.

        Before the scores of both ends the released code has a layer like those of the encoder.
        """
        if not isinstance(self.head, Spans):
            return super().scored(x, features, enable_dropout)
        drop = Dropout(self.dropout_rate)

        def dropped(y: Array) -> Array:
            return drop(y, self.make_rng("dropout") if enable_dropout else None)

        x = self.span_norm(dropped(self.span_mlp(dropped(x))) + x)
        scores_bs2 = super().scored(x, features, enable_dropout)
        types_bs = features.get("encoder_token_types")
        if types_bs is None:
            return scores_bs2
        in_question_bs = (types_bs == 0) & (jnp.arange(types_bs.shape[-1]) > 0)
        return scores_bs2 - IN_QUESTION * in_question_bs[..., None]
