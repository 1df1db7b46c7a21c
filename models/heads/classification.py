"""One of several labels for each row."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp

from models import losses
from models.heads.head import LOSS, check_labels, check_rate
from models.model import Array, Batch


@dataclasses.dataclass(frozen=True)
class Classification:
    """One of several labels for each row: a sentence, or a pair of them.

    Devlin et al. 2019, section 4.1: a linear layer on the pooled vector, softmax, cross-entropy.

    Attributes:
      labels: names of the classes 0, 1, …, as the task has them.
      dropout_rate: of the pooled vector; None is the model's.
    """

    labels: tuple[str, ...]
    dropout_rate: float | None = None

    batch_format: ClassVar[str] = "sequence_classification"
    reads_row: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_labels(self)
        check_rate(self)

    @property
    def outputs(self) -> int:
        """One for each label."""
        return len(self.labels)

    @property
    def label_names(self) -> Mapping[str, tuple[str, ...]]:
        """Of `label`."""
        return {"label": self.labels}

    def weight(self, batch: Batch) -> Array:
        """How many rows have a label."""
        return batch["label_weight"].astype(jnp.float32).sum()

    def loss(self, logits_bc: Array, batch: Batch) -> tuple[Array, losses.Metrics]:
        """Cross-entropy, nats, and the share of the rows whose label is the likeliest.

        Args:
          logits_bc: float32 `[b, labels]`.
          batch: with `label` (int) and `label_weight`, `[b]`.
        """
        loss, found = losses.summed_cross_entropy(
            logits_bc[:, None], batch["label"][:, None], batch["label_weight"][:, None]
        )
        return loss, {LOSS: found["loss"], "label_accuracy": found["token_accuracy"]}

    def predictions(self, logits_bc: Array) -> dict[str, Array]:
        """`label`, the likeliest, int32 `[b]`, and `probabilities`, float32 `[b, labels]`."""
        return {
            "label": logits_bc.argmax(axis=-1).astype(jnp.int32),
            "probabilities": jax.nn.softmax(logits_bc),
        }
