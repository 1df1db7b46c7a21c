"""Examples of which an objective makes several rows.

Such an objective has `row_counts(sizes)`: from how many tokens its `texts` have, int64 `[n]` by
name, to how many rows each example becomes. It finds in `row` which of them is meant.
"""

import grain
import numpy as np

from t5x_like.protocols import Example


class Windows(grain.MapDataset):
    """Each row has a number of its own; those of an example follow one another.

    An index counts through the epochs, as grain's `repeat` and `shuffle` hand it down.
    """

    def __init__(self, examples: grain.MapDataset, counts: np.ndarray):
        """Counts rows.

        Args:
          examples: as they are in the cache.
          counts: how many rows each becomes, int `[n]`, 1 or more.
        """
        super().__init__()
        self._examples = examples
        self.ends = np.cumsum(counts)

    def __len__(self) -> int:
        return int(self.ends[-1]) if self.ends.size else 0

    def example_of(self, index: int) -> int:
        """The number of the example that a row is made of."""
        return int(self.ends.searchsorted(index, "right"))

    def __getitem__(self, index: int) -> Example:
        """The example, and in `row` which of its rows is meant."""
        index %= len(self)
        number = self.example_of(index)
        begin = self.ends[number - 1] if number else 0
        return {**self._examples[number], "row": np.asarray(index - begin, np.int32)}
