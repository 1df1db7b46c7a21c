"""Cross-view training: a tagger that learns of unlabelled text too (Clark et al. 2018)."""

from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from models import losses
from models.heads import Head, Tagging
from models.layers import parts
from models.layers.dropout import Dropout
from models.layers.embeddings import Embed
from models.layers.linear import Initializer, Linear, normal, uniform
from models.layers.recurrent.cells import ProjectedLSTM
from models.layers.recurrent.encoder import BidirectionalLayer
from models.model import Array, Batch, Params
from models.word_reader import WordReader

SUPERVISED, CROSS_VIEW = "supervised", "cross_view"
# What each auxiliary module sees of a text, up to the word whose tag it says: all of it, what the
# first layer has read up to the word from the left and from the right, and the same without the
# word itself. The names of the latter two are the paper's.
VIEWS = ("full", "forward", "backward", "future", "past")
# The kinds of entities of CoNLL-2003, which the paper tags.
_CONLL = tuple(f"{mark}-{kind}" for kind in ("PER", "ORG", "LOC", "MISC") for mark in "BI")


class CVT(WordReader, kw_only=True):
    """A tagger of two LSTM layers in both directions, taught by labels and by itself.

    Of rows with tags the primary module learns these (section 3.1). Of rows without, each auxiliary
    module, which sees a part of the text alone, learns to agree with the primary one: the loss is
    the sum over the modules of KL(primary | auxiliary), a mean over the words, and no gradient
    flows into the primary's probabilities, which are those without dropout (equation 1). A batch
    has rows of both kinds, where the released code takes turns.

    The modules are those of the released code: a layer of ReLU and the tags' softmax each, but none
    of ReLU for `full`, which is not in the paper.

    Batches are of `spelled_token_classification`: a row none of whose `word_weights` is above 0 is
    without tags.

    Attributes:
      longest_word: how many characters of a word are read, the marks of its ends among them.
      embed_dim: size of a word's vector beside that of its characters.
      first_dim: units of an LSTM of the first layer.
      second_dim: of the second.
      projection_dim: units of the LSTMs' hidden states, and of the modules.
      label_smoothing: of the tags of the supervised loss in training.
      unlabelled_dropout_rate: as `dropout_rate`, of rows without tags.
      cross_view_coefficient: of the second term of the loss; 0 is the same tagger by itself.
    """

    input_features: ClassVar[tuple[str, ...]] = (
        *WordReader.input_features,
        "encoder_input_tokens",
    )

    head: Head | None = Tagging(("O", *_CONLL))
    char_dim: int = 50
    filters: tuple[int, ...] = (0, 100, 100, 100)
    num_highway: int = 0
    longest_word: int = 20
    embed_dim: int = 300
    first_dim: int = 1024
    second_dim: int = 512
    projection_dim: int = 512
    label_smoothing: float = 0.1
    unlabelled_dropout_rate: float = 0.2
    cross_view_coefficient: float = 1.0
    dropout_rate: float = 0.5

    def __post_init__(self) -> None:
        """Checks what no model can be built with.

        Raises:
          ModelError: as of every `WordReader`, another head than one of tags, words that are
            shorter than a filter, a rate that is none, or a negative coefficient.
        """
        super().__post_init__()
        if not isinstance(self.head, Tagging):
            raise self.refused("head", "Tagging is needed, of a task whose words have tags")
        if self.longest_word < len(self.filters):
            raise self.refused(
                "longest_word", f"filters read {len(self.filters)} characters at once"
            )
        if self.cross_view_coefficient < 0:
            raise self.refused("cross_view_coefficient", "it must be 0 or more")

    def setup(self) -> None:
        """Makes the words' vectors, both layers, the primary module and the auxiliary ones."""
        assert self.head is not None
        self.token_embedder = Embed(self.vocab_size, self.embed_dim, normal(0.1), self.dtype)
        self.words = self.character_layers(None)
        last = self.remat_policy, self.scan_unroll, self.dtype
        cell = ProjectedLSTM(self.projection_dim, None, None)
        self.layers = [
            BidirectionalLayer(cell, units, uniform(units**-0.5), *last)
            for units in (self.first_dim, self.second_dim)
        ]

        tags = self.head.outputs

        def module(activates: bool = True) -> TagModule:
            return TagModule(self.projection_dim, tags, activates, glorot(), self.dtype)

        self.output_head = module()
        self.views = {name: module(name != "full") for name in VIEWS}

    # Inside `apply`.

    def states(
        self,
        *,
        encoder_characters: Array,
        encoder_segment_ids: Array,
        encoder_input_tokens: Array,
        tagged_b: Array | None = None,
        enable_dropout: bool = False,
        **_: Array,
    ) -> tuple[Array, Array, Array]:
        """What the first layer has read from either side, and the second from both.

        Args:
          encoder_characters: int `[b, t, n]`.
          encoder_segment_ids: int `[b, t]`.
          encoder_input_tokens: int `[b, t]`, the words.
          tagged_b: bool `[b]`, whether rows have tags, which decides on their dropout.
          enable_dropout: of words, characters and what leaves a layer; needs an rng `dropout`.

        Returns:
          Forward and backward `[b, t, p]`, and `[b, t, 2 p]`.
        """

        def drop(x_bte: Array) -> Array:
            if not enable_dropout:
                return x_bte
            labelled, unlabelled = (
                Dropout(rate)(x_bte, self.make_rng("dropout"))
                for rate in (self.dropout_rate, self.unlabelled_dropout_rate)
            )
            if tagged_b is None:
                return labelled
            return jnp.where(tagged_b[:, None, None], labelled, unlabelled)

        characters_btn = self.characters_of(encoder_characters)[..., : self.longest_word]
        spelled_btf = self.words(characters_btn)
        known_bte = self.token_embedder(encoder_input_tokens)
        x_bte = drop(jnp.concatenate([known_bte, spelled_btf], axis=-1))
        first, second = self.layers
        forward_btp, backward_btp = map(drop, first(x_bte, encoder_segment_ids))
        both_bte = jnp.concatenate([forward_btp, backward_btp], axis=-1)
        above = map(drop, second(both_bte, encoder_segment_ids))
        return forward_btp, backward_btp, jnp.concatenate(list(above), axis=-1)

    def read_by_head(self, *, enable_dropout: bool = False, **features: Array) -> Array:
        """Both layers' states, `[b, t, 4 p]`."""
        return jnp.concatenate(self.states(enable_dropout=enable_dropout, **features), axis=-1)

    def all_logits(
        self, *, enable_dropout: bool = False, **features: Any
    ) -> tuple[Array, dict[str, Array]]:
        """Float32 logits `[b, t, tags]` of the primary module, and of each auxiliary one."""
        self.check_features(features)
        forward_btp, backward_btp, above_bte = self.states(
            enable_dropout=enable_dropout, **features
        )
        full_bte = jnp.concatenate([forward_btp, backward_btp, above_bte], axis=-1)
        seen = {
            "full": full_bte,
            "forward": forward_btp,
            "backward": backward_btp,
            # Of the word before, and of the word after.
            "future": jnp.pad(forward_btp[:, :-1], ((0, 0), (1, 0), (0, 0))),
            "past": jnp.pad(backward_btp[:, 1:], ((0, 0), (0, 1), (0, 0))),
        }
        return self.output_head(full_bte), {name: self.views[name](seen[name]) for name in VIEWS}

    def __call__(self, **features: Any) -> Array:
        """The primary module's logits, float32 `[b, t, tags]`.

        Raises:
          ModelError: a feature is missing.
        """
        # The auxiliary modules too, so that `init` makes them and their FLOPs are counted; a
        # compiled program leaves out what nobody reads.
        return self.all_logits(**features)[0]

    # What the engine calls.

    @property
    def loss_terms(self) -> Mapping[str, float]:
        """One of tags, and one of agreement."""
        return {SUPERVISED: 1.0, CROSS_VIEW: self.cross_view_coefficient}

    @nn.nowrap
    def loss_weights(self, batch: Batch) -> dict[str, Array]:
        """How many words have a tag, and how many stand in rows without."""
        assert self.head is not None
        return {SUPERVISED: self.head.weight(batch), CROSS_VIEW: _untagged(batch).sum()}

    @nn.nowrap
    def loss(
        self, params: Params, batch: Batch, rng: Array | None = None
    ) -> tuple[dict[str, Array], losses.Metrics]:
        """Both terms summed over their words, nats; see `Model.loss`.

        `tag_accuracy` is the share of the tagged words whose tag is the likeliest.
        """
        weights_bt, words_bt = batch["word_weights"], _untagged(batch)
        made: Any = self.apply(
            {"params": params},
            **batch,
            tagged_b=(weights_bt > 0).any(axis=1),
            enable_dropout=rng is not None,
            rngs={} if rng is None else {"dropout": rng},
            method="all_logits",
        )
        logits_btc, views = made
        smoothing = 0.0 if rng is None else self.label_smoothing
        supervised, found = losses.summed_cross_entropy(
            logits_btc, batch["word_labels"], weights_bt, label_smoothing=smoothing
        )
        metrics = {SUPERVISED: found["loss"], "tag_accuracy": found["token_accuracy"]}
        taught: Any = logits_btc
        if rng is not None and self.cross_view_coefficient:
            taught = self.apply({"params": params}, **batch)  # without dropout
        taught = jax.lax.stop_gradient(taught)
        agreement = jnp.sum(
            jnp.stack([divergence(taught, view_btc, words_bt) for view_btc in views.values()])
        )
        metrics[CROSS_VIEW] = agreement, words_bt.sum()
        return {SUPERVISED: supervised, CROSS_VIEW: agreement}, metrics


class TagModule(nn.Module):
    """A layer of ReLU, and one that gives a number for each tag; what all modules are.

    Attributes:
      units: of the first.
      outputs: how many tags.
      activates: whether there is the ReLU.
      kernel_init: initial values of both matrices.
      dtype: of the first layer; the second is computed in float32.
    """

    part: ClassVar[str] = parts.HEAD

    units: int
    outputs: int
    activates: bool
    kernel_init: Initializer
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x_btf: Array, enable_dropout: bool = False) -> Array:
        """`[b, t, f]` to float32 `[b, t, outputs]`; `enable_dropout` drops nothing here."""
        axes, init = ("embed", "mlp"), self.kernel_init
        hidden = Linear(self.units, axes, init, True, self.dtype, name="hidden")(x_btf)
        if self.activates:
            hidden = nn.relu(hidden)
        output = Linear(self.outputs, ("embed", None), init, True, name="output")
        return output(hidden.astype(jnp.float32))


def glorot() -> Initializer:
    """Glorot and Bengio 2010, equation 16: what the released code draws all matrices from."""
    return nn.initializers.glorot_uniform()


def divergence(teacher_btc: Array, student_btc: Array, weights_bt: Array) -> Array:
    """KL(teacher | student) of each word, nats, times its weight, summed.

    Args:
      teacher_btc: float32 logits.
      student_btc: likewise.
      weights_bt: of the words.
    """
    told_btc, said_btc = jax.nn.log_softmax(teacher_btc), jax.nn.log_softmax(student_btc)
    return ((jnp.exp(told_btc) * (told_btc - said_btc)).sum(axis=-1) * weights_bt).sum()


def _untagged(batch: Batch) -> Array:
    """Where a word begins in a row without tags, float32 `[b, t]`."""
    tagged_b1 = (batch["word_weights"] > 0).any(axis=1, keepdims=True)
    return jnp.where(tagged_b1, 0, batch["word_begins"]).astype(jnp.float32)
