"""How many updates a number of epochs is."""

import math
from collections.abc import Callable

from t5x_like.data import DataIterator, DatasetConfig, open_dataset
from t5x_like.data.config import batches_of
from t5x_like.errors import UserError
from t5x_like.protocols import Model

_PACKED = 64  # batches by which it is measured how many examples packed rows hold
# gin asks anew for every schedule that ends with the run.
_KNOWN: dict[tuple[str, str, float], int] = {}


def train_steps(model: Model, dataset: DatasetConfig, epochs: float) -> int:
    """The first update after which every task has been gone through so often.

    Exact where each example is a row, or text is cut into full rows. How many examples packed rows
    hold is measured on the first batches of the run, and extrapolated: within a hundredth or two.

    Args:
      model: what is trained, for the format of its batches.
      dataset: what it is trained on; its cache is there.
      epochs: above 0; of a mixture those of the task that is gone through least.

    Raises:
      UserError: epochs is no such number, or the cache is not ready.
    """
    if not isinstance(epochs, int | float) or not 0 < epochs < math.inf:
        raise UserError(f"TRAIN_EPOCHS is {epochs!r}: it must be a number above 0.")
    key = repr(dataset), model.batch_format, float(epochs)
    if key not in _KNOWN:
        _KNOWN[key] = _counted(dataset, model.batch_format, float(epochs))
    return _KNOWN[key]


def _counted(dataset: DatasetConfig, batch_format: str, epochs: float) -> int:
    schedule = batches_of(dataset, batch_format)
    with open_dataset(dataset, batch_format=batch_format) as batches:
        if "streams" not in batches.get_state():

            def after(step: int) -> float:
                return min(batches.epochs({"step": step}).values())

        else:
            # The first ones read more than they give: rows that stay open are filled too.
            begin, end = (_after(batches, _PACKED) for _ in range(2))
            rows = [schedule.rows_before(_PACKED * count) for count in (1, 2)]
            of_row = (end - begin) / (rows[1] - rows[0])

            def after(step: int) -> float:
                return begin + (schedule.rows_before(step) - rows[0]) * of_row

        return _first(lambda step: after(step) >= epochs)


def _after(batches: DataIterator, count: int) -> float:
    """The epochs after some more batches."""
    for _ in range(count):
        next(batches)
    return min(batches.epochs(batches.get_state()).values())


def _first(reached: Callable[[int], bool]) -> int:
    """The least number, from 1, of which something holds that then holds of all larger ones."""
    high = 1
    while not reached(high):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high
