"""One of several choices."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp

from models import losses
from models.heads.head import LOSS, check_rate
from models.model import Array, Batch


@dataclasses.dataclass(frozen=True)
class MultipleChoice:
    """Which of several rows, each a text with one of its choices, is right.

    Devlin et al. 2019, section 4.4: the product of a vector and the pooled vector scores each
    choice, softmax over the choices. The linear layer has a bias, as in `transformers`, which moves
    all scores alike. Rows of an example that has fewer choices are without tokens, and their scores
    so low that their probability is 0.

    Attributes:
      dropout_rate: of the pooled vectors; None is the model's.
    """

    dropout_rate: float | None = None

    batch_format: ClassVar[str] = "multiple_choice"
    reads_row: ClassVar[bool] = True
    outputs: ClassVar[int] = 1
    # Choices have texts, and no names.
    label_names: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    def __post_init__(self) -> None:
        check_rate(self)

    def weight(self, batch: Batch) -> Array:
        """How many examples have a right choice."""
        return batch["label_weight"].astype(jnp.float32).sum()

    def loss(self, logits_bc1: Array, batch: Batch) -> tuple[Array, losses.Metrics]:
        """Cross-entropy, nats, and the share of the examples whose right choice is the likeliest.

        Args:
          logits_bc1: float32 `[b, choices, 1]`.
          batch: with `label` (int), the number of the right choice, and `label_weight`, `[b]`.
        """
        loss, found = losses.summed_cross_entropy(
            logits_bc1.swapaxes(1, 2), batch["label"][:, None], batch["label_weight"][:, None]
        )
        return loss, {LOSS: found["loss"], "label_accuracy": found["token_accuracy"]}

    def predictions(self, logits_bc1: Array) -> dict[str, Array]:
        """`choice`, the likeliest, int32 `[b]`, and `probabilities`, float32 `[b, choices]`."""
        return {
            "choice": logits_bc1[..., 0].argmax(axis=-1).astype(jnp.int32),
            "probabilities": jax.nn.softmax(logits_bc1[..., 0]),
        }
