"""What models share that read words by their characters, and may have a head."""

from collections.abc import Mapping
from typing import Any, ClassVar

import jax.numpy as jnp
from flax import linen as nn

from models import losses
from models.heads import Head
from models.layers.characters.character_cnn import CharacterCNN
from models.layers.stacks.stack import policy_of
from models.model import Array, Batch, Model, Params

# Of the batches: characters of a word.
LONGEST_WORD = 50


class WordReader(Model, kw_only=True):
    """The base class of models whose words are vectors that filters make of their characters.

    With a `head` it is a model for a task of labelled texts or tagged words; a family writes
    `read_by_head`, and its `setup` makes `output_head`.

    Batches hold `encoder_characters`, int32 `[b, t, n]`, and `encoder_segment_ids`, the number of
    each word's text, 0 on padding; what else, the head or the family says.

    Attributes:
      head: `heads.Tagging`, `heads.Classification` or `heads.Regression`; None is what the family
        learns of text.
      num_characters: how many there are.
      char_dim: size of a character's vector.
      filters: of the characters, of width 1, 2 and so on; 0 is none of that width.
      num_highway: highway layers above them.
    """

    input_features: ClassVar[tuple[str, ...]] = ("encoder_characters", "encoder_segment_ids")
    offsets: ClassVar[tuple[str, ...]] = (*Model.offsets, "num_highway")

    head: Head | None = None
    num_characters: int = 262
    char_dim: int = 16
    filters: tuple[int, ...] = (32, 32, 64, 128, 256, 512, 1024)
    num_highway: int = 2

    def __post_init__(self) -> None:
        """Checks what no model can be built with.

        Raises:
          ModelError: filters that are none or wider than a word, or a head for another kind of
            batch.
        """
        super().__post_init__()
        if not 0 < len(self.filters) <= LONGEST_WORD or min(self.filters) < 0 or not any(
            self.filters
        ):  # fmt: skip
            raise self.refused(
                "filters", f"1 to {LONGEST_WORD} numbers are needed, none below 0 and one above"
            )
        if self.head is not None and self.head.batch_format not in _HEADS:
            raise self.refused("head", "Tagging, Classification or Regression is needed")

    def character_layers(self, output_dim: int | None) -> CharacterCNN:
        """Makes what reads a word's characters, for `setup`; None is as wide as the filters."""
        policy = policy_of(self.remat_policy)
        layers = CharacterCNN if policy is None else nn.remat(CharacterCNN, policy=policy)
        return layers(
            self.num_characters,
            self.char_dim,
            tuple(self.filters),
            self.num_highway,
            output_dim,
            self.dtype,
        )

    @property
    def batch_format(self) -> str:
        """Words by their characters, with what the head learns."""
        return "spelled_words" if self.head is None else f"spelled_{self.head.batch_format}"

    @property
    def label_names(self) -> Mapping[str, tuple[str, ...]]:
        """Of predictions that are numbers of classes, the classes' names."""
        return {} if self.head is None else self.head.label_names

    @property
    def head_dropout_rate(self) -> float:
        """Of what the head reads: its own, or the model's."""
        own = None if self.head is None else self.head.dropout_rate
        return self.dropout_rate if own is None else own

    # Inside `apply`.

    def read_by_head(self, *, enable_dropout: bool = False, **features: Array) -> Array:
        """The vectors of the words that the head reads, `[b, t, f]`."""
        raise NotImplementedError

    def characters_of(self, encoder_characters: Array) -> Array:
        """The feature, of which `init` has one number where there should be a word's."""
        if self.is_initializing():
            return jnp.ones((1, 1, LONGEST_WORD), jnp.int32)
        return encoder_characters

    def with_head(
        self, *, enable_dropout: bool = False, **features: Any
    ) -> tuple[Array, dict[str, Array]]:
        """The head's logits, and the vectors that they are made of, by name.

        Of a head that reads rows this is the mean of the words' vectors.

        Raises:
          ModelError: a feature is missing.
        """
        assert self.head is not None
        self.check_features(features)
        x_btf = self.read_by_head(enable_dropout=enable_dropout, **features)
        vectors = {"hidden_states": x_btf}
        read = x_btf
        if self.head.reads_row:
            valid_bt1 = features["encoder_segment_ids"][..., None] != 0
            count_b1 = jnp.maximum(valid_bt1.sum(axis=1), 1)
            read = vectors["pooled"] = jnp.where(valid_bt1, x_btf, 0).sum(axis=1) / count_b1
        logits: Array = self.output_head(read, enable_dropout)
        return logits, vectors

    # What the engine calls.

    @property
    def loss_terms(self) -> Mapping[str, float]:
        """The head's one term."""
        return {"loss": 1.0}

    @nn.nowrap
    def loss_weights(self, batch: Batch) -> dict[str, Array]:
        """What the head counts: rows, or words."""
        assert self.head is not None
        return {"loss": self.head.weight(batch)}

    @nn.nowrap
    def loss(
        self, params: Params, batch: Batch, rng: Array | None = None
    ) -> tuple[dict[str, Array], losses.Metrics]:
        """The head's loss summed over the batch, and its metrics; see `models.heads`."""
        assert self.head is not None
        logits: Any = self.apply(
            {"params": params},
            **batch,
            enable_dropout=rng is not None,
            rngs={} if rng is None else {"dropout": rng},
            method="with_head",
        )
        loss, metrics = self.head.loss(logits[0], batch)
        return {"loss": loss}, metrics

    @nn.nowrap
    def predict(self, params: Params, batch: Batch) -> dict[str, Array]:
        """What the head says, without dropout, and the vectors that it reads.

        Args:
          params: as `init` makes them.
          batch: of `batch_format`.

        Returns:
          The head's `predictions`, and float32 `hidden_states` `[b, t, f]` and, where the head
          reads it, `pooled` `[b, f]`.
        """
        assert self.head is not None
        found: Any = self.apply({"params": params}, **batch, method="with_head")
        logits, vectors = found
        vectors = {name: x.astype(jnp.float32) for name, x in vectors.items()}
        return vectors | self.head.predictions(logits)


# The formats of heads, each of which there is for spelled words too.
_HEADS = ("token_classification", "sequence_classification", "sequence_regression")
