"""Several short examples in one row.

First-fit over a bounded number of open rows: an example goes into the first row that still has
room for all its features; when none has, and no further row may be opened, the fullest row is
closed. Packing so, rather than filling one row at a time, leaves a few percent of padding where
the sequential way leaves ten to thirty.
"""

from collections.abc import Sequence
from typing import Any


class FirstFit:
    """Deals numbered examples out to rows.

    What is open is a list of lists of example numbers, so that the state of a packer is small
    and its content can be read again.
    """

    def __init__(self, capacities: Sequence[int], open_rows: int):
        """Starts with nothing open.

        Args:
          capacities: tokens a row holds of each feature.
          open_rows: rows that may be open at once.
        """
        self._capacities = tuple(capacities)
        self._open_rows = open_rows
        self._rows: list[list[Any]] = []
        self._room: list[list[int]] = []

    @property
    def rows(self) -> list[list[Any]]:
        """The items of each open row, in the order in which rows are tried."""
        return self._rows

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
            return [item]
        closed = None
        if len(self._rows) >= self._open_rows:
            closed = self._close(min(range(len(self._rows)), key=self._left))
        self._rows.append([item])
        self._room.append(room)
        return closed

    def restore(self, rows: Sequence[Sequence[tuple[Sequence[int], Any]]]) -> None:
        """Opens the given rows, each a list of (sizes, item), in place of what is open."""
        self._rows = [[item for _, item in row] for row in rows]
        self._room = [
            [full - sum(sizes[k] for sizes, _ in row) for k, full in enumerate(self._capacities)]
            for row in rows
        ]

    def _left(self, i: int) -> float:
        # The scarcest feature decides how much more a row can take.
        return min(left / full for left, full in zip(self._room[i], self._capacities, strict=True))

    def _close(self, i: int) -> list[Any]:
        del self._room[i]
        return self._rows.pop(i)
