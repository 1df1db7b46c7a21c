"""Which of several candidates is relevant to a query."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp

from models import losses
from models.errors import ModelError
from models.heads.head import LOSS, check_rate
from models.model import Array, Batch


@dataclasses.dataclass(frozen=True)
class Ranking:
    """Which of several candidates is relevant to a query, QNLI as MT-DNN learns it.

    The relevance of a pair of query and candidate is a linear function of its pooled vector
    (equation 5, with the released code's identity for g). Relevance counts within the candidates of
    a query alone: the loss is the cross-entropy of their softmax (equations 8 and 9).

    Attributes:
      scale: gamma, which relevance is multiplied by in the softmax.
      dropout_rate: of the pooled vector; None is the model's.
    """

    scale: float = 1.0
    dropout_rate: float | None = None

    batch_format: ClassVar[str] = "ranked_candidates"
    reads_row: ClassVar[bool] = True
    outputs: ClassVar[int] = 1
    label_names: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    of_several_tasks: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise ModelError(f"Ranking.scale is {self.scale!r}: a number above 0 is needed.")
        check_rate(self)

    def weight(self, batch: Batch) -> Array:
        """How many queries have a relevant candidate."""
        return batch["label_weight"].astype(jnp.float32).sum()

    def loss(self, relevance_bc: Array, batch: Batch) -> tuple[Array, losses.Metrics]:
        """Cross-entropy, nats, and the share of the queries whose relevant candidate is first.

        Args:
          relevance_bc: float32 `[b, candidates]`.
          batch: with `label`, int, the number of the relevant one, and `label_weight`, `[b]`.
        """
        loss, found = losses.summed_cross_entropy(
            self.scale * relevance_bc[:, None],
            batch["label"][:, None],
            batch["label_weight"][:, None],
        )
        return loss, {LOSS: found["loss"], "label_accuracy": found["token_accuracy"]}

    def predictions(self, relevance_bc: Array) -> dict[str, Array]:
        """`label`, the number of the first in rank, int32 `[b]`, and float32 `[b, candidates]`.

        The latter are `relevance`, and `probabilities`, its softmax.
        """
        return {
            "label": relevance_bc.argmax(axis=-1).astype(jnp.int32),
            "probabilities": jax.nn.softmax(self.scale * relevance_bc),
            "relevance": relevance_bc,
        }
