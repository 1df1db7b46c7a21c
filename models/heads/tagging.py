"""One of several tags for each word."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp

from models import losses
from models.heads.head import LOSS, check_labels, check_rate
from models.model import Array, Batch


@dataclasses.dataclass(frozen=True)
class Tagging:
    """A tag for each word, such as whether it begins the name of a person.

    Devlin et al. 2019, section 5.3: a linear layer on the vector of each word's first token,
    without a conditional random field; the word's other tokens count in nothing.

    Attributes:
      labels: names of the tags 0, 1, …, as the task has them.
      dropout_rate: of the vectors; None is the model's.
    """

    labels: tuple[str, ...]
    dropout_rate: float | None = None

    batch_format: ClassVar[str] = "token_classification"
    reads_row: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_labels(self)
        check_rate(self)

    @property
    def outputs(self) -> int:
        """One for each tag."""
        return len(self.labels)

    @property
    def label_names(self) -> Mapping[str, tuple[str, ...]]:
        """Of `tags`."""
        return {"tags": self.labels}

    def weight(self, batch: Batch) -> Array:
        """How many words have a tag."""
        return batch["word_weights"].astype(jnp.float32).sum()

    def loss(self, logits_bsc: Array, batch: Batch) -> tuple[Array, losses.Metrics]:
        """Cross-entropy, nats, and the share of the words whose tag is the likeliest.

        Args:
          logits_bsc: float32 `[b, s, labels]`.
          batch: with `word_labels` (int) and `word_weights`, 0 where no word begins, `[b, s]`.
        """
        loss, found = losses.summed_cross_entropy(
            logits_bsc, batch["word_labels"], batch["word_weights"]
        )
        return loss, {LOSS: found["loss"], "tag_accuracy": found["token_accuracy"]}

    def predictions(self, logits_bsc: Array) -> dict[str, Array]:
        """`tags`, the likeliest, int32 `[b, s]`, and `probabilities`, float32 `[b, s, labels]`."""
        return {
            "tags": logits_bsc.argmax(axis=-1).astype(jnp.int32),
            "probabilities": jax.nn.softmax(logits_bsc),
        }
