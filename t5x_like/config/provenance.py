"""Where each value was bound: file and line, or a flag of the command line.

gin keeps the last value of a name and forgets where it stood. Kept beside it here: every place
that bound the name, so that a dry run can show them, and so that a binding on a base class can
be compared with one on a class derived from it.
"""

import contextlib
import dataclasses
from collections.abc import Iterator

from t5x_like.config.gin_internals import Key
from t5x_like.errors import on_one_line

Rank = tuple[int, int]
"""Orders bindings by which one holds: the greater. First 0 for defaults and 1 for others, then a
count of the stretches read so far."""


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a value was bound.

    Attributes:
      source: a gin file, or a flag.
      line: of the file, counted from 1; None of a flag.
      rank: bindings of one stretch of a file, between two includes, share one.
      base: the parameter of a base class that was bound there; "" for the name itself.
      base_key: scope and selector of that base class.
      general: whether the file is packaged, or a run's own record, and so binds more than any
        one command reads.
    """

    source: str
    line: int | None
    rank: Rank
    base: str = ""
    base_key: Key | None = None
    general: bool = False

    @property
    def is_default(self) -> bool:
        """Whether it is of a file of defaults, which yields to every other."""
        return self.rank[0] == 0

    def __str__(self) -> str:
        place = self.source if self.line is None else f"{self.source}:{self.line}"
        return on_one_line(f"{place} ({self.base})" if self.base else place)


_PLACES: dict[tuple[Key, str], list[Place]] = {}


def clear() -> None:
    """Forgets everything, as gin does when its configuration is cleared."""
    _PLACES.clear()


def add(key: Key, parameter: str, place: Place) -> bool:
    """Notes a binding; True where its value holds over those noted before."""
    places = _PLACES.setdefault((key, parameter), [])
    holds = not places or place.rank >= places[-1].rank
    places.insert(len(places) if holds else 0, place)
    return holds


def take_over(key: Key, base: Key, parameter: str) -> None:
    """Notes that a derived class's parameter has the value of a base's."""
    place = places(base, parameter)[-1]
    named = f"{base[1].rpartition('.')[2]}.{parameter}"
    shown = "/".join(filter(None, [base[0], named]))
    add(key, parameter, dataclasses.replace(place, base=shown, base_key=base))


def places(key: Key, parameter: str) -> list[Place]:
    """All places that bound a name; the last one's value holds."""
    return _PLACES.get((key, parameter), [])


def rank(key: Key, parameter: str) -> Rank:
    """The rank of the binding that holds; below all others for one without a place."""
    found = places(key, parameter)
    return found[-1].rank if found else (0, 0)


@contextlib.contextmanager
def isolated() -> Iterator[None]:
    """Restores what is noted now when the body ends."""
    saved = {name: list(found) for name, found in _PLACES.items()}
    try:
        yield
    finally:
        clear()
        _PLACES.update(saved)
