"""A number for each row."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax.numpy as jnp

from models import losses
from models.heads.head import LOSS, check_rate
from models.model import Array, Batch


@dataclasses.dataclass(frozen=True)
class Regression:
    """A number for each row, such as how similar two sentences are; squared error.

    Attributes:
      dropout_rate: of the pooled vector; None is the model's.
    """

    dropout_rate: float | None = None

    batch_format: ClassVar[str] = "sequence_regression"
    reads_row: ClassVar[bool] = True
    outputs: ClassVar[int] = 1
    label_names: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    def __post_init__(self) -> None:
        check_rate(self)

    def weight(self, batch: Batch) -> Array:
        """How many rows have a number."""
        return batch["label_weight"].astype(jnp.float32).sum()

    def loss(self, logits_b1: Array, batch: Batch) -> tuple[Array, losses.Metrics]:
        """The squared error.

        Args:
          logits_b1: float32 `[b, 1]`.
          batch: with `label` (float) and `label_weight`, `[b]`.
        """
        weight_b = batch["label_weight"].astype(jnp.float32)
        loss = (jnp.square(logits_b1[:, 0] - batch["label"]) * weight_b).sum()
        return loss, {LOSS: (loss, weight_b.sum())}

    def predictions(self, logits_b1: Array) -> dict[str, Array]:
        """`score`, float32 `[b]`."""
        return {"score": logits_b1[:, 0]}
