"""Several short examples in one row.

First-fit over a bounded number of open rows: an example goes into the first row that still has
room for all its features; when none has, and no further row may be opened, the fullest row is
closed. Packing so, rather than filling one row at a time, leaves a few percent of padding where
the sequential way leaves ten to thirty.

The fullest row is seldom the one of a short example that hardly any other fits beside, so a row
is also closed when `_TURNS` times as many rows as may be open were closed since it was opened. No
example waits longer, and padding grows by a tenth of a percent at most.

Open rows keep long examples back, which find no room, and so those of one task of a mixture more
than those of another. A packer of a mixture therefore begins with one open row, and opens one more
for every `_GRADUAL` rows that it has closed.
"""

from collections.abc import Sequence
from typing import Any

_TURNS = 4
_GRADUAL = 16


class FirstFit:
    """Deals numbered examples out to rows.

    What is open is a list of lists of example numbers, so that the state of a packer is small
    and its content can be read again.
    """

    def __init__(self, capacities: Sequence[int], open_rows: int, *, gradual: bool = False):
        """Starts with nothing open.

        Args:
          capacities: tokens a row holds of each feature.
          open_rows: rows that may be open at once.
          gradual: whether so many may be open only after a while.
        """
        self._capacities = tuple(capacities)
        self._open_rows = open_rows
        self._gradual = gradual
        self._rows: list[list[Any]] = []
        self._room: list[list[int]] = []
        self._opened: list[int] = []  # of each row: how many were closed before it was opened
        self._closed = 0

    @property
    def rows(self) -> list[list[Any]]:
        """The items of each open row, in the order in which rows were opened and are tried."""
        return self._rows

    @property
    def opened(self) -> list[int]:
        """Of each open row, how many rows were closed before it was opened."""
        return self._opened

    @property
    def closed(self) -> int:
        """How many rows were closed."""
        return self._closed

    def overdue(self) -> list[Any] | None:
        """Closes the oldest row if it has waited long enough; returns its items, or None."""
        if self._rows and self._closed - self._opened[0] >= _TURNS * self._open_rows:
            return self._close(0)
        return None

    def add(self, sizes: Sequence[int], item: Any) -> list[Any] | None:
        """Places an example; returns the items of a row that this closed, if it closed one.

        Args:
          sizes: its tokens of each feature, none above the capacity.
          item: whatever stands for the example.
        """
        # Plain loops: for so few numbers they are several times as fast as NumPy.
        for i, room in enumerate(self._room):
            for size, left in zip(sizes, room, strict=True):
                if size > left:
                    break
            else:
                room[:] = [left - size for size, left in zip(sizes, room, strict=True)]
                self._rows[i].append(item)
                return self._close(i) if 0 in room else None
        room = [full - size for size, full in zip(sizes, self._capacities, strict=True)]
        if 0 in room:
            self._closed += 1
            return [item]
        closed = None
        if len(self._rows) >= self._most_open():
            closed = self._close(min(range(len(self._rows)), key=self._left))
        self._rows.append([item])
        self._room.append(room)
        self._opened.append(self._closed)
        return closed

    def restore(
        self,
        rows: Sequence[Sequence[tuple[Sequence[int], Any]]],
        opened: Sequence[int],
        closed: int,
    ) -> None:
        """Opens the given rows, each a list of (sizes, item), in place of what is open."""
        self._opened = list(opened)
        self._closed = closed
        self._rows = [[item for _, item in row] for row in rows]
        self._room = [
            [full - sum(sizes[k] for sizes, _ in row) for k, full in enumerate(self._capacities)]
            for row in rows
        ]

    def _most_open(self) -> int:
        if not self._gradual:
            return self._open_rows
        return min(self._open_rows, 1 + self._closed // _GRADUAL)

    def _left(self, i: int) -> float:
        # The scarcest feature decides how much more a row can take.
        return min(left / full for left, full in zip(self._room[i], self._capacities, strict=True))

    def _close(self, i: int) -> list[Any]:
        del self._room[i], self._opened[i]
        self._closed += 1
        return self._rows.pop(i)
