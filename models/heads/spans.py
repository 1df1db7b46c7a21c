"""Where an answer begins and ends in a row."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp

from models import losses
from models.errors import ModelError
from models.heads.head import LOSS, check_rate
from models.model import Array, Batch

# Of padding: its probability is 0, and that of a row without a token is no NaN.
_NEVER = -1e9


@dataclasses.dataclass(frozen=True)
class Spans:
    """A part of each row's text: of a paragraph, the answer to the question before it.

    Devlin et al. 2019, sections 4.2 and 4.3: two numbers for each token. The softmax over a row of
    the first says where the answer begins, that of the second where it ends; a row without an
    answer has both at [CLS]. The loss is the mean of both cross-entropies, as in
    the released code. Padding has no part in them; there it does, which makes the loss depend on
    how far rows are padded.

    Attributes:
      null_threshold: τ of section 4.3, nats: a span is the answer if its score, the sum of both
        numbers, exceeds that of [CLS] by more. None: every question has an answer (SQuAD 1.1).
        The released code's `null_score_diff_threshold` is -τ.
      n_best: spans of each question that are kept, among which probability is divided.
      longest: most tokens of an answer.
      dropout_rate: of the vectors that are read; None is the model's. The released code has none.
    """

    null_threshold: float | None = None
    n_best: int = 20
    longest: int = 30
    dropout_rate: float | None = 0.0

    batch_format: ClassVar[str] = "span_extraction"
    reads_row: ClassVar[bool] = False
    outputs: ClassVar[int] = 2
    label_names: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    def __post_init__(self) -> None:
        for name in ("n_best", "longest"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ModelError(f"Spans.{name} is {value!r}: a whole number of 1 or more.")
        check_rate(self)

    def weight(self, batch: Batch) -> Array:
        """How many rows have an answer, or are known to have none."""
        return batch["span_weight"].astype(jnp.float32).sum()

    def loss(self, logits_bs2: Array, batch: Batch) -> tuple[Array, losses.Metrics]:
        """Mean cross-entropy of both ends, nats, and the share of rows with both at their place.

        Args:
          logits_bs2: float32 `[b, s, 2]`, of beginnings and of ends.
          batch: with `span_start`, `span_end` (int, places in the row, of no answer [CLS]) and
            `span_weight`, `[b]`, and `encoder_segment_ids` `[b, s]` where there is padding.
        """
        if "encoder_segment_ids" in batch:
            real_bs = batch["encoder_segment_ids"] != 0
            logits_bs2 = jnp.where(real_bs[..., None], logits_bs2, _NEVER)
        places_b2 = jnp.stack([batch["span_start"], batch["span_end"]], axis=-1)
        weight_b = batch["span_weight"].astype(jnp.float32)
        chosen_b12 = jnp.take_along_axis(
            jax.nn.log_softmax(logits_bs2, axis=1), places_b2[:, None], axis=1
        )
        loss = -(chosen_b12.mean(axis=(1, 2)) * weight_b).sum()
        right_b = (logits_bs2.argmax(axis=1) == places_b2).all(axis=-1)
        count = weight_b.sum()
        return loss, {LOSS: (loss, count), "span_accuracy": ((right_b * weight_b).sum(), count)}

    def predictions(self, logits_bs2: Array) -> dict[str, Array]:
        """`start_logits` and `end_logits`, float32 `[b, s]`, of each token."""
        return {"start_logits": logits_bs2[..., 0], "end_logits": logits_bs2[..., 1]}
