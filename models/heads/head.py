"""What all heads are made of, and what an encoder asks of them."""

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


def unnamed(count: int) -> tuple[str, ...]:
    """The names of classes that were given none, LABEL_0 and so on, as in `transformers`."""
    return tuple(f"LABEL_{i}" for i in range(count))


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
          logits: float32 `[b, outputs]`, or `[b, s, outputs]` of a head that reads tokens; where
            the batch has several rows for each example, these are the axis after the first.
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


class HasLabels(Protocol):
    """A head that names classes."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The names."""


def check_labels(head: HasLabels) -> None:
    """Checks a head's `labels`, and makes a tuple of them: gin gives lists.

    Raises:
      ModelError: they are no list of two or more different names.
    """
    labels = head.labels
    if isinstance(labels, str) or len(set(labels)) < max(2, len(labels)):
        raise ModelError(
            f"{type(head).__name__}.labels is {labels!r}: a list of two or more different names "
            "is needed."
        )
    # A model's fields are hashed, and a head is frozen.
    object.__setattr__(head, "labels", tuple(labels))


def check_rate(head: Head) -> None:
    """Checks a head's `dropout_rate`.

    Raises:
      ModelError: it is no rate.
    """
    if not 0 <= (head.dropout_rate or 0) < 1:
        raise ModelError(
            f"{type(head).__name__}.dropout_rate is {head.dropout_rate!r}: it must be at least 0 "
            "and below 1."
        )
