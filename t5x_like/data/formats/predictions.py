"""What of a head's outputs is compared with what of a batch."""

from typing import NamedTuple


class Measured(NamedTuple):
    """Names by which predictions and what was expected are found.

    A batch format whose models predict may have one, as its attribute `measured`; a task's metrics
    are then computed of the two.

    Attributes:
      output: of the model's `predict`.
      target: of the batch, of the same shape.
      weight: of the batch: 0 where nothing is expected.
      probabilities: of the model's `predict`, one for each class, where the output is a class.
    """

    output: str
    target: str
    weight: str
    probabilities: str | None = None
