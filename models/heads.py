"""Heads for fine-tuning: what an encoder's vectors become on a task of its user's.

A head is a frozen dataclass of plain values, an encoder's field `head`. It says which batches it
takes, makes the layers, and knows its loss and what it predicts; the encoder runs it.
"""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Protocol

import jax
import jax.numpy as jnp
from flax import linen as nn

from models import losses
from models.errors import ModelError
from models.layers import parts
from models.layers.dropout import Dropout
from models.layers.linear import Initializer, Linear
from models.model import Array, Batch

LOSS = "loss"


class Head(Protocol):
    """What an encoder asks of its head.

    Attributes:
      batch_format: the name of the batches that the model then takes.
      reads_row: whether it reads one vector for each row, `EncoderOnly.pooled`; else one for each
        token.
      outputs: how many numbers it gives for each vector.
      dropout_rate: of the vectors that it reads; None is the model's.
      label_names: of outputs of `predictions` that are numbers of classes, the classes' names.
    """

    batch_format: ClassVar[str]
    reads_row: ClassVar[bool]

    @property
    def outputs(self) -> int:
        """See above."""

    @property
    def dropout_rate(self) -> float | None:
        """See above."""

    @property
    def label_names(self) -> Mapping[str, tuple[str, ...]]:
        """See above."""

    def weight(self, batch: Batch) -> Array:
        """What the loss is divided by, a float32 scalar."""

    def loss(self, logits: Array, batch: Batch) -> tuple[Array, losses.Metrics]:
        """The loss summed over the batch, and metrics, `loss` among them, with their weights.

        Args:
          logits: float32 `[b, outputs]`, or `[b, s, outputs]` of a head that reads tokens.
          batch: of `batch_format`.
        """

    def predictions(self, logits: Array) -> dict[str, Array]:
        """What a user is told, by name, each with the batch as its first axis."""


class HeadOutput(nn.Module):
    """Dropout, and a linear layer with bias; what all heads are made of.

    Attributes:
      outputs: size of the last axis of the result.
      kernel_init: initial values of the matrix.
      dropout_rate: of what comes in.
    """

    part: ClassVar[str] = parts.HEAD

    outputs: int
    kernel_init: Initializer
    dropout_rate: float

    @nn.compact
    def __call__(self, x: jax.Array, enable_dropout: bool = False) -> jax.Array:
        """`[..., e]` to float32 `[..., outputs]`."""
        draw = enable_dropout and self.dropout_rate
        x = Dropout(self.dropout_rate)(x, self.make_rng("dropout") if draw else None)
        output = Linear(self.outputs, ("embed", None), self.kernel_init, True, name="output")
        return output(x.astype(jnp.float32))


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
        if isinstance(self.labels, str) or len(set(self.labels)) < max(2, len(self.labels)):
            raise ModelError(
                f"Classification.labels is {self.labels!r}: a list of two or more different names "
                "is needed."
            )
        # gin gives lists; a model's fields are hashed.
        object.__setattr__(self, "labels", tuple(self.labels))
        _check_rate(self)

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
        _check_rate(self)

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


def _check_rate(head: Classification | Regression) -> None:
    if not 0 <= (head.dropout_rate or 0) < 1:
        raise ModelError(
            f"{type(head).__name__}.dropout_rate is {head.dropout_rate!r}: it must be at least 0 "
            "and below 1."
        )
